"""Values that every stage shares: records as they come, rows as columns, and where each came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.bins import Cells, Floats

Int64s = NDArray[np.int64]
NO_TIME = np.iinfo(np.int64).min
"""Stands for "no event time" in arrays of milliseconds."""


class Partition(NamedTuple):
    """One ordered log: a Kafka partition, or a file (topic = its path, number = 0)."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Undecoded records of one partition, in order, as one fetch brought them.

    offsets: int64, shape (records,), ascending, not necessarily dense.
    timestamps_ms: int64, shape (records,); Kafka's timestamp of each record, NO_TIME where there is none.
    values: the payloads; None is a tombstone.
    next_offset: where to read on once these records are committed.
    """

    partition: Partition
    offsets: Int64s
    timestamps_ms: Int64s
    values: Sequence[bytes | memoryview | None]
    next_offset: int


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that could not become a row, kept so that a person can look at it."""

    partition: Partition
    offset: int
    reason: str
    head: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows of one partition for one model, as columns on the cells of the model's reference.

    offsets: int64, shape (rows,). time_ms: int64, shape (rows,); event time, epoch milliseconds, NO_TIME where unknown.
    numbers: float64, shape (numeric columns, rows), NaN where missing or invalid.
    cells: uint8, shape (columns, rows), from `Bins.cells`.
    rejects: records of the same fetch that did not become rows. unknown: columns the reference does not have, and in
        how many of the `n_inspected` records they were seen.
    next_offset: where to read on once this batch is committed.
    """

    partition: Partition
    offsets: Int64s
    time_ms: Int64s
    numbers: Floats
    cells: Cells
    next_offset: int
    rejects: tuple[Reject, ...] = ()
    unknown: Counter[str] = field(default_factory=Counter)
    n_inspected: int = 0

    @property
    def n_rows(self) -> int:
        return int(self.offsets.size)
