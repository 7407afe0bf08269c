"""How a column's rows lie in the reference and in a window, in few enough parts to draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors import Pair
from detectors.cells import ABOVE, BELOW, FIRST, INVALID, MISSING, RARE, UNSEEN, Counts, Floats
from detectors.columns import CategoricalColumn, NumericColumn
from monitor.describe import number

N_BARS: Final = 28
N_WORDS: Final = 12
_EDGE_SHARE: Final = 0.005
"""Share of rows at either end that is drawn as one part, so that no outlier squeezes the rest together."""


@dataclass(frozen=True, slots=True)
class Part:
    """Shares of rows, in [0, 1], of the reference and of the window."""

    label: str
    reference: float
    current: float


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """parts: where the valid rows lie, in order; of a number, stretches of equal width of which `borders` are the ends,
    shape (parts + 1,), of a category its words, then borders is empty. special: shares of all rows that are missing or
    malformed, and of the valid ones outside what the reference has.
    points, reference, current: of a number, both cumulative shares at some values.
    """

    parts: tuple[Part, ...]
    borders: Floats
    special: tuple[Part, ...]
    points: Floats
    reference: Floats
    current: Floats

    @property
    def is_numeric(self) -> bool:
        return self.borders.size > 0


def outline(pair: Pair, row: int) -> Outline:
    """The outline of the column in this row of `bins.names`.

    >>> pair = Pair.of_words({"plan": {"free": 6, "paid": 4}}, {"plan": {"free": 1, "new": 3}})
    >>> [(part.label, part.reference, part.current) for part in outline(pair, 0).parts]
    [('free', 0.6, 0.25), ('paid', 0.4, 0.0), ('new words', 0.0, 0.75)]
    """
    column = pair.bins.columns[row]
    special = [_of_all(pair, row, "missing", MISSING), _of_all(pair, row, "of the wrong type", INVALID)]
    if isinstance(column, CategoricalColumn):
        special.append(_of_valid(pair, row, "words the reference never had", UNSEEN))
        return Outline(_words(pair, row, column), np.zeros(0), tuple(special), *(np.zeros(0),) * 3)
    if not column.n_regular:
        return Outline((), np.zeros(0), tuple(special), *(np.zeros(0),) * 3)
    special.append(_of_valid(pair, row, f"below {number(float(column.edges[0]))}, the reference's lowest", BELOW))
    special.append(_of_valid(pair, row, f"above {number(float(column.edges[-1]))}, the reference's highest", ABOVE))
    return _numbers(pair, row, column, tuple(special))


def _numbers(pair: Pair, row: int, column: NumericColumn, special: tuple[Part, ...]) -> Outline:
    edges = column.edges
    reference, current = (_cumulative(side.counts[row], column) for side in (pair.reference, pair.current))
    low, high = (_ends(edges, reference, current, share) for share in (_EDGE_SHARE, 1 - _EDGE_SHARE))
    borders = np.linspace(min(low), max(high), N_BARS + 1) if max(high) > min(low) else edges[[0, -1]] + [-0.5, 0.5]
    bars = [_bars(edges, side, borders) for side in (reference, current)]
    labels = (f"{number(a)} to {number(b)}" for a, b in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True))
    parts = tuple(Part(*part) for part in zip(labels, bars[0].tolist(), bars[1].tolist(), strict=True))
    return Outline(parts, borders, special, edges, reference, current)


def _cumulative(counts: Counts, column: NumericColumn) -> Floats:
    """Share of the valid rows up to each edge."""
    upto = counts[BELOW : FIRST + column.n_regular].cumsum()
    return np.asarray(upto / max(int(counts[BELOW:].sum()), 1))


def _ends(edges: Floats, reference: Floats, current: Floats, share: float) -> tuple[float, float]:
    """Where each side has reached this share."""
    places = (min(int(np.searchsorted(side, share)), edges.size - 1) for side in (reference, current))
    first, second = (float(edges[place]) for place in places)
    return first, second


def _bars(edges: Floats, cumulative: Floats, borders: Floats) -> Floats:
    """Share of rows between borders; within a cell rows are taken to lie evenly, and what lies beyond the borders is
    counted into the last part on its side."""
    at = np.interp(borders, edges, cumulative)
    at[0], at[-1] = 0.0, 1.0
    return np.diff(at)


def _words(pair: Pair, row: int, column: CategoricalColumn) -> tuple[Part, ...]:
    """The words that are most frequent or changed most, and all others together."""
    n, m = max(int(pair.n[row]), 1), max(int(pair.m[row]), 1)
    before, after = pair.reference.counts[row] / n, pair.current.counts[row] / m
    regular = np.arange(FIRST, FIRST + column.n_regular)
    weight = np.abs(after - before)[regular] + np.maximum(after, before)[regular]
    shown = np.sort(regular[np.argsort(-weight, kind="stable")[:N_WORDS]])
    others = np.setdiff1d(regular, shown)
    parts = [Part(column.vocabulary[cell - FIRST], float(before[cell]), float(after[cell])) for cell in shown.tolist()]
    rest = [("other words", others), ("rare words", np.array([RARE])), ("new words", np.array([UNSEEN]))]
    summed = [Part(label, float(before[cells].sum()), float(after[cells].sum())) for label, cells in rest]
    return tuple(parts + [part for part in summed if part.reference or part.current])


def _of_all(pair: Pair, row: int, label: str, cell: int) -> Part:
    shares = (float(side.counts[row, cell] / max(int(side.n_all[row]), 1)) for side in (pair.reference, pair.current))
    return Part(label, *shares)


def _of_valid(pair: Pair, row: int, label: str, cell: int) -> Part:
    sides = ((pair.reference, pair.n), (pair.current, pair.m))
    return Part(label, *(float(side.counts[row, cell] / max(int(valid[row]), 1)) for side, valid in sides))
