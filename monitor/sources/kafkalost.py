"""Which records are gone when an offset is not in the log, and where reading can go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kafka.errors import LogTruncationError, OffsetOutOfRangeError

from monitor.batch import Partition
from monitor.sources.kafkaclient import Client
from monitor.sources.recordbatch import Refused

_LOGGER: Final = logging.getLogger("driftd.source")
CUT_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Lost:
    """Records that are gone. asked: the offset that is not in the log; onward: where reading can go on, before it where
    the log itself was cut."""

    partition: Partition
    asked: int
    onward: int
    cause: str

    def __str__(self) -> str:
        place = f"{self.partition.topic}[{self.partition.number}]"
        return f"{place}: offset {self.asked} is not in the log ({self.cause}; the next would be {self.onward})"

    def log(self) -> None:
        """Say that reading goes on without them."""
        text = "%s[%d]: records are gone, offset %d is not in the log (%s); reading on at %d, %d offsets are lost"
        n_lost = max(0, self.onward - self.asked)
        lost = {"event": "kafka.records_lost", "topic": self.partition.topic, "partition": self.partition.number}
        lost |= {"asked_offset": self.asked, "next_offset": self.onward, "n_lost": n_lost}
        _LOGGER.warning(text, *self.partition, self.asked, self.cause, self.onward, n_lost, extra=lost)


class Cuts:
    """Logs that seem shorter than what was read of them, and are so only if that lasts: brokers need a moment to tell
    each other of a topic that was made anew."""

    def __init__(self) -> None:
        self._seen: dict[Partition, float] = {}

    def certain(self, partition: Partition) -> bool:
        """Whether it has been so for long enough; then that is forgotten."""
        now = time.monotonic()
        if now - self._seen.setdefault(partition, now) < CUT_SECONDS:
            return False
        del self._seen[partition]
        return True


def missing(
    client: Client,
    fault: OffsetOutOfRangeError | LogTruncationError,
    positions: Mapping[Partition, int],
    cuts: Cuts,
    *,
    latest: bool,
) -> Iterator[Lost]:
    """What is gone of each partition that could not be read where that was asked for.

    positions: where each is read on. latest: whether reading goes on at the end where Kafka has deleted records, rather
    than at the first that is left.
    """
    if isinstance(fault, LogTruncationError):
        asked = yield from _parted(client, fault.divergent_offsets, positions)
    else:
        asked = {Partition(key.topic, key.partition): at for key, at in fault.args[0].items()}
    if not asked:
        return
    first, end = client.first_offsets(asked), client.end_offsets(asked)
    for partition, offset in asked.items():
        if offset < first[partition]:
            onward = end[partition] if latest else first[partition]
            yield Lost(partition, offset, onward, "Kafka deleted them before they were read")
        elif offset > end[partition] and cuts.certain(partition):
            yield Lost(partition, offset, first[partition], "the log was cut or made anew")


def _parted(
    client: Client, diverged: Mapping[Any, Any], positions: Mapping[Partition, int]
) -> Generator[Lost, None, dict[Partition, int]]:
    """After an unclean change of leader: where the new leader's log parts from the one that was read.

    Returns the partitions of which the new leader does not know that.
    """
    unknown = {}
    for key, divergence in diverged.items():
        partition = Partition(key.topic, key.partition)
        offset = positions.get(partition, 0)
        if divergence is None:
            unknown[partition] = offset
        elif divergence.offset == offset:  # the new leader's log is the same up to here
            client.seek(partition, offset)
        else:
            yield Lost(partition, offset, divergence.offset, "a new leader never had them")
    return unknown


def n_refused(partition: Partition, pieces: Sequence[Any]) -> int:
    """How many offsets are lost to us in batches too large to be unpacked."""
    n_lost = 0
    for batch in pieces:
        if not isinstance(batch, Refused):
            continue
        text = "%s[%d]: the record batch at offset %d is passed over: %s"
        lost = {"event": "kafka.batch_refused", "topic": partition.topic, "partition": partition.number}
        lost |= {"offset": batch.base_offset, "n_lost": batch.next_offset - batch.base_offset}
        _LOGGER.error(text, *partition, batch.base_offset, batch.reason, extra=lost)
        n_lost += batch.next_offset - batch.base_offset
    return n_lost
