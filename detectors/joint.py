"""What columns have to do with each other beyond correlations: whole sums of products of functions of two and three.

Every column has a few functions of its value, of mean 0 and variance 1 over the reference: of a number cos(pi j u) of
its rank u, of a word a random sign. A joint score is the product of such functions of two or three columns; over rows
whose columns are independent its mean is 0. These are random features of the kernel

    k(x, y) = sum over pairs and triples of columns of the product of k_c(x_c, y_c),

with each k_c (of words: whether they are equal; of ranks: the sum of w_j cos(pi j u) cos(pi j v)) less what its column
says alone. So the squared shifts of all such features add up to the squared maximum mean discrepancy of that kernel,
and a change that single columns show moves them little. What is kept of a set of rows is the sum of every score: whole
numbers, that add exactly in any order.

Rahimi and Recht (2007), Random features for large-scale kernel machines, NIPS 20; Gretton et al. (2012), A kernel
two-sample test, J. Mach. Learn. Res. 13; Sejdinovic, Gretton and Bergsma (2013), A kernel test for three-variable
interactions, NIPS 26.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations, zip_longest
from math import comb
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from detectors.cells import Cells, Counts, Floats, Places

JOINT_NAME: Final = "joint distribution"
"""What people call all joint scores."""
N_SCORES: Final = 128
UNIT: Final = 32
"""One standard deviation of a function, as a whole number."""
MOST: Final = 127
FREQUENCIES: Final = np.array([0.7, 0.2, 0.1])
"""How often a function of a column is its first, second and third."""
N_DRAWN: Final = 2048
MOST_LISTED: Final = 5000
"""Scores that the choice looks at: so many random ones, and all of first functions, no more than so many of each size.
Three of 32 columns are fewer."""
ROWS: Final = 20_000
"""Rows that the choice looks at."""
SURE: Final = 6.0
"""Standard errors by which a score's mean must differ from 0 to count for the choice."""
LEAST_PART: Final = 0.05
"""Of a word column's rows, that the rarer sign must hold."""
LEAST_VARIANCE: Final = 0.01
_BLOCK: Final = 1024
_TRIES: Final = 20

Tables = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Joint:
    """Which joint scores are watched.

    columns: of each function, shape (functions,). tables: its values by cell, int8, shape (functions, 256). scores: the
    functions that each score multiplies, shape (scores, 3), the last -1 where there are but two. variance: of one row's
    score in the reference, shape (scores,).
    """

    columns: tuple[int, ...]
    tables: Tables
    scores: Places
    variance: Floats

    @classmethod
    def none(cls) -> Self:
        """None is watched."""
        return cls((), np.zeros((0, 256), np.int8), np.zeros((0, 3), np.intp), np.zeros(0))

    @property
    def n_scores(self) -> int:
        return len(self.scores)

    def members(self, score: int) -> tuple[int, ...]:
        """Rows of the columns of one score, ascending."""
        return tuple(sorted(self.columns[function] for function in self.scores[score].tolist() if function >= 0))

    def sums(self, cells: Cells) -> Counts:
        """Sums over rows, shape (scores,). cells: of all columns, shape (columns, rows)."""
        found = np.zeros(self.n_scores, np.int64)
        for products in self._products(cells):
            found += products.sum(axis=1, dtype=np.int64)
        return found

    def moments(self, cells: Cells) -> tuple[Floats, Floats]:
        """Mean and variance of every score over rows, each of shape (scores,)."""
        total, squares = np.zeros((2, self.n_scores))
        for products in self._products(cells):
            total += products.sum(axis=1, dtype=np.int64)
            squares += np.square(products, dtype=np.float64).sum(axis=1)
        mean = total / max(cells.shape[1], 1)
        return mean, squares / max(cells.shape[1], 1) - mean**2

    def only(self, chosen: Sequence[int], variance: Floats) -> Self:
        """Some of the scores, and the functions that they need."""
        kept = self.scores[list(chosen)]
        used = np.unique(kept[kept >= 0])
        place = np.full(len(self.columns) + 1, -1)  # the last stands for none
        place[used] = np.arange(used.size)
        columns = tuple(self.columns[function] for function in used.tolist())
        return type(self)(columns, self.tables[used], place[kept], variance)

    def to_json(self) -> dict[str, Any]:
        """Of equal scores equal documents."""
        tables = base64.b64encode(self.tables.tobytes()).decode()
        return {
            "columns": self.columns, "tables": tables, "scores": self.scores.tolist(),
            "variance": self.variance.tolist(),
        }  # fmt: skip

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        tables = np.frombuffer(base64.b64decode(document["tables"]), np.int8).reshape(-1, 256)
        scores = np.array(document["scores"], np.intp).reshape(-1, 3)
        return cls(tuple(document["columns"]), tables, scores, np.array(document["variance"], np.float64))

    def _products(self, cells: Cells) -> Iterator[NDArray[np.int32]]:
        """The scores of rows, some rows at a time, shape (scores, rows)."""
        first, second, third = self.scores.T
        for at in range(0, cells.shape[1] if self.n_scores else 0, _BLOCK):
            some = cells[:, at : at + _BLOCK]
            values = np.ones((len(self.columns) + 1, some.shape[1]), np.int32)
            for table, column, into in zip(self.tables, self.columns, values[:-1], strict=True):
                into[:] = table.take(some[column])
            products = values[first]
            products *= values[second]
            products *= values[third]
            yield products


def choose(shares: Sequence[Floats], n_numeric: int, cells: Cells, first: int) -> Joint:
    """The scores to be watched, half of two columns, half of three.

    Those come first that the reference's rows show to be surely not 0, at most half: what belongs together can come
    apart. The others are random, and stand for all that may begin to.

    shares: of each column's rows in its cells from `first` on, which lies outside of the reference; empty for a column
    that takes no part; the first `n_numeric` columns are of numbers. cells: of the reference's rows, shape (columns,
    rows). Equal rows give equal scores.
    """
    rng = np.random.default_rng(0)
    columns, tables = functions(shares, n_numeric, first, rng)
    by_column: dict[int, list[int]] = {}
    for function, column in enumerate(columns):
        by_column.setdefault(column, []).append(function)
    if len(by_column) < 2:
        return Joint.none()
    listed = rng.permutation(np.array(list(_listed(by_column, rng)), np.intp))
    drawn = np.array([_drawn(by_column, rng) for _ in range(N_DRAWN)], np.intp)
    in_turn = chain.from_iterable(zip_longest(listed.tolist(), drawn.tolist()))
    scores = np.array(list(dict.fromkeys(tuple(each) for each in in_turn if each)), np.intp)
    every = Joint(columns, tables, scores, np.zeros(len(scores)))
    n_rows = min(cells.shape[1], ROWS)
    some = cells[:, np.arange(n_rows) * cells.shape[1] // n_rows]
    parts = (replace(every, scores=scores[at : at + _BLOCK]) for at in range(0, len(scores), _BLOCK))
    mean, variance = np.concatenate([part.moments(some) for part in parts], axis=1)
    whole = np.where(every.scores[:, 2] < 0, UNIT**4, UNIT**6)
    able = variance > LEAST_VARIANCE * whole
    strength = np.where(able, np.abs(mean) * np.sqrt(n_rows / np.maximum(variance, 1)), 0.0).round(3)
    chosen: list[int] = []
    for of_two in (True, False):
        mine = np.flatnonzero(able & ((every.scores[:, 2] < 0) == of_two))
        sure = mine[np.argsort(-strength[mine], kind="stable")][: N_SCORES // 4]
        chosen += list(dict.fromkeys([*sure[strength[sure] > SURE].tolist(), *mine.tolist()]))[: N_SCORES // 2]
    return every.only(chosen, variance[chosen].round(4))


def functions(
    shares: Sequence[Floats], n_numeric: int, first: int, rng: np.random.Generator
) -> tuple[tuple[int, ...], Tables]:
    """Functions of single columns, up to three of each: the column of each, and its values by cell; see `choose`."""
    columns: list[int] = []
    tables: list[Tables] = []
    for column, share in enumerate(shares):
        numeric = column < n_numeric
        for function in waves(share) if numeric else _signs(share, rng):
            table = np.zeros(256, np.int8)
            table[first : first + share.size] = function
            table[first] *= numeric  # a word that the reference never held is in the middle
            columns.append(column)
            tables.append(table)
    return tuple(columns), np.array(tables, np.int8).reshape(-1, 256)


def _listed(by_column: Mapping[int, list[int]], rng: np.random.Generator) -> Iterator[tuple[int, int, int]]:
    """The products of columns' first functions, all or some."""
    first = [functions[0] for functions in by_column.values()]
    for size in (2, 3):
        few = comb(len(first), size) <= MOST_LISTED
        drawn = (sorted(rng.choice(first, size, replace=False).tolist()) for _ in range(MOST_LISTED))
        for one in combinations(first, size) if few else drawn:
            yield one[0], one[1], one[2] if size > 2 else -1


def _drawn(by_column: Mapping[int, list[int]], rng: np.random.Generator) -> tuple[int, int, int]:
    """Functions of two or three different columns."""
    size = min(int(rng.integers(2, 4)), len(by_column))
    own = rng.choice(np.array(list(by_column)), size, replace=False)
    found = sorted(by_column[c][int(rng.choice(3, p=FREQUENCIES)) % len(by_column[c])] for c in own.tolist())
    return found[0], found[1], found[2] if size > 2 else -1


def waves(share: Floats) -> Iterator[Tables]:
    """Cosines of the rank; what lies outside the reference's range has the value of its end."""
    used = np.flatnonzero(share)
    if used.size < 2:
        return
    rank = np.cumsum(share) - share / 2
    rank = np.clip(rank, rank[used[0]], rank[used[-1]])
    for j in range(1, min(FREQUENCIES.size, used.size - 1) + 1):
        yield from _whole(np.cos(np.pi * j * rank), share)


def _signs(share: Floats, rng: np.random.Generator) -> Iterator[Tables]:
    """The most frequent word against all others, then random signs; different ones as far as there are."""
    before: list[bytes] = []
    most = int(share.argmax()) if share.size else 0
    for attempt in range(_TRIES):
        sign = rng.choice([-1.0, 1.0], share.size) if attempt else np.full(share.size, -1.0)
        sign[most : most + 1] = 1.0
        part = share[sign < 0].sum()
        key = sign[share > 0].tobytes()
        if min(part, share.sum() - part) >= LEAST_PART and key not in before:
            before.append(key)
            yield from _whole(sign, share)
        if len(before) == FREQUENCIES.size:
            return


def _whole(function: Floats, share: Floats) -> Iterator[Tables]:
    """Of mean 0 and variance 1 over the reference, in whole numbers."""
    centred = function - share @ function
    deviation = float(np.sqrt(share @ centred**2))
    if deviation > 1e-6:
        yield np.clip(np.rint(centred / deviation * UNIT), -MOST, MOST).astype(np.int8)
