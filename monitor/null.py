"""What the statistics of one column would be without drift: windows drawn from the reference itself.

Laws are known for some statistics and large samples; drawing needs none, whatever the statistic, the number of rows and
the ties. Both sides are drawn, so that the reference's own error is in it. Equal arguments give equal numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors import REGISTRY, Bins, Pair, Profile
from detectors.cells import BELOW, Counts
from detectors.columns import NumericColumn
from detectors.profile import N_SUMS, SQUARES, SUM

N_DRAWS: Final = 100


@dataclass(frozen=True, slots=True)
class Usual:
    """Of a statistic without drift: its median, and what 95 of 100 windows stay below."""

    median: float
    high: float


def usual(pair: Pair, row: int, names: Iterable[str], seed: int = 0) -> dict[str, Usual]:
    """What is usual for a window of this many rows of the column in this row of `bins.names`.

    names: of detectors. Those without any number are left out.
    """
    if int(pair.n[row]) == 0 or int(pair.m[row]) == 0:
        return {}
    drawn = _drawn(pair, row, np.random.default_rng(seed))
    found: dict[str, Usual] = {}
    for name in names:
        statistic = np.abs(REGISTRY[name].score(drawn).statistic)
        known = statistic[np.isfinite(statistic)]
        if known.size:
            middle, high = np.quantile(known, (0.5, 0.95)).tolist()
            found[name] = Usual(middle, high)
    return found


def _drawn(pair: Pair, row: int, rng: np.random.Generator) -> Pair:
    """Every draw is a column of its own, so that each detector scores all of them in one call."""
    column = pair.bins.columns[row]
    bins = Bins((column,) * N_DRAWS, ()) if isinstance(column, NumericColumn) else Bins((), (column,) * N_DRAWS)
    counts = pair.reference.counts[row]
    shares = counts / counts.sum()
    sides = []
    for side in (pair.reference, pair.current):
        drawn = rng.multinomial(int(side.counts[row].sum()), shares, N_DRAWS).astype(np.int64)
        sides.append(Profile(bins, drawn, _sums(drawn, bins), side.n_windows))
    return Pair(sides[0], sides[1])


def _sums(drawn: Counts, bins: Bins) -> Counts:
    """The sums of rows that lie in the middle of their cells, shape (numeric columns, 259)."""
    valid, places = drawn[: bins.n_numeric, BELOW:], bins.fixed_point(bins.places).astype(np.int64)
    sums = np.zeros((bins.n_numeric, N_SUMS), np.int64)
    sums[:, SUM] = (valid * places).sum(axis=1)
    sums[:, SQUARES] = (valid * np.square(places)).sum(axis=1)
    return sums
