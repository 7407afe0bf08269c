"""Rows of both sides as mappings from column to values, and the profiles they leave on the reference's cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from detectors import Bins, Pair, Profile
from detectors.cells import MISSING, N_CELLS, UNSEEN, Cells, Counts
from detectors.profile import N_SUMS

Rows = Mapping[str, np.ndarray]
"""Values of each column: floats, NaN where missing; or strings, empty where missing. The numeric columns come first."""


def bins_of(reference: Rows) -> Bins:
    numbers = {name: values for name, values in reference.items() if values.dtype.kind == "f"}
    words = {name: frequencies(values) for name, values in reference.items() if name not in numbers}
    return Bins.of(numbers, words)


def frequencies(words: np.ndarray) -> dict[str, int]:
    found, counts = np.unique(words, return_counts=True)
    return {str(word): int(count) for word, count in zip(found, counts, strict=True) if word}


def profile(bins: Bins, rows: Rows) -> Profile:
    """Each column counted for itself, so that columns may have different numbers of rows."""
    parts = [_column(bins, row, rows[name]) for row, name in enumerate(bins.names)]
    counts = np.array([count for count, _ in parts], np.int64).reshape(-1, N_CELLS)
    sums = [sums for _, sums in parts[: bins.n_numeric]]
    return replace(Profile.empty(bins), counts=counts, sums=np.array(sums, np.int64).reshape(-1, N_SUMS), n_windows=1)


def _column(bins: Bins, row: int, values: np.ndarray) -> tuple[Counts, Counts | None]:
    if row < bins.n_numeric:
        alone = Bins(bins.numeric[row : row + 1], ())
        numbers = values.astype(np.float64)[None]
        one = Profile.of(alone, numbers, alone.cells(numbers, np.zeros((0, values.size), np.uint8)))
        return one.counts[0], one.sums[0]
    cells = coded(bins, row, values)
    return np.bincount(cells, minlength=N_CELLS), None


def coded(bins: Bins, row: int, words: np.ndarray) -> Cells:
    codes = {"": MISSING} | bins.categorical[row - bins.n_numeric].codes()
    return np.array([codes.get(str(word), UNSEEN) for word in words], np.uint8)


def compared(reference: Rows, current: Rows) -> Pair:
    bins = bins_of(reference)
    return Pair(profile(bins, reference), profile(bins, current))


def times(side: Profile, factor: int) -> Profile:
    """The same rows so many times over."""
    return replace(side, counts=side.counts * factor, sums=side.sums * factor)


def normal_grid(n: int, centre: float = 0.0, deviation: float = 1.0) -> np.ndarray:
    """n values that lie as evenly as a normal law's quantiles."""
    from scipy import stats

    return stats.norm.ppf((np.arange(n) + 0.5) / n, centre, deviation)
