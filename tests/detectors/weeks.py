"""Rows of a few columns in windows, and a watch over them, for tests of the budget's statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from detectors import Bins, Profile
from detectors.blocks import Blocks, Rows, cut_by_rows, cut_by_time
from detectors.calibration import Allowance, Calibration, Material, calibrate
from detectors.cells import MISSING, UNSEEN, Cells, Floats, Places
from detectors.correlation import watched
from detectors.domain import Classifier
from detectors.season import HOUR_MS, MONDAY_MS
from detectors.signals import Reading, Signals
from detectors.vigil import Seen, Sight, Vigil

N_NUMBERS, SHARES = 4, np.array([0.5, 0.3, 0.15, 0.05])
WORDS = ("a", "b", "c", "d")
N_TAUGHT = 1_000
NO_TIME = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Table:
    """Rows: numbers of shape (4, rows) and the word of one more column, -1 for one that no reference holds."""

    numbers: Floats
    words: np.ndarray

    @property
    def n_rows(self) -> int:
        return self.words.size


def drawn(rng: np.random.Generator, n_rows: int, shift: Floats | float = 0.0) -> Table:
    """Normal numbers, shifted row by row, and words."""
    words = rng.choice(4, n_rows, p=SHARES)
    return Table(rng.normal(size=(N_NUMBERS, n_rows)) + shift, words)


def bins_of(table: Table) -> Bins:
    numbers = {f"x{i}": row for i, row in enumerate(table.numbers)}
    counts = np.bincount(table.words, minlength=4)
    return Bins.of(numbers, {"w": {word: int(n) for word, n in zip(WORDS, counts, strict=True)}})


def cells_of(bins: Bins, table: Table) -> Cells:
    codes = bins.categorical[0].codes()
    known = np.array([*(codes.get(word, UNSEEN) for word in WORDS), UNSEEN], np.uint8)
    return bins.cells(table.numbers, known[table.words][None])


@dataclass(frozen=True, slots=True)
class Watchman:
    """A calibrated watch over windows of so many rows; the first of them are shown to a classifier, if there is one."""

    bins: Bins
    signals: Signals
    calibration: Calibration
    allowance: Allowance
    n_rows: int
    blocks: Blocks
    classifier: Classifier | None = None

    @classmethod
    def of(
        cls, table: Table, n_rows: int, *, hours: bool = False, mend: Callable[[Material], Material] = lambda m: m,
        correlations: int = 0, joint: bool = False, n_shown: int = 0, order: Places | None = None,
    ) -> Watchman:  # fmt: skip
        """Learn from these rows. hours: each window of them is an hour of its own. mend: changes what is learnt from.
        n_shown: rows of a window that a classifier is shown; order: of each row its place in a random order of all."""
        bins = bins_of(table)
        cells = cells_of(bins, table)
        if correlations or joint:
            bare = Profile.of(bins, table.numbers, cells)
            bins = replace(bins, pairs=watched(bare, cells, np.ones(bins.n_columns), correlations, joint=joint))
        bins = replace(bins, pairs=replace(bins.pairs, n_shown=n_shown))
        profile = Profile.of(bins, table.numbers, cells)
        order = np.random.default_rng(0).permutation(table.n_rows) if order is None else order
        classifier = Classifier.of(profile, cells[:, np.argsort(order)[:N_TAUGHT]]) if n_shown else None
        signals = Signals.of(profile, n_rows)
        times = MONDAY_MS + np.arange(table.n_rows) * HOUR_MS // n_rows if hours else np.full(table.n_rows, NO_TIME)
        rows = Rows(table.numbers, cells, times, np.ones(table.n_rows, np.bool_), order, classifier)
        blocks: Blocks = cut_by_time(signals, rows, HOUR_MS) if hours else cut_by_rows(signals, rows, n_rows)
        if classifier is not None:
            classifier = replace(classifier, steadiness=blocks.steadiness)
        width_ms = HOUR_MS if hours else 0
        whole, variance = signals.read(profile), signals.row_variance(profile)
        whole = replace(whole, told=blocks.windows.told.sum(axis=0))
        allowance = Allowance(1.0, 168.0, np.full(signals.n_columns, 1 / signals.n_columns))
        material = mend(Material(signals, whole, variance, blocks, width_ms))
        return cls(bins, signals, calibrate(material, allowance), allowance, n_rows, blocks, classifier)

    def reading(self, table: Table) -> Reading:
        """One window in panes."""
        n_panes = 4 if self.n_rows >= 800 else 1
        group = np.arange(table.n_rows) * n_panes // max(table.n_rows, 1)
        cells = cells_of(self.bins, table)
        found = self.signals.read_rows(cells, group, n_panes)
        n_shown = self.signals.pairs.n_shown
        told = self.classifier.tell(cells[:, :n_shown]) if self.classifier and table.n_rows >= n_shown else None
        if told:
            found.told[-1] = told.reading
        return found

    def begin(self) -> Vigil:
        return Vigil.begin(self.signals, self.calibration.null, self.calibration.terms(self.allowance))

    def after(self, vigil: Vigil, reading: Reading, cell: int = 0) -> tuple[Vigil, Seen]:
        terms = self.calibration.terms(self.allowance)
        return vigil.after(self.signals, self.calibration.null, terms, Sight(reading, 0.0, cell))

    def alarms(self, tables: list[Table]) -> np.ndarray:
        """Alarms of columns, shape (windows, columns)."""
        vigil, found = self.begin(), []
        for table in tables:
            vigil, seen = self.after(vigil, self.reading(table))
            found.append(seen.alarm.loud)
        return np.array(found)


def without_values(table: Table, column: int, share: float, rng: np.random.Generator) -> Table:
    """Some of one column's values go missing."""
    numbers = table.numbers.copy()
    numbers[column, rng.random(table.n_rows) < share] = np.nan
    return replace(table, numbers=numbers)


__all__ = ["MISSING", "Table", "Watchman", "bins_of", "cells_of", "drawn", "without_values"]
