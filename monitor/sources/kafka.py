"""Kafka as a source: every partition of the configured topics, read by one client that keeps its own offsets.

There is no consumer group and nothing is committed to Kafka: the caller stores `Records.next_offset` beside its own
state and hands it back through `seek`. Two paths read the same log. The batch path takes whole record batches out of
the client and finds the values in them with NumPy; the record path is the client's own loop, about seven times dearer.
The batch path leans on inner parts of kafka-python, so it proves itself against the record path on batches the library
builds, once per process, and is left alone when anything differs.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import kafka.codec
import numpy as np
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import Fetcher, RecordTooLargeError
from kafka.errors import (
    AuthorizationError,
    CorruptRecordError,
    IllegalSaslStateError,
    InvalidTopicError,
    KafkaConfigurationError,
    KafkaError,
    KafkaTimeoutError,
    LogTruncationError,
    OffsetOutOfRangeError,
    SaslAuthenticationFailedError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedCodecError,
    UnsupportedSaslMechanismError,
    UnsupportedVersionError,
    for_code,
)
from kafka.protocol.consumer import IsolationLevel
from kafka.protocol.metadata import MetadataRequest
from kafka.record import MemoryRecords
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.record.util import crc32c_c, decode_varint
from numpy.typing import NDArray

from monitor.batch import NO_TIME, Int64s, Partition, Records
from monitor.errors import SourceError

log = logging.getLogger(__name__)

Value = bytes | memoryview | None
Frames = tuple[Int64s, Int64s, list[Value]]
"""Offsets, timestamps in milliseconds, values: one entry a record."""

OWN_OPTIONS = frozenset(
    {
        "group_id",
        "group_instance_id",
        "enable_auto_commit",
        "auto_offset_reset",
        "check_crcs",
        "key_deserializer",
        "value_deserializer",
        "kafka_client",
        "bootstrap_timeout_ms",
        "allow_auto_create_topics",
    }
)
PERMANENT = (
    AuthorizationError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
    IllegalSaslStateError,
    KafkaConfigurationError,
    UnsupportedVersionError,
    UnsupportedCodecError,
    CorruptRecordError,
    RecordTooLargeError,
    InvalidTopicError,
)
CONNECT_SECONDS = 3.0
REQUEST_SECONDS = 5.0
MISSING_TOPIC_SECONDS = 2.0
REPEAT_SECONDS = 300.0
RENEW_AFTER_SECONDS = 60.0


# ---- record batches -> values


@dataclass(frozen=True, slots=True)
class Packed:
    """One record batch of today's format, unpacked from its codec but not yet split into records.

    Records of `payload` begin at `start`; those with offsets below `floor` were not asked for.
    """

    payload: bytearray
    start: int
    count: int
    base_offset: int
    base_ms: int
    append_time: bool
    floor: int
    next_offset: int


class Loose(NamedTuple):
    """Records of the formats before Kafka 0.11, which are read one by one."""

    offsets: list[int]
    timestamps_ms: list[int]
    values: list[Value]
    base_offset: int
    next_offset: int


class Unpacking:
    """Stands in front of the client's PartitionRecords so that it hands out batches where it would hand out records.

    A private seam: the two methods below are overridden and the attributes named here are used. What stays the
    library's: the check sums, positions, high water marks, and which transactions were aborted.
    """

    fetch_offset: int
    next_fetch_offset: int
    leader_epoch: int
    bytes_read: int
    records_read: int
    check_crcs: bool
    isolation_level: Any
    topic_partition: Any
    aborted_producer_ids: set[int]
    drain: Any
    _consume_aborted_transactions_up_to: Any
    _contains_abort_marker: Any
    _is_batch_aborted: Any

    def _maybe_skip_record(self, piece: Packed | Loose) -> bool:
        return piece.next_offset <= self.fetch_offset

    def _unpack_records(self, _tp: Any, records: Any, *_deserializers: Any) -> Iterator[Packed | Loose]:
        try:
            yield from self._pieces(records)
        except KafkaError:
            # Draining makes the client ask again at the bad batch; left alone it would turn in circles on this one.
            self.drain()
            raise
        self.drain()

    def _pieces(self, records: Any) -> Iterator[Packed | Loose]:
        batch = None
        while (following := records.next_batch()) is not None:
            batch = following
            if self.check_crcs and not batch.validate_crc():
                where = f"{self.topic_partition.topic}[{self.topic_partition.partition}] at offset {batch.base_offset}"
                raise CorruptRecordError(f"the record batch of {where} fails its check sum")
            if batch.magic == 2:
                self.leader_epoch = batch.leader_epoch
                if self._skipped(batch):
                    self.next_fetch_offset = batch.next_offset
                    continue
                piece: Packed | Loose = _packed(batch, self.fetch_offset)
                self.records_read += batch.records_count
            else:
                piece = _loose(batch, self.fetch_offset, self.check_crcs)
                self.records_read += len(piece.offsets)
            self.bytes_read += batch.size_in_bytes if batch.magic == 2 else 0
            self.next_fetch_offset = max(piece.next_offset, self.next_fetch_offset)
            yield piece

    def _skipped(self, batch: Any) -> bool:
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch or batch.last_offset < self.fetch_offset or not batch.records_count)


def _packed(batch: Any, floor: int) -> Packed:
    try:
        iter(batch)  # undoes the codec in place
    except KafkaError:
        raise
    except Exception as fault:
        raise CorruptRecordError(
            f"the record batch at offset {batch.base_offset} cannot be unpacked: {fault}"
        ) from fault
    append_time = bool(batch.timestamp_type)
    return Packed(
        payload=batch._buffer,
        start=batch._pos,
        count=batch.records_count,
        base_offset=batch.base_offset,
        base_ms=batch.max_timestamp if append_time else batch.first_timestamp,
        append_time=append_time,
        floor=floor,
        next_offset=batch.next_offset,
    )


def _loose(batch: Any, floor: int, check_crcs: bool) -> Loose:
    offsets: list[int] = []
    times: list[int] = []
    values: list[Value] = []
    base_offset = last = batch.base_offset
    for record in batch:
        if check_crcs and not record.validate_crc():
            raise CorruptRecordError(f"the record at offset {record.offset} fails its check sum")
        last = record.offset
        if last >= floor:
            offsets.append(last)
            times.append(_milliseconds(record.timestamp))
            values.append(record.value)
    return Loose(offsets, times, values, base_offset, last + 1)


def _milliseconds(timestamp: int | None) -> int:
    return NO_TIME if timestamp is None or timestamp == -1 else timestamp


def frame(pieces: Sequence[Packed | Loose]) -> Frames:
    """The records of one partition's batches, in order. CorruptRecordError when the bytes contradict themselves."""
    packed = [piece for piece in pieces if isinstance(piece, Packed)]
    if len(packed) == len(pieces):
        return _frame_packed(packed)
    parts = [_frame_packed([piece]) if isinstance(piece, Packed) else _frame_loose(piece) for piece in pieces]
    values = [value for part in parts for value in part[2]]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]), values


def _frame_loose(piece: Loose) -> Frames:
    return np.array(piece.offsets, dtype=np.int64), np.array(piece.timestamps_ms, dtype=np.int64), piece.values


def _frame_packed(batches: Sequence[Packed]) -> Frames:
    try:
        return _split(batches)
    except (IndexError, ValueError) as fault:
        first = batches[0].base_offset
        raise CorruptRecordError(
            f"records at or after offset {first} have a structure that cannot be: {fault}"
        ) from fault


def _split(batches: Sequence[Packed]) -> Frames:
    # Small batches are joined first: NumPy's fixed cost is then paid once per fetch, not once per batch.
    payload: bytes | bytearray = batches[0].payload if len(batches) == 1 else b"".join(b.payload for b in batches)
    begins, ends = _borders(batches)
    counts = [batch.count for batch in batches]
    data = np.frombuffer(payload, dtype=np.uint8)

    # Record: attributes int8, timestamp delta, offset delta, key, value, headers; lengths are zigzag varints.
    time_delta, at = _varints(data, begins + 1)
    offset_delta, at = _varints(data, at)
    key_size, at = _varints(data, at)
    value_size, at = _varints(data, at + np.maximum(key_size, 0))
    value_end = at + np.maximum(value_size, 0)
    if (key_size < -1).any() or (value_size < -1).any() or (value_end >= ends).any():
        raise ValueError("a value ends outside its record")

    offsets = offset_delta + np.repeat([batch.base_offset for batch in batches], counts)
    times = np.repeat([batch.base_ms for batch in batches], counts)
    times += np.where(np.repeat([batch.append_time for batch in batches], counts), 0, time_delta)
    times[times == -1] = NO_TIME
    view = memoryview(payload)
    values: list[Value] = [view[begin:end] for begin, end in zip(at.tolist(), value_end.tolist(), strict=True)]
    for index in np.flatnonzero(value_size < 0).tolist():
        values[index] = None
    wanted = offsets >= np.repeat([batch.floor for batch in batches], counts)
    if wanted.all():
        return offsets, times, values
    return offsets[wanted], times[wanted], [values[index] for index in np.flatnonzero(wanted).tolist()]


def _borders(batches: Sequence[Packed]) -> tuple[Int64s, Int64s]:
    """Where each record's body begins and ends in the joined payloads."""
    begins: list[int] = []
    ends: list[int] = []
    shift = 0
    for batch in batches:
        payload, position = batch.payload, batch.start
        for _ in range(batch.count):
            # One and two byte lengths (records under 8 KiB) are spelt out; this loop is a tenth of all ingest work.
            size = payload[position]
            if size < 0x80:
                position += 1
            elif (high := payload[position + 1]) < 0x80:
                size = size & 0x7F | high << 7
                position += 2
            else:
                length, position = decode_varint(payload, position)
                size = length * 2
            begins.append(position + shift)
            position += size >> 1
            ends.append(position + shift)
        if position != len(payload):
            raise ValueError(f"{batch.count} records end at byte {position} of {len(payload)}")
        shift += len(payload)
    return np.array(begins, dtype=np.int64), np.array(ends, dtype=np.int64)


def _varints(data: NDArray[np.uint8], at: Int64s) -> tuple[Int64s, Int64s]:
    """Decodes the zigzag varint at each position; the values, and the positions behind them."""
    byte = data[at]
    value = (byte & 0x7F).astype(np.uint64)
    after = at + 1
    open_ = np.flatnonzero(byte & 0x80)
    for shift in range(7, 64, 7):
        if not open_.size:
            break
        byte = data[after[open_]]
        value[open_] |= (byte & 0x7F).astype(np.uint64) << np.uint64(shift)
        after[open_] += 1
        open_ = open_[(byte & 0x80) != 0]
    if open_.size:
        raise ValueError("a number longer than 64 bits")
    return (value >> np.uint64(1)).view(np.int64) ^ -(value & np.uint64(1)).view(np.int64), after


# ---- does the batch path agree with the library?


@functools.cache
def batch_reader() -> type | None:
    """The class that makes the client hand out batches; None, with one warning, where it cannot be trusted."""
    if crc32c_c is None:
        log.warning("the crc32c package is not installed: check sums in pure Python make reading about 8 times slower")
    try:
        reader = type("BatchPartitionRecords", (Unpacking, Fetcher.PartitionRecords), {})
        self_test(reader)
    except Exception as fault:  # noqa: BLE001 - whatever a changed library does here, the record path still works
        log.warning("reading Kafka record by record, which is slower: the batch path failed its self-test (%s)", fault)
        return None
    return reader


def self_test(reader: type) -> None:
    """Reads batches built by kafka-python on both paths. ValueError when they differ."""
    for codec, present in enumerate((True, True, *(_has(name) for name in ("snappy", "lz4", "zstd")))):
        if not present:
            continue
        log_bytes = _sample_batch(codec, 100, 3) + _sample_batch(codec, 107, 40)
        for start in (100, 101, 105, 110):
            theirs = record_frames(take(Fetcher.PartitionRecords, log_bytes, start))
            ours = frame(take(reader, log_bytes, start))
            if not same(ours, theirs):
                raise ValueError(f"codec {codec} from offset {start}: the two paths disagree")


def _has(codec: str) -> bool:
    return bool(getattr(kafka.codec, f"has_{codec}")())


def _sample_batch(codec: int, offset: int, count: int) -> bytes:
    builder = MemoryRecordsBuilder(2, codec, 1 << 20, offset=offset)
    for index in range(count):
        value = None if index % 5 == 1 else b"v" * (index * index)
        key = None if index % 2 else b"k" * index
        headers = [("name", b"value"), ("none", None)] if index % 3 == 2 else []
        builder.append(1_700_000_000_000 - 1000 * index, key, value, headers)
    builder.close()
    return bytes(builder.buffer())


def take(reader: type, log_bytes: bytes, start: int) -> list[Any]:
    """What one fetch that answered with `log_bytes` gives the client when it had asked for offset `start`."""
    pieces: list[Any] = reader(start, TopicPartition("self-test", 0), MemoryRecords(log_bytes)).take()
    return pieces


def record_frames(records: Sequence[Any]) -> Frames:
    """The same as `frame`, from the client's own records."""
    offsets = np.array([record.offset for record in records], dtype=np.int64)
    times = np.array([_milliseconds(record.timestamp) for record in records], dtype=np.int64)
    return offsets, times, [record.value for record in records]


def same(one: Frames, other: Frames) -> bool:
    return np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1]) and one[2] == other[2]


# ---- the client


class Client:
    """kafka-python's consumer, with the facts its public face only gives by a request or an endless wait."""

    def __init__(self, options: Mapping[str, Any], connect_seconds: float, reader: type | None) -> None:
        made: list[Any] = []

        def remember(**configs: Any) -> Any:
            made.append(KafkaConsumer.DEFAULT_CONFIG["kafka_client"](**configs))
            return made[0]

        milliseconds = int(connect_seconds * 1000)
        try:
            self.consumer = KafkaConsumer(**options, kafka_client=remember, bootstrap_timeout_ms=milliseconds)
            self.consumer.bootstrap(milliseconds)
        except BaseException:
            # A constructor that raises leaves its IO thread and sockets behind.
            for client in made:
                client.close()
            raise
        self._manager = made[0]._manager
        # The library does not hand allow_auto_create_topics on to this cache: a look would make a deleted topic anew.
        self._manager.cluster.config["allow_auto_create_topics"] = False
        if reader is not None:
            self.consumer._fetcher.PartitionRecords = reader

    def alive(self) -> bool:
        return any(connection.connected for connection in list(self._manager._conns.values()))

    def position(self, partition: Partition) -> int | None:
        """Where the client reads on; None while it does not know."""
        position = self.consumer._subscription.assignment[TopicPartition(*partition)].position
        return None if position is None else int(position.offset)

    def end(self, partition: Partition) -> int | None:
        """The end of the partition as the last answer told it."""
        end = self.consumer.highwater(TopicPartition(*partition))
        return None if end is None else int(end)

    def partitions(self, topics: Sequence[str]) -> dict[str, frozenset[int] | type[KafkaError]]:
        """Each topic's partitions, or why there are none."""
        request = MetadataRequest(
            topics=[MetadataRequest.MetadataRequestTopic(name=topic) for topic in topics],
            allow_auto_topic_creation=False,
            include_cluster_authorized_operations=False,
            include_topic_authorized_operations=False,
        )

        async def ask() -> Any:
            return await self._manager.wait_for(self._manager.send(request), REQUEST_SECONDS * 1000)

        found: dict[str, frozenset[int] | type[KafkaError]] = {}
        for topic in self._manager.run(ask).topics:
            numbers = frozenset(partition.partition_index for partition in topic.partitions)
            found[topic.name] = for_code(topic.error_code) if topic.error_code else numbers
        return found

    def close(self) -> None:
        self.consumer.close(autocommit=False, timeout_ms=1000)


class KafkaSource:
    """All partitions of some Kafka topics, each read from its own offset.

    topics: their names; those that do not exist yet are waited for. options: kafka-python's consumer options by its own
    names (bootstrap_servers, security_protocol, sasl_*, ssl_*, isolation_level, ...). start: where partitions begin for
    which `seek` named no offset; partitions that appear later always begin at their earliest record.
    recheck_seconds: how often new partitions are looked for.

    Nothing is connected before the first `poll`. While Kafka is away `poll` answers with nothing and `connected` is
    False; what waiting cannot cure (credentials, rights, damaged batches) is a SourceError, and the next `poll` tries
    anew from the same offsets. When Kafka has deleted records before they were read, reading goes on at the earliest
    that is left, and `losses` tells what is missing.
    """

    def __init__(
        self,
        topics: Sequence[str],
        options: Mapping[str, Any],
        *,
        start: Literal["earliest", "latest"] = "earliest",
        recheck_seconds: float = 30.0,
    ) -> None:
        if not topics:
            raise ValueError("no topics; name at least one")
        if start not in ("earliest", "latest"):
            raise ValueError(f"start is {start!r}; it must be 'earliest' or 'latest'")
        self._topics = tuple(dict.fromkeys(topics))
        self._options = _client_options(options)
        self._servers = options.get("bootstrap_servers", "localhost")
        self._start = start
        self._recheck_seconds = recheck_seconds
        self._reader = batch_reader()
        self._client: Client | None = None
        self._assigned: frozenset[Partition] = frozenset()
        self._caught_up: frozenset[Partition] = frozenset()
        self._next: dict[Partition, int] = {}
        self._from_end: set[Partition] = set()
        self._discovered = False
        self._next_check = 0.0
        self._waited_for: set[str] = set()
        self._stall_marks: dict[Partition, int | None] = {}
        self._polls_since_check = 0
        self._losses: list[tuple[Partition, int, int]] = []
        self._pending: KafkaError | None = None
        self._away_since: float | None = None
        self._said: dict[str, float] = {}

    # -- the Source protocol

    def poll(self, timeout_seconds: float) -> Sequence[Records]:
        """Records that are there, waiting about so long for the first; a first connection may take 3 s longer."""
        deadline = time.monotonic() + timeout_seconds
        found: list[Records] = []
        try:
            if self._pending is not None:
                fault, self._pending = self._pending, None
                raise fault
            found = self._fetch(deadline)
        except (KafkaError, OSError) as fault:
            self._answer_to(fault)
        except Exception:
            # The IO thread died, or an inner part was not what it was: a new client is the only sound next step.
            self._drop()
            raise
        self._watch_connection()
        if not found and (not self._assigned or self._client is None):
            time.sleep(max(0.0, deadline - time.monotonic()))
        return found

    def assigned(self) -> frozenset[Partition]:
        """The partitions being read. Grows with the topics; a deleted topic's partitions leave it."""
        return self._assigned

    def caught_up(self) -> frozenset[Partition]:
        """The assigned partitions that were read to their end, as far as the last answer tells; none while away."""
        return self._caught_up if self.connected else frozenset()

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        """Read these partitions from these offsets on, now or as soon as they are known."""
        for partition, offset in offsets.items():
            self._next[partition] = offset
            if self._client is not None and partition in self._assigned:
                self._client.consumer.seek(TopicPartition(*partition), offset)
        self._caught_up -= offsets.keys()
        self._pending = None

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

    def losses(self) -> list[tuple[Partition, int, int]]:
        """Drains what was lost: (partition, first offset asked for in vain, offset reading went on at).

        The second offset is lower than the first when the log itself was cut or made anew; it is then read again from
        its beginning.
        """
        drained, self._losses = self._losses, []
        return drained

    # -- reading

    def _fetch(self, deadline: float) -> list[Records]:
        client = self._connected_client()
        self._recheck(client)
        self._polls_since_check += 1
        if not self._assigned:
            return []
        try:
            fetched = client.consumer.poll(timeout_ms=max(0, int((deadline - time.monotonic()) * 1000)))
        except OffsetOutOfRangeError as fault:
            self._regain(client, fault.args[0])
            return []
        except LogTruncationError as fault:
            self._follow_truncation(client, fault.divergent_offsets)
            return []
        found = self._records(client, fetched)
        if fetched and self._pending is None:
            # A poll that had to wait returns with no request on its way; this one sends the next before work begins.
            try:
                found += self._records(client, client.consumer.poll(timeout_ms=0))
            except KafkaError as fault:
                self._pending = fault
        return found

    def _records(self, client: Client, fetched: Mapping[Any, list[Any]]) -> list[Records]:
        found = []
        for key, pieces in fetched.items():
            partition = Partition(key.topic, key.partition)
            read = self._read_pieces if self._reader is not None else self._read_records
            records = read(partition, pieces)
            if records is not None:
                found.append(records)
        if self._pending is None:
            self._note_positions(client)
        return found

    def _read_records(self, partition: Partition, pieces: list[Any]) -> Records | None:
        next_offset = pieces[-1].offset + 1
        return Records(partition, *record_frames(pieces), next_offset=next_offset)

    def _read_pieces(self, partition: Partition, pieces: list[Any]) -> Records | None:
        good = pieces
        frames: Frames | None
        try:
            frames = frame(pieces)
        except CorruptRecordError as fault:
            good = _before_fault(pieces)
            frames = frame(good) if good else None
            # What comes before the bad batch is delivered; the fault is told at the next poll.
            self._next[partition] = pieces[len(good)].base_offset
            self._pending = fault
        if frames is None or not frames[0].size:
            return None
        return Records(partition, *frames, next_offset=good[-1].next_offset)

    def _note_positions(self, client: Client) -> None:
        caught_up = set()
        for partition in self._assigned:
            position, end = client.position(partition), client.end(partition)
            if position is not None:
                self._next[partition] = position
                if end is not None and position >= end:
                    caught_up.add(partition)
        self._caught_up = frozenset(caught_up)

    # -- which partitions, and from where

    def _connected_client(self) -> Client:
        if self._client is None:
            try:
                self._client = Client(self._options, CONNECT_SECONDS, self._reader)
            except (ValueError, TypeError, AssertionError, ImportError) as fault:
                raise KafkaConfigurationError(f"kafka-python refuses the options: {fault}") from fault
            self._next_check = 0.0
        return self._client

    def _recheck(self, client: Client) -> None:
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + self._recheck_seconds
        known = {topic: self._numbers(topic, answer) for topic, answer in client.partitions(self._topics).items()}
        if not all(known.get(topic) for topic in self._topics):
            self._next_check = now + min(self._recheck_seconds, MISSING_TOPIC_SECONDS)
        found = frozenset(Partition(topic, number) for topic, numbers in known.items() for number in numbers)
        self._assign(client, found)
        self._discovered = True
        self._check_for_stall(client)

    def _numbers(self, topic: str, answer: frozenset[int] | type[KafkaError]) -> frozenset[int]:
        if isinstance(answer, frozenset):
            self._waited_for.discard(topic)
            return answer
        if issubclass(answer, TopicAuthorizationFailedError | InvalidTopicError):
            raise answer(topic)
        if not issubclass(answer, UnknownTopicOrPartitionError):
            return frozenset(partition.number for partition in self._assigned if partition.topic == topic)
        if topic not in self._waited_for:
            self._waited_for.add(topic)
            log.warning("topic %s does not exist (or may not be seen by this user); waiting for it", topic)
        return frozenset()

    def _assign(self, client: Client, found: frozenset[Partition]) -> None:
        held = {Partition(key.topic, key.partition) for key in client.consumer.assignment()}
        if found != held:
            client.consumer.assign([TopicPartition(*partition) for partition in sorted(found)])
        if not self._discovered and self._start == "latest":
            self._from_end |= found
        for partition in sorted(found - held):
            key = TopicPartition(*partition)
            if partition in self._next:
                client.consumer.seek(key, self._next[partition])
            elif partition in self._from_end:
                client.consumer.seek_to_end(key)
            else:
                client.consumer.seek_to_beginning(key)
        if fresh := found - self._assigned:
            log.info("reading %d more partitions of %s", len(fresh), ", ".join(sorted({p.topic for p in fresh})))
        self._assigned = found
        self._caught_up &= found

    def _regain(self, client: Client, asked: Mapping[Any, int]) -> None:
        """Moves partitions whose offset is not in the log to the earliest record, and notes what was lost."""
        keys = list(asked)
        first = client.consumer.beginning_offsets(keys, timeout_ms=REQUEST_SECONDS * 1000)
        last = client.consumer.end_offsets(keys, timeout_ms=REQUEST_SECONDS * 1000)
        for key, offset in asked.items():
            if first[key] <= offset <= last[key]:
                continue
            partition = Partition(key.topic, key.partition)
            cause = (
                "Kafka deleted them before they were read" if offset < first[key] else "the log was cut or made anew"
            )
            text = "%s[%d]: records from offset %d on are gone (%s); reading on at %d"
            log.warning(text, key.topic, key.partition, offset, cause, first[key])
            self._losses.append((partition, offset, first[key]))
            self._next[partition] = first[key]
            client.consumer.seek(key, first[key])

    def _follow_truncation(self, client: Client, diverged: Mapping[Any, Any]) -> None:
        """After an unclean change of leader: read on where the new leader's log parts from the one that was read."""
        unknown = {}
        for key, divergence in diverged.items():
            partition = Partition(key.topic, key.partition)
            if divergence is None:
                unknown[key] = self._next.get(partition, 0)
                continue
            text = "%s[%d]: the log was cut back to offset %d by a change of leader; reading on there"
            log.warning(text, key.topic, key.partition, divergence.offset)
            self._next[partition] = divergence.offset
            client.consumer.seek(key, divergence.offset)
        if unknown:
            self._regain(client, unknown)

    def _check_for_stall(self, client: Client) -> None:
        """A partition that has records, is polled and does not move means a stuck client: make a new one."""
        marks = {partition: client.position(partition) for partition in self._assigned}
        stood = [p for p in self._assigned if p in self._stall_marks and self._stall_marks[p] == marks[p]]
        polls, self._polls_since_check = self._polls_since_check, 0
        self._stall_marks = marks
        if not stood or polls < 5 or not client.alive():
            return
        keys = [TopicPartition(*partition) for partition in stood]
        try:
            ends = client.consumer.end_offsets(keys, timeout_ms=REQUEST_SECONDS * 1000)
        except KafkaTimeoutError:
            self._say("ends", "the ends of %d partitions cannot be learnt; they may have no leader", len(keys))
            return
        stuck = [p for p, key in zip(stood, keys, strict=True) if ends[key] > (marks[p] or 0)]
        if stuck:
            log.warning(
                "%d partitions have records but do not move (first: %s); making a new client", len(stuck), stuck[0]
            )
            self._drop()
            raise KafkaTimeoutError("the client was stuck and is made anew")

    # -- faults

    def _answer_to(self, fault: KafkaError | OSError) -> None:
        if isinstance(fault, PERMANENT):
            self._drop()
            raise SourceError(_advice(fault, self._servers)) from fault
        if self._client is None:
            self._note_away(fault)
            return
        if not (isinstance(fault, KafkaError) and fault.retriable):
            self._drop()
        if self.connected:
            self._say(type(fault).__name__, "reading from Kafka failed, trying again: %s", fault)

    def _watch_connection(self) -> None:
        if self.connected:
            if self._away_since is not None:
                log.warning("Kafka at %s is back after %.0f s", self._servers, time.monotonic() - self._away_since)
                self._said.pop("away", None)
            self._away_since = None
            return
        self._note_away(None)
        if self._client is not None and time.monotonic() - (self._away_since or 0.0) > RENEW_AFTER_SECONDS:
            self._drop()

    def _note_away(self, fault: Exception | None) -> None:
        self._away_since = self._away_since or time.monotonic()
        reason = "the connection is gone" if fault is None else fault
        self._say("away", "Kafka at %s does not answer (%s); waiting for it", self._servers, reason)

    def _say(self, topic: str, text: str, *arguments: object) -> None:
        now = time.monotonic()
        if now - self._said.get(topic, -REPEAT_SECONDS) >= REPEAT_SECONDS:
            self._said[topic] = now
            log.warning(text, *arguments)

    def _drop(self) -> None:
        self._stall_marks = {}
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _before_fault(pieces: Sequence[Packed | Loose]) -> list[Packed | Loose]:
    good = []
    for piece in pieces:
        try:
            frame([piece])
        except CorruptRecordError:
            break
        good.append(piece)
    return good


def _client_options(options: Mapping[str, Any]) -> dict[str, Any]:
    if reserved := sorted(OWN_OPTIONS & options.keys()):
        raise SourceError(f"the Kafka option {reserved[0]} is driftd's own to set; take it out")
    if unknown := sorted(options.keys() - KafkaConsumer.DEFAULT_CONFIG.keys()):
        raise SourceError(f"kafka-python's consumer has no option {unknown[0]}; see its documentation for the names")
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_crlfile"):
        if options.get(name) is not None and not Path(options[name]).is_file():
            raise SourceError(f"{name} is {options[name]}, and there is no such file")
    options = {k: tuple(v) if k == "api_version" else v for k, v in options.items()}
    defaults = {"reconnect_backoff_max_ms": 5000, "max_poll_records": 10_000, "metrics_enabled": False}
    fixed = {"group_id": None, "enable_auto_commit": False, "auto_offset_reset": "none", "check_crcs": True}
    return {**defaults, **options, **fixed}


def _advice(fault: BaseException, servers: object) -> str:
    if isinstance(fault, SaslAuthenticationFailedError | UnsupportedSaslMechanismError | IllegalSaslStateError):
        return (
            f"Kafka at {servers} refuses the login: {fault}; check security_protocol, sasl_mechanism and the password"
        )
    if isinstance(fault, AuthorizationError):
        return f"Kafka at {servers} denies access: {fault}; grant this user READ and DESCRIBE on the topic"
    if isinstance(fault, UnsupportedCodecError):
        return f"records are packed with a codec that is not installed: {fault}"
    if isinstance(fault, CorruptRecordError):
        return f"{fault}; compare with another replica, or seek beyond the damaged batch"
    return f"Kafka at {servers} cannot be read: {type(fault).__name__}: {fault}"
