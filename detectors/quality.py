"""Facts about a window that need no law of the values: what is missing, malformed, out of range, new, stuck or too few.

A rate is tested by its count, as `detectors/binomial.py` says.
"""

from __future__ import annotations

import numpy as np

from detectors.binomial import two_sided_p, upper_p
from detectors.bins import Q_LIMIT
from detectors.cells import ABOVE, BELOW, INVALID, MISSING, RARE, UNSEEN, Counts, Floats
from detectors.columns import Kind
from detectors.detector import Detector, Pair, Score, masked_score, numeric_score
from detectors.profile import INFINITE, SQUARES, SUM


class Missing(Detector):
    """Share of rows without a value.

        statistic = missing current rows / current rows,    effect = statistic - the reference's share

    Unit and range: a share of all rows, [0, 1]; effect in [-1, 1].
    Needs: `Profile.counts`. Works where no row holds a value.
    With no drift: binomial, two-sided, on the rarer of missing and present; conservative.
    Empty or degenerate: NaN when a side has no row at all.

    >>> pair = Pair.of_numbers({"x": np.array([1.0, 2.0, 3.0, 4.0])}, {"x": np.array([1.0, np.nan])})
    >>> float(Missing().score(pair).statistic[0])
    0.5
    """

    name = "missing"

    def score(self, pair: Pair) -> Score:
        a, b = pair.reference.counts[:, MISSING], pair.current.counts[:, MISSING]
        n, m = _all_rows(pair)
        rare = 2 * (a + b) <= n + m
        p_value = two_sided_p(np.where(rare, a, n - a), np.where(rare, b, m - b), n, m)
        usual = _quotient(a, n)
        usual[list(pair.bins.errors)] = np.nan
        return _rate(b, m, usual, p_value, n)


class InvalidType(Detector):
    """Share of rows whose value is not of the column's kind: text in a numeric column, an object in a categorical one.

        statistic = invalid current rows / current rows,    effect = statistic - the reference's share

    Unit and range, needs, empty or degenerate: as `missing`.
    With no drift: binomial, one-sided: fewer of them is no fault; conservative.
    """

    name = "type_error"

    def score(self, pair: Pair) -> Score:
        a, b = pair.reference.counts[:, INVALID], pair.current.counts[:, INVALID]
        n, m = _all_rows(pair)
        return _rate(b, m, _quotient(a, n), upper_p(a, b, n, m), n)


class OutOfRange(Detector):
    """Share of values outside the range of the reference, infinities among them.

        statistic = current rows outside / current rows with a value,    effect = statistic - expected share

    Unit and range: a share of the rows that hold a number, [0, 1].
    Needs: `Profile.counts`.
    With no drift: the next row of the same law leaves the range of n rows with chance 2 / (n + 1), so the reference
        counts as if it had two more rows outside than it has; binomial, one-sided, conservative.
    Empty or degenerate: NaN when a side has no value, and for errors (`Bins.errors`); numeric columns only.

    >>> pair = Pair.of_numbers({"x": np.array([1.0, 2.0, 3.0])}, {"x": np.array([0.0, 2.0, 3.0, 9.0])})
    >>> float(OutOfRange().score(pair).statistic[0])
    0.5
    """

    name = "out_of_range"
    kinds = frozenset({Kind.NUMERIC})

    def score(self, pair: Pair) -> Score:
        rows = pair.bins.n_numeric
        n, m = pair.n[:rows], pair.m[:rows]
        events = [side.counts[:rows, BELOW] + side.counts[:rows, ABOVE] for side in (pair.reference, pair.current)]
        a = np.minimum(events[0] + 2, n + 1)
        statistic = _quotient(events[1], m)
        statistic[list(pair.bins.errors)] = np.nan
        return numeric_score(pair, statistic, upper_p(a, events[1], n, m), statistic - _quotient(a, n + 1))


class Unseen(Detector):
    """Share of words that the reference never held.

        statistic = unseen current rows / current rows with a value,    effect = statistic - expected share

    Unit and range: a share of the rows that hold a word, [0, 1].
    Needs: `Profile.counts`, `Bins.singleton_shares` and `Bins.pair_shares`.
    With no drift: the next row brings a new word with about the chance that a reference row's word occurs nowhere else
        (Good and Turing), so the reference counts as if it had held its single words as unseen; binomial, one-sided. A
        new word brings its repetitions with it. How many, the reference's pairs tell: the events count as so many fewer
        (without that, 0.14 instead of 0.05 of columns with 60 equal words are called new at n = 200, m = 2000).
    Empty or degenerate: NaN when a side has no value; categorical columns only.

    >>> pair = Pair.of_words({"plan": {"free": 6, "paid": 2}}, {"plan": {"free": 3, "gold": 1}})
    >>> float(Unseen().score(pair).statistic[0])
    0.25

    Good (1953), The population frequencies of species, Biometrika 40.
    """

    name = "unseen"
    kinds = frozenset({Kind.CATEGORICAL})

    def score(self, pair: Pair) -> Score:
        rows = pair.bins.n_numeric
        n, m = pair.n[rows:], pair.m[rows:]
        events = [side.counts[rows:, UNSEEN] for side in (pair.reference, pair.current)]
        a = np.maximum(pair.bins.singleton_shares * n, events[0])
        pairs = pair.bins.pair_shares * n / np.maximum(a, 1.0)
        together = 1 + _quotient(m, n + m) * pairs  # variance of the events over their number
        statistic = _quotient(events[1], m)
        found = (statistic, upper_p(a / together, events[1] / together, n, m), statistic - _quotient(a, n))
        pad = np.full(rows, np.nan)
        return masked_score(pair, *(np.concatenate((pad, values)) for values in found))


class Constant(Detector):
    """Whether a column that varied in the reference holds one single value: a stuck sensor, a default that took over.

        statistic = 1 if every current row has the same value and not every reference row has, else 0

    Unit and range: 0 or 1. effect = statistic. Numbers closer than 1/1024 robust standard deviation are the same.
    Needs: `Profile.counts` and `Profile.sums`; for words, the value must be one of the vocabulary.
    With no drift: drawn from the n + m rows of both sides, all m current ones fall into a cell of share s with at most
        the chance s^m; p is the sum over all cells, valid for any n and m.
    Empty or degenerate: NaN when a side has no value. One current row agrees with itself: 1 with p 1.

    Ten tails in a row of a fair coin that fell ten times more often heads before:

    >>> pair = Pair.of_words({"coin": {"h": 505, "t": 495}}, {"coin": {"t": 10}})
    >>> float(Constant().score(pair).p_value[0]) == 2 * 0.5**10
    True
    """

    name = "constant"

    def score(self, pair: Pair) -> Score:
        rows = pair.bins.n_numeric
        reference, current = pair.reference.counts[:, BELOW:], pair.current.counts[:, BELOW:]
        stuck = current.max(axis=1, initial=0) == pair.m
        varied = reference.max(axis=1, initial=0) < pair.n
        stuck[:rows] &= _one_value(pair.current.sums, pair.m[:rows])
        varied[:rows] |= ~_one_value(pair.reference.sums, pair.n[:rows])
        stuck[rows:] &= current[rows:, [UNSEEN - BELOW, RARE - BELOW]].max(axis=1, initial=0) == 0
        found = stuck & varied
        p_value = np.ones(found.size)
        if found.any():
            shares = (reference + current)[found] / (pair.n + pair.m)[found, None]
            p_value[found] = np.minimum((shares ** pair.m[found, None]).sum(axis=1), 1.0)
        return masked_score(pair, found * 1.0, p_value, found * 1.0)


class RowCount(Detector):
    """Rows of the window against the reference's rows per window.

        statistic = current rows,    effect = ln(current rows per window / reference rows per window)

    Unit and range: rows, [0, inf); the effect is 0 for the usual traffic, ln 2 = 0.69 for twice of it.
    Needs: `Profile.n_windows`; a current profile that says nothing of windows is one.
    With no drift: traffic is no sample of anything, so p is NaN.
    Empty or degenerate: NaN without reference rows. Without current rows, or when the reference was not counted in
        windows, the effect alone is NaN.

    >>> pair = Pair.of_words({"plan": {"free": 8}}, {"plan": {"free": 16}})
    >>> print(f"{RowCount().score(pair).effect[0]:.4f} {np.log(2):.4f}")
    0.6931 0.6931
    """

    name = "row_count"

    def score(self, pair: Pair) -> Score:
        n, m = _all_rows(pair)
        usual = n / (pair.reference.n_windows or np.nan)
        current = m / max(pair.current.n_windows, 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            effect = np.where(current > 0, np.log(current / usual), np.nan)
        effect[np.isinf(effect)] = np.nan
        statistic = np.where(n > 0, m.astype(np.float64), np.nan)
        return Score(statistic, np.full(n.shape, np.nan), effect, n, m)


def _rate(b: Counts, m: Counts, usual: Floats, p_value: Floats, n: Counts) -> Score:
    """The Score of a share of all rows."""
    statistic = np.where(np.isnan(usual), np.nan, _quotient(b, m))
    unknown = np.isnan(statistic)
    p_value = np.where(unknown, np.nan, p_value)
    return Score(statistic, p_value, statistic - usual, n, m)


def _all_rows(pair: Pair) -> tuple[Counts, Counts]:
    """Rows of each side, with a value or without, shape (columns,)."""
    return pair.reference.n_all, pair.current.n_all


def _quotient(part: Counts | Floats, whole: Counts) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, np.nan)


def _one_value(sums: Counts, rows: Counts) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Whether all rows have one fixed-point value; rows at its limit may differ."""
    mean = sums[:, SUM] // np.maximum(rows, 1)
    same = (mean * rows == sums[:, SUM]) & (mean * sums[:, SUM] == sums[:, SQUARES])
    return np.asarray(same & (np.abs(mean) < Q_LIMIT) & (sums[:, INFINITE] == 0))
