"""Values that every stage shares: records as they come, rows as columns, and where each came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.cells import Cells, Floats

Int64s = NDArray[np.int64]
Keys = NDArray[np.uint64]
Value = bytes | memoryview | None
"""A payload; None is a tombstone."""
NO_TIME = np.iinfo(np.int64).min
"""Stands for "no event time" in arrays of milliseconds."""
HEAD_BYTES: Final = 200


class Severity(StrEnum):
    """How bad; ordered info < warning < critical."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return list(Severity).index(self)


class Partition(NamedTuple):
    """One ordered log: a Kafka partition, or a file (topic = its path, number = 0)."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class Moment:
    """What only the outside knows when the engine ticks.

    now_ms: the wall clock, epoch milliseconds. assigned: the partitions being read. idle: those of them that were read
    to their end and have brought nothing for a while.
    """

    now_ms: int
    assigned: frozenset[Partition]
    idle: frozenset[Partition] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Records of one partition, in order, as one fetch brought them.

    offsets: int64, shape (records,), ascending, not necessarily dense.
    timestamps_ms: int64, shape (records,); Kafka's timestamp of each record, NO_TIME where there is none.
    values: the payloads; None is a tombstone.
    next_offset: where to read on once these records are committed.
    n_passed: records among these that are in the log and were passed over, because only a sample is looked at.
    n_lost: offsets among these whose batch was refused.
    decoded: by the key of its reading, what another process made of them; then `values` is empty.
    """

    partition: Partition
    offsets: Int64s
    timestamps_ms: Int64s
    values: Sequence[Value]
    next_offset: int
    n_passed: int = 0
    n_lost: int = 0
    decoded: Mapping[str, Batch] = field(default_factory=dict)

    @property
    def n_read(self) -> int:
        return int(self.offsets.size) + self.n_passed

    @property
    def first_offset(self) -> int:
        """Where to read these again; behind them where none of them is looked at."""
        return int(self.offsets[0]) if self.offsets.size else self.next_offset

    def head(self, place: int) -> bytes:
        """The first bytes of one of the records, for people who look at what was refused."""
        value = self.values[place]
        return bytes(value[:HEAD_BYTES]) if value is not None else b""

    def since(self, offset: int) -> Records:
        """The records from an offset on."""
        first = int(np.searchsorted(self.offsets, offset))
        if first == 0:
            return self
        return replace(
            self,
            offsets=self.offsets[first:],
            timestamps_ms=self.timestamps_ms[first:],
            values=self.values[first:],
            decoded={key: batch.since(offset) for key, batch in self.decoded.items()},
        )

    def without(self, offsets: Int64s) -> Records:
        """The records less those at these offsets: when which were logged, and no more."""
        kept = ~np.isin(self.offsets, offsets)
        return replace(self, offsets=self.offsets[kept], timestamps_ms=self.timestamps_ms[kept], values=(), decoded={})


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that could not become a row, kept so that a person can look at it.

    kind: one of a few words, for counting; reason: a sentence. row: which of the record's rows, 0 where all are meant.
    """

    partition: Partition
    offset: int
    kind: str
    reason: str
    head: bytes
    row: int = 0


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it is kept: a reject with its model, its number n, and when it was seen, epoch milliseconds."""

    n: int
    model: str
    topic: str
    partition: int
    offset: int
    kind: str
    reason: str
    head: bytes
    seen_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows of one partition for one model, as columns on the cells of the model's reference.

    offsets: int64, shape (rows,). time_ms: int64, shape (rows,); event time, epoch milliseconds, NO_TIME where unknown.
    numbers: float64, shape (numeric columns, rows), NaN where missing or invalid.
    cells: uint8, shape (columns, rows), from `Bins.cells`.
    next_offset: where to read on once this batch is committed.
    rejects: records of the same fetch that did not become rows.
    inspected: int64, ascending, the rows that were searched for columns which the reference does not have; unknown: the
        row and name of each such column.
    keys: uint64, shape (rows,), a hash of each row's id, 0 where it has none; of no rows where nobody asks for ids.
    """

    partition: Partition
    offsets: Int64s
    time_ms: Int64s
    numbers: Floats
    cells: Cells
    next_offset: int
    rejects: tuple[Reject, ...] = ()
    inspected: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    unknown: tuple[tuple[int, str], ...] = ()
    keys: Keys = field(default_factory=lambda: np.empty(0, np.uint64))

    @property
    def n_rows(self) -> int:
        return int(self.offsets.size)

    def since(self, offset: int) -> Batch:
        """The rows and rejects from an offset on."""
        kept = tuple(reject for reject in self.rejects if reject.offset >= offset)
        return replace(self, rejects=kept).without(self.offsets < offset)

    def without(self, rows: NDArray[np.bool_], rejects: tuple[Reject, ...] = ()) -> Batch:
        """The batch less the marked rows, and with these rejects more."""
        if not rows.any():
            return self
        kept = np.flatnonzero(~rows)
        moved = np.cumsum(~rows) - 1
        return replace(
            self,
            offsets=self.offsets[kept],
            time_ms=self.time_ms[kept],
            numbers=self.numbers[:, kept],
            cells=self.cells[:, kept],
            rejects=self.rejects + rejects,
            inspected=moved[self.inspected[~rows[self.inspected]]],
            unknown=tuple((int(moved[row]), name) for row, name in self.unknown if not rows[row]),
            keys=self.keys[kept] if self.keys.size else self.keys,
        )
