"""Tests whether the side a row is from has to do with the group it is in; `detectors/table.py` has the groups."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from detectors.cells import Floats
from detectors.detector import Detector, Pair, Score, masked_score
from detectors.table import Table, per_column


class Chi2(Detector):
    """Pearson's chi-square test of homogeneity, without Yates' correction.

        X2 = sum over the 2 k cells of (observed - expected)^2 / expected = n m sum_j (P_j/n - Q_j/m)^2 / (P_j + Q_j)

    with P_j reference and Q_j current rows in group j.
    Unit and range: [0, n + m]; 0 for equal shares; symmetric; grows with the rows. effect = Cramer's V.
    Needs: `Pair.groups`. Equal to `scipy.stats.chi2_contingency(table, correction=False)`.
    With no drift: chi-square with k - 1 degrees of freedom, if every cell expects five rows or more. Where one does
        not, or there are rare words, since the reference's counts chose the others, p is that of `chi2_pooled`. Without
        that rule one odd word gives p 0, and of columns with 60 equal words on 50 rows a side half are called drifting,
        by `g` 0.94 of them.
    Empty or degenerate: NaN when a side has no valid row; 0 with p 1 when k = 1.

    >>> pair = Pair.of_words({"coin": {"h": 10, "t": 20}}, {"coin": {"h": 20, "t": 10}})
    >>> print(f"{Chi2().score(pair).statistic[0]:.4f} {20 / 3:.4f}")
    6.6667 6.6667

    Pearson (1900), Phil. Mag. Series 5, 50.
    """

    name = "chi2"

    def score(self, pair: Pair) -> Score:
        statistic = _chi2(pair)
        return masked_score(pair, statistic, _lawful_p(pair), _cramers_v(pair, statistic))


class GTest(Detector):
    """The likelihood-ratio test of homogeneity.

        G = 2 sum over the 2 k cells of observed ln(observed / expected)

    Unit and range: [0, inf); 0 for equal shares; symmetric; grows with the rows. effect = Cramer's V, from `chi2`.
    Needs: `Pair.groups`. Equal to `scipy.stats.chi2_contingency(table, correction=False, lambda_="log-likelihood")`.
    With no drift: G over Williams' factor, which brings its mean to k - 1 (at five rows per cell G alone rejects 0.075
        instead of 0.05), is chi-square with k - 1 degrees of freedom; elsewhere p as in `chi2`.
    Empty or degenerate: as `chi2`.

    Two sides of 8 rows that share no word: 16 rows of ln 2, doubled.

    >>> pair = Pair.of_words({"plan": {"free": 8}}, {"plan": {"paid": 8}})
    >>> print(f"{GTest().score(pair).statistic[0]:.4f} {32 * np.log(2):.4f}")
    22.1807 22.1807

    Wilks (1938), Ann. Math. Statist. 9; Williams (1976), Biometrika 63.
    """

    name = "g"

    def score(self, pair: Pair) -> Score:
        statistic = per_column(pair, lambda table: table.likelihood_ratio)
        p_value = _lawful_p(pair, lambda table: table.p_value(table.likelihood_ratio / table.williams))
        return masked_score(pair, statistic, p_value, _cramers_v(pair, _chi2(pair)))


class CramersV(Detector):
    """Cramer's V: chi-square as a correlation between the side a row is from and the group it is in.

        V = sqrt(X2 / (n + m))

    Unit and range: [0, 1]; 1 when no group is shared. The same change gives a smaller V the more the sizes of the two
        sides differ. effect = statistic.
    Needs, law, empty or degenerate: as `chi2`, whose p-value it carries.

    >>> pair = Pair.of_words({"coin": {"h": 10, "t": 20}}, {"coin": {"h": 20, "t": 10}})
    >>> print(f"{CramersV().score(pair).statistic[0]:.4f}")
    0.3333

    Cramer (1946), Mathematical Methods of Statistics, section 21.9.
    """

    name = "cramers_v"

    def score(self, pair: Pair) -> Score:
        effect = _cramers_v(pair, _chi2(pair))
        return masked_score(pair, effect, _lawful_p(pair), effect)


class PooledChi2(Detector):
    """Pearson's test after small groups were pooled, so that its p-value is honest for few rows and for many words.

    Words: rare ones, unseen ones, and all in which the smaller side expects fewer than five rows become one group.
    Numbers: neighbouring deciles are merged until each holds reference rows enough for the smaller side to expect five
    (the reference itself ten, where it is much the smaller side).
    Unit and range: as `chi2`, at most its value; effect = Cramer's V of the pooled table.
    Needs: `Pair.groups`.
    With no drift: chi-square, one less degrees of freedom than groups remain. Words are pooled by the sums of both
        sides, deciles by the reference alone, whose tenths are no chance: neither tells of a difference, so neither
        bends the law. Words just above the rare ones join them: the reference, which chose them, flatters them. Where
        the smaller side expects under five rows even in the group of small words, that group is tested against all
        others by its exact binomial chance, they among themselves by chi-square, and p is twice the smaller of the two:
        a single odd word then says little, and many say much.
    Empty or degenerate: NaN when a side has no valid row; 0 with p 1 when one group remains: nothing was tested.

    One odd word of eleven rows, and six of sixteen, whose chance is twice twice 1/11 to the sixth:

    >>> pairs = [Pair.of_words({"x": {"a": 50, "b": 50}}, {"x": {"a": 5, "b": 5, "odd": n}}) for n in (1, 6)]
    >>> [f"{PooledChi2().score(pair).p_value[0]:.4f}" for pair in pairs]
    ['0.3964', '0.0000']

    Cochran (1954), Some methods for strengthening the common chi-square tests, Biometrics 10.
    """

    name = "chi2_pooled"

    def score(self, pair: Pair) -> Score:
        statistic = per_column(pair, lambda table: table.pooled.chi2)
        return masked_score(pair, statistic, pooled_p(pair), _cramers_v(pair, statistic))


def pooled_p(pair: Pair) -> Floats:
    """The p-value of `chi2_pooled`, shape (columns,)."""
    return per_column(pair, lambda table: table.p_pooled)


def _lawful_p(pair: Pair, p_value: Callable[[Table], Floats] = lambda table: table.p_chi2) -> Floats:
    """By the law of the whole table, or of the pooled one where that law does not hold."""
    return per_column(
        pair,
        lambda table: p_value(table) if table.lawful.all() else np.where(table.lawful, p_value(table), table.p_pooled),
    )


def _chi2(pair: Pair) -> Floats:
    return per_column(pair, lambda table: table.chi2)


def _cramers_v(pair: Pair, chi2: Floats) -> Floats:
    return np.asarray(np.minimum(np.sqrt(chi2 / np.maximum(pair.n + pair.m, 1)), 1.0))
