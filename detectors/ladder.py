"""Two samples side by side, cell by cell: what the statistics of squared distances read, of profiles and of rows alike.

A cell is one of the reference's, or one distinct value of the rows. The rows in it have no order among themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from detectors.cells import Bools, Floats

_FINE: Final = 2.0**30
_TIED: Final = 0.02
"""Share of all rows in one cell from which on ties bend a law that knows none."""


@dataclass(frozen=True, eq=False)
class Ladder:
    """Two samples as rows per distinct value or cell, ascending, with what the rank statistics need of each.

    All arrays of shape (..., cells), except the numbers of rows n and m of shape (...).

    rows: reference's and current's rows in the cell. gap: F - G halfway through the cell. height: (n F + m G) / (n + m)
    there. share: the cell's share of all n + m rows.
    """

    rows: tuple[Floats, Floats]
    n: Floats
    m: Floats
    gap: Floats
    height: Floats
    share: Floats

    @classmethod
    def of(cls, rows: tuple[Floats, Floats], halfway: tuple[Floats, Floats], n: Floats, m: Floats) -> Ladder:
        """Rows per cell of each side, and those before it with half of its own; no gap where a side has no rows."""
        size = np.maximum(n + m, 1)[..., None]
        with np.errstate(invalid="ignore", divide="ignore"):
            gap = halfway[0] / n[..., None] - halfway[1] / m[..., None]
        return cls(rows, n, m, gap, (halfway[0] + halfway[1]) / size, (rows[0] + rows[1]) / size)

    @property
    def effective(self) -> Floats:
        """See the function of this name."""
        return effective(self.n, self.m)

    @cached_property
    def square(self) -> Floats:
        """Mean of (F - G)^2 over all rows, F - G straight within a cell; 1/3 if the sides do not overlap."""
        (p, q), n, m = self.rows, self.n[..., None], self.m[..., None]
        with np.errstate(invalid="ignore", divide="ignore"):
            step = p / n - q / m
        return dot(self.share, self.gap, self.gap) + dot(self.share, step, step) / 12

    @property
    def distance(self) -> Floats:
        """Root of that mean over its largest value."""
        return np.asarray(np.sqrt(np.minimum(3 * self.square, 1.0)))

    @cached_property
    def commonest(self) -> Floats:
        """Share of all rows in the fullest cell, shape (...)."""
        return np.asarray(self.share.max(axis=-1))


def cramer_von_mises(ladder: Ladder) -> Floats:
    """Mean of T over all orders of the rows within each cell; NaN for no rows.

    T is n m / (n + m)^2 times the sum of (F - G)^2 after each row. Within a cell F - G is straight on average, and the
    order of its rows, p and q of the two sides, scatters it as a hypergeometric law does. All of that scatter added up
    is (sum p q / (n m) + 1 / (n + m)) / 6.
    """
    (p, q), n, m = ladder.rows, ladder.n, ladder.m
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(ladder.effective * ladder.square + dot(p, q) / (6 * n * m) + 1 / (6 * (n + m)))


def anderson_darling(ladder: Ladder) -> tuple[Floats, Floats]:
    """A2, and the concentration of its law under these ties (see `limit.anderson_darling`); NaN for one cell."""
    share, height = ladder.share, ladder.height
    variance = height - height * height - share / 4  # of F - G halfway through a cell
    weight = share / np.maximum(variance, 1e-30)  # no rows, no weight; a single cell has neither
    with np.errstate(invalid="ignore"):
        a2 = (1 - 1 / np.maximum(ladder.n + ladder.m, 1)) * ladder.effective * dot(weight, ladder.gap, ladder.gap)
    concentration, tied = np.zeros(a2.shape), ladder.commonest > _TIED
    if tied.any():
        concentration[tied] = _concentration(share[tied], height[tied], weight[tied])
    return np.where(ladder.commonest < 1, a2, np.nan), concentration


def _concentration(share: Floats, height: Floats, weight: Floats) -> Floats:
    """Sum of squared correlations of F - G between any two cells, weighed by their shares."""
    tilted = weight * height
    below = tilted * height
    above = weight - 2 * tilted + below
    fine = np.minimum(below * _FINE, _FINE * _FINE).astype(np.int64)  # NumPy adds integers up five times faster
    running = fine.cumsum(axis=-1)
    return dot(share, share) + 2 * (dot(above, running) / _FINE - dot(above, below))


def several(n: Floats, m: Floats, commonest: Floats) -> Bools:
    """Whether the smaller side expects five rows or more beside the commonest cell: fewer have no normal law."""
    return np.asarray(np.minimum(n, m) * (1 - commonest) >= 5)


def effective(n: Floats, m: Floats) -> Floats:
    """Rows that count: n m / (n + m), half of them for equal sides."""
    return np.asarray(n * (m / np.maximum(n + m, 1)))


def dot(*factors: Floats) -> Floats:
    """Sum of products over the last axis."""
    *others, last = factors
    product = others[0] if len(others) == 1 else others[0] * others[1]
    return np.asarray(np.vecdot(product, last))
