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
from detectors.cells import ABOVE, BELOW, FIRST, Counts, Floats
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
        sums = _sums(drawn, column) if isinstance(column, NumericColumn) else np.zeros((0, N_SUMS), np.int64)
        sides.append(Profile(bins, drawn, sums, side.n_windows))
    return Pair(sides[0], sides[1])


def _sums(drawn: Counts, column: NumericColumn) -> Counts:
    """The sums of rows that lie in the middle of their cells, shape (draws, 259)."""
    places = np.zeros(ABOVE - BELOW + 1)
    if column.n_regular:
        places[FIRST - BELOW : FIRST - BELOW + column.n_regular] = _scaled(column.middles, column)
        places[0], places[-1] = _scaled(column.edges[[0, -1]], column)
    valid = drawn[:, BELOW:]
    sums = np.zeros((len(drawn), N_SUMS), np.int64)
    sums[:, SUM] = np.rint(valid @ places)
    sums[:, SQUARES] = np.rint(valid @ np.square(places))
    return sums


def _scaled(values: Floats, column: NumericColumn) -> Floats:
    return np.rint(np.clip((values - column.centre) / column.unit, -(2.0**17), 2.0**17))
