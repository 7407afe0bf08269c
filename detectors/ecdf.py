"""Distances between two empirical distribution functions of a numeric column, read from its cells.

The functions are known exactly at every border of a cell, and the reference's quantile cells hold 0.4 % of it each, or
one heavy value alone. So a column with few values is compared exactly; on any other one the statistics can miss no more
than happens inside a cell. `detectors/rows.py` has the same statistics on the rows themselves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detectors import limit
from detectors.bins import ABOVE, BELOW, Counts, Floats, Kind
from detectors.detector import Detector, Pair, Score, numeric_score
from detectors.profile import BENEATH, BEYOND

Bools = NDArray[np.bool_]
NUMERIC = frozenset({Kind.NUMERIC})


class KolmogorovSmirnov(Detector):
    """Kolmogorov-Smirnov: the largest vertical distance of the two distribution functions.

        D = max_x |F(x) - G(x)|        F reference, G current

    Unit and range: a share of rows, [0, 1]; symmetric; unchanged by any increasing transformation. effect = statistic.
    Needs: `Pair.cdf`; never above the D of the rows, below it by at most the larger share of the two in one cell.
    With no drift: sqrt(n m / (n + m)) D follows Kolmogorov's law, here with Stephens' correction for few rows;
        ties make the test conservative (of size 0.005 instead of 0.05 on a two-valued column).
    Empty or degenerate: NaN when a side has no valid row; 0 with p 1 on equal constants.

    >>> pair = Pair.of_numbers({"x": np.array([1.0, 2.0, 3.0])}, {"x": np.array([2.0, 3.0, 4.0])})
    >>> print(f"{KolmogorovSmirnov().score(pair).statistic[0]:.4f}")
    0.3333

    Stephens (1970), J. R. Statist. Soc. B 32.
    """

    name = "ks"
    kinds = NUMERIC

    def score(self, pair: Pair) -> Score:
        distance = np.abs(pair.gap).max(axis=1)
        return numeric_score(pair, distance, limit.kolmogorov(distance, _rows(pair)), distance)


class Kuiper(Detector):
    """Kuiper: the largest distances above and below, added; as sensitive in the tails as at the median.

        V = max_x (F(x) - G(x)) + max_x (G(x) - F(x))

    Unit and range: a share of rows, [0, 1]; symmetric; unchanged by any increasing transformation and, on a circle, by
        where one starts to count. effect = statistic.
    Needs: `Pair.cdf`; precision as `ks`.
    With no drift: Kuiper's series with Stephens' correction for few rows; conservative on ties.
    Empty or degenerate: as `ks`.

    Two current rows at the ends, two reference rows between them:

    >>> pair = Pair.of_numbers({"x": np.array([2.0, 3.0])}, {"x": np.array([1.0, 4.0])})
    >>> float(Kuiper().score(pair).statistic[0])
    1.0

    Kuiper (1960), Tests concerning random points on a circle, Indag. Math. 22.
    """

    name = "kuiper"
    kinds = NUMERIC

    def score(self, pair: Pair) -> Score:
        distance = np.maximum(pair.gap.max(axis=1), 0) + np.maximum(-pair.gap.min(axis=1), 0)
        return numeric_score(pair, distance, limit.kuiper(distance, _rows(pair)), distance)


class CramerVonMises(Detector):
    """Two-sample Cramer-von Mises: the squared distance of the distribution functions, averaged over all rows.

        T = U / (n m (n + m)) - (4 n m - 1) / (6 (n + m)),    U = n sum (R_i - i)^2 + m sum (S_j - j)^2

    with R_i and S_j the pooled midranks of the i-th reference and j-th current row in their order.
    Unit and range: none, about 1/6 without drift, at most about n m / (3 (n + m)). effect = the root of T
        over that maximum, [0, 1]: how far apart the functions lie in the root mean square.
    Needs: counts; equal to `scipy.stats.cramervonmises_2samp` where every value has a cell of its own; where many share
        one, the mean of T over all orders of the rows in it.
    With no drift: the limiting law; conservative on ties.
    Empty or degenerate: as `ks`; a constant column on both sides has p 1.

    >>> pair = Pair.of_numbers({"x": np.array([1.0, 3.0])}, {"x": np.array([2.0, 3.0])})
    >>> float(CramerVonMises().score(pair).statistic[0])    # ranks 1, 3.5 and 2, 3.5: 11/16 - 15/24
    0.0625

    Anderson (1962), On the distribution of the two-sample Cramer-von Mises criterion, Ann. Math. Statist. 33.
    """

    name = "cvm"
    kinds = NUMERIC

    def score(self, pair: Pair) -> Score:
        n, m = _sizes(pair)
        statistic = cramer_von_mises(pair.numbers, pair.running, n, m, pair.bins.atoms)
        single = (pair.numbers[0] + pair.numbers[1] > 0).sum(axis=1) == 1
        p_value = np.where(single, 1.0, limit.cramer_von_mises(statistic))
        return numeric_score(pair, statistic, p_value, cramer_von_mises_effect(statistic, n, m))


class AndersonDarling(Detector):
    """Two-sample Anderson-Darling: Cramer-von Mises with the tails weighted up to the same precision as the middle.

        A2 = (N - 1)/N^2 sum_j (n m / N) t_j (F_j - G_j)^2 / (H_j (1 - H_j) - t_j / (4 N))
        statistic = (A2 - 1) / sigma

    over cells j with t_j of the N = n + m rows; F_j, G_j, H_j count half of the cell's own rows; sigma is the deviation
    of A2 without drift. Equal to `scipy.stats.anderson_ksamp(..., variant="midrank")` on rows rounded to their cells.
    Unit and range: standard deviations of A2, mean 0 without drift, from about -1.3. effect = sqrt(A2 (1/n + 1/m)):
        the root mean square of (F - G) / sqrt(H (1 - H)), 1.24 when two sides of one size share no cell.
    Needs: `Pair.cdf` and counts.
    With no drift: the limit of the one-sample statistic, of variance 2 (pi^2 - 9) / 3, at the exact variance of n and m
        rows; conservative on ties.
    Empty or degenerate: NaN when a side has no valid row, below four rows, or when all rows are in one cell.

    >>> pair = Pair.of_numbers({"x": np.array([1.0, 2.0, 3.0])}, {"x": np.array([1.0, 2.0, 3.0])})
    >>> bool(AndersonDarling().score(pair).statistic[0] < 0)    # no distance at all: (0 - 1) / sigma
    True

    Scholz and Stephens (1987), K-sample Anderson-Darling tests, J. Am. Statist. Assoc. 82.
    """

    name = "ad"
    kinds = NUMERIC

    def score(self, pair: Pair) -> Score:
        n, m = _sizes(pair)
        a2 = anderson_darling(pair.numbers, pair.running, n, m)
        with np.errstate(invalid="ignore", divide="ignore"):
            statistic = (a2 - 1) / limit.anderson_darling_deviation(n, m)
            effect = np.sqrt(a2 * (n + m) / (n * m))
        return numeric_score(pair, statistic, limit.anderson_darling(statistic), effect + 0 * statistic)


class Wasserstein(Detector):
    """First Wasserstein distance: how far the average row has to move to turn one side into the other.

        W = integral |F(x) - G(x)| dx

    Unit and range: the column's own unit, [0, inf); a metric; W of a shift is the shift. effect = W over the
        reference's standard deviation (`Pair.deviations`).
    Needs: `Pair.cdf`, with a cell's rows at the middle of the reference's rows there (`Bins.widths`), and the exact
        sums of distances outside the reference's range; a row further than 128 robust standard deviations from the
        median counts as that far, an infinity as lying at the end of the range.
    With no drift: of the order sigma sqrt(1/n + 1/m); the law depends on the shape of the column, so p is NaN.
    Empty or degenerate: NaN when a side has no valid row; 0 on equal constants, whose effect is NaN once they differ.

    >>> pair = Pair.of_numbers({"x": np.array([0.0, 1.0, 3.0])}, {"x": np.array([5.0, 6.0, 8.0])})
    >>> round(float(Wasserstein().score(pair).statistic[0]), 2)
    5.0

    Vallender (1974), Theory Probab. Appl. 18.
    """

    name = "wasserstein"
    kinds = NUMERIC

    def score(self, pair: Pair) -> Score:
        n, m = (np.maximum(rows, 1) for rows in _sizes(pair))
        outside = np.abs(_excess(pair.reference.sums, n) - _excess(pair.current.sums, m)).sum(axis=0)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            distance = np.einsum("ij,ij->i", np.abs(pair.gap), pair.bins.widths) + outside * pair.bins.units
            distance[np.isinf(distance)] = np.nan
            effect = distance / pair.deviations
        return _in_units(pair, distance, effect)


class Energy(Detector):
    """Energy distance of one-dimensional samples.

        E = sqrt(2 integral (F(x) - G(x))^2 dx) = sqrt(2 E|X - Y| - E|X - X'| - E|Y - Y'|)

    Unit and range: the root of the column's unit, as `scipy.stats.energy_distance` has it, [0, inf); a metric.
        effect = E over the root of the reference's standard deviation (`Pair.deviations`).
    Needs: as `wasserstein`; rows outside the range count as all lying at their mean, exact for rows far outside.
    With no drift: E^2 has mean (1/n + 1/m) E|X - X'|; the law depends on the shape of the column, so p is NaN.
    Empty or degenerate: as `wasserstein`.

    Two constants 8 apart: sqrt(2 * 8).

    >>> pair = Pair.of_numbers({"x": np.array([0.0, 8.0, 0.0])}, {"x": np.array([8.0, 0.0, 0.0])})
    >>> float(Energy().score(pair).statistic[0])
    0.0
    >>> pair = Pair.of_numbers({"x": np.array([1.0, 1.0, 1.0])}, {"x": np.array([9.0])})
    >>> float(Energy().score(pair).statistic[0])
    4.0

    Szekely and Rizzo (2013), Energy statistics, J. Statist. Plann. Inference 143.
    """

    name = "energy"
    kinds = NUMERIC

    def score(self, pair: Pair) -> Score:
        n, m = (np.maximum(rows, 1) for rows in _sizes(pair))
        excess = _excess(pair.reference.sums, n) - _excess(pair.current.sums, m)
        rows = pair.bins.n_numeric
        shares = pair.reference.counts[:rows, [BELOW, ABOVE]] / n[:, None]
        shares = np.abs(shares - pair.current.counts[:rows, [BELOW, ABOVE]] / m[:, None])
        outside = (np.abs(excess) * shares.T).sum(axis=0)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            squared = np.einsum("ij,ij,ij->i", pair.gap, pair.gap, pair.bins.widths) + outside * pair.bins.units
            distance = np.sqrt(2 * squared)
            distance[np.isinf(distance)] = np.nan
            effect = distance / np.sqrt(pair.deviations)
        return _in_units(pair, distance, effect)


def _sizes(pair: Pair) -> tuple[Floats, Floats]:
    rows = pair.bins.n_numeric
    return pair.n[:rows].astype(np.float64), pair.m[:rows].astype(np.float64)


def _rows(pair: Pair) -> Floats:
    n, m = _sizes(pair)
    return n * m / np.maximum(n + m, 1)


def cramer_von_mises(
    rows: tuple[Floats, Floats], running: tuple[Floats, Floats], n: Floats, m: Floats, tied: Bools | None = None
) -> Floats:
    """T of samples given as rows per cell, shape (..., cells), and the same added up; NaN for no rows.

    tied: where a cell is one value, so that its rows have one midrank. In the other cells the expectation over all
    orders of the cell's rows is taken: midranks there would add N / k^2 for nothing. None: all are.
    """
    (p, q), (before, across) = rows, running
    inner_p, inner_q = p * p - 1, q * q - 1
    if tied is not None:
        inner_p, inner_q = np.where(tied, inner_p, q * (q + 2)), np.where(tied, inner_q, p * (p + 2))
    u = n * (p * (np.square(across - q / 2) + inner_p / 12)).sum(axis=-1)
    u += m * (q * (np.square(before - p / 2) + inner_q / 12)).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(u / (n * m * (n + m)) - (4 * n * m - 1) / (6 * (n + m)))


def cramer_von_mises_effect(statistic: Floats, n: Floats, m: Floats) -> Floats:
    """Root of T over its maximum."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(np.clip(3 * statistic * (n + m) / (n * m), 0.0, 1.0))


def anderson_darling(rows: tuple[Floats, Floats], running: tuple[Floats, Floats], n: Floats, m: Floats) -> Floats:
    """A2 of samples given as in `cramer_von_mises`; NaN when all rows have one value."""
    pooled, size = rows[0] + rows[1], np.asarray(n + m)[..., None]
    below = running[0] + running[1] - pooled / 2
    weight = below * (size - below) - size * pooled / 4
    gap = np.asarray(m)[..., None] * (running[0] - rows[0] / 2) - np.asarray(n)[..., None] * (running[1] - rows[1] / 2)
    terms = np.divide(pooled * gap * gap, weight, out=np.zeros_like(weight), where=(pooled > 0) & (weight > 0))
    several = (pooled > 0).sum(axis=-1) > 1
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(several, (n + m - 1) / ((n + m) * n * m) * terms.sum(axis=-1), np.nan)


def _excess(sums: Counts, rows: Floats) -> Floats:
    """Mean distance outside the range per row, in fixed-point units, shape (2, numeric columns): beneath, beyond."""
    return np.asarray(sums[:, [BENEATH, BEYOND]].T / rows)


def _in_units(pair: Pair, distance: Floats, effect: Floats) -> Score:
    """The Score of a distance without a p-value; no distance is no effect, even on a constant reference."""
    effect = np.where(distance == 0, 0.0, np.where(np.isfinite(effect), effect, np.nan))
    return numeric_score(pair, distance, np.full(distance.shape, np.nan), effect)
