"""Pairs of numeric columns: whole sums of products of their rank scores, from which every correlation follows.

The reference gives each cell of a watched column a whole number that rises with the rank of the cell: 0 in the middle,
and for a row without a value. What is kept of a set of rows is the sum of every column's scores and of the products of
every two columns' scores. All of these are integers, so they add exactly in any order and any split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from detectors.cells import Cells, Counts, Floats, Places
from detectors.joint import Joint

WHOLE_ROWS: Final = "whole rows"
"""What people call what a classifier tells apart."""
MOST_SCORE: Final = 127
MOST_CORRELATION: Final = 0.99
"""Correlations nearer to 1 or -1 count as this: Fisher's z of two columns that say the same is finite."""
LEAST_ROWS: Final = 10
"""Fewer rows show no correlation."""
_BLOCK: Final = 1024
"""Rows worked on together: float32 holds sums of so many products exactly, and BLAS finds them too few for threads."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Which columns are watched two by two, and which joint scores of columns beside them.

    columns: rows of the watched columns, ascending. scores: of each of their cells, int8, shape (watched, 256).
    variance: of Fisher's z of each pair, times the rows that it is estimated from, shape (pairs,); pairs come in the
    order of their first column, then of their second. joint: see there; its sums come after those of the pairs.
    n_shown: rows of a window that a classifier is shown, see `detectors/domain.py`; 0 where none is.
    """

    columns: tuple[int, ...]
    scores: NDArray[np.int8]
    variance: Floats
    joint: Joint = field(default_factory=Joint.none)
    n_shown: int = 0

    @classmethod
    def none(cls) -> Self:
        """No column is watched together with another."""
        return cls((), np.zeros((0, 256), np.int8), np.zeros(0))

    @property
    def n_columns(self) -> int:
        return len(self.columns)

    @property
    def n_pairs(self) -> int:
        return self.n_columns * (self.n_columns - 1) // 2

    @property
    def n_sums(self) -> int:
        """Numbers that are kept of a set of rows: a sum of every column, of every product, and of every joint score.

        Where a classifier is shown some, their number comes last: the whole, of which it is, has one, segments none.
        """
        return self._n_own + self.joint.n_scores + bool(self.n_shown)

    @property
    def _n_own(self) -> int:
        return self.n_columns + self.n_columns * (self.n_columns + 1) // 2

    @cached_property
    def _places(self) -> tuple[tuple[Places, Places], Places, Places]:
        """The columns of every pair among the watched; and where among the sums lie each square and each product."""
        i, j = np.triu_indices(self.n_columns)
        at = self.n_columns + np.arange(i.size)
        return np.triu_indices(self.n_columns, 1), at[i == j], at[i != j]

    @cached_property
    def members(self) -> Places:
        """Rows of the first and of the second column of every pair, shape (2, pairs)."""
        return np.array(self.columns, np.intp)[np.stack(np.triu_indices(self.n_columns, 1))]

    def sums(self, cells: Cells) -> Counts:
        """Sums over rows, shape (n_sums,). cells: of all columns, shape (columns, rows)."""
        rows = np.full(int(self.n_shown > 0), cells.shape[1])
        return np.concatenate((self._sums(cells[list(self.columns)]), self.joint.sums(cells), rows))

    def sums_by(self, cells: Cells, group: Places, n_groups: int) -> Counts:
        """Sums over groups of rows, shape (n_groups, n_sums); group: of each row, negative for none."""
        found = np.zeros((n_groups, self.n_sums), np.int64)
        if self.n_sums:
            if (group[1:] < group[:-1]).any():
                order = np.argsort(group, kind="stable")
                cells, group = cells[:, order], group[order]
            borders = np.searchsorted(group, np.arange(n_groups + 1)).tolist()
            for i, (first, end) in enumerate(pairwise(borders)):
                if first < end:
                    found[i] = self.sums(cells[:, first:end])
        return found

    def correlations(self, sums: Counts, n_rows: Counts) -> Floats:
        """Of every pair, shape (..., pairs); NaN where one of its columns does not vary or there are few rows.

        sums: shape (..., n_sums); n_rows: shape (...).
        """
        (a, b), squares, products = self._places
        n = np.maximum(n_rows[..., None], 1)
        total = sums[..., : self.n_columns]
        variance = sums[..., squares] - total * (total / n)
        scale = np.sqrt(np.where(n_rows[..., None] >= LEAST_ROWS, np.maximum(variance, 0), 0))
        both = scale[..., a] * scale[..., b]
        covariance = sums[..., products] - total[..., a] * (total / n)[..., b]
        found: Floats = np.full(both.shape, np.nan)
        np.divide(covariance, both, out=found, where=both > 0)
        return found

    def joint_means(self, sums: Counts, n_rows: Counts) -> Floats:
        """Of every joint score, shape (..., scores); see `correlations`. 0 without rows."""
        return np.asarray(sums[..., self._n_own : self._n_own + self.joint.n_scores] / np.maximum(n_rows, 1)[..., None])

    def to_json(self) -> dict[str, Any]:
        """Without joint scores or a classifier as before there were any, so that ids stay."""
        own = {"columns": self.columns, "scores": self.scores.tolist(), "variance": self.variance.tolist()}
        own |= {"joint": self.joint.to_json()} if self.joint.n_scores else {}
        return own | ({"n_shown": self.n_shown} if self.n_shown else {})

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        scores = np.array(document["scores"], np.int8).reshape(-1, 256)
        joint = Joint.from_json(document["joint"]) if "joint" in document else Joint.none()
        variance = np.array(document["variance"], np.float64)
        return cls(tuple(document["columns"]), scores, variance, joint, document.get("n_shown", 0))

    def _sums(self, own: Cells) -> Counts:
        """Sums over rows of the watched columns alone."""
        whole = np.zeros((1 + self.n_columns,) * 2, np.int64)
        for at in range(0, own.shape[1] if self.n_pairs else 0, _BLOCK):
            cells = own[:, at : at + _BLOCK]
            scored = np.ones((1 + self.n_columns, cells.shape[1]), np.float32)
            for scores, row, into in zip(self._table, cells, scored[1:], strict=True):
                scores.take(row, out=into, mode="clip")
            whole += (scored @ scored.T).astype(np.int64)
        return whole[self._upper][1:]

    @cached_property
    def _upper(self) -> tuple[Places, Places]:
        return np.triu_indices(1 + self.n_columns)

    @cached_property
    def _table(self) -> NDArray[np.float32]:
        return self.scores.astype(np.float32)


def together(left: Counts, right: Counts) -> Counts:
    """Sums of two sets of rows taken together, shape (..., n_sums); none where a side was not counted."""
    return left + right if left.shape == right.shape else (left if left.size < right.size else right)


def fisher(correlation: Floats) -> Floats:
    """Fisher's z, the inverse hyperbolic tangent: its scatter hardly depends on the correlation."""
    return np.asarray(np.arctanh(np.clip(correlation, -MOST_CORRELATION, MOST_CORRELATION)))


def ranked(shares: Sequence[Floats], first: int) -> NDArray[np.int8]:
    """Scores of cells by their mid-rank, shape (columns, 256).

    shares: of each column's rows in the cells from `first` on. What lies outside the reference's range takes the score
    of its end. All are 0 where there are no two cells to tell apart.
    """
    found = np.zeros((len(shares), 256), np.int8)
    for scores, share in zip(found, shares, strict=True):
        used = np.flatnonzero(share)
        middle = 2 * (np.cumsum(share) - share / 2) - share.sum()
        if used.size > 1:
            middle = np.clip(middle, middle[used[0]], middle[used[-1]])
            scores[first:] = np.rint(middle * (MOST_SCORE / np.abs(middle).max()))
    return found
