"""What is known of a set of rows: their profile, where they lie in the log, and columns nobody expected.

Tallies add like the profiles inside them, exactly and in any order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from operator import add
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors import Bins, Profile
from detectors.blocks import N_PANES
from detectors.cells import N_CELLS, Cells, Counts, Floats
from detectors.pairs import together
from monitor.batch import Batch, Int64s, Partition
from monitor.rowsample import Lots, RowSample, lots

Rows = NDArray[np.intp]
N_UNKNOWN: Final = 100
"""Unknown columns that are kept by name: the first in alphabetical order, so that what is kept adds exactly too."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Where rows lie in one partition: first and last offset, both inclusive."""

    first: int
    last: int

    def __or__(self, other: Extent) -> Extent:
        return Extent(min(self.first, other.first), max(self.last, other.last))


Extents = Mapping[Partition, Extent]


@dataclass(frozen=True, slots=True, eq=False)
class Panes:
    """What a profile counts, part by part of the window: counts, int32, shape (panes, columns, 256), and pairs, int64,
    shape (panes, sums)."""

    counts: NDArray[np.int32]
    pairs: Counts

    @classmethod
    def of(cls, bins: Bins, parts: Mapping[int, Profile]) -> Panes:
        """Of the profiles of those parts that have rows."""
        counts = np.zeros((N_PANES, bins.n_columns, N_CELLS), np.int32)
        n_sums = max((part.pairs.size for part in parts.values()), default=0)
        pairs = np.zeros((N_PANES, n_sums), np.int64)
        for which, part in parts.items():
            counts[which], pairs[which] = part.counts, part.pairs
        return cls(counts, pairs)

    def __add__(self, other: Panes) -> Panes:
        return Panes(self.counts + other.counts, together(self.pairs, other.pairs))


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """A set of rows, counted.

    unknown: columns that the reference does not have, and in how many of the `n_inspected` rows they were. panes: None
    where nobody asked for them.
    """

    profile: Profile
    extents: Extents = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)
    n_inspected: int = 0
    panes: Panes | None = None

    @classmethod
    def empty(cls, bins: Bins) -> Tally:
        """The identity of `+`: no rows."""
        return cls(Profile.empty(bins))

    @property
    def n_rows(self) -> int:
        return self.profile.n_rows

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.profile + other.profile,
            union(self.extents, other.extents),
            _first(Counter(self.unknown) + Counter(other.unknown)),
            self.n_inspected + other.n_inspected,
            _together(self.panes, other.panes),
        )

    def as_window(self) -> Tally:
        """The same, its profile marked as that of one window."""
        return replace(self, profile=replace(self.profile, n_windows=1))


def union(*several: Extents) -> Extents:
    """The smallest extents that hold all of these."""
    merged: dict[Partition, Extent] = {}
    for extents in several:
        for partition, extent in extents.items():
            merged[partition] = merged[partition] | extent if partition in merged else extent
    return dict(sorted(merged.items()))


def _together(panes: Panes | None, others: Panes | None) -> Panes | None:
    return others if panes is None else panes if others is None else panes + others


def _first(unknown: Counter[str]) -> Mapping[str, int]:
    return dict(sorted(unknown.items())[:N_UNKNOWN])


@dataclass(frozen=True, eq=False)
class Stack:
    """Rows of several batches side by side, so that they are counted in one go.

    The arrays are as in `Batch`. runs: the partition of every stretch of rows, and where the stretch begins.
    """

    bins: Bins
    offsets: Int64s
    time_ms: Int64s
    numbers: Floats
    cells: Cells
    inspected: Int64s
    unknown: Sequence[tuple[int, str]]
    runs: Sequence[tuple[Partition, int]]

    @classmethod
    def of(cls, bins: Bins, batches: Sequence[Batch]) -> Stack:
        """Stack at least one batch."""
        begins = np.cumsum([0, *(batch.n_rows for batch in batches)])[:-1].tolist()
        placed = list(zip(batches, begins, strict=True))
        if len(batches) == 1:
            arrays = (batches[0].offsets, batches[0].time_ms, batches[0].numbers, batches[0].cells)
        else:
            arrays = (
                np.concatenate([batch.offsets for batch in batches]),
                np.concatenate([batch.time_ms for batch in batches]),
                np.concatenate([batch.numbers for batch in batches], axis=1),
                np.concatenate([batch.cells for batch in batches], axis=1),
            )
        inspected = np.concatenate([batch.inspected + begin for batch, begin in placed])
        unknown = [(row + begin, name) for batch, begin in placed for row, name in batch.unknown]
        return cls(bins, *arrays, inspected, unknown, [(batch.partition, begin) for batch, begin in placed])

    def tally(self, rows: Rows, pane: Rows | None = None, *, whole: bool = False) -> Tally:
        """Count the chosen rows, given in ascending order.

        pane: of each of them, if they are counted by panes too. whole: whether they are no segment's: then pairs of
        columns are counted too, and columns nobody expected.
        """
        everything = rows.size == self.time_ms.size
        numbers, cells = (self.numbers, self.cells) if everything else (self.numbers[:, rows], self.cells[:, rows])
        if pane is None:
            profile, panes = Profile.of(self.bins, numbers, cells, pairs=whole), None
        else:
            profile, panes = _by_pane(self.bins, numbers, cells, pane, pairs=whole)
        if not whole:
            return Tally(profile, self._extents(rows), panes=panes)
        place = np.minimum(np.searchsorted(rows, self.inspected), max(rows.size - 1, 0))
        inspected = set(self.inspected[rows[place] == self.inspected].tolist()) if rows.size else set()
        unknown = Counter(name for row, name in self.unknown if row in inspected)
        return Tally(profile, self._extents(rows), _first(unknown), len(inspected), panes)

    @cached_property
    def lots(self) -> Lots:
        """The lot of every row."""
        ends = [*(begin for _, begin in self.runs[1:]), self.offsets.size]
        found = [lots(at, self.offsets[begin:end]) for (at, begin), end in zip(self.runs, ends, strict=True)]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def sample(self, rows: Rows, beside: RowSample) -> RowSample:
        """Those of the chosen rows that may have a place in a sample beside the rows that it has."""
        mine = self.lots[rows]
        low = np.flatnonzero(mine <= beside.bound)
        if low.size > beside.limit:
            low = low[np.argpartition(mine[low], beside.limit - 1)[: beside.limit]]
        if not low.size:
            return RowSample.empty(self.bins, beside.limit)
        chosen = rows[low]
        run = np.searchsorted([begin for _, begin in self.runs], chosen, "right") - 1
        partitions = sorted({at for at, _ in self.runs})
        place = np.array([partitions.index(at) for at, _ in self.runs], np.int32)[run]
        return RowSample(
            self.bins, beside.limit, mine[low], tuple(partitions), place, self.offsets[chosen], self.time_ms[chosen],
            self.numbers.take(chosen, axis=1), self.cells.take(chosen, axis=1),
        )  # fmt: skip

    def _extents(self, rows: Rows) -> Extents:
        borders = np.searchsorted(rows, [begin for _, begin in self.runs] + [self.time_ms.size]).tolist()
        return union(
            *(
                {partition: Extent(int(self.offsets[rows[first]]), int(self.offsets[rows[end - 1]]))}
                for (partition, _), first, end in zip(self.runs, borders[:-1], borders[1:], strict=True)
                if first < end
            )
        )


def _by_pane(bins: Bins, numbers: Floats, cells: Cells, pane: Rows, *, pairs: bool) -> tuple[Profile, Panes]:
    """Rows counted, and their counts by pane, at hardly more cost: rows that come together are mostly of one pane."""
    parts = {}
    for which in np.flatnonzero(np.bincount(pane)).tolist() or [0]:
        mine = pane == which
        some = slice(None) if mine.all() else mine
        parts[which] = Profile.of(bins, numbers[:, some], cells[:, some], pairs=pairs)
    return reduce(add, parts.values()), Panes.of(bins, parts)
