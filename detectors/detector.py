"""The contract of every detector: two profiles in, one number per column out, all columns in one call.

A detector is one class. Defining it with a `name` registers it; importing its file is all that is needed, and the
contract tests, the rules of the configuration and `driftd compare` find it in REGISTRY.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import numpy as np

from detectors.bins import Bins
from detectors.cells import N_CELLS, Bools, Counts, Floats
from detectors.columns import Kind
from detectors.profile import INFINITE, N_SUMS, SQUARES, SUM, Profile, count_words

if TYPE_CHECKING:
    from detectors.law import Laws

ALL_KINDS: Final = frozenset(Kind)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """What a detector found, one entry per column, in the order of `bins.names`.

    statistic: the detector's own number; NaN where it cannot be computed.
    p_value: chance of a statistic at least this large without drift, in [0, 1]; NaN where no law is known.
    effect: the size of the change on the detector's common scale; NaN where it cannot be computed.
    n_reference, n_current: rows that took part.
    """

    statistic: Floats
    p_value: Floats
    effect: Floats
    n_reference: Counts
    n_current: Counts

    def reason(self, column: int) -> str | None:
        """Why the column's statistic is NaN; None where it is a number."""
        if not np.isnan(self.statistic[column]):
            return None
        if self.n_reference[column] == 0:
            return "the reference holds no value of this column"
        if self.n_current[column] == 0:
            return "no value of this column in the current rows"
        return "not defined for this column"


@dataclass(frozen=True, eq=False)
class Pair:
    """Reference and current profile side by side, with what several detectors need computed once.

    All arrays are float64 unless said; `n` is the reference's side, `m` the current one.
    laws: those that had to be drawn from the reference; without them some p-values are NaN.
    """

    reference: Profile
    current: Profile
    laws: Laws | None = None
    _known: dict[Callable[[Pair], Any], Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.reference.bins is not self.current.bins and self.reference.bins.id != self.current.bins.id:
            raise ValueError("reference and current profile lie on different cells; count both on the reference's bins")

    @classmethod
    def of_numbers(cls, reference: Mapping[str, Floats], current: Mapping[str, Floats]) -> Pair:
        """Both profiles of numeric columns from their values, on cells fixed by the reference."""
        bins = Bins.of(reference, {})
        words = np.empty((0, 0), np.uint8)

        def profile(side: Mapping[str, Floats]) -> Profile:
            numbers = np.array([side[name] for name in bins.names], np.float64)
            return Profile.of(bins, numbers, bins.cells(numbers, words), n_windows=1)

        return cls(profile(reference), profile(current))

    @classmethod
    def of_words(cls, reference: Mapping[str, Mapping[str, int]], current: Mapping[str, Mapping[str, int]]) -> Pair:
        """Both profiles of categorical columns from each word's frequency, on the reference's vocabulary."""
        bins = Bins.of({}, reference)
        sums = np.zeros((0, N_SUMS), np.int64)

        def profile(words: Mapping[str, Mapping[str, int]]) -> Profile:
            counts = np.array([count_words(column, words[column.name]) for column in bins.categorical])
            return Profile(bins, counts.reshape(-1, N_CELLS), sums, n_windows=1)

        return cls(profile(reference), profile(current))

    def only(self, row: int) -> Pair:
        """The same two samples, of one column alone; row is its place in `bins.names`."""
        numeric = self.bins.numeric[row : row + 1]
        at = row - self.bins.n_numeric
        bins = Bins(numeric, () if numeric else self.bins.categorical[at : at + 1])
        sides = (self.reference, self.current)
        sums = slice(row, row + 1)  # empty for a categorical column
        reference, current = (
            Profile(bins, side.counts[row : row + 1], side.sums[sums], side.n_windows) for side in sides
        )
        return Pair(reference, current, self.laws and self.laws.only(row))

    def once(self, function: Callable[[Pair], T]) -> T:
        """`function(self)`, worked out at the first call: what detectors share, whichever of them is asked first."""
        if function not in self._known:
            self._known[function] = function(self)
        found: T = self._known[function]
        return found

    @property
    def bins(self) -> Bins:
        return self.reference.bins

    @cached_property
    def n(self) -> Counts:
        """Reference rows with a valid value, shape (columns,)."""
        return self.reference.n_valid

    @cached_property
    def m(self) -> Counts:
        """Current rows with a valid value, shape (columns,)."""
        return self.current.n_valid

    @cached_property
    def empty(self) -> Bools:
        """Whether a side has no valid row, shape (columns,)."""
        return np.asarray((self.n == 0) | (self.m == 0))

    @cached_property
    def cdf(self) -> tuple[Floats, Floats]:
        """Both cumulative shares of the numeric columns at the upper border of BELOW, each regular cell and ABOVE.

        Each of shape (numeric columns, 254); rows of NaN where a side is empty.
        """
        reference, current = self.reference.running, self.current.running
        with np.errstate(invalid="ignore"):
            return reference / reference[:, -1:], current / current[:, -1:]

    @cached_property
    def gap(self) -> Floats:
        """Reference's minus current's cumulative share, shape (numeric columns, 254); see `cdf`."""
        reference, current = self.cdf
        return reference - current

    @cached_property
    def moments(self) -> tuple[tuple[Floats, Floats, Floats], tuple[Floats, Floats, Floats]]:
        """Of each side, reference first: finite rows, mean and variance (divisor rows - 1), in fixed-point units.

        Each of shape (numeric columns,). Mean NaN without rows, variance NaN with fewer than two. Values further than
        128 robust standard deviations from the reference's median count as that far.
        """
        rows = self.bins.n_numeric
        return _moments(self.reference.sums, self.n[:rows]), _moments(self.current.sums, self.m[:rows])

    @cached_property
    def deviations(self) -> Floats:
        """The reference's standard deviation by `moments`, in the column's units: one outlier cannot inflate it."""
        n, _, variance = self.moments[0]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.bins.units * np.sqrt(variance * (n - 1) / n))

    @property
    def groups(self) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
        """Rows in the coarse groups of the divergences: (numeric, categorical), each (reference, current).

        Numeric: `Profile.deciles`. Categorical: `Profile.words`. Groups empty on both sides are zero.
        """
        reference, current = self.reference, self.current
        return (reference.deciles, current.deciles), (reference.words, current.words)


class Detector(ABC):
    """One way to compare a column's current rows with its reference rows.

    name: its key in the configuration, in `compare` and in every report.
    kinds: the kinds of column it is defined for; entries of other kinds are NaN.
    """

    name: ClassVar[str]
    kinds: ClassVar[frozenset[Kind]] = ALL_KINDS

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in cls.__dict__:
            REGISTRY[cls.name] = cls()

    @abstractmethod
    def score(self, pair: Pair) -> Score:
        """Score all columns. Never raises for data: what cannot be computed is NaN."""


class Drawn(Detector):
    """A detector of numeric columns whose law no formula gives: `detectors/law.py` draws it, from the reference."""

    @abstractmethod
    def distance(self, reference: Floats, current: Floats, places: Floats) -> Floats:
        """What the p-value is of, at least 0, shape (...); without drift it falls like the root of the rows.

        reference, current: shares of a column's groups, shape (..., groups). places: where these lie, ascending, in
        fixed point (`NumericColumn.unit`).
        """

    def drawn_p(self, pair: Pair) -> Floats:
        """The p-value by the drawn law, shape (numeric columns,); NaN where there is none."""
        if pair.laws is None:
            return np.full(pair.bins.n_numeric, np.nan)
        return pair.laws.p_value(self, pair.current)


REGISTRY: Final[dict[str, Detector]] = {}


def numeric_score(pair: Pair, statistic: Floats, p_value: Floats, effect: Floats) -> Score:
    """A Score from entries of the numeric columns only; categorical columns are NaN."""
    pad = np.full(pair.bins.n_columns - pair.bins.n_numeric, np.nan)
    return masked_score(pair, *(np.concatenate((values, pad)) for values in (statistic, p_value, effect)))


def masked_score(pair: Pair, statistic: Floats, p_value: Floats, effect: Floats) -> Score:
    """A Score whose entries are NaN where a side has no valid row."""
    if pair.empty.any():
        statistic, p_value, effect = (np.where(pair.empty, np.nan, values) for values in (statistic, p_value, effect))
    return Score(statistic, p_value, effect, pair.n, pair.m)


def _moments(sums: Counts, valid: Counts) -> tuple[Floats, Floats, Floats]:
    rows = (valid - sums[:, INFINITE]).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums[:, SUM] / rows
        variance = np.where(rows > 1, (sums[:, SQUARES] - sums[:, SUM] * mean) / (rows - 1), np.nan)
    return rows, mean, np.maximum(variance, 0.0)
