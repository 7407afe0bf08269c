"""Tests of independence on the table that has two rows, reference and current, and a column for each occupied group.

For words the groups are the vocabulary, the reference's rare words and unseen words; for numbers the decile groups of
the reference. Groups empty on both sides are not part of the table.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from detectors.bins import BELOW, RARE, UNSEEN, Bools, Counts, Floats
from detectors.detector import Detector, Pair, Score, masked_score

MIN_EXPECTED = 5.0
"""Rows to expect in every cell of a table before chi-square is its law: Cochran's rule."""


class Chi2(Detector):
    """Pearson's chi-square test of homogeneity, without Yates' correction.

        X2 = sum over the 2 k cells of (observed - expected)^2 / expected = n m sum_j (P_j/n - Q_j/m)^2 / (P_j + Q_j)

    with P_j reference and Q_j current rows in group j.
    Unit and range: [0, n + m]; 0 for equal shares; symmetric; grows with the rows. effect = Cramer's V.
    Needs: `Pair.groups`. Equal to `scipy.stats.chi2_contingency(table, correction=False)`.
    With no drift: chi-square with k - 1 degrees of freedom, if every cell expects five rows or more; p is NaN where one
        does not, and where the reference has rare words, since choosing the others by their counts bends the law. Without
        that rule one odd word gives p 0, and 0.94 of columns with 60 equal words are called drifting at n = m = 50 by
        `g`, half of them by this. `chi2_pooled` is the test for decisions.
    Empty or degenerate: NaN when a side has no valid row; 0 with p 1 when k = 1.

    >>> pair = Pair.of_words({"coin": {"h": 10, "t": 20}}, {"coin": {"h": 20, "t": 10}})
    >>> print(f"{Chi2().score(pair).statistic[0]:.4f} {20 / 3:.4f}")
    6.6667 6.6667

    Pearson (1900), Phil. Mag. Series 5, 50.
    """

    name = "chi2"

    def score(self, pair: Pair) -> Score:
        statistic = pair.once(pearson)
        return masked_score(pair, statistic, _lawful_p(pair, statistic), _cramers_v(pair, statistic))


class GTest(Detector):
    """The likelihood-ratio test of homogeneity.

        G = 2 sum over the 2 k cells of observed ln(observed / expected)

    Unit and range: [0, inf); 0 for equal shares; symmetric; grows with the rows. effect = Cramer's V, from `chi2`.
    Needs: `Pair.groups`. Equal to `scipy.stats.chi2_contingency(table, correction=False, lambda_="log-likelihood")`.
    With no drift: G over Williams' factor, which brings its mean to k - 1 (at five rows per cell G alone rejects 0.075
        instead of 0.05), is chi-square with k - 1 degrees of freedom; p is NaN as in `chi2`.
    Empty or degenerate: as `chi2`.

    Two sides of 8 rows that share no word: 16 rows of ln 2, doubled.

    >>> pair = Pair.of_words({"plan": {"free": 8}}, {"plan": {"paid": 8}})
    >>> print(f"{GTest().score(pair).statistic[0]:.4f} {32 * np.log(2):.4f}")
    22.1807 22.1807

    Wilks (1938), Ann. Math. Statist. 9; Williams (1976), Improved likelihood ratio tests for complete contingency tables,
    Biometrika 63.
    """

    name = "g"

    def score(self, pair: Pair) -> Score:
        statistic = pair.by_kind(_likelihood_ratio)
        p_value = _lawful_p(pair, statistic / pair.by_kind(_williams))
        return masked_score(pair, statistic, p_value, _cramers_v(pair, pair.once(pearson)))


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
        chi2 = pair.once(pearson)
        effect = _cramers_v(pair, chi2)
        return masked_score(pair, effect, _lawful_p(pair, chi2), effect)


class PooledChi2(Detector):
    """Pearson's test after small groups were pooled, so that its p-value is honest for few rows and for many words.

    Words: rare ones, unseen ones, and all in which the smaller side expects fewer than five rows become one group. Does
    that one still expect fewer, it joins the smallest of the others: a single odd word then weighs nothing (`unseen`
    counts it) instead of everything. Numbers: neighbouring deciles are merged until the reference makes the smaller side
    expect five rows or more in each (ten on the reference's side where it is much the smaller one).
    Unit and range: as `chi2`, at most its value; effect = Cramer's V of the pooled table.
    Needs: `Pair.groups`.
    With no drift: chi-square, one less degrees of freedom than groups remain. Words are pooled by the sums of both sides,
        deciles by the reference alone, whose tenths are no chance: neither tells of a difference, so neither bends the
        law. Words just above the rare ones are pooled with them: the reference, which chose them, flatters them.
    Empty or degenerate: NaN when a side has no valid row; 0 with p 1 when one group remains: nothing was tested.

    >>> pair = Pair.of_words({"plan": {"a": 1000, "b": 1000}}, {"plan": {"a": 100, "b": 100, "odd": 1}})
    >>> [f"{test.score(pair).statistic[0]:.2f}" for test in (Chi2(), PooledChi2())]
    ['9.96', '0.00']

    Cochran (1954), Some methods for strengthening the common chi-square tests, Biometrics 10.
    """

    name = "chi2_pooled"

    def score(self, pair: Pair) -> Score:
        return masked_score(pair, *pair.once(pooled))


def pearson(pair: Pair) -> Floats:
    """Chi-square of each column's table, shape (columns,)."""
    return pair.by_kind(_pearson)


def pooled(pair: Pair) -> tuple[Floats, Floats, Floats]:
    """Statistic, p-value and effect of `chi2_pooled`, each of shape (columns,)."""
    numeric, words = pair.groups
    (chi2, n_groups), (chi2_words, n_words) = _merged(*numeric), _pooled(*words)
    statistic, n_kept = np.concatenate((chi2, chi2_words)), np.concatenate((n_groups, n_words))
    return statistic, _p_value(pair, statistic, n_kept), _cramers_v(pair, statistic)


def _lawful(pair: Pair) -> Bools:
    """Whether each column's whole table may be tested as it is, shape (columns,)."""

    def smallest(reference: Counts, current: Counts) -> Floats:
        n, m = _totals(reference, current)
        total = reference + current
        return np.where(total > 0, total * (np.minimum(n, m) / (n + m)), np.inf).min(axis=1, initial=np.inf)

    lawful = pair.by_kind(smallest) >= MIN_EXPECTED
    lawful[pair.bins.n_numeric :] &= pair.groups[1][0][:, RARE - BELOW] + pair.groups[1][1][:, RARE - BELOW] == 0
    return lawful


def _lawful_p(pair: Pair, statistic: Floats) -> Floats:
    p_value = _p_value(pair, statistic, pair.n_groups)
    return np.where(pair.once(_lawful) | (pair.n_groups == 1), p_value, np.nan)


def _p_value(pair: Pair, statistic: Floats, n_groups: Counts) -> Floats:
    """Tail of chi-square.

    Deciles are cut from the reference, so their true shares scatter about a tenth. Where the current rows are the more,
    that raises the statistic's mean by a share k/n (m - n)/(m + n), and its upper tail by about twice of it.
    """
    n, m = np.maximum(pair.n, 1), pair.m
    numeric = np.arange(n.size) < pair.bins.n_numeric
    scatter = 1 + 2 * numeric * (n_groups / n) * (np.maximum(m - n, 0) / (n + m))
    return np.where(n_groups > 1, special.chdtrc(np.maximum(n_groups - 1, 1), statistic / scatter), 1.0)


def _cramers_v(pair: Pair, chi2: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.minimum(np.sqrt(chi2 / np.maximum(pair.n + pair.m, 1)), 1.0)


def _pearson(reference: Counts, current: Counts) -> Floats:
    """Chi-square of each row's 2 x k table."""
    n, m = _totals(reference, current)
    total = np.maximum(reference + current, 1)
    difference = reference * m - current * n
    return np.asarray((difference * difference / total).sum(axis=1) / (n * m)[:, 0])


def _likelihood_ratio(reference: Counts, current: Counts) -> Floats:
    n, m = _totals(reference, current)
    scale = (n + m) / np.maximum(reference + current, 1)
    terms = special.xlogy(reference, reference * scale / n) + special.xlogy(current, current * scale / m)
    return np.asarray(np.maximum(2 * terms.sum(axis=1), 0.0))


def _williams(reference: Counts, current: Counts) -> Floats:
    """By how much the mean of the likelihood ratio exceeds that of its limit."""
    n, m = _totals(reference, current)
    size, total = n + m, reference + current
    freedom = np.maximum((total > 0).sum(axis=1) - 1, 1)
    inverse = np.where(total > 0, size / np.maximum(total, 1), 0).sum(axis=1)
    return np.asarray(1 + (size / n + size / m - 1)[:, 0] * (inverse - 1) / (6 * size[:, 0] * freedom))


def _merged(reference: Counts, current: Counts) -> tuple[Floats, Counts]:
    """Chi-square and number of groups once neighbours that expect too few rows by the reference are one group."""
    n, m = (side[:, 0] for side in _totals(reference, current))
    wanted = MIN_EXPECTED * np.maximum(n / m, 2 * m / (n + m))  # reference rows
    running = np.stack((reference.cumsum(axis=1), current.cumsum(axis=1)))
    closed, border = np.zeros(len(n)), np.zeros(reference.shape, np.bool_)
    for group in range(reference.shape[1] - 1):
        upto = running[0, :, group]
        border[:, group] = (upto - closed >= wanted) & (n - upto >= wanted)
        closed = np.where(border[:, group], upto, closed)
    border[:, -1] = True
    table = np.diff(np.maximum.accumulate(running * border, axis=2), axis=2, prepend=0)
    return _pearson(table[0], table[1]), border.sum(axis=1)


def _pooled(reference: Counts, current: Counts) -> tuple[Floats, Counts]:
    """Chi-square and number of groups once small words and those outside the vocabulary are one group."""
    n, m = _totals(reference, current)
    total, share = reference + current, m / (n + m)
    outside = [UNSEEN - BELOW, RARE - BELOW]
    # The most rows that the reference may have of a word outside, and what its true frequency may be, by 3 sigma.
    cut = np.where(reference[:, outside[1:]] > 0, reference[:, RARE - BELOW - 1 : RARE - BELOW], 0)
    reach = cut + 3 * np.sqrt(cut * share) + 9 * share
    expected = total * np.minimum(share, 1 - share)
    large = (expected >= MIN_EXPECTED) & (total * (1 - share) >= reach)
    large[:, outside] = False
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
