"""Two rows, reference and current, and a column for each group: the table that tests and distances of shares read.

For words the groups are the vocabulary, the reference's rare words and unseen words; for numbers the decile groups of
the reference. There is one table per kind of column, for all columns of it at once, and what several detectors need of
it is worked out once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from scipy import special

from detectors.binomial import two_sided_p
from detectors.cells import BELOW, RARE, UNSEEN, Bools, Counts, Floats
from detectors.detector import Pair

MIN_EXPECTED: Final = 5.0
"""Rows to expect in every cell of a table before chi-square is its law: Cochran's rule."""
_TINY: Final = np.finfo(np.float64).tiny


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of both sides in each group, float64, shape (columns, groups); groups empty on both sides do not count.

    deciles: whether the groups are deciles that the reference's rows were cut into; else they are words.
    """

    reference: Floats
    current: Floats
    deciles: bool

    @cached_property
    def n(self) -> Floats:
        """Reference rows, at least 1, shape (columns, 1)."""
        return np.asarray(np.maximum(self.reference.sum(axis=1, keepdims=True), 1.0))

    @cached_property
    def m(self) -> Floats:
        """Current rows, at least 1, shape (columns, 1)."""
        return np.asarray(np.maximum(self.current.sum(axis=1, keepdims=True), 1.0))

    @cached_property
    def total(self) -> Floats:
        return self.reference + self.current

    @cached_property
    def occupied(self) -> Bools:
        return self.total > 0

    @cached_property
    def n_groups(self) -> Counts:
        """Occupied groups, shape (columns,)."""
        return np.asarray(self.occupied.sum(axis=1))

    @cached_property
    def shares(self) -> tuple[Floats, Floats]:
        """Share of each side's rows in each group."""
        return self.reference / self.n, self.current / self.m

    @cached_property
    def chi2(self) -> Floats:
        """Pearson's chi-square, shape (columns,)."""
        p, q = self.shares
        difference = p - q
        return np.asarray((self.n * self.m)[:, 0] * (difference * difference / np.maximum(self.total, 1)).sum(axis=1))

    @cached_property
    def likelihood_ratio(self) -> Floats:
        """G, shape (columns,)."""
        scale = (self.n + self.m) / np.maximum(self.total, 1)
        terms = [
            side * np.log(np.maximum(share * scale, _TINY))
            for side, share in zip(self._sides, self.shares, strict=True)
        ]
        return np.asarray(np.maximum(2 * (terms[0] + terms[1]).sum(axis=1), 0.0))

    @cached_property
    def williams(self) -> Floats:
        """By how much the mean of the likelihood ratio exceeds that of its limit, shape (columns,)."""
        size = (self.n + self.m)[:, 0]
        sides = size / self.n[:, 0] + size / self.m[:, 0] - 1
        groups = size * (self.occupied / np.maximum(self.total, 1)).sum(axis=1) - 1
        return np.asarray(1 + sides * groups / (6 * size * np.maximum(self.n_groups - 1, 1)))

    @cached_property
    def lawful(self) -> Bools:
        """Whether chi-square is the law of the whole table, shape (columns,): enough rows, and all words counted."""
        lawful = ((self.total * self._less >= MIN_EXPECTED) | ~self.occupied).all(axis=1) | (self.n_groups == 1)
        return np.asarray(lawful if self.deciles else lawful & ~self.occupied[:, RARE - BELOW])

    def p_value(self, statistic: Floats) -> Floats:
        """Chance of a statistic as large, if chi-square is its law; 1 for a single group.

        Deciles are cut from the reference, so their true shares scatter about a tenth. Where the current rows are the
        more, that raises the mean by a share of k/n (m - n)/(m + n), and the upper tail by about twice of it.
        """
        if self.deciles:
            n, m = self.n[:, 0], self.m[:, 0]
            statistic = statistic / (1 + 2 * self.n_groups / n * (np.maximum(m - n, 0) / (n + m)))
        return np.where(self.n_groups > 1, special.chdtrc(np.maximum(self.n_groups - 1, 1), statistic), 1.0)

    @cached_property
    def p_chi2(self) -> Floats:
        return self.p_value(self.chi2)

    @cached_property
    def pooled(self) -> Table:
        """The same rows in fewer groups: deciles merged, or small words gathered at the end; see `PooledChi2`."""
        return self._merged() if self.deciles else self._gathered()

    @cached_property
    def p_pooled(self) -> Floats:
        """The p-value of `pooled`: of chi-square, and where the gathered words are few, their exact one beside it."""
        pooled = self.pooled
        few = pooled.occupied[:, -1] & (pooled.total[:, -1] * self._less[:, 0] < MIN_EXPECTED)
        if self.deciles or not few.any():
            return pooled.p_chi2
        kept = Table(pooled.reference[few, :-1], pooled.current[few, :-1], self.deciles)
        gathered = pooled.reference[few, -1], pooled.current[few, -1]
        tests = np.stack((kept.p_value(kept.chi2), two_sided_p(*gathered, self.n[few, 0], self.m[few, 0])))
        done = np.stack((kept.n_groups > 1, kept.n_groups > 0))
        p_value = pooled.p_chi2.copy()
        p_value[few] = np.minimum(np.where(done, tests, 1.0).min(axis=0) * done.sum(axis=0), 1.0)
        return p_value

    @property
    def _less(self) -> Floats:
        """The smaller side's share of all rows, shape (columns, 1)."""
        return np.asarray(np.minimum(self.n, self.m) / (self.n + self.m))

    @property
    def _sides(self) -> tuple[Floats, Floats]:
        return self.reference, self.current

    def _merged(self) -> Table:
        """Neighbours are merged until the reference has enough rows in each."""
        n, m = self.n[:, 0], self.m[:, 0]
        wanted = MIN_EXPECTED * np.maximum(n / m, 2 * m / (n + m))
        if ((self.reference >= wanted[:, None]) | ~self.occupied).all():
            return self
        running = np.stack(self._sides).cumsum(axis=2)
        closed, border = np.zeros(len(n)), np.zeros(self.reference.shape, np.bool_)
        for group, upto in enumerate(running[0, :, :-1].T):
            border[:, group] = (upto - closed >= wanted) & (n - upto >= wanted)
            closed = np.where(border[:, group], upto, closed)
        border[:, -1] = True
        merged = np.diff(np.maximum.accumulate(running * border, axis=2), axis=2, prepend=0)
        return Table(merged[0], merged[1], self.deciles)

    def _gathered(self) -> Table:
        """Small words and words outside the vocabulary are gathered in one more group at the end."""
        share = self.m / (self.n + self.m)
        # The most rows that the reference may have of a word outside, and what its true frequency may be, by 3 sigma.
        cut = np.where(self.occupied[:, RARE - BELOW], self.reference[:, RARE - BELOW - 1], 0)[:, None]
        reach = cut + 3 * np.sqrt(cut * share) + 9 * share
        large = self.total >= np.maximum(MIN_EXPECTED / self._less, reach / (1 - share))
        large[:, [UNSEEN - BELOW, RARE - BELOW]] = False
        sides = np.stack(self._sides)
        kept = sides * large
        rest = sides.sum(axis=2) - kept.sum(axis=2)
        gathered = np.concatenate((kept, rest[:, :, None]), axis=2)
        return Table(gathered[0], gathered[1], self.deciles)


def tables(pair: Pair) -> tuple[Table, Table]:
    """The tables of the numeric and of the categorical columns; ask for them by `pair.once`."""
    numeric, words = pair.groups
    return Table(*numeric, deciles=True), Table(*words, deciles=False)


def per_column(pair: Pair, statistic: Callable[[Table], Floats]) -> Floats:
    """A number of every table, shape (columns,)."""
    return np.concatenate([statistic(table) for table in pair.once(tables)])
