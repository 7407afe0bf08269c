"""Shifts of mean and variance of numeric columns, from exact integer sums.

The sums count a value further than 128 robust standard deviations from the reference's median as that far, on both
sides alike (`Pair.moments`): one absurd row cannot decide, nor hide, anything. Infinities take no part.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from detectors.bins import Kind
from detectors.detector import Detector, Pair, Score, numeric_score


class Mean(Detector):
    """Difference of means, tested by Welch's t.

        statistic = mean(current) - mean(reference),    effect = statistic / standard deviation of the reference

    Unit and range: the column's unit, signed; the effect in standard deviations (Glass's delta).
    Needs: `Profile.sums`.
    With no drift: t = statistic / sqrt(v_n / n + v_m / m) is about Student's t with Welch's degrees of freedom; p is
        two-sided. Rough for some ten rows of a very skewed column.
    Empty or degenerate: NaN when a side has no finite row; p is NaN with one row on a side and where both sides are
        constants that differ, the effect where only the reference is constant.

    >>> pair = Pair.of_numbers({"x": np.array([1.0, 2.0, 3.0, 4.0])}, {"x": np.array([2.0, 3.0, 4.0, 5.0])})
    >>> round(float(Mean().score(pair).statistic[0]), 3)
    1.0

    Welch (1947), The generalization of Student's problem, Biometrika 34.
    """

    name = "mean"
    kinds = frozenset({Kind.NUMERIC})

    def score(self, pair: Pair) -> Score:
        (n, mean_n, variance_n), (m, mean_m, variance_m) = pair.moments
        difference = mean_m - mean_n
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            error_n, error_m = variance_n / n, variance_m / m
            freedom = (error_n + error_m) ** 2 / (error_n**2 / (n - 1) + error_m**2 / (m - 1))
            t = difference / np.sqrt(error_n + error_m)
            p_value = np.minimum(2 * special.stdtr(freedom, -np.abs(t)), 1.0)
            shift = difference * pair.bins.units
            effect = shift / pair.deviations
        still = (difference == 0) & (error_n + error_m == 0)
        effect = np.where(np.isfinite(effect), effect, np.where(difference == 0, 0.0, np.nan))
        return numeric_score(pair, shift, np.where(still, 1.0, p_value), effect)


class Variance(Detector):
    """Ratio of variances.

        statistic = var(current) / var(reference),    effect = ln(statistic) / 2 = ln of the ratio of deviations

    Unit and range: none, [0, inf), 1 for equal variances; the effect is signed and antisymmetric.
    Needs: `Profile.sums` and the reference's kurtosis k.
    With no drift: ln(statistic) is about normal with variance (k - 1)(1/(n - 1) + 1/(m - 1)), which is right for every
        shape of finite kurtosis, unlike the F test; p is two-sided. A reference with an outlier has a huge k: no claim.
    Empty or degenerate: NaN below two finite rows on a side and for a constant reference; a constant current side gives
        0 without p and effect (`constant` judges it).

    >>> pair = Pair.of_numbers({"x": np.array([1.0, 2.0, 3.0, 4.0])}, {"x": np.array([2.0, 4.0, 6.0, 8.0])})
    >>> round(float(Variance().score(pair).statistic[0]), 2)
    4.0

    Layard (1973), Robust large-sample tests for homogeneity of variances, J. Am. Statist. Assoc. 68.
    """

    name = "variance"
    kinds = frozenset({Kind.NUMERIC})

    def score(self, pair: Pair) -> Score:
        (n, _, variance_n), (m, _, variance_m) = pair.moments
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.where(variance_n > 0, variance_m / variance_n, np.nan)
            log_ratio = np.where(ratio > 0, np.log(ratio), np.nan)
            spread = np.maximum(pair.bins.kurtoses - 1, 1e-9) * (1 / (n - 1) + 1 / (m - 1))
            p_value = special.erfc(np.abs(log_ratio) / np.sqrt(2 * spread))
        return numeric_score(pair, ratio, p_value, log_ratio / 2)
