"""Null laws that no formula gives: drawn from the reference, once, for windows of any number of rows.

The reference's rows are given; where rows of the same source would fall between them is not. Of n rows in no special
order each gap is as likely as any other to take the next one, so the source's share of each group is a Dirichlet draw
of the group's rows, with one more for all that lies beyond either end; the window's rows are then multinomial. The
reference's own error is so part of the law. What lies outside the range counts as lying at its end, and nothing lies
further than four robust standard deviations from the median: otherwise the few largest rows of a column with a heavy
tail would be all that its distances tell of, and no reference knows where the next such row will lie.

A law is kept for a few numbers of rows: the distance without drift, times sqrt(n m / (n + m)), changes slowly with the
window's rows m. Its body is kept as quantiles. Its tail is that of the norm of a normal vector, to which all these
distances tend: the square of such a norm is a sum of squared normals of falling weights, its hazard tends to a constant
and is steepest before for a single weight. So beyond the last tenth ln p falls with the square of the distance, at the
rate of a single weight that has the drawn mean excess: never too fast in the limit, and for a single weight exact. For
windows of 200 rows a chance of 1e-4 comes out between a third of itself and five times itself, whatever the column.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from detectors.cells import FIRST, Counts, Floats, Places
from detectors.detector import REGISTRY, Drawn
from detectors.packed import pack, unpack
from detectors.profile import Profile

SIZES: Final = (30, 100, 1_000, 10_000, 1 << 30)
"""Rows of the windows that laws are drawn for. The last stands for any number beyond: it draws the source alone."""
_SURELY_MANY: Final = 1e7
"""Rows from which on a window counts as one of the last size."""
REACH: Final = 4 * 1024
"""Four robust standard deviations, in fixed point. Without this end a law from 50 reference rows rejects 0.2 of
lognormal columns' variances instead of 0.05."""
_DRAWS, _LEAST_DRAWS, _ALL_DRAWS = 1_000, 400, 100_000
_ALIKE: Final = 1.25
N_GROUPS: Final = 64
"""Neighbouring cells are gathered in so many groups at most, by their shares of the reference."""
_BODY: Final = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1])
_TAILS: Final = np.array([0.1, 0.02])
"""Chances of a larger distance at which the body is kept, and from which the tail may begin; the larger tail counts."""


def _rate(share: float) -> float:
    """By how much the hazard of one squared normal at the end is below the inverse of its mean excess at a quantile."""
    z = float(special.ndtri(1 - share / 2))
    density = float(np.exp(-z * z / 2) / np.sqrt(2 * np.pi))
    return (1 + 2 * z * density / share - z * z) / 2


_RATES: Final = np.array([_rate(float(share)) for share in _TAILS])


@dataclass(frozen=True, eq=False)
class Groups:
    """The cells of the numeric columns, gathered.

    last: of each group its last cell, counted from BELOW, shape (numeric columns, 64), int64. shares: of the
    reference's rows in each. places: where they lie, in fixed point, ascending. beyond: rows to expect outside of the
    range for n + 1 more, shape (columns, 2): one at either end, none where the reference's rows end in equal ones. n:
    reference rows, shape (columns,).
    """

    last: Counts
    shares: Floats
    places: Floats
    beyond: Floats
    n: Floats

    @classmethod
    def of(cls, reference: Profile) -> Self:
        """By the reference's shares: a group has at least a 64th of its rows, or one cell that has more."""
        n = reference.n_valid[: reference.bins.n_numeric].astype(np.float64)
        whole = np.maximum(n, 1)[:, None]
        at = np.minimum(reference.halfway / whole * N_GROUPS, N_GROUPS - 1).astype(np.int64)
        last = (at[:, :, None] <= np.arange(N_GROUPS)).sum(axis=1) - 1
        running = _taken(reference.running, last)
        moments = _taken((reference.numbers * _places(reference)).cumsum(axis=1), last)
        rows, sums = np.diff(running, axis=1, prepend=0), np.diff(moments, axis=1, prepend=0)
        places = np.maximum.accumulate(np.where(rows > 0, sums / np.maximum(rows, 1), -np.inf), axis=1)
        first = np.take_along_axis(places, np.isfinite(places).argmax(axis=1)[:, None], axis=1)
        places = np.where(np.isfinite(places), places, np.where(np.isfinite(first), first, 0.0))
        return cls(last, rows / whole, places, _beyond(reference), n)

    def read(self, current: Profile) -> tuple[Floats, Floats]:
        """The current rows' shares, as `shares`, and how many they are."""
        rows = np.diff(_taken(current.running, self.last), axis=1, prepend=0)
        m = rows.sum(axis=1)
        return rows / np.maximum(m, 1)[:, None], m

    def only(self, row: int) -> Groups:
        one = slice(row, row + 1)
        return Groups(self.last[one], self.shares[one], self.places[one], self.beyond[one], self.n[one])


@dataclass(frozen=True, eq=False)
class Laws:
    """The laws of one reference's numeric columns. All arrays float64, leading shape (detectors, columns, sizes).

    names: of the detectors, sizes: rows of the windows. body: distances that are exceeded with the chances 1, 0.9 ...
    0.1. tails: shape (..., 2, 2), where each tail begins and its mean excess in squares. steps: of a distance that
    takes few values.
    """

    groups: Groups
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    body: Floats
    tails: Floats
    steps: Floats

    @classmethod
    def of(
        cls, reference: Profile, names: Iterable[str] | None = None, sizes: tuple[int, ...] = SIZES, seed: int = 0,
        n_draws: int = 0, progress: Callable[[float], None] = lambda _: None,
    ) -> Self:  # fmt: skip
        """Draw them; equal arguments give equal laws, and a column's do not depend on its neighbours.

        names: of detectors, by default all whose law has to be drawn. n_draws: of each; by default 1000, and down to
        400 for more than 100 columns. progress: told the share that is done. A thousand draws take some 8 ms for each
        column and size.
        """
        groups, chosen = Groups.of(reference), _drawn_ones(REGISTRY if names is None else names)
        n_columns = groups.n.size
        draws = n_draws or int(np.clip(_ALL_DRAWS // max(n_columns, 1), _LEAST_DRAWS, _DRAWS))
        drawn = np.zeros((len(chosen), n_columns, len(sizes), draws))
        for row, column in enumerate(reference.bins.numeric):
            rng = np.random.default_rng((seed, zlib.crc32(column.name.encode())))
            drawn[:, row] = _drawn(groups.only(row), chosen, sizes, draws, rng)
            progress((row + 1) / n_columns)
        drawn.sort(axis=-1)
        ranks = np.rint((1 - _BODY) * draws).astype(np.intp)
        body = np.concatenate((np.zeros((*drawn.shape[:-1], 1)), drawn[..., ranks]), axis=-1)
        tails = [np.rint((1 - share) * draws).astype(np.intp) for share in _TAILS]
        begins = np.stack([drawn[..., at] for at in tails], axis=-1)
        excess = [np.square(drawn[..., at:]).mean(axis=-1) - np.square(drawn[..., at]) for at in tails]
        names = tuple(each.name for each in chosen)
        return cls(groups, names, sizes, body, np.stack((begins, np.stack(excess, -1)), axis=-1), _steps(drawn))

    def p_value(self, detector: Drawn, current: Profile) -> Floats:
        """Chance of a distance at least as large without drift, shape (numeric columns,).

        NaN where the law is not known: no such law was drawn, fewer rows than any is kept for, a reference of a single
        value.
        """
        if detector.name not in self.names:
            return np.full(self.groups.n.shape, np.nan)
        at, groups = self.names.index(detector.name), self.groups
        shares, m = groups.read(current)
        distance = detector.distance(groups.shares, shares, groups.places)
        lower, upper, weight = self._between(m)
        known = (m >= SIZES[0]) & (groups.n > 0)
        counted, below, above = (self._effective(rows) for rows in (m, self._rows[lower], self._rows[upper]))
        # Between two sizes the distance times that root keeps its law, unless it has come to its end: a window without
        # the few rows that make the variance is at 1, whatever its size. Such a distance keeps its own value, and what
        # ln p then does between the sizes goes with the rows that count. The larger chance is the honest one.
        scaled = distance * np.sqrt(counted)
        by_root = _mixed(weight, self._ln_p(at, lower, scaled), self._ln_p(at, upper, scaled))
        own = (self._ln_p(at, size, distance * np.sqrt(rows)) for size, rows in ((lower, below), (upper, above)))
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(above > below, (counted - below) / (above - below), 0.0)
        return np.where(known, np.exp(np.maximum(by_root, _mixed(np.clip(share, 0, 1), *own))), np.nan)

    def only(self, row: int) -> Laws:
        """Of one column alone, or of none for a row beyond the numeric ones."""
        one = slice(row, row + 1)
        return Laws(
            self.groups.only(row), self.names, self.sizes, self.body[:, one], self.tails[:, one], self.steps[:, one]
        )

    def to_bytes(self) -> bytes:
        """Versioned and checksummed; equal laws give equal bytes."""
        facts = {"names": self.names, "sizes": self.sizes}
        return pack(facts, {"body": self.body, "tails": self.tails, "steps": self.steps}, level=6)

    @classmethod
    def from_bytes(cls, reference: Profile, data: bytes) -> Self:
        """Read what `to_bytes` wrote; reference: what the laws were drawn from. ValueError says what is wrong."""
        facts, arrays = unpack(data)
        groups = Groups.of(reference)
        shape = (len(facts["names"]), groups.n.size, len(facts["sizes"]))
        if arrays["steps"].shape != shape:
            raise ValueError(f"laws of another reference: found shape {arrays['steps'].shape}, wanted {shape}")
        return cls(groups, tuple(facts["names"]), tuple(facts["sizes"]), **_floats(arrays))

    @cached_property
    def _rows(self) -> Floats:
        return np.array(self.sizes, np.float64)

    def _effective(self, m: Floats) -> Floats:
        n = self.groups.n
        return np.asarray(n * m / np.maximum(n + m, 1))

    def _between(self, m: Floats) -> tuple[Places, Places, Floats]:
        """The largest size not above each number of rows, the next one, and how far it is on the way there."""
        ln_sizes = np.log(np.minimum(self._rows, max(_SURELY_MANY, self._rows[0])))
        place = np.interp(np.log(np.maximum(m, 1)), ln_sizes, np.arange(ln_sizes.size))
        lower = np.floor(place).astype(np.intp)
        return lower, np.minimum(lower + 1, ln_sizes.size - 1), place - lower

    def _ln_p(self, name: int, size: Places, scaled: Floats) -> Floats:
        columns = np.arange(scaled.size)
        body, tails = self.body[name, columns, size], self.tails[name, columns, size]
        t = np.maximum(scaled - self.steps[name, columns, size] / 2, 0.0)[:, None]
        at = np.clip((body < t).sum(axis=1, keepdims=True), 1, _BODY.size)
        (x0, x1), p = (np.take_along_axis(body, i, axis=1) for i in (at - 1, at)), np.append(1.0, _BODY)
        with np.errstate(invalid="ignore", divide="ignore"):
            part = np.where(t > x0, (t - x0) / (x1 - x0), 0.0)
            within = np.log(p[at - 1] + (p[at] - p[at - 1]) * np.minimum(part, 1.0))[:, 0]
            begins, excess = tails[..., 0], tails[..., 1]
            beyond = np.log(_TAILS) - _RATES * (np.square(t) - np.square(begins)) / excess
            beyond = np.where(t > begins, beyond, -np.inf).max(axis=1)
        ln_p = np.where(t[:, 0] > body[:, -1], beyond, within)
        return np.where(tails[:, 0, 1] > 0, np.minimum(ln_p, 0.0), np.nan)


def _mixed(weight: Floats, lower: Floats, upper: Floats) -> Floats:
    """Between two logarithms of chances, of which the upper one may be that of no chance at all."""
    with np.errstate(invalid="ignore"):
        return np.where(weight > 0, (1 - weight) * lower + weight * upper, lower)


def between(reference: Profile, current: Profile, names: Iterable[str]) -> Laws | None:
    """The laws that this one comparison takes; None if the named detectors need none. Some 3 ms a column, or 1 for many
    rows.

    If the columns have about as many current rows, they are drawn for so many, else for the nearest kept sizes.
    """
    names, rows = list(names), current.n_valid[: current.bins.n_numeric]
    if not _drawn_ones(names) or not rows.size:
        return None
    fewest, most = max(int(rows.min()), SIZES[0]), int(rows.max())
    if fewest >= SIZES[-2]:
        return Laws.of(reference, names, SIZES[-1:], n_draws=_LEAST_DRAWS)
    if most <= _ALIKE * fewest:
        return Laws.of(reference, names, (fewest,), n_draws=_LEAST_DRAWS)
    first = int(np.searchsorted(SIZES, fewest, "right")) - 1
    last = int(np.searchsorted(SIZES, most))
    return Laws.of(reference, names, SIZES[first : last + 1], n_draws=_LEAST_DRAWS)


def _drawn_ones(names: Iterable[str]) -> list[Drawn]:
    detectors = (REGISTRY[name] for name in dict.fromkeys(names))
    return [detector for detector in detectors if isinstance(detector, Drawn)]


def _drawn(one: Groups, chosen: list[Drawn], sizes: tuple[int, ...], draws: int, rng: np.random.Generator) -> Floats:
    """Scaled distances of one column, shape (detectors, sizes, draws)."""
    n, found = float(one.n[0]), np.zeros((len(chosen), len(sizes), draws))
    rows = one.shares[0] * n
    held = np.flatnonzero(rows)
    if not held.size:
        return found
    rows, places = rows[held], one.places[0, held]
    spread = rows.copy()
    spread[0] += one.beyond[0, 0]
    spread[-1] += one.beyond[0, 1]
    source = rng.standard_gamma(spread, (draws, held.size))
    source /= source.sum(axis=1, keepdims=True)
    for i, m in enumerate(sizes):
        shares = source if m == SIZES[-1] else rng.multinomial(m, source) / m
        for j, detector in enumerate(chosen):
            found[j, i] = detector.distance(rows / n, shares, places) * np.sqrt(n * m / (n + m))
    return found


def _steps(ascending: Floats) -> Floats:
    """How far the values of the upper half lie apart, if there are few of them."""
    upper = ascending[..., ascending.shape[-1] // 2 :]
    different = (np.diff(upper, axis=-1) > 1e-9 * upper[..., -1:]).sum(axis=-1)
    return np.asarray((upper[..., -1] - upper[..., 0]) / np.maximum(different, 1))


def _places(reference: Profile) -> Floats:
    """Where the rows of each cell lie, in fixed point, shape (numeric columns, 254); what is outside, at the end."""
    bins = reference.bins
    with np.errstate(over="ignore"):
        return np.asarray(np.clip((bins.places - bins.centres[:, None]) / bins.units[:, None], -REACH, REACH))


def _beyond(reference: Profile) -> Floats:
    """See `Groups`. The median row of an end's cell tells whether the rows there are equal, if they are three."""
    beyond = np.ones((reference.bins.n_numeric, 2))
    for row, column in enumerate(reference.bins.numeric):
        if column.n_regular:
            counts = reference.counts[row, [FIRST, FIRST + column.n_regular - 1]]
            ends = np.nextafter(column.edges[0], np.inf), column.edges[-1]
            beyond[row] = (counts < 3) | (column.middles[[0, -1]] != ends)
    return beyond


def _taken(running: Floats, last: Counts) -> Floats:
    """What has been added up at the end of each group, zero before the first cell."""
    return np.where(last >= 0, np.take_along_axis(running, np.maximum(last, 0), axis=1), 0.0)


def _floats(arrays: dict[str, NDArray[Any]]) -> dict[str, Floats]:
    return {name: array.astype(np.float64) for name, array in arrays.items()}
