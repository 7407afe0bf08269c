"""Whether rows of a window can be told from the reference's rows by a classifier, and by which columns.

The classifier is given functions of single columns (cosines of ranks, the most frequent words, whether a value is
missing), of mean 0 and variance 1 over the reference, and products of those of two and three columns. Each counts by
the third power of how far its mean is off in the window, whatever the others do: with as many functions as rows, that
rule of independence beats the ones that weigh them by their covariance, and the power keeps out functions that are off
by chance alone. Where it is known how the reference's own windows differ in a function, by their hour or a wobble, it
counts the less for that: what is as usual shall not hide what is not. Each fifth of the rows is scored by a classifier
that the other four taught.

    AUC = chance that a row of the window scores higher than one of the reference

Without drift the scores of a fifth are in random order, so its AUC follows Mann and Whitney's law. Fifths that teach
each other are not independent: of linear classifiers taught by h_1 + h_2 + ... the inner products h_k h_l stand in both
fifths, which doubles the variance of their sum (`SHARED`), and the power adds little to that.

Bickel and Levina (2004), Some theory for Fisher's linear discriminant function, Bernoulli 10; Lopez-Paz and Oquab
(2017), Revisiting classifier two-sample tests, ICLR; Mann and Whitney (1947), Ann. Math. Statist. 18.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from math import comb
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from detectors.cells import BELOW, FIRST, MISSING, N_CELLS, Cells, Floats, Places
from detectors.joint import waves
from detectors.mmd import kept_columns
from detectors.parts import FIXED
from detectors.profile import Profile

N_FOLDS: Final = 5
LEAST_ROWS: Final = 30
MOST_FUNCTIONS: Final = 512
"""Single ones come first, then products of first functions, then of second ones and of three."""
N_WORDS: Final = 3
LEAST_SHARE: Final = 0.01
"""Words that are rarer, and values that are missing more rarely, count as if they had this share."""
POWER: Final = 3
SHARED: Final = 2.0
"""Variance of the mean of the fifths' AUCs over that of as many independent ones."""
DIGITS: Final = 6
"""Scores that differ beyond them are equal: the order of a sum must not break ties."""
LEAST_PART: Final = 0.1
"""Of what the classifier leans on, that a column must have to be named."""
MOST_NAMED: Final = 5

Rows = NDArray[np.float32]
"""Functions of rows, shape (rows, functions)."""


@dataclass(frozen=True, slots=True)
class Told:
    """What was found.

    auc: in [0, 1], 0.5 if rows cannot be told apart. p_value: one-sided. columns: rows of the columns that the
    classifier leans on most, with their parts, which add up to 1 over all columns. n_reference, n_current: rows.
    """

    auc: float
    p_value: float
    columns: Mapping[int, float]
    n_reference: int
    n_current: int

    @property
    def effect(self) -> float:
        """How much higher the window's rows rank, in standard deviations of a rank, in [-sqrt 3, sqrt 3]."""
        return float(np.sqrt(3) * (2 * self.auc - 1))

    @property
    def reading(self) -> tuple[int, int]:
        """Independent rows whose mean scatters as the effect does without drift, and the effect's total over them."""
        rows = int(self.n_reference * self.n_current / (self.n_reference + self.n_current) / SHARED)
        return rows, round(self.effect * FIXED) * rows


def auc_of(effect: float) -> float:
    """The other way round, see `Told.effect`."""
    return float(np.clip((1 + effect / np.sqrt(3)) / 2, 0, 1))


@dataclass(frozen=True, eq=False)
class Classifier:
    """What tells rows from some of the reference's rows.

    owners: the columns that each function is of, shape (functions, 3), -1 where there are fewer. places: the single
    functions that each multiplies, of the same shape; the last one is 1 everywhere. tables: values of single functions
    by cell, float32, shape (single functions + 1, 256). rows: all functions of the reference's rows. steadiness: of
    each function, in (0, 1], 1 where windows do not differ but by chance.
    """

    owners: Places
    places: Places
    tables: NDArray[np.float32]
    rows: Rows
    steadiness: Floats

    @classmethod
    def of(cls, profile: Profile, reference: Cells) -> Self:
        """profile: of the reference's rows, whose ranks are meant. reference: cells of some of them, in random order,
        shape (columns, rows). All functions are steady until `steadied`."""
        columns, tables, ranks = _singles(profile)
        none = len(columns)
        places = np.array([(*each, none, none)[:3] for each in _products(ranks)], np.intp).reshape(-1, 3)
        owners = np.append(np.array(columns, np.intp), -1)
        every = np.concatenate((tables, np.ones((1, N_CELLS), np.float32)))
        bare = cls(owners[places], places, every, np.zeros((0, len(places)), np.float32), np.ones(len(places)))
        return replace(bare, rows=bare.functions(reference))

    def steadied(self, windows: Sequence[Cells]) -> Self:
        """The same, where functions count by how windows differ while nothing is wrong. windows: cells of some, each of
        as many rows as the current side will have."""
        means = np.stack([self.functions(cells).mean(axis=0, dtype=np.float64) for cells in windows])
        chance = self._moments[1] / windows[0].shape[1]
        excess = np.maximum(means.var(axis=0, ddof=1) - chance, 0)
        return replace(self, steadiness=np.where(chance > 0, 1 / (1 + excess / np.maximum(chance, 1e-12)), 1.0))

    @property
    def n_reference(self) -> int:
        return len(self.rows)

    def functions(self, cells: Cells) -> Rows:
        """All functions of rows; cells: shape (columns, rows)."""
        columns = np.append(self.owners[: len(self.tables) - 1, 0], 0)
        values = np.stack([table[cells[column]] for table, column in zip(self.tables, columns, strict=True)])
        first, second, third = self.places.T
        found = values[first]
        found *= values[second]
        found *= values[third]
        return np.ascontiguousarray(found.T)

    def tell(self, current: Cells) -> Told | None:
        """Compare rows with the reference's. Equal arguments give equal numbers.

        current: cells of some rows, in random order, shape (columns, rows). None where a side has fewer than 30 rows,
        or no column is anything but a key.
        """
        n, m = self.n_reference, current.shape[1]
        if min(n, m) < LEAST_ROWS or not len(self.places):
            return None
        rows = self.functions(current)
        fold = np.arange(m) % N_FOLDS
        total = rows.sum(axis=0, dtype=np.float64)
        wins = pairs = variance = 0.0
        for k, (own, rest) in enumerate(self._folds):
            mine = rows[fold == k]
            weights = self._weights((total - mine.sum(axis=0, dtype=np.float64)) / (m - len(mine)) - rest)
            scores, others = ((side @ weights).round(DIGITS) for side in (mine, own))
            ordered = np.sort(others)
            wins += sum(float(np.searchsorted(ordered, scores, side).sum()) for side in ("left", "right")) / 2
            pairs += scores.size * others.size
            variance += scores.size * others.size * (scores.size + others.size + 1) / 12
        p_value = float(special.ndtr((pairs / 2 - wins) / np.sqrt(SHARED * variance)))
        return Told(wins / pairs, p_value, self._leaning(rows), n, m)

    @cached_property
    def _folds(self) -> list[tuple[Rows, Floats]]:
        """Of each fifth of the reference its own rows, and the mean of all others."""
        fold, total = np.arange(self.n_reference) % N_FOLDS, self.rows.sum(axis=0, dtype=np.float64)
        parts = [self.rows[fold == k] for k in range(N_FOLDS)]
        return [(own, (total - own.sum(axis=0, dtype=np.float64)) / (self.n_reference - len(own))) for own in parts]

    @cached_property
    def _moments(self) -> tuple[Floats, Floats]:
        return _moments(self.rows)

    def _weights(self, off: Floats) -> NDArray[np.float32]:
        """How much each function counts, by how far its mean is off; their squares add up to 1.

        A mean that scatters 1 / steadiness times as much as by chance is divided by that, as Fisher's rule does, and so
        are its squared odds, which the power counts beside it.
        """
        cubed = (off / max(float(np.abs(off).max()), 1e-300)) ** POWER * np.square(self.steadiness)
        return np.asarray(cubed / max(float(np.sqrt(cubed @ cubed)), 1e-300), np.float32)

    def _leaning(self, current: Rows) -> dict[int, float]:
        """The columns by the variance of what they add to the scores on either side, the most important first."""
        (mean, variance), (other, other_variance) = self._moments, _moments(current)
        part = np.square(self._weights(other - mean)) * (variance + other_variance)
        known = self.owners >= 0
        shared = np.broadcast_to((part / known.sum(axis=1))[:, None], known.shape)
        by_column = np.bincount(self.owners[known], shared[known]) / max(float(part.sum()), 1e-300)
        ordered = np.argsort(-by_column, kind="stable")[:MOST_NAMED].tolist()
        return {column: float(by_column[column]) for column in ordered if by_column[column] >= LEAST_PART}


def _moments(rows: Rows) -> tuple[Floats, Floats]:
    """Mean and variance of every function."""
    mean = rows.mean(axis=0, dtype=np.float64)
    return mean, np.einsum("ij,ij->j", rows, rows) / len(rows) - mean**2


def _singles(profile: Profile) -> tuple[list[int], NDArray[np.float32], list[int]]:
    """Functions of single columns, the first ones of all columns first: the column of each, its values by cell, and the
    how-manieth of its column it is, -1 where it tells of missing values."""
    kept, n_numeric = kept_columns(profile), profile.bins.n_numeric
    own = [
        list(_of_numbers(counts) if column < n_numeric else _of_words(counts)) if able else []
        for column, (counts, able) in enumerate(zip(profile.counts.astype(np.float64), kept.tolist(), strict=True))
    ]
    missing = [_indicator(np.arange(N_CELLS) == MISSING, counts) for counts in profile.counts]
    ranked = sorted((j, column) for column, tables in enumerate(own) for j in range(len(tables)))
    found = [(column, own[column][j], j) for j, column in ranked]
    found += [(column, missing[column], -1) for column in np.flatnonzero(kept).tolist()]
    found = found[:MOST_FUNCTIONS]
    tables = np.array([table for _, table, _ in found], np.float32).reshape(-1, N_CELLS)
    return [column for column, _, _ in found], tables, [rank for _, _, rank in found]


def _of_numbers(counts: Floats) -> Iterator[NDArray[np.float32]]:
    """Cosines of the rank; no value is in the middle."""
    share = counts[BELOW:] / max(float(counts[BELOW:].sum()), 1.0)
    for wave in waves(share):
        table = np.zeros(N_CELLS, np.float32)
        table[BELOW:] = wave / np.sqrt(max(float(share @ np.square(wave, dtype=np.float64)), 1e-12))
        yield table


def _of_words(counts: Floats) -> Iterator[NDArray[np.float32]]:
    """Whether it is one of the most frequent words; no value is in the middle."""
    known = np.where(np.arange(N_CELLS) >= BELOW, counts, 0.0)
    for cell in range(FIRST, FIRST + N_WORDS):
        if min(known[cell], known[cell + 1 :].sum() + known[BELOW]) < LEAST_SHARE * max(known.sum(), 1.0):
            return  # what the words before it leave says the same
        yield _indicator(np.arange(N_CELLS) == cell, known) * (np.arange(N_CELLS) >= BELOW)


def _indicator(chosen: NDArray[np.bool_], counts: NDArray[np.generic]) -> NDArray[np.float32]:
    """1 for the chosen cells and 0 elsewhere, less its mean, over its standard deviation."""
    share = float(counts[chosen].sum()) / max(float(counts.sum()), 1.0)
    near = np.clip(share, LEAST_SHARE, 1 - LEAST_SHARE)
    return np.asarray((chosen - share) / np.sqrt(near * (1 - near)), np.float32)


def _products(ranks: Sequence[int]) -> list[tuple[int, ...]]:
    """Which single functions each function multiplies: each by itself, then those of two and of three columns."""
    first, second = ([function for function, rank in enumerate(ranks) if rank == wanted] for wanted in (0, 1))
    found: list[tuple[int, ...]] = [(function,) for function in range(len(ranks))]
    found += _spread(first, 2, MOST_FUNCTIONS - len(found))
    found += _spread(second, 2, (MOST_FUNCTIONS - len(found)) // 2)
    return found + _spread(first, 3, MOST_FUNCTIONS - len(found))


def _spread(of: Sequence[int], size: int, limit: int) -> list[tuple[int, ...]]:
    """At most so many of the combinations, evenly spread among all."""
    n = comb(len(of), size)
    places = {i * n // min(n, limit) for i in range(min(n, limit))}
    return [each for place, each in enumerate(combinations(of, size)) if place in places] if places else []
