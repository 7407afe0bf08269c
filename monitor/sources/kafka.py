"""Kafka as a source: every partition of the configured topics, read by one client that keeps its own offsets.

There is no consumer group and nothing is committed to Kafka: the caller stores `Records.next_offset` beside its own
state and hands it back through `seek`.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal

import numpy as np
from kafka import TopicPartition
from kafka.errors import (
    CorruptRecordError,
    KafkaError,
    KafkaTimeoutError,
    LogTruncationError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
)
from numpy.typing import NDArray

from monitor.batch import Int64s, Partition, Records
from monitor.errors import SourceError
from monitor.sources.batchpath import batch_reader
from monitor.sources.kafkaclient import Attempt, Client, Topic, client_options
from monitor.sources.kafkafaults import PERMANENT, advice, text_of
from monitor.sources.kafkalost import Cuts, Lost, missing, n_refused
from monitor.sources.kafkawatch import LogIds, Reporter, StallGuard
from monitor.sources.recordbatch import everything, frame, record_frames, sound
from monitor.sources.recordwise import Recordwise
from monitor.sources.sample import Sample

_LOGGER: Final = logging.getLogger("driftd.source")

MISSING_TOPIC_SECONDS: Final = 2.0
RENEW_AFTER_SECONDS: Final = 60.0
BLIND_SECONDS: Final = 1.0
"""After so long without a poll partitions are looked for first: a topic may have been made anew and grown meanwhile."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how long.

    recheck_seconds: how often new and deleted partitions are looked for. connect_seconds: how long one attempt to
    connect may take. stall_seconds: how long a partition may stand before records it has; up to three times that pass
    until the client is made anew.
    """

    recheck_seconds: float = 30.0
    connect_seconds: float = 3.0
    stall_seconds: float = 30.0


PACE: Final = Pace()


class KafkaSource:
    """All partitions of some Kafka topics, each read from its own offset.

    topics: their names; those that do not exist yet are waited for. options: kafka-python's consumer options by its own
    names (bootstrap_servers, security_protocol, sasl_*, ssl_*, isolation_level, ...). start: where partitions begin for
    which `seek` named no offset; partitions that appear later always begin at their earliest record. out_of_range: what
    to do when Kafka has deleted records before they were read: go on at the earliest that is left, at the end, or stop.
    sample: the records that are looked at, None for all.

    Only partitions whose number is i modulo n are read, with `share` (i, n); it may be set before the first `poll`.

    Nothing is connected before the first `poll`. While Kafka is away `poll` answers with nothing and `connected` is
    False; what waiting cannot cure (credentials, rights, damaged batches) is a SourceError, and the next `poll` tries
    anew from the same offsets. When reading went on beyond records that are gone, `losses` tells what is missing.
    """

    def __init__(
        self,
        topics: Sequence[str],
        options: Mapping[str, Any],
        *,
        start: Literal["earliest", "latest"] = "earliest",
        out_of_range: Literal["earliest", "latest", "stop"] = "earliest",
        pace: Pace = PACE,
        sample: Sample | None = None,
    ) -> None:
        if not topics:
            raise ValueError("no topics; name at least one")
        if start not in ("earliest", "latest"):
            raise ValueError(f"start is {start!r}; it must be 'earliest' or 'latest'")
        self._topics = tuple(dict.fromkeys(topics))
        self._options = client_options(options)
        servers = options.get("bootstrap_servers", "localhost")
        self._servers = servers if isinstance(servers, str) else ", ".join(servers)
        self._reporter = Reporter(self._servers)
        self._start = start
        self._sample = sample
        self.share = (0, 1)
        self._out_of_range = out_of_range
        self._pace = pace
        self._reader = batch_reader()
        self._client: Client | None = None
        self._attempt: Attempt | None = None
        self._assigned: frozenset[Partition] = frozenset()
        self._held: frozenset[Partition] = frozenset()
        self._caught_up: frozenset[Partition] = frozenset()
        self._lag: Mapping[Partition, int] = {}
        self._next: dict[Partition, int] = {}
        self._from_end: set[Partition] = set()
        self._known_topics: set[str] = set()
        self._ids = LogIds()
        self._cuts = Cuts()
        self._missing: Counter[str] = Counter()
        self._next_look = self._polled = 0.0
        self._stalls = StallGuard(self._pace.stall_seconds)
        self._losses: list[tuple[Partition, int, int]] = []
        self._pending: Exception | None = None

    # -- the Source protocol

    def poll(self, timeout_seconds: float) -> Sequence[Records]:
        """Records that are there, waiting about so long for the first; none while a connection is being made."""
        began = time.monotonic()
        deadline = began + timeout_seconds
        if began - self._polled > BLIND_SECONDS:
            self._next_look = 0.0
        found: list[Records] = []
        try:
            found = self._fetch(deadline)
        except (KafkaError, OSError) as fault:
            self._answer_to(fault)
            hurry = False
        except SourceError:
            raise
        except Exception as fault:
            # The IO thread died, or an inner part was not what it was: a new client is the only sound next step.
            self._drop()
            raise SourceError(f"kafka-python failed within ({type(fault).__name__}: {fault})") from fault
        else:
            hurry = bool(self._wanted) and self._client is not None
        self._watch_connection()
        if not found and not hurry:
            time.sleep(max(0.0, deadline - time.monotonic()))
        self._polled = time.monotonic()
        return found

    def assigned(self) -> frozenset[Partition]:
        """The partitions being read. Grows with the topics; a deleted topic's partitions leave it."""
        return self._assigned

    def caught_up(self) -> frozenset[Partition]:
        """The assigned partitions that were read to their end, as far as the last answer tells; none while away."""
        return self._caught_up if self.connected else frozenset()

    def lag(self) -> Mapping[Partition, int]:
        """Records of each assigned partition that are known to be unread."""
        return self._lag

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        """Read these partitions from these offsets on, now or as soon as they are known."""
        for partition, offset in offsets.items():
            self._next[partition] = offset
            if self._client is not None and partition in self._wanted:
                self._client.seek(partition, offset)
        self._caught_up -= offsets.keys()
        self._pending = None  # what is still wrong will be found again

    def hold(self, partitions: frozenset[Partition]) -> None:
        """See `Source.hold`. The library's own `pause` can lose its way in a partition that was partly consumed."""
        self._held = partitions
        if self._client is not None:
            self._assign(self._client, self._assigned)
        self._caught_up -= partitions

    def close(self) -> None:
        """Let go of connections; never commits anything."""
        self._drop()

    # -- more than the protocol

    @property
    def path(self) -> Literal["batch", "record"]:
        """How records are read: whole batches, or one by one because the self-test failed."""
        return "record" if self._reader is None else "batch"

    @property
    def connected(self) -> bool:
        """True while some broker's connection stands."""
        return self._client is not None and self._client.alive()

    @property
    def looked(self) -> bool:
        """Whether Kafka has said at least once which partitions there are."""
        return bool(self._known_topics)

    def positions(self) -> Mapping[Partition, int]:
        """Where each partition is read on, as far as that is known."""
        return {at: self._next[at] for at in self._assigned if at in self._next}

    def log_ids(self) -> Mapping[str, str]:
        """See `Source.log_ids`: as the broker told when partitions were last looked for, or a fetch failed."""
        return self._ids.known

    def losses(self) -> list[tuple[Partition, int, int]]:
        """Drains what was lost: (partition, first offset asked for in vain, offset reading went on at).

        The second offset is lower than the first when the log itself was cut.
        """
        drained, self._losses = self._losses, []
        return drained

    # -- reading

    @property
    def _wanted(self) -> frozenset[Partition]:
        """The partitions that are read just now."""
        return self._assigned - self._held

    def _fetch(self, deadline: float) -> list[Records]:
        if self._pending is not None:
            fault, self._pending = self._pending, None
            raise fault
        client = self._connected_client(deadline)
        if client is None:
            return []
        self._look(client)
        if client is not self._client or not self._wanted:
            return []
        self._stalls.polled()
        found = self._take(client, max(0.0, deadline - time.monotonic()))
        if found and self._pending is None:
            # A poll that had to wait returns with no request on its way; this one sends the next before work begins.
            try:
                found += self._take(client, 0.0)
            except Exception as fault:  # noqa: BLE001 - raised by the next poll; this one delivers what it has
                self._pending = fault
        return found

    def _connected_client(self, deadline: float) -> Client | None:
        """The client; None while it is being connected."""
        if self._client is None:
            make = partial(Client, self._options, self._pace.connect_seconds, self._reader or Recordwise)
            attempt, self._attempt = self._attempt or Attempt(make), None
            self._client = attempt.result(deadline - time.monotonic())
            if self._client is None:
                self._attempt = attempt
                return None
            self._next_look = 0.0
        if (refusal := self._client.refusal()) is not None:
            raise refusal
        return self._client

    def _take(self, client: Client, seconds: float) -> list[Records]:
        try:
            fetched = client.poll(seconds)
        except (OffsetOutOfRangeError, LogTruncationError) as fault:
            if not self._made_anew(client):
                latest = self._out_of_range == "latest"
                for lost in missing(client, fault, self._next, self._cuts, latest=latest):
                    self._lose(client, lost)
            return []
        finally:
            self._ids.note(client.log_ids)
        found = [self._records(client, partition, pieces) for partition, pieces in fetched.items()]
        # Only now: had one of these failed unforeseen, all would be read again from where the last poll ended.
        self._note_positions(client)
        return [records for records in found if records is not None]

    def _records(self, client: Client, partition: Partition, pieces: Sequence[Any]) -> Records | None:
        seen: list[int] = []

        def keep(offsets: Int64s) -> NDArray[np.bool_]:
            seen.append(offsets.size)
            return everything(offsets) if self._sample is None else self._sample.chosen(partition, offsets)

        if self._reader is None:
            frames, next_offset = record_frames(pieces, keep), pieces[-1].offset + 1
            return _noted(
                Records(partition, *frames, next_offset=next_offset, n_lost=n_refused(partition, pieces)), seen
            )
        try:
            frames = frame(pieces, keep)
        except CorruptRecordError:
            # What comes before the bad batch is delivered; the fault is raised by the next poll.
            good, fault = sound(pieces)
            bad = pieces[len(good)]
            client.seek(partition, max(bad.base_offset, bad.floor))
            self._pending = CorruptRecordError(f"{partition.topic}[{partition.number}]: {text_of(fault)}")
            if not good:
                return None
            seen.clear()
            frames, pieces = frame(good, keep), good
        next_offset = pieces[-1].next_offset
        return _noted(Records(partition, *frames, next_offset=next_offset, n_lost=n_refused(partition, pieces)), seen)

    def _note_positions(self, client: Client) -> None:
        lag = {partition: n for partition, n in self._lag.items() if partition in self._assigned & self._held}
        # Windows close on the word that labels were read to their end, so it must be as new as what was taken.
        caught_up, told = set(), client.told()
        for partition in self._wanted:
            position, end = client.position(partition), client.end(partition)
            if position is not None:
                self._next[partition] = position
                if end is not None:
                    lag[partition] = max(0, end - position)
                    if end <= position and partition in told:
                        caught_up.add(partition)
        self._lag = lag
        self._caught_up = frozenset(caught_up)

    # -- which partitions, and from where

    def _look(self, client: Client) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + self._pace.recheck_seconds
        answers = self._ask(client)
        found = {partition for topic in self._topics for partition in self._partitions(topic, answers.get(topic))}
        if self._missing:
            self._next_look = now + min(self._pace.recheck_seconds, MISSING_TOPIC_SECONDS)
        self._assign(client, frozenset(found))
        self._check_for_stall(client)

    def _partitions(self, topic: str, answer: Topic | type[KafkaError] | None) -> set[Partition]:
        """What to read of a topic, after what the broker said of it."""
        held = {partition for partition in self._assigned if partition.topic == topic}
        if isinstance(answer, Topic):
            part, n_parts = self.share
            found = {Partition(topic, number) for number in answer.partitions if number % n_parts == part}
            if topic not in self._known_topics and self._start == "latest":
                self._from_end |= found
            self._known_topics.add(topic)
            del self._missing[topic]
            return found
        if answer is None or not issubclass(answer, (*PERMANENT, UnknownTopicOrPartitionError)):
            return held
        if not issubclass(answer, UnknownTopicOrPartitionError):
            raise answer(topic)
        self._known_topics.add(topic)
        self._missing[topic] += 1
        if self._missing[topic] > 1:
            return set()
        text = "topic %s does not exist (or may not be seen by this user); waiting for it"
        _LOGGER.warning(text, topic, extra={"event": "kafka.topic_missing", "topic": topic})
        return held  # a broker that has just started may not know it yet

    def _assign(self, client: Client, found: frozenset[Partition]) -> None:
        wanted = found - self._held
        all_held = found and not wanted  # then nothing is polled; without any partition the library would sign off
        for partition in () if all_held else client.assign(wanted):
            if partition in self._next:
                client.seek(partition, self._next[partition])
            elif partition in self._from_end:
                client.consumer.seek_to_end(TopicPartition(*partition))
            else:
                client.consumer.seek_to_beginning(TopicPartition(*partition))
        if fresh := found - self._assigned:
            topics = ", ".join(sorted({partition.topic for partition in fresh}))
            more = {"event": "kafka.partitions", "n_partitions": len(fresh), "topics": topics}
            _LOGGER.info("reading %d more partitions of %s", len(fresh), topics, extra=more)
        self._assigned = found
        self._caught_up &= found

    def _ask(self, client: Client) -> Mapping[str, Topic | type[KafkaError]]:
        answers = client.ask_topics(self._topics)
        self._ids.note({topic: answer.log for topic, answer in answers.items() if isinstance(answer, Topic)})
        return answers

    def _made_anew(self, client: Client) -> bool:
        """Whether some topic turns out to be another one by now: where to read that is for the caller to say."""
        before = dict(self._ids.known)
        self._ask(client)
        return self._ids.known != before

    def _lose(self, client: Client, lost: Lost) -> None:
        if self._out_of_range == "stop":
            raise SourceError(f'{lost}; out_of_range is "stop": set "earliest" or "latest" to go on')
        lost.log()
        self._losses.append((lost.partition, lost.asked, lost.onward))
        self._next[lost.partition] = lost.onward
        client.seek(lost.partition, lost.onward)

    # -- faults

    def _check_for_stall(self, client: Client) -> None:
        if not client.alive():
            return
        positions = {partition: client.position(partition) for partition in self._wanted}
        try:
            stuck = self._stalls.check(time.monotonic(), positions, client.end_offsets)
        except KafkaTimeoutError as fault:
            if self._reporter.is_due("ends"):
                text = "the ends of some partitions cannot be learnt; they may have no leader (%s)"
                _LOGGER.warning(text, fault, extra={"event": "kafka.ends_unknown"})
            return
        if stuck:
            text = "%d partitions have records but do not move (first: %s[%d]); making a new client"
            _LOGGER.warning(text, len(stuck), *min(stuck), extra={"event": "kafka.stuck", "n_partitions": len(stuck)})
            self._drop()

    def _answer_to(self, fault: KafkaError | OSError) -> None:
        if isinstance(fault, PERMANENT):
            self._drop()
            raise SourceError(advice(fault, self._servers)) from fault
        if self._client is None:
            self._reporter.away(fault)
            return
        if self.connected and self._reporter.is_due(type(fault).__name__):
            failing = {"event": "kafka.failing", "fault": type(fault).__name__}
            _LOGGER.warning("reading from Kafka failed, trying again: %s", fault, extra=failing)
        if not (isinstance(fault, KafkaError) and fault.retriable):
            self._drop()

    def _watch_connection(self) -> None:
        if self._client is None:
            return
        if self._client.alive():
            self._reporter.back()
            return
        self._client.forget_ends()
        if self._reporter.away(self._client.fault()) > RENEW_AFTER_SECONDS:
            self._drop()

    def _drop(self) -> None:
        self._stalls = StallGuard(self._pace.stall_seconds)
        client, self._client = self._client, None
        attempt, self._attempt = self._attempt, None
        if client is not None:
            client.close()
        if attempt is not None:
            attempt.abandon()


def _noted(records: Records, seen: Sequence[int]) -> Records | None:
    """The records, and how many were passed over; None when there were none at all."""
    n_passed = sum(seen) - records.offsets.size
    return replace(records, n_passed=n_passed) if records.offsets.size + n_passed + records.n_lost else None
