"""The cells of one column as the reference fixes them: quantiles of numbers, or words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np

from detectors.cells import FIRST, N_REGULAR, RARE, Floats

N_QUANTILES: Final = 250
"""Quantile cells asked for; a multiple of ten, so that the reference's deciles are cell borders."""
N_REPEATS: Final = 5
"""Rows of one number in the reference that make it a value of its own."""
N_RARE_WORDS: Final = 10_000
"""Infrequent words of the reference that are remembered; words beyond them count as unseen."""


class Kind(StrEnum):
    """What a column holds: numbers with an order, or words without one."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"


@dataclass(frozen=True, slots=True, eq=False)
class NumericColumn:
    """One numeric column's cells and scale.

    edges: shape (k + 1,), ascending, float64; regular cell j is the half-open interval (edges[j], edges[j + 1]].
        The first edge is the largest float below the reference's minimum, the last is its maximum. What lies between
        two frequent values and holds no row of the reference is two cells: so values that spread to both sides of a
        frequent one, as noise on whole numbers makes them, are told from values that all moved one way.
    deciles: the reference's deciles (inverted distribution function), a subset of the edges, ties collapsed.
    middles: shape (k,), the median of the reference's values in each regular cell (of an empty one, its centre): where
        the distances in the column's units take the cell's rows to lie, so that no outlier stretches the last cell.
    centre, unit: fixed-point scale of the sums: (x - centre) / unit, rounded; unit is 1/1024 robust standard deviation.
    mean, deviation: of the reference's finite values.
    error_of: the column whose error against labels this is. A row without label was not observed, and a large error is
        no fault of the data.
    """

    name: str
    edges: Floats
    deciles: Floats
    middles: Floats
    centre: float
    unit: float
    mean: float
    deviation: float
    error_of: str = ""

    @classmethod
    def of(cls, name: str, values: Floats) -> NumericColumn:
        """Fix the cells from reference values, shape (rows,); NaN (missing) and infinities take no part."""
        return cls.of_sorted(name, np.sort(values[np.isfinite(values)]))

    @classmethod
    def of_sorted(cls, name: str, x: Floats) -> NumericColumn:
        """Fix the cells from the reference's finite values, ascending."""
        if x.size == 0:
            return cls(name, np.zeros(0), np.zeros(0), np.zeros(0), 0.0, 1.0, 0.0, 0.0)
        ranks = -(-np.arange(1, N_QUANTILES + 1) * x.size // N_QUANTILES) - 1
        borders = np.unique(x[ranks])
        deciles = np.unique(x[ranks[N_QUANTILES // 10 - 1 :: N_QUANTILES // 10]])
        edges = _halved(x, _edges(x, borders))
        low, centre, high = x[ranks[[62, 124, 187]]]
        with np.errstate(over="ignore", invalid="ignore"):  # values near the float limits: caught by isfinite below
            mean = float(x.mean())
            centred = x - mean
            deviation = float(np.sqrt(np.einsum("i,i", centred, centred) / x.size))
            robust = float(high - low) / 1.349
            if x[0] == x[-1]:  # the mean of equal values need not be exactly that value
                mean, deviation = float(x[0]), 0.0
            scale = min(robust, deviation) if robust > 0 else deviation or abs(float(centre)) or 1.0
        if not np.isfinite((mean, deviation, scale)).all() or scale / 1024 == 0:
            mean, deviation, scale = float(centre), 0.0, 1.0
        unit = scale / 1024 or 1.0  # denormal scales vanish in the division
        return cls(name, edges, deciles, _middles(x, edges), float(centre), unit, mean, deviation)

    @property
    def n_regular(self) -> int:
        return max(self.edges.size - 1, 0)

    def to_json(self) -> dict[str, Any]:
        floats = {k: getattr(self, k) for k in ("centre", "unit", "mean", "deviation")}
        return {
            "kind": Kind.NUMERIC,
            "name": self.name,
            "edges": self.edges.tolist(),
            "deciles": self.deciles.tolist(),
            "middles": self.middles.tolist(),
            **floats,
            **({"error_of": self.error_of} if self.error_of else {}),
        }


@dataclass(frozen=True, slots=True, eq=False)
class CategoricalColumn:
    """One categorical column's words.

    vocabulary: the most frequent words of the reference, at most 252, in descending frequency, then alphabetical.
    rare: its other words, counted together in RARE.
    singleton_share: chance, in [0, 1], that the word of one of the reference's present rows would be unseen if that row
        were not there: the share of rows whose word occurs once, by Good and Turing the chance that one more row brings
        a word never seen. Where not all words are remembered, those just above the forgotten ones count in part.
    pair_share: the same for two rows of one word: such pairs, each counted both ways, for every present row. Where all
        words are remembered it is the share of rows whose word occurs twice; it tells how often a new word comes again.
    """

    name: str
    vocabulary: tuple[str, ...]
    rare: tuple[str, ...]
    singleton_share: float
    pair_share: float

    @classmethod
    def of(cls, name: str, words: Mapping[str, int]) -> CategoricalColumn:
        """Fix the vocabulary from the reference's words and how often each occurs."""
        ordered = sorted(words, key=lambda word: (-words[word], word))
        known = ordered[: N_REGULAR + N_RARE_WORDS]
        singles, pairs = _on_the_edge([words[word] for word in ordered], len(known))
        total = max(sum(words.values()), 1)
        return cls(name, tuple(known[:N_REGULAR]), tuple(known[N_REGULAR:]), singles / total, pairs / total)

    @property
    def n_regular(self) -> int:
        return len(self.vocabulary)

    def codes(self) -> dict[str, int]:
        """The cell of every word that the reference holds; any other word belongs to UNSEEN."""
        return dict.fromkeys(self.rare, RARE) | {word: FIRST + i for i, word in enumerate(self.vocabulary)}

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": Kind.CATEGORICAL,
            "name": self.name,
            "vocabulary": list(self.vocabulary),
            "rare": list(self.rare),
            "singleton_share": self.singleton_share,
            "pair_share": self.pair_share,
        }


def _edges(x: Floats, borders: Floats) -> Floats:
    """Edges from the quantiles of sorted values, frequent values in cells of their own.

    Frequent is what occurs five times, if there is room for all of that; else what fills two quantile cells: it took a
    border from its neighbours, so with a cell for each there are still at most 250.
    """
    first = np.append(0, np.flatnonzero(x[1:] != x[:-1]) + 1)
    occurs = np.diff(first, append=x.size)
    two_cells = 2 * x.size / N_QUANTILES
    for least in (min(N_REPEATS, two_cells), two_cells):
        often = x[first[occurs >= least]]
        with np.errstate(over="ignore", under="ignore"):  # below the lowest float lies -inf, a border like any other
            beneath = np.nextafter(np.append(often, x[0]), -np.inf)
        edges = np.unique(np.concatenate((borders, often, beneath)))
        if edges.size <= N_REGULAR + 1:
            break
    return edges


def _halved(x: Floats, edges: Floats) -> Floats:
    """Edges with one more at the centre of cells without any of the sorted values, as far as there is room.

    First those where most of the reference would have furthest to go.
    """
    with np.errstate(over="ignore", under="ignore"):
        width = np.minimum(np.diff(edges), np.finfo(np.float64).max)
        centre = edges[:-1] / 2 + edges[1:] / 2
        rows = np.diff(np.searchsorted(x, edges, "right"), prepend=0, append=0)
        weight = (rows[:-2] + rows[2:]) * width
    empty = np.flatnonzero((rows[1:-1] == 0) & (edges[:-1] < centre) & (centre < edges[1:]))
    chosen = empty[np.argsort(-weight[empty], kind="stable")[: N_REGULAR + 1 - edges.size]]
    return np.sort(np.append(edges, centre[chosen]))


def _middles(x: Floats, edges: Floats) -> Floats:
    """The lower median of sorted values in each cell (edges[j], edges[j + 1]]; the centre of a cell without any."""
    border = np.searchsorted(x, edges, "right")
    first, last = border[:-1], border[1:] - 1
    centres = edges[:-1] / 2 + edges[1:] / 2
    return np.where(first <= last, x[np.clip((first + last) // 2, 0, x.size - 1)], centres)


def _on_the_edge(occurrences: list[int], n_known: int) -> tuple[float, float]:
    """Rows whose word would be unseen without them, and ordered pairs of rows of one word that both would.

    occurrences: of each word, descending; the first `n_known` words are remembered.
    """
    forgotten = occurrences[n_known:]
    level = forgotten[0] if forgotten else 0  # words that occur oftener are all known
    # A word that falls to the level joins words of which only some are known; with none forgotten, all are lost.
    lost = forgotten.count(level) / occurrences.count(level) if forgotten else 1.0
    edge = [k for k in occurrences if k <= level + 2]
    singles = sum(k * (lost if k == level + 1 else 1.0) for k in edge if k <= level + 1)
    pairs = sum(k * (k - 1) * (lost if k == level + 2 else 1.0) for k in edge)
    return singles, pairs
