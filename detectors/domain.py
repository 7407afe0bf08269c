"""Whether rows of a window can be told from the reference's rows by a classifier, and by which columns.

The classifier is a linear one on functions of single columns (`detectors/joint.py`: cosines of ranks, signs of words,
whether a value is missing) and, where columns are few, on products of their first ones two by two: least squares with
a ridge, which for two classes is Fisher's discriminant. Each fifth of the rows is scored by a classifier that the
other four taught.

    AUC = chance that a row of the window scores higher than one of the reference

Without drift the scores of a fifth are in random order, so its AUC follows Mann and Whitney's law; the fifths are
nearly uncorrelated, and their sum is compared with a normal law of the sum of their variances.

Lopez-Paz and Oquab (2017), Revisiting classifier two-sample tests, ICLR; Mann and Whitney (1947), Ann. Math. Statist.
18.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import special

from detectors.cells import BELOW, MISSING, Cells, Floats
from detectors.joint import functions
from detectors.mmd import kept_columns
from detectors.profile import Profile

N_FOLDS: Final = 5
MOST_CROSSED: Final = 16
"""Columns whose first functions are multiplied two by two; if there are more, none are."""
LEAST_ROWS: Final = 30
LEAST_MISSING: Final = 0.01
LEAST_PART: Final = 0.1
"""Of what the classifier leans on, that a column must have to be named."""
MOST_NAMED: Final = 5


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


def tell(profile: Profile, reference: Cells, current: Cells) -> Told | None:
    """Compare rows. Equal arguments give equal numbers.

    profile: of the reference's rows, whose ranks are meant. reference, current: cells of some rows of either side, in
    random order, shape (columns, rows). None where a side has fewer than 30 rows, or no column is anything but a key.
    """
    n, m = reference.shape[1], current.shape[1]
    design, owners = _design(profile, np.concatenate((reference, current), axis=1))
    if min(n, m) < LEAST_ROWS or not owners:
        return None
    is_current = np.arange(n + m) >= n
    fold = np.concatenate((np.arange(n), np.arange(m))) % N_FOLDS
    wins = pairs = variance = 0.0
    for k in range(N_FOLDS):
        held = fold == k
        scores = design[held] @ _weights(design[~held], is_current[~held])
        mine = is_current[held]
        n_mine, n_other = float(mine.sum()), float((~mine).sum())
        wins += float(_ranks(scores)[mine].sum()) - n_mine * (n_mine + 1) / 2
        pairs += n_mine * n_other
        variance += n_mine * n_other * (n_mine + n_other + 1) / 12
    p_value = float(special.ndtr((pairs / 2 - wins) / np.sqrt(variance)))
    return Told(wins / pairs, p_value, _leaning(design, owners, _weights(design, is_current)), n, m)


def _design(profile: Profile, cells: Cells) -> tuple[Floats, list[tuple[int, ...]]]:
    """What the classifier is given, shape (rows, functions), and the columns that each is of."""
    bins, counts = profile.bins, profile.counts[:, BELOW:]
    taking = kept_columns(profile) & (counts.sum(axis=1) > 0)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    own = [share if able else share[:0] for share, able in zip(shares, taking.tolist(), strict=True)]
    columns, tables = functions(own, bins.n_numeric, BELOW, np.random.default_rng(0))
    found = [table[cells[column]].astype(np.float64) for column, table in zip(columns, tables, strict=True)]
    owners: list[tuple[int, ...]] = [(column,) for column in columns]
    first = [i for i, column in enumerate(columns) if column not in columns[:i]]
    if len(first) <= MOST_CROSSED:
        crossed = [(a, b) for i, a in enumerate(first) for b in first[i + 1 :]]
        found += [found[a] * found[b] for a, b in crossed]
        owners += [(columns[a], columns[b]) for a, b in crossed]
    for column in np.flatnonzero(kept_columns(profile)).tolist():
        missing = cells[column] == MISSING
        if missing.mean() >= LEAST_MISSING:
            found.append(missing * 1.0)
            owners.append((column,))
    design = np.stack(found, axis=1) if found else np.zeros((cells.shape[1], 0))
    design -= design.mean(axis=0)
    deviation = design.std(axis=0)
    design /= np.where(deviation > 0, deviation, 1.0)
    return design, owners


def _weights(design: Floats, is_current: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Floats:
    """Least squares of which side a row is from, with a ridge as strong as chance is: one row for each function."""
    target = is_current - is_current.mean()
    gram = design.T @ design
    gram[np.diag_indices_from(gram)] += design.shape[1] + 1e-9 * len(design)
    return np.asarray(np.linalg.solve(gram, design.T @ target))


def _ranks(scores: Floats) -> Floats:
    """Mid-ranks, from 1."""
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[place])


def _leaning(design: Floats, owners: list[tuple[int, ...]], weights: Floats) -> dict[int, float]:
    """The columns by the variance of what they add to the scores, the most important first."""
    part = np.square(weights) * design.var(axis=0)
    by_column: dict[int, float] = {}
    for own, share in zip(owners, (part / max(float(part.sum()), 1e-300)).tolist(), strict=True):
        for column in own:
            by_column[column] = by_column.get(column, 0.0) + share / len(own)
    ordered = sorted(by_column.items(), key=lambda each: -each[1])
    return {column: share for column, share in ordered[:MOST_NAMED] if share >= LEAST_PART}
