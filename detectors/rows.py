"""The two-sample statistics of numeric columns on the rows themselves, as SciPy defines them, for one-off comparisons.

Both samples come sorted, and what several statistics need is worked out once per column. The daemon never comes here:
it compares profiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors import limit
from detectors.bins import Q_LIMIT
from detectors.cells import Floats
from detectors.ladder import Ladder, anderson_darling, cramer_von_mises, several

EXACT_ROWS: Final = 1000
"""Kolmogorov-Smirnov p-values are exact up to so many rows on both sides together. Beyond, the corrected limiting law
is within three percent of the exact p-value."""
_STRIDE: Final = 16

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class RowScore:
    """One statistic of one column on rows; NaN where it cannot be computed, with the reason.

    statistic, p_value, effect: as the detector of the same name has them; p_value is NaN where no law is known.
    n_reference, n_current: rows with a number, infinities among them.
    """

    statistic: float
    p_value: float
    effect: float
    n_reference: int
    n_current: int
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class SortedPair:
    """Two ascending samples without NaN, neither empty, with what several statistics need computed once."""

    reference: Floats
    current: Floats

    @property
    def n(self) -> int:
        return self.reference.size

    @property
    def m(self) -> int:
        return self.current.size

    @property
    def sizes(self) -> tuple[Floats, Floats]:
        """Both numbers of rows as float arrays without axes."""
        return np.array(self.n, np.float64), np.array(self.m, np.float64)

    @cached_property
    def gaps(self) -> tuple[float, float]:
        """The largest of F - G and of G - F over all values, F reference and G current.

        Where the smaller sample jumps is where they can be: the one just before a jump, the other just at it. Within a
        run of equal values the first and the last jump are the extreme ones, so ties need no care. Every 16th jump is
        tried first; what lies between two of them is tried only if it can be more than the most found.
        """
        swapped = self.m > self.n
        few, many = (self.reference, self.current) if swapped else (self.current, self.reference)
        tried = np.arange(0, few.size, _STRIDE)
        below, upto = _before(few[tried], many)
        ahead = float((below / many.size - tried / few.size).max())
        behind = float(((tried + 1) / few.size - upto / many.size).max())
        most_ahead = np.append(below[1:], many.size) / many.size - tried / few.size
        most_behind = np.append(tried[1:], few.size) / few.size - below / many.size
        between = tried[(most_ahead > ahead) | (most_behind > behind), None] + np.arange(1, _STRIDE)
        between = between[between < few.size]
        below, upto = _before(few[between], many)
        ahead = float((below / many.size - between / few.size).max(initial=max(ahead, 0.0)))
        behind = float(((between + 1) / few.size - upto / many.size).max(initial=max(behind, 0.0)))
        return (behind, ahead) if swapped else (ahead, behind)

    @cached_property
    def merged(self) -> tuple[Floats, Floats, Floats]:
        """Distinct values of both samples, ascending, and how many rows of each side are at or below each."""
        pooled = np.concatenate((self.reference, self.current))
        order = np.argsort(pooled, kind="stable")  # finds the two ascending runs and merges them
        values = pooled[order]
        across = np.cumsum(order >= self.n, dtype=np.int32)  # 64 bits take ten times as long
        upto = np.arange(1.0, values.size + 1)
        changes = values[1:] != values[:-1]
        if not changes.all():
            last = np.append(changes, True).nonzero()
            values, across, upto = values[last], across[last], upto[last]
        return values, upto - across, across.astype(np.float64)

    @cached_property
    def lead(self) -> Floats:
        """n m (F - G) at each distinct value: whole numbers."""
        _, before, across = self.merged
        lead: Floats = before * np.float64(self.m)
        lead -= across * np.float64(self.n)
        return lead

    @property
    def tied(self) -> bool:
        """Whether two rows have the same value."""
        return self.merged[0].size < self.n + self.m

    @cached_property
    def ladder(self) -> Ladder:
        _, before, across = self.merged
        p, q = np.diff(before, prepend=0.0), np.diff(across, prepend=0.0)
        return Ladder.of((p, q), (before - p / 2, across - q / 2), *self.sizes)

    @cached_property
    def finite(self) -> bool:
        ends = (self.reference[0], self.reference[-1], self.current[0], self.current[-1])
        return bool(np.isfinite(ends).all())

    @cached_property
    def deviation(self) -> float:
        """The reference's standard deviation, values beyond 128 robust deviations of the median counted as there."""
        x = self.reference[np.searchsorted(self.reference, -np.inf, "right") : np.searchsorted(self.reference, np.inf)]
        if x.size == 0 or x[0] == x[-1]:
            return 0.0
        low, centre, high = x[-(-np.array([1, 2, 3]) * x.size // 4) - 1]
        with np.errstate(over="ignore", invalid="ignore"):
            reach = Q_LIMIT / 1024 * (high - low) / 1.349
            if reach > 0 and (x[0] < centre - reach or x[-1] > centre + reach):
                x = np.clip(x, centre - reach, centre + reach)
            x = x - x.mean()
            return float(np.sqrt(_dot(x, x) / x.size))


def score_rows(reference_sorted: Floats, current_sorted: Floats, names: Iterable[str]) -> dict[str, RowScore]:
    """Score one column. Both arrays ascending, float64, without NaN. ValueError for a name that is not in KERNELS.

    >>> scores = score_rows(np.array([1.0, 2.0, 3.0]), np.array([3.0, 4.0, 5.0]), ["ks", "wasserstein"])
    >>> round(scores["ks"].statistic, 4), scores["wasserstein"].statistic
    (0.6667, 2.0)
    """
    names = list(names)
    if unknown := set(names) - set(KERNELS):
        raise ValueError(f"no statistic on rows named {', '.join(sorted(unknown))}; there are {', '.join(KERNELS)}")
    n, m = reference_sorted.size, current_sorted.size
    if n == 0 or m == 0:
        side = (
            "the reference holds no value of this column" if n == 0 else "no value of this column in the current rows"
        )
        return {name: RowScore(np.nan, np.nan, np.nan, n, m, side) for name in names}
    pair = SortedPair(reference_sorted, current_sorted)
    return {name: _row_score(KERNELS[name](pair), pair) for name in names}


def _row_score(found: tuple[float, float, float], pair: SortedPair) -> RowScore:
    statistic, p_value, effect = (float(value) for value in found)
    reason = "not defined for this column" if np.isnan(statistic) else None
    return RowScore(statistic, p_value, effect, pair.n, pair.m, reason)


def _kolmogorov_smirnov(pair: SortedPair) -> tuple[float, float, float]:
    n, m = pair.n, pair.m
    distance = max(pair.gaps)
    if n + m <= EXACT_ROWS:
        return distance, _reaching(n, m, round(distance * n * m)), distance
    return distance, float(limit.kolmogorov(np.array(distance), *pair.sizes)), distance


def _kuiper(pair: SortedPair) -> tuple[float, float, float]:
    distance = min(sum(pair.gaps), 1.0)
    rows = np.array(pair.n * pair.m / (pair.n + pair.m))
    return distance, float(limit.kuiper(np.array(distance), rows)), distance


def _cramer_von_mises(pair: SortedPair) -> tuple[float, float, float]:
    """With midranks for ties, as SciPy has them; the p-value is of the mean over all orders of tied rows instead.

    With midranks, T would grow with the rows without any drift (see `detectors.ecdf.CramerVonMises`).
    """
    n, m = pair.sizes
    if not pair.tied:  # T is then the sum of (F - G)^2 over all rows: Anderson's first form
        statistic = np.asarray(_dot(pair.lead, pair.lead) / (n * m * (n + m) ** 2))
        distance = np.sqrt((3 * statistic * (n + m) - 0.5) / (n * m))
        return float(statistic), float(limit.cramer_von_mises(statistic)), float(distance)
    _, before, across = pair.merged
    p, q = pair.ladder.rows
    u = n * (p * (np.square(across - q / 2) + (p * p - 1) / 12)).sum()
    u += m * (q * (np.square(before - p / 2) + (q * q - 1) / 12)).sum()
    statistic = u / (n * m * (n + m)) - (4 * n * m - 1) / (6 * (n + m))
    p_value = limit.cramer_von_mises(cramer_von_mises(pair.ladder)) if p.size > 1 else 1.0
    return float(statistic), float(p_value), float(pair.ladder.distance)


def _anderson_darling(pair: SortedPair) -> tuple[float, float, float]:
    n, m = pair.sizes
    if pair.tied:
        (a2, concentration), commonest = anderson_darling(pair.ladder), pair.ladder.commonest
    else:
        a2, concentration, commonest = np.asarray(_anderson_darling_untied(pair)), np.zeros(()), 1 / (n + m)
    statistic = (a2 - 1) / limit.anderson_darling_deviation(n, m)
    p_value = limit.anderson_darling(statistic, concentration) if several(n, m, commonest) else np.nan
    return float(statistic), float(p_value), float(np.sqrt(a2 / n + a2 / m) + 0 * statistic)


def _anderson_darling_untied(pair: SortedPair) -> float:
    """A2 at midranks, as `ladder.anderson_darling` has it."""
    size = pair.n + pair.m
    below = np.arange(1.0, 2 * size, 2)  # midranks, doubled, as the sums of two leads are
    terms = pair.lead.copy()
    terms[1:] += pair.lead[:-1]
    terms *= terms
    terms /= below * (2 * size - below) - size
    return (size - 1) / (size * pair.n * pair.m) * float(terms.sum())


def _wasserstein(pair: SortedPair) -> tuple[float, float, float]:
    # The integral of |F - G| is also that of the distance between equal quantiles, whose steps n and m alone decide.
    left, right, weight = _coupling(pair.n, pair.m)
    x, y = pair.reference[left], pair.current[right]
    with np.errstate(over="ignore", invalid="ignore"):
        distances = np.subtract(x, y, out=x if pair.finite else None)
        np.abs(distances, out=distances)
        if not pair.finite:
            distances[pair.reference[left] == y] = 0.0
        return _over(_dot(distances, weight), pair.deviation)


def _energy(pair: SortedPair) -> tuple[float, float, float]:
    gap = pair.lead[:-1] / (pair.n * pair.m)
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.diff(pair.merged[0])
        if not np.isfinite(steps.max(initial=0.0)):
            steps[gap == 0] = 0.0
        gap *= gap
        return _over((2 * _dot(gap, steps)) ** 0.5, pair.deviation**0.5)


KERNELS: Final[dict[str, Callable[[SortedPair], tuple[float, float, float]]]] = {
    "ks": _kolmogorov_smirnov,
    "kuiper": _kuiper,
    "cvm": _cramer_von_mises,
    "ad": _anderson_darling,
    "wasserstein": _wasserstein,
    "energy": _energy,
}
"""Each gives (statistic, p-value, effect) of one column."""


def _before(values: Floats, many: Floats) -> tuple[Indices, Indices]:
    """How many of the many are below each value, and how many are not above it."""
    below = np.searchsorted(many, values)
    tied = bool((many[np.minimum(below, many.size - 1)] == values).any())
    return below, np.searchsorted(many, values, "right") if tied else below


def _dot(left: Floats, right: Floats) -> float:
    """Sum of products on one thread: BLAS would take all cores, and their time, for less than a microsecond of work."""
    return float(np.einsum("i,i", left, right))


def _over(distance: float, scale: float) -> tuple[float, float, float]:
    if distance == 0:
        return 0.0, np.nan, 0.0
    return distance, np.nan, distance / scale if 0 < scale < np.inf and distance < np.inf else np.nan


@lru_cache(maxsize=4)
def _coupling(n: int, m: int) -> tuple[Indices, Indices, Floats]:
    """Quantile steps of samples of n and m rows: the row of each that holds the step, and the step's length."""
    ends = np.concatenate((np.arange(1, n + 1) * m, np.arange(1, m + 1) * n))  # of steps, in units of 1 / (n m)
    ends.sort(kind="stable")  # two ascending runs, merged
    ends = ends[np.append(ends[1:] != ends[:-1], True)]
    steps = np.diff(ends, prepend=0)
    starts = ends - steps
    return starts // m, starts // n, steps / (n * m)


def _reaching(n: int, m: int, height: int) -> float:
    """Chance that a random order of n and m rows has |i m - j n| >= height once i of the n and j of the m are drawn.

    A walk over (i, j), all walks of one length at a time; what reaches the height is counted and taken out, so that a
    small chance keeps its figures.
    """
    if height <= 0:
        return 1.0
    few, many = min(n, m), max(n, m)
    i = np.arange(few + 1)
    inside = np.zeros(few + 1)
    inside[0] = 1.0
    reached = 0.0
    for drawn in range(few + many):
        step = inside * ((few - i) / (few + many - drawn))
        inside -= step
        inside[1:] += step[:-1]
        out = np.abs(i * many - (drawn + 1 - i) * few) >= height
        reached += float(inside[out].sum())
        inside[out] = 0.0
    return min(reached, 1.0)
