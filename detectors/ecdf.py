"""Distances between two empirical distribution functions of a numeric column, read from its cells.

The functions are known exactly at every border of a cell, and the reference's quantile cells hold 0.4 % of it each, or
one heavy value alone. So a column with few values is compared exactly; on any other one the statistics can miss no more
than happens inside a cell. `detectors/rows.py` has the same statistics on the rows themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors import limit
from detectors.cells import ABOVE, BELOW, FIRST, Counts, Floats
from detectors.columns import Kind
from detectors.contingency import pooled_p
from detectors.detector import Detector, Drawn, Pair, Score, numeric_score
from detectors.ladder import Ladder, anderson_darling, cramer_von_mises, dot, effective, several
from detectors.profile import SHIFTS

NUMERIC: Final = frozenset({Kind.NUMERIC})


class KolmogorovSmirnov(Detector):
    """Kolmogorov-Smirnov: the largest vertical distance of the two distribution functions.

        D = max_x |F(x) - G(x)|        F reference, G current

    Unit and range: a share of rows, [0, 1]; symmetric; unchanged by any increasing transformation. effect = statistic.
    Needs: `Pair.cdf`; never above the D of the rows, below it by at most the larger share of the two in one cell.
    With no drift: sqrt(n m / (n + m)) D follows Kolmogorov's law, here with corrections for few rows (`limit`);
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
        ahead, behind = pair.once(_extremes)
        distance = np.maximum(ahead, behind)
        return numeric_score(pair, distance, limit.kolmogorov(distance, *_sizes(pair)), distance)


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
        ahead, behind = pair.once(_extremes)
        distance = ahead + behind
        return numeric_score(pair, distance, limit.kuiper(distance, effective(*_sizes(pair))), distance)


class CramerVonMises(Detector):
    """Two-sample Cramer-von Mises: the squared distance of the distribution functions, averaged over all rows.

        T = U / (n m (n + m)) - (4 n m - 1) / (6 (n + m)),    U = n sum (R_i - i)^2 + m sum (S_j - j)^2

    with R_i and S_j the pooled ranks of the i-th reference and j-th current row in their order; among rows of one cell,
    the mean of T over all their orders.
    Unit and range: none, mean about 1/6 without drift, at most about n m / (3 (n + m)). effect = sqrt(3 mean (F - G)^2)
        over all rows, [0, 1]: how far apart the functions lie, 1 when the sides do not overlap.
    Needs: counts; equal to `scipy.stats.cramervonmises_2samp` where no rows share a cell. Midranks for ties, as SciPy
        has them, would make T grow with the rows without any drift: on 1000 against 50 rows of a yes-no column every
        single p-value falls below 0.01.
    With no drift: the limiting law; conservative on ties, as a mean over orders varies less than one order.
    Empty or degenerate: as `ks`; a constant column on both sides has p 1.

    >>> pair = Pair.of_numbers({"x": np.array([1.0, 4.0])}, {"x": np.array([2.0, 3.0])})
    >>> float(CramerVonMises().score(pair).statistic[0])    # ranks 1, 4 and 2, 3: 12/16 - 15/24
    0.125

    Anderson (1962), On the distribution of the two-sample Cramer-von Mises criterion, Ann. Math. Statist. 33.
    """

    name = "cvm"
    kinds = NUMERIC

    def score(self, pair: Pair) -> Score:
        ladder = pair.once(_ladder)
        statistic = cramer_von_mises(ladder)
        p_value = np.where(ladder.commonest == 1, 1.0, limit.cramer_von_mises(statistic))
        return numeric_score(pair, statistic, p_value, ladder.distance)


class AndersonDarling(Detector):
    """Two-sample Anderson-Darling: Cramer-von Mises with the tails weighted up to the same precision as the middle.

        A2 = (N - 1)/N^2 sum_j (n m / N) t_j (F_j - G_j)^2 / (H_j (1 - H_j) - t_j / (4 N))
        statistic = (A2 - 1) / sigma

    over cells j with t_j of the N = n + m rows; F_j, G_j, H_j count half of the cell's own rows; sigma is the deviation
    of A2 without drift. Equal to `scipy.stats.anderson_ksamp(..., variant="midrank")` on rows rounded to their cells.
    Unit and range: standard deviations of A2, mean 0 without drift, from about -1.3. effect = sqrt(A2 (1/n + 1/m)):
        the root mean square of (F - G) / sqrt(H (1 - H)); for two sides of one size that do not overlap, 1.24 where no
        rows share a cell, up to 2 where all rows of a side do.
    Needs: `Pair.cdf` and counts.
    With no drift: the limit of the one-sample statistic, of variance 2 (pi^2 - 9) / 3, at the exact variance of n and m
        rows. Ties widen it, up to chi-square on a yes-no column, where the plain limit rejects 0.11 instead of 0.05:
        the p-value allows for it, and is that of `chi2_pooled` where the smaller side expects under five rows beside
        the commonest cell.
    Empty or degenerate: NaN when a side has no valid row, below four rows, or when all rows are in one cell.

    >>> pair = Pair.of_numbers({"x": np.array([1.0, 2.0, 3.0])}, {"x": np.array([1.0, 2.0, 3.0])})
    >>> bool(AndersonDarling().score(pair).statistic[0] < 0)    # no distance at all: (0 - 1) / sigma
    True

    Scholz and Stephens (1987), K-sample Anderson-Darling tests, J. Am. Statist. Assoc. 82.
    """

    name = "ad"
    kinds = NUMERIC

    def score(self, pair: Pair) -> Score:
        ladder = pair.once(_ladder)
        a2, concentration = anderson_darling(ladder)
        with np.errstate(invalid="ignore", divide="ignore"):
            statistic = (a2 - 1) / limit.anderson_darling_deviation(ladder.n, ladder.m)
            effect = np.sqrt(a2 / ladder.effective) + 0 * statistic
        p_value = limit.anderson_darling(statistic, concentration)
        few = ~several(ladder.n, ladder.m, ladder.commonest)
        if few.any():
            p_value = np.where(few, pooled_p(pair)[: few.size], p_value) + 0 * statistic
        return numeric_score(pair, statistic, p_value, effect)


class Wasserstein(Drawn):
    """First Wasserstein distance: how far the average row has to move to turn one side into the other.

        W = integral |F(x) - G(x)| dx

    Unit and range: the column's own unit, [0, inf); a metric; W of a shift is the shift. effect = W over the
        reference's standard deviation (`Pair.deviations`).
    Needs: `Pair.cdf`, and the mean of each side's rows in every cell (`Profile.places`) and outside the range. With
        these it is exact wherever F - G keeps its sign within each cell; where not, it is too low by less than a cell
        can hold. A row further than 128 robust standard deviations from the median counts as that far, an infinity as
        lying at the end of the range. `python -m benchmarks.grid` shows the errors.
    With no drift: of the order sigma sqrt(1/n + 1/m); the law depends on the shape of the column, so it is drawn from
        the reference (`detectors/law.py`), of W on at most 64 groups of cells within four robust deviations: an
        outlier makes W large and proves nothing. p is NaN without drawn laws, under 30 current rows, and where the
        reference has one value.
    Empty or degenerate: NaN when a side has no valid row; 0 on equal constants, whose effect is NaN once they differ.

    >>> pair = Pair.of_numbers({"x": np.array([0.0, 1.0, 3.0])}, {"x": np.array([5.0, 6.0, 8.0])})
    >>> round(float(Wasserstein().score(pair).statistic[0]), 2)
    5.0

    Vallender (1974), Theory Probab. Appl. 18.
    """

    name = "wasserstein"
    kinds = NUMERIC

    def distance(self, reference: Floats, current: Floats, places: Floats) -> Floats:
        """See `Drawn.distance`."""
        return np.asarray(np.vecdot(np.abs(_running_gap(reference, current)), np.diff(places)))

    def score(self, pair: Pair) -> Score:
        n, m = (np.maximum(rows, 1) for rows in _sizes(pair))
        outside = np.abs(_excess(pair.reference.sums, n) - _excess(pair.current.sums, m)).sum(axis=0)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            steps = pair.once(_steps)
            distance = dot(np.abs(steps.height), steps.width) + outside * pair.bins.units
            distance[np.isinf(distance)] = np.nan
            effect = distance / pair.deviations
        return _in_units(pair, distance, self.drawn_p(pair), effect)


class Energy(Drawn):
    """Energy distance of one-dimensional samples.

        E = sqrt(2 integral (F(x) - G(x))^2 dx) = sqrt(2 E|X - Y| - E|X - X'| - E|Y - Y'|)

    Unit and range: the root of the column's unit, as `scipy.stats.energy_distance` has it, [0, inf); a metric.
        effect = E over the root of the reference's standard deviation (`Pair.deviations`).
    Needs: as `wasserstein`; rows outside the range on one side count as all lying at their mean, which makes E^2 too
        large by at most their mean distance.
    With no drift: E^2 has mean (1/n + 1/m) E|X - X'|; the law depends on the shape of the column and is drawn as that
        of `wasserstein`.
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

    def distance(self, reference: Floats, current: Floats, places: Floats) -> Floats:
        """See `Drawn.distance`."""
        gap = _running_gap(reference, current)
        return np.asarray(np.sqrt(np.vecdot(gap * gap, np.diff(places))))

    def score(self, pair: Pair) -> Score:
        n, m = (np.maximum(rows, 1) for rows in _sizes(pair))
        excess = _excess(pair.reference.sums, n) - _excess(pair.current.sums, m)
        rows = pair.bins.n_numeric
        shares = pair.reference.counts[:rows, [BELOW, ABOVE]] / n[:, None]
        shares = np.abs(shares - pair.current.counts[:rows, [BELOW, ABOVE]] / m[:, None])
        outside = (np.abs(excess) * shares.T).sum(axis=0)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            steps = pair.once(_steps)
            squared = dot(steps.height, steps.height, steps.width) + outside * pair.bins.units
            distance = np.sqrt(2 * squared)
            distance[np.isinf(distance)] = np.nan
            effect = distance / np.sqrt(pair.deviations)
        return _in_units(pair, distance, self.drawn_p(pair), effect)


@dataclass(frozen=True, slots=True, eq=False)
class _Steps:
    """F - G along the range as a function of steps, both of shape (numeric columns, 756), in the column's units."""

    height: Floats
    width: Floats


def _steps(pair: Pair) -> _Steps:
    """Three steps for each regular cell: up to where the rows of one side lie, then of the other, and to its end."""
    (lower, upper), rows = pair.bins.borders, pair.bins.n_numeric
    x, y = pair.reference.places, pair.current.places
    # Where an absurd row of the reference stretches a cell, both sides' rows lie where those of the reference may.
    believed = np.clip(x, *pair.bins.credible)
    x, y = believed, np.where(believed == x, y, np.clip(y, *pair.bins.credible))
    holds_x, holds_y = (side.counts[:rows, FIRST:ABOVE] > 0 for side in (pair.reference, pair.current))
    x, y = np.where(holds_x, x, y), np.where(holds_y, y, x)
    before, after = pair.gap[:, :-2], pair.gap[:, 1:-1]
    reference, _ = pair.cdf
    share = np.diff(reference[:, :-1], axis=1)
    between = np.where(x < y, before + share, after - share)
    low, high = np.minimum(x, y), np.maximum(x, y)
    with np.errstate(over="ignore", invalid="ignore"):
        width = np.concatenate((low - lower, high - low, upper - high), axis=1)
    return _Steps(np.concatenate((before, between, after), axis=1), np.minimum(width, np.finfo(np.float64).max))


def _extremes(pair: Pair) -> tuple[Floats, Floats]:
    """The largest of F - G and of G - F, each at least 0, shape (numeric columns,)."""
    return np.maximum(pair.gap.max(axis=1), 0), np.maximum(-pair.gap.min(axis=1), 0)


def _sizes(pair: Pair) -> tuple[Floats, Floats]:
    rows = pair.bins.n_numeric
    return pair.n[:rows].astype(np.float64), pair.m[:rows].astype(np.float64)


def _ladder(pair: Pair) -> Ladder:
    reference, current = pair.reference, pair.current
    return Ladder.of((reference.numbers, current.numbers), (reference.halfway, current.halfway), *_sizes(pair))


def _excess(sums: Counts, rows: Floats) -> Floats:
    """Mean way outside the range per row, in fixed-point units, shape (2, numeric columns): beneath, where it is
    negative, and beyond."""
    return np.asarray(sums[:, [SHIFTS + BELOW, SHIFTS + ABOVE]].T / rows)


def _running_gap(reference: Floats, current: Floats) -> Floats:
    """F - G after each group but the last, from their shares."""
    return (reference - current).cumsum(axis=-1)[..., :-1]


def _in_units(pair: Pair, distance: Floats, p_value: Floats, effect: Floats) -> Score:
    """The Score of a distance in the column's units; no distance is no effect, even on a constant reference."""
    effect = np.where(distance == 0, 0.0, np.where(np.isfinite(effect), effect, np.nan))
    return numeric_score(pair, distance, np.where(np.isnan(distance), np.nan, p_value), effect)
