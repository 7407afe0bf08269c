"""Which columns a reference has watched together: in pairs, with how far each correlation scatters, and jointly.

The numeric columns with the strongest correlations are watched, every one of them with every other. Only correlations
that are surely none of chance count for the choice, so that a correlation is not watched because chance made it large.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.cells import BELOW, Cells, Counts, Floats
from detectors.joint import choose as choose_joint
from detectors.mmd import MOST_SINGLE
from detectors.pairs import MOST_CORRELATION, Pairs, ranked
from detectors.profile import Profile

ROWS: Final = 20_000
"""Rows that the scatter is estimated from, and that the choice looks at if columns are few."""
WORK: Final = 5e9
"""Products that the choice takes at most; with very many columns it looks at fewer rows."""
LEAST_SAMPLE: Final = 200
SURE: Final = 6.0
"""Standard errors by which a correlation must differ from none to count for the choice."""
LEAST_VARIANCE: Final = 0.05

_TILE: Final = 512


def watched(profile: Profile, cells: Cells, importance: Floats, limit: int, *, joint: bool) -> Pairs:
    """What is watched of several columns at once: pairs of at most `limit` numeric columns, and joint scores if asked.

    profile: of the reference; cells: of its rows, shape (columns, rows). importance: of each column, zero for one that
    takes no part.
    """
    n = profile.bins.n_numeric
    pairs = choose(profile.counts[:n], cells[:n], importance[:n], limit) if limit else Pairs.none()
    if not joint:
        return pairs
    counts = profile.counts[:, BELOW:]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    keys = np.concatenate((np.zeros(n), profile.bins.singleton_shares)) > MOST_SINGLE
    taking = (importance > 0) & ~keys & (counts.sum(axis=1) > 0)
    own = [share if able else share[:0] for share, able in zip(shares, taking.tolist(), strict=True)]
    return replace(pairs, joint=choose_joint(own, n, cells, BELOW))


def choose(counts: Counts, cells: Cells, importance: Floats, limit: int) -> Pairs:
    """The pairs to be watched: of at most `limit` numeric columns.

    counts: of the reference, shape (numeric columns, 256); cells: of its rows, shape (numeric columns, rows).
    importance: of each column, zero for one that takes no part. Equal rows give equal pairs on any machine.
    """
    shares = counts[:, BELOW:] / np.maximum(counts[:, BELOW:].sum(axis=1, keepdims=True), 1)
    scores = ranked(list(shares), BELOW)
    able = np.flatnonzero((importance > 0) & scores.any(axis=1))
    if min(able.size, limit) < 2:
        return Pairs.none()
    chosen = able
    if able.size > limit:
        n = int(np.clip(WORK / able.size**2, LEAST_SAMPLE, ROWS))
        strength = importance[able] * _strongest(scores[able], cells[np.ix_(able, _spread(cells.shape[1], n))])
        chosen = np.sort(able[np.argsort(-strength, kind="stable")[:limit]])
    variance = _variance(scores[chosen], cells[np.ix_(chosen, _spread(cells.shape[1], ROWS))])
    return Pairs(tuple(chosen.tolist()), scores[chosen], variance)


def _spread(n_rows: int, limit: int) -> NDArray[np.intp]:
    """Rows that lie evenly among all, at most so many."""
    n = min(n_rows, limit)
    return np.arange(n) * n_rows // max(n, 1)


def _strongest(scores: NDArray[np.int8], cells: Cells) -> Floats:
    """The largest absolute correlation of each column with another, shape (columns,); 0 where all may be chance."""
    n_columns, n = cells.shape
    values = np.take_along_axis(scores, cells.astype(np.intp), axis=1).astype(np.float64)
    total, found = values.sum(axis=1), np.zeros(n_columns)
    scale = np.sqrt(n * np.square(values).sum(axis=1) - np.square(total))
    scale[scale == 0] = np.inf
    for at in range(0, n_columns, _TILE):
        tile = slice(at, at + _TILE)
        # sums of whole numbers: the same on any machine
        covariance = np.abs(n * (values[tile] @ values.T) - np.outer(total[tile], total))
        covariance[np.arange(len(covariance)), np.arange(at, at + len(covariance))] = 0
        found[tile] = (covariance / scale[tile, None] / scale).max(axis=1)
    return np.where(found >= SURE / np.sqrt(n), found.round(3), 0.0)


def _variance(scores: NDArray[np.int8], cells: Cells) -> Floats:
    """Variance of Fisher's z of each pair, times the rows that it comes from, shape (pairs,); of normal pairs it is 1.

    By the delta method: of standardised values a and b, the correlation r of n rows scatters like the mean of
    a b - r (a^2 + b^2) / 2, whatever law they have.
    """
    values = np.take_along_axis(scores, cells.astype(np.intp), axis=1).astype(np.float64)
    n = max(values.shape[1], 1)
    squares, cubes = values**2, values**3
    second, third, fourth = ((left @ values_.T) / n for left, values_ in
                             ((values, values), (cubes, values), (squares, squares)))  # fmt: skip
    i, j = np.triu_indices(len(scores), 1)
    deviation = np.sqrt(np.maximum(np.diag(second), 1e-12))
    a, b = deviation[i], deviation[j]
    r = np.clip(second[i, j] / (a * b), -MOST_CORRELATION, MOST_CORRELATION)
    both = fourth[i, j] / (a * b) ** 2
    skewed = third[i, j] / (a**3 * b) + third[j, i] / (a * b**3)
    alone = np.diag(fourth)[i] / a**4 + np.diag(fourth)[j] / b**4
    influence = both - r * skewed + r * r * (alone + 2 * both) / 4
    return np.asarray(np.maximum(influence / (1 - r * r) ** 2, LEAST_VARIANCE).round(4))
