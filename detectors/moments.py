"""Shifts of mean and variance of numeric columns, from exact integer sums.

The sums count a value further than 128 robust standard deviations from the reference's median as that far, on both
sides alike (`Pair.moments`): one absurd row cannot decide, nor hide, anything. Infinities take no part.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from detectors.cells import Floats
from detectors.columns import Kind
from detectors.detector import Detector, Drawn, Pair, Score, numeric_score


class Mean(Detector):
    """Difference of means, tested by Welch's and Student's t.

        statistic = mean(current) - mean(reference),    effect = statistic / standard deviation of the reference

    Unit and range: the column's unit, signed; the effect in standard deviations (Glass's delta).
    Needs: `Profile.sums`.
    With no drift: the larger of Welch's and Student's two-sided p-values, which differ only when n and m do. Welch's
        alone is wrong for few rows of a skewed column, whose own variance often misses its tail: on 50 current rows
        against 1000 it rejects 0.09 of lognormal columns instead of 0.05, and half of those where 1 % of rows say yes.
        Student's errs the other way there, and the larger of the two was never above its level in any case tried.
    Empty or degenerate: NaN when a side has no finite row; p is NaN with one row on a side and where both sides are
        constants that differ, the effect where only the reference is constant.

    >>> pair = Pair.of_numbers({"x": np.array([1.0, 2.0, 3.0, 4.0])}, {"x": np.array([2.0, 3.0, 4.0, 5.0])})
    >>> round(float(Mean().score(pair).statistic[0]), 3)
    1.0

    Student (1908), The probable error of a mean, Biometrika 6; Welch (1947), The generalization of Student's problem,
    Biometrika 34.
    """

    name = "mean"
    kinds = frozenset({Kind.NUMERIC})

    def score(self, pair: Pair) -> Score:
        (n, mean_n, variance_n), (m, mean_m, variance_m) = pair.moments
        difference = mean_m - mean_n
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            error_n, error_m = variance_n / n, variance_m / m
            freedom = (error_n + error_m) ** 2 / (error_n**2 / (n - 1) + error_m**2 / (m - 1))
            welch = special.stdtr(freedom, -np.abs(difference) / np.sqrt(error_n + error_m))
            both = ((n - 1) * variance_n + (m - 1) * variance_m) / (n + m - 2)
            student = special.stdtr(n + m - 2, -np.abs(difference) / np.sqrt(both * (1 / n + 1 / m)))
            p_value = np.minimum(2 * np.maximum(welch, student), 1.0)
            shift = difference * pair.bins.units
            effect = shift / pair.deviations
        still = (difference == 0) & (error_n + error_m == 0)
        effect = np.where(np.isfinite(effect), effect, np.where(difference == 0, 0.0, np.nan))
        return numeric_score(pair, shift, np.where(still, 1.0, p_value), effect)


class Variance(Drawn):
    """Ratio of variances.

        statistic = var(current) / var(reference),    effect = ln(statistic) / 2 = ln of the ratio of deviations

    Unit and range: none, [0, inf), 1 for equal variances; the effect is signed and antisymmetric.
    Needs: `Profile.sums`.
    With no drift: ln(statistic) has about the variance (k - 1)(1/n + 1/m), k the fourth standardised moment (normal 3).
        A sample tells k too low, the more so the heavier the tails are: a test with the reference's own k rejects 0.12
        of lognormal columns of 1000 rows instead of 0.05. So the law is drawn, as that of `wasserstein`, of the two
        variances on groups of cells, their difference over their sum, two-sided. No few far values decide it.
    Empty or degenerate: NaN below two finite rows on a side and for a constant reference; a constant current side gives
        0 without effect (`constant` judges it).

    >>> pair = Pair.of_numbers({"x": np.array([1.0, 2.0, 3.0, 4.0])}, {"x": np.array([2.0, 4.0, 6.0, 8.0])})
    >>> round(float(Variance().score(pair).statistic[0]), 2)
    4.0

    Layard (1973), Robust large-sample tests for homogeneity of variances, J. Am. Statist. Assoc. 68.
    """

    name = "variance"
    kinds = frozenset({Kind.NUMERIC})

    def distance(self, reference: Floats, current: Floats, places: Floats) -> Floats:
        """See `Drawn.distance`."""
        one, other = _variance(reference, places), _variance(current, places)
        return np.asarray(np.abs(one - other) / np.maximum(one + other, np.finfo(np.float64).tiny))

    def score(self, pair: Pair) -> Score:
        (_, _, variance_n), (_, _, variance_m) = pair.moments
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.where(variance_n > 0, variance_m / variance_n, np.nan)
            effect = np.where(ratio > 0, np.log(ratio) / 2, np.nan)
        return numeric_score(pair, ratio, np.where(np.isnan(ratio), np.nan, self.drawn_p(pair)), effect)


def _variance(shares: Floats, places: Floats) -> Floats:
    mean = np.vecdot(shares, places)[..., None]
    return np.asarray(np.vecdot(shares, np.square(places - mean)))
