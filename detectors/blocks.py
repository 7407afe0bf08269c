"""The reference's own windows: how its columns move from window to window while nothing is wrong.

Where the reference's rows have a time, blocks are the windows that the log would have been cut into; else they are
stretches of rows in the order of the file. Kept of each block, and of the panes it is made of, is the reading of all
signals and events: a few integers per column, no rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from detectors.cells import ABOVE, FIRST, N_CELLS, Cells, Counts, Floats, Places
from detectors.domain import Classifier
from detectors.signals import Reading, Signals

MAX_NUMBERS: Final = 8_000_000
"""Integers kept of one set of blocks; what is older goes first."""
MIN_BLOCKS: Final = 10
MIN_BLOCK_ROWS: Final = 100
PANE_ROWS: Final = 200
N_PANES: Final = 4

FEWER: Final = 0.1
"""Of the reference's windows, that may have fewer rows than a classifier is shown."""

_LATER: Final = ("pairs", "told", "steadiness")
"""What there is not where nothing of it is watched."""
_NO_TIME: Final = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Cut:
    """How windows are cut: by time (width_ms) or by rows (n_rows); exactly one of the two is not 0."""

    width_ms: int = 0
    n_rows: int = 0

    def __str__(self) -> str:
        return f"{self.n_rows} rows" if self.n_rows else f"{self.width_ms} ms"


def panes_of(rows: float) -> int:
    """Into how many panes a window of so many rows is divided: at most four, of at least 200 rows each."""
    return next((n for n in (N_PANES, 2) if rows >= n * PANE_ROWS), 1)


def folded(panes: Reading) -> Reading:
    """A window's quarters, put together until each has enough rows. panes: shape (4, ...), one mean for all sets."""
    n = panes.n_all.shape[0]
    kept = min(panes_of(float(panes.n_all.sum(axis=0).mean())), n)
    return panes.each(lambda array: array.reshape(kept, n // kept, *array.shape[1:]).sum(axis=1))


@dataclass(frozen=True, eq=False)
class Blocks:
    """Readings of successive blocks.

    reading: shape (blocks, panes, ...). start_ms: of each block, shape (blocks,); equal numbers where blocks have no
    time. lonely: rows of each column that lie outside the range, or hold no word, of all other blocks. scale: a block's
    rows over a window's, at most 1. is_timed: whether the order is that of time. steadiness: of the classifier that was
    shown them, see there; empty where there is none.
    """

    reading: Reading
    start_ms: Counts
    lonely: Counts
    scale: float
    is_timed: bool
    steadiness: Floats = field(default_factory=lambda: np.zeros(0))

    @property
    def n_blocks(self) -> int:
        return self.start_ms.size

    @property
    def n_panes(self) -> int:
        return int(self.reading.n_all.shape[1])

    @cached_property
    def windows(self) -> Reading:
        """Readings of whole blocks, shape (blocks, ...)."""
        return self.reading.sum(axis=1)

    def chosen(self, kept: NDArray[np.bool_]) -> Self:
        """Some of the blocks."""
        return replace(self, reading=self.reading[kept], start_ms=self.start_ms[kept])

    def gaps(self, width_ms: int) -> Floats:
        """Windows without rows before each block, shape (blocks,)."""
        if not self.is_timed or not width_ms:
            return np.zeros(self.n_blocks)
        return np.maximum(np.diff(self.start_ms, prepend=self.start_ms[:1] - width_ms) / width_ms - 1, 0.0)

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Facts and arrays to be packed."""
        facts = {"scale": self.scale, "is_timed": self.is_timed}
        arrays = {**self.reading.arrays, "steadiness": self.steadiness}
        arrays = {name: array for name, array in arrays.items() if name not in _LATER or array.size}
        return facts, {**arrays, "start_ms": self.start_ms, "lonely": self.lonely}

    @classmethod
    def from_arrays(cls, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Read what `to_arrays` gave."""
        n_all = arrays["n_all"]
        pairs, told = (arrays.get(name, np.zeros((*n_all.shape, 0), np.int64)) for name in ("pairs", "told"))
        reading = Reading(n_all, arrays["valid"], arrays["totals"], arrays["events"], pairs, told)
        steadiness = arrays.get("steadiness", np.zeros(0))
        return cls(
            reading, arrays["start_ms"], arrays["lonely"], float(facts["scale"]), bool(facts["is_timed"]), steadiness
        )  # fmt: skip


def rows_per_window(time_ms: Counts, cut: Cut) -> float:
    """Rows that a window usually has, by the rows' times where windows are cut by time: the median; 0 if unknown."""
    if cut.n_rows:
        return float(cut.n_rows)
    known = time_ms[time_ms != _NO_TIME]
    if 2 * known.size <= time_ms.size:
        return 0.0
    return float(np.median(np.unique(known // cut.width_ms, return_counts=True)[1]))


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows to be cut: numbers and cells as in `Bins.cells`, time_ms of each, and which of them are chosen.

    order: of each row its place in a random order of all, the first of which taught the classifier; read if there is
    one.
    """

    numbers: Floats
    cells: Cells
    time_ms: Counts
    chosen: NDArray[np.bool_]
    order: Places | None = None
    classifier: Classifier | None = None


def cut_by_time(signals: Signals, rows: Rows, width_ms: int) -> Blocks:
    """Blocks of the chosen rows, in windows of time; a row without a time is left out."""
    used = rows.chosen & (rows.time_ms != _NO_TIME)
    starts, block = np.unique(np.where(used, rows.time_ms, _NO_TIME) // width_ms, return_inverse=True)
    sizes = np.bincount(block[used], minlength=starts.size)
    n_panes = panes_of(float(np.median(sizes[sizes > 0])) if used.any() else 0.0)
    pane = rows.time_ms % width_ms * n_panes // width_ms
    reading = signals.read_rows(rows.cells, np.where(used, block * n_panes + pane, -1), starts.size * n_panes)
    lonely = _lonely(signals, rows, np.where(used, block, -1))
    blocks = _bounded(Blocks(_folded(reading, n_panes), starts * width_ms, lonely, 1.0, True).chosen(sizes > 0))
    place = np.searchsorted(blocks.start_ms, starts * width_ms)
    place = np.where(np.isin(starts * width_ms, blocks.start_ms), place, -1)
    return _told(signals, rows, blocks, np.where(used, place[block], -1))


def cut_by_rows(signals: Signals, rows: Rows, n_rows: float) -> Blocks:
    """Blocks of the chosen rows in their order, of `n_rows` each, or shorter ones if there would be too few."""
    own = np.flatnonzero(rows.chosen)
    size = int(min(n_rows, max(own.size // MIN_BLOCKS, MIN_BLOCK_ROWS)))
    n_blocks = own.size // size
    n_panes = panes_of(size) if size == n_rows else 1
    at, group = np.arange(n_blocks * size), np.full(rows.chosen.size, -1)
    group[own[: at.size]] = at // size * n_panes + at % size * n_panes // size
    reading = signals.read_rows(rows.cells, group, n_blocks * n_panes)
    lonely = _lonely(signals, rows, np.where(group >= 0, group // n_panes, -1))
    blocks = _bounded(Blocks(_folded(reading, n_panes), np.zeros(n_blocks, np.int64), lonely, size / n_rows, False))
    gone = n_blocks - blocks.n_blocks
    return _told(signals, rows, blocks, np.where(group >= 0, group // n_panes - gone, -1))


def sorted_by(cells: Cells, n_windows_rows: int = MIN_BLOCK_ROWS) -> Places:
    """Columns by which the rows were sorted or grouped: each value stands in one stretch and never comes again.

    Such an order is the file's own; live rows will not come in it. A column that hardly repeats a value (an id, a
    clock) tells nothing.
    """
    found = []
    for column, row in enumerate(cells):
        n_runs = 1 + int((row[1:] != row[:-1]).sum()) if row.size else 0
        n_values = np.unique(row).size
        if n_values > 1 and row.size >= n_windows_rows and n_runs <= n_values + n_values // 20:
            found.append(column)
    return np.array(found, np.intp)


def least_rows(time_ms: Counts, cut: Cut) -> float:
    """Rows that nine of ten blocks have, by the rows' times where they are cut by time."""
    usual = rows_per_window(time_ms, cut)
    if cut.width_ms and usual:
        known = time_ms[time_ms != _NO_TIME]
        return float(np.quantile(np.unique(known // cut.width_ms, return_counts=True)[1], FEWER))
    return min(usual or np.inf, max(time_ms.size // MIN_BLOCKS, MIN_BLOCK_ROWS))


def _told(signals: Signals, rows: Rows, blocks: Blocks, block: Places) -> Blocks:
    """With what the classifier says of every block, at its end. block: of each row, negative for none.

    Shown to it are as many rows as live windows show, those of a block that come first in the order of all and did not
    teach it; a block that has fewer is passed over, as a window is. Blocks of time show how steady its functions are.
    """
    if not signals.n_told or rows.classifier is None or rows.order is None:
        return blocks
    n_shown, classifier = signals.pairs.n_shown, rows.classifier
    able = np.flatnonzero((block >= 0) & (rows.order >= classifier.n_reference))
    able = able[np.lexsort((rows.order[able], block[able]))]
    borders = np.searchsorted(block[able], np.arange(blocks.n_blocks + 1)).tolist()
    shown = {
        i: rows.cells[:, able[first : first + n_shown]]
        for i, (first, end) in enumerate(pairwise(borders)) if end - first >= n_shown
    }  # fmt: skip
    if blocks.is_timed and len(shown) >= MIN_BLOCKS:
        classifier = classifier.steadied(list(shown.values()))
    found = np.zeros((*blocks.reading.n_all.shape, 2), np.int64)
    for i, cells in shown.items():
        told = classifier.tell(cells)
        found[i, -1] = told.reading if told else 0
    return replace(blocks, reading=replace(blocks.reading, told=found), steadiness=classifier.steadiness)


def _lonely(signals: Signals, rows: Rows, block: Places) -> Counts:
    """Of each column the rows that hold what no other block holds: a word, or a number outside of its range."""
    used = block >= 0
    block = block[used]
    n_blocks = int(block.max(initial=0)) + 1
    found = np.zeros(signals.bins.n_columns, np.int64)
    if n_blocks < 2:
        return found
    for column, cells in enumerate(rows.cells[:, used]):
        if column < signals.bins.n_numeric:
            numbers = rows.numbers[column, used]
            finite = np.isfinite(numbers)
            for side in (numbers[finite], -numbers[finite]):
                highest = np.full(n_blocks, -np.inf)
                np.maximum.at(highest, block[finite], side)
                found[column] += int((side > np.partition(highest, -2)[-2]).sum())
        else:
            table = np.zeros((n_blocks, N_CELLS), np.int64)
            np.add.at(table, (block, cells), 1)
            words = table[:, FIRST:ABOVE]
            found[column] = words[:, (words > 0).sum(axis=0) == 1].sum()
    return found


def _folded(reading: Reading, n_panes: int) -> Reading:
    """Groups as blocks of panes."""
    n_blocks = reading.n_all.size // n_panes
    return reading.each(lambda array: array.reshape(n_blocks, n_panes, *array.shape[1:]))


def _bounded(blocks: Blocks) -> Blocks:
    """The newest blocks, not more than there is room for."""
    arrays = blocks.reading.valid, blocks.reading.totals, blocks.reading.pairs
    numbers = sum(a[0].size for a in arrays) if blocks.n_blocks else 1
    kept = max(MAX_NUMBERS // numbers, MIN_BLOCKS)
    return blocks if blocks.n_blocks <= kept else blocks.chosen(np.arange(blocks.n_blocks) >= blocks.n_blocks - kept)
