"""Tests of independence on the table that has two rows, reference and current, and a column for each occupied group.

For words the groups are the vocabulary, the reference's rare words and unseen words; for numbers the decile groups of
the reference. Groups empty on both sides are not part of the table.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from detectors.bins import Counts, Floats
from detectors.detector import Detector, Pair, Score, masked_score

MIN_EXPECTED = 5.0
"""Rows that `chi2_pooled` wants to expect in every cell of its table: Cochran's rule."""


class Chi2(Detector):
    """Pearson's chi-square test of homogeneity, without Yates' correction.

        X2 = sum over the 2 k cells of (observed - expected)^2 / expected = n m sum_j (P_j/n - Q_j/m)^2 / (P_j + Q_j)

    with P_j reference and Q_j current rows in group j.
    Unit and range: [0, n + m]; 0 for equal shares; symmetric; grows with the rows. effect = Cramer's V.
    Needs: `Pair.groups`. Equal to `scipy.stats.chi2_contingency(table, correction=False)`.
    With no drift: chi-square with k - 1 degrees of freedom, if every cell expects some five rows. Where many words are
        rare it is not; `chi2_pooled` is the test for decisions.
    Empty or degenerate: NaN when a side has no valid row; 0 with p 1 when k = 1.

    >>> pair = Pair.of_words({"coin": {"h": 10, "t": 20}}, {"coin": {"h": 20, "t": 10}})
    >>> print(f"{Chi2().score(pair).statistic[0]:.4f} {20 / 3:.4f}")
    6.6667 6.6667

    Pearson (1900), Phil. Mag. Series 5, 50.
    """

    name = "chi2"

    def score(self, pair: Pair) -> Score:
        statistic = pair.by_kind(_pearson)
        return _scored(pair, statistic, statistic)


class GTest(Detector):
    """The likelihood-ratio test of homogeneity.

        G = 2 sum over the 2 k cells of observed ln(observed / expected)

    Unit and range: [0, inf); 0 for equal shares; symmetric; grows with the rows. effect = Cramer's V, from `chi2`.
    Needs: `Pair.groups`. Equal to `scipy.stats.chi2_contingency(table, correction=False, lambda_="log-likelihood")`.
    With no drift: chi-square with k - 1 degrees of freedom, under the condition of `chi2`.
    Empty or degenerate: as `chi2`.

    Two sides of 8 rows that share no word: 16 rows of ln 2, doubled.

    >>> pair = Pair.of_words({"plan": {"free": 8}}, {"plan": {"paid": 8}})
    >>> print(f"{GTest().score(pair).statistic[0]:.4f} {32 * np.log(2):.4f}")
    22.1807 22.1807

    Wilks (1938), Ann. Math. Statist. 9.
    """

    name = "g"

    def score(self, pair: Pair) -> Score:
        return _scored(pair, pair.by_kind(_likelihood_ratio), pair.by_kind(_pearson))


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
        chi2 = pair.by_kind(_pearson)
        scored = _scored(pair, chi2, chi2)
        return masked_score(pair, scored.effect, scored.p_value, scored.effect)


class PooledChi2(Detector):
    """Pearson's test after small groups were pooled, so that its p-value is honest for few rows and for many words.

    Groups in which the smaller side expects fewer than five rows become one. Does that one still expect fewer, it joins
    the smallest of the others: a single odd word then weighs nothing (`unseen` counts it) instead of everything.
    Unit and range: as `chi2`, at most its value; effect = Cramer's V of the pooled table.
    Needs: `Pair.groups`.
    With no drift: chi-square, one less degrees of freedom than groups remain. Pooling looks at sums of both sides only,
        which say nothing about their difference, so the law is not bent by it.
    Empty or degenerate: NaN when a side has no valid row; 0 with p 1 when one group remains: nothing was tested.

    >>> words = {"a": 1000, "b": 1000}
    >>> pair = Pair.of_words({"plan": words}, {"plan": {"a": 100, "b": 100, "odd": 1}})
    >>> [bool(test.score(pair).p_value[0] < 0.05) for test in (Chi2(), PooledChi2())]
    [True, False]

    Cochran (1954), Some methods for strengthening the common chi-square tests, Biometrics 10.
    """

    name = "chi2_pooled"

    def score(self, pair: Pair) -> Score:
        (numeric, categorical) = (_pooled(*groups) for groups in pair.groups)
        statistic = np.concatenate((numeric[0], categorical[0]))
        return _scored(pair, statistic, statistic, np.concatenate((numeric[1], categorical[1])))


def _pearson(reference: Counts, current: Counts) -> Floats:
    """Chi-square of each row's 2 x k table."""
    n, m = _totals(reference, current)
    total = np.maximum(reference + current, 1)
    difference = reference * m - current * n
    return np.asarray((difference * difference / total).sum(axis=1) / (n * m)[:, 0])


def _likelihood_ratio(reference: Counts, current: Counts) -> Floats:
    n, m = _totals(reference, current)
    total = np.maximum(reference + current, 1)
    scale = (n + m) / total
    terms = special.xlogy(reference, reference * scale / n) + special.xlogy(current, current * scale / m)
    return np.asarray(np.maximum(2 * terms.sum(axis=1), 0.0))


def _pooled(reference: Counts, current: Counts) -> tuple[Floats, Counts]:
    """Chi-square and number of groups of each row's table once its small groups are pooled."""
    if not reference.size:
        return np.zeros(len(reference)), np.zeros(len(reference), np.int64)
    n, m = _totals(reference, current)
    total = reference + current
    expected = total * (np.minimum(n, m) / (n + m))
    large = expected >= MIN_EXPECTED
    pool = np.stack(((reference * ~large).sum(axis=1), (current * ~large).sum(axis=1)))
    kept = np.stack((reference * large, current * large))
    joins = (expected * ~large).sum(axis=1) < MIN_EXPECTED
    smallest = np.where(large, expected, np.inf).argmin(axis=1)
    kept[:, np.arange(len(smallest)), smallest] += pool * joins
    table = np.concatenate((kept, (pool * ~joins)[:, :, None]), axis=2)
    return _pearson(table[0], table[1]), (table.sum(axis=0) > 0).sum(axis=1)


def _totals(reference: Counts, current: Counts) -> tuple[Floats, Floats]:
    """Rows of each side, at least 1, shape (columns, 1)."""
    n, m = (np.maximum(side.sum(axis=1, keepdims=True), 1).astype(np.float64) for side in (reference, current))
    return n, m


def _scored(pair: Pair, statistic: Floats, chi2: Floats, n_groups: Counts | None = None) -> Score:
    freedom = (pair.n_groups if n_groups is None else n_groups) - 1
    p_value = np.where(freedom > 0, special.chdtrc(np.maximum(freedom, 1), statistic), 1.0)
    with np.errstate(invalid="ignore"):
        effect = np.minimum(np.sqrt(chi2 / np.maximum(pair.n + pair.m, 1)), 1.0)
    return masked_score(pair, statistic, p_value, effect)
