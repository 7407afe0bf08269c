"""Which signals and events a reference has: what each measures, of which cells, and how it is scaled.

Over the reference's rows every signal has mean 0 and variance 1. A share has a signal where a normal law holds for it;
what is too rare for one is counted as events.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import numpy as np

from detectors.cells import ABOVE, BELOW, FIRST, MISSING, Counts, Floats
from detectors.pairs import fisher
from detectors.profile import Profile

FIXED: Final = 4096
"""Rank functions are rounded to this fraction, so that sums over rows are integers and add in any order."""
N_RANKS: Final = 3
N_WORDS: Final = 8
MIN_SHARE: Final = 0.005
MIN_EXPECTED: Final = 5.0
"""A share has a signal when so many rows per window are expected on either side of it; else it is counted as events."""


class Measure(StrEnum):
    """What a signal measures."""

    LEVEL = "level"
    SPREAD = "spread"
    SKEW = "skew"
    SHARE = "share"
    REST = "rest"
    MISSING = "missing"
    CORRELATION = "correlation"
    JOINT = "mmd"
    CLASSIFIER = "classifier"


class Event(StrEnum):
    """What is counted one by one. OUTSIDE: out of the reference's range, or a word that it never held."""

    OUTSIDE = "outside"
    MISSING = "missing"
    INVALID = "invalid"


RANKS: Final = (Measure.LEVEL, Measure.SPREAD, Measure.SKEW)
TOGETHER: Final = (Measure.CORRELATION, Measure.JOINT, Measure.CLASSIFIER)
"""What is measured of several columns at once."""

Signal = tuple[int, Measure, int, float, float]
"""Column, measure, cell, mean of total / rows, and scale."""


def listed(reference: Profile, rows: float) -> tuple[list[Signal], Floats, list[tuple[int, Event]]]:
    """All signals of a reference for windows of about so many rows, by columns; and the events, each with its column.

    Between them the rank functions times `FIXED`, shape (numeric columns, 3, 254), zero where a column has none.
    """
    found: list[Signal] = []
    weights = np.zeros((reference.bins.n_numeric, N_RANKS, ABOVE - BELOW + 1))
    events: list[tuple[int, Event]] = []
    for row in range(reference.bins.n_columns):
        counts = reference.counts[row]
        if row < reference.bins.n_numeric:
            own, weights[row] = _ranks(row, counts[BELOW:])
        else:
            own = _words(row, counts, rows)
        missing = _share(row, Measure.MISSING, MISSING, counts[MISSING], counts.sum(), rows)
        kinds = (Event.OUTSIDE, Event.INVALID) if missing else tuple(Event)
        if row in reference.bins.errors:
            missing, kinds = [], (Event.INVALID,)
        found += own + missing
        events += [(row, kind) for kind in kinds]
    found += _correlations(reference) + _joint(reference) + _told_apart(reference)
    return found, weights, events


def _correlations(reference: Profile) -> list[Signal]:
    """Of every pair of columns one signal; its mean is NaN where the reference shows no correlation."""
    pairs, first = reference.bins.pairs, reference.bins.n_columns
    if not reference.pairs.size:
        return []
    mean = fisher(pairs.correlations(reference.pairs, np.array(reference.n_rows)))
    scale = 1 / np.sqrt(pairs.variance)
    numbers = enumerate(zip(mean.tolist(), scale.tolist(), strict=True))
    return [(first + pair, Measure.CORRELATION, 0, *two) for pair, two in numbers]


def _joint(reference: Profile) -> list[Signal]:
    """Of every joint score one signal, all of one thing that comes after the pairs."""
    pairs, row = reference.bins.pairs, reference.bins.n_columns + reference.bins.pairs.n_pairs
    if not reference.pairs.size:
        return []
    mean = pairs.joint_means(reference.pairs, np.array(reference.n_rows))
    scale = 1 / np.sqrt(pairs.joint.variance)
    return [(row, Measure.JOINT, 0, *two) for two in zip(mean.tolist(), scale.tolist(), strict=True)]


def _told_apart(reference: Profile) -> list[Signal]:
    """Of a classifier of whole rows one signal, of one thing that comes last; see `Told.effect`."""
    pairs = reference.bins.pairs
    row = reference.bins.n_columns + pairs.n_pairs + bool(pairs.joint.n_scores)
    return [(row, Measure.CLASSIFIER, 0, 0.0, 1 / FIXED)] if pairs.n_shown and reference.pairs.size else []


def _ranks(row: int, counts: Counts) -> tuple[list[Signal], Floats]:
    """Polynomials in the reference's mid-rank that are orthonormal over its cells, ties and all.

    Rows outside the range count as those of the nearest cell.
    """
    weights, found = np.zeros((N_RANKS, counts.size)), []
    n = counts.sum()
    if n == 0:
        return [], weights
    share = counts / n
    used = np.flatnonzero(share)
    x = 2 * (np.cumsum(share) - share / 2) - 1
    basis = [np.ones(counts.size)]
    for power in range(1, N_RANKS + 1):
        function = x**power
        for _ in range(2):  # twice is enough
            for other in basis:
                function = function - (share @ (function * other)) * other
        norm = np.sqrt(share @ function**2)
        if power >= used.size or norm < 1e-6:
            break
        function = function / norm
        basis.append(function)
        whole = np.rint(function * FIXED)
        whole[: used[0]], whole[used[-1] + 1 :] = whole[used[0]], whole[used[-1]]
        mean = float(share @ whole)
        deviation = float(np.sqrt(share @ whole**2 - mean**2))
        weights[power - 1] = whole
        found.append((row, RANKS[power - 1], 0, mean, 1 / deviation))
    return found, weights


def _words(row: int, counts: Counts, rows: float) -> list[Signal]:
    """Shares of the most frequent words, and of all others together."""
    n = counts[BELOW:].sum()
    found: list[Signal] = []
    listed = 0
    for cell in range(FIRST, FIRST + N_WORDS):
        signal = _share(row, Measure.SHARE, cell, counts[cell], n, rows)
        found += signal
        listed += counts[cell] if signal else 0
    rest = _share(row, Measure.REST, 0, n - listed, n, rows)
    if (len(found) == 1 and rest) or (len(found) == 2 and not rest):  # the second says what the first does
        return found[:1]
    return found + rest


def _share(row: int, measure: Measure, cell: int, part: int, whole: int, rows: float) -> list[Signal]:
    """The signal of a share, if it is neither too small nor too large for a normal law."""
    p = float(part / whole) if whole else 0.0
    if not MIN_SHARE < p < 1 - MIN_SHARE or rows * p * (1 - p) < MIN_EXPECTED:
        return []
    return [(row, measure, cell, p, 1 / float(np.sqrt(p * (1 - p))))]
