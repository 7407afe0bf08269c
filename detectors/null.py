"""What is normal for every signal: its season, how much its windows scatter, and how far it wanders and comes home.

    value of a window = level + season + offset + wobble + noise

The noise is that of so many rows. The wobble is an autoregression of order one with variance `wobble` and correlation
`rho` from window to window. The offset is the error of the reference itself, constant and unknown. All of it is learnt
from the reference's own blocks where their order is that of time; where it is not, or there are no blocks, a prior
stands in its place. Estimates of few windows lean on what all signals have in common, and on the prior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from detectors.blocks import Blocks
from detectors.cells import Bools, Floats, Places
from detectors.parts import Event
from detectors.season import Season
from detectors.signals import Reading, Signals

PRIOR_DEVIATION: Final = 0.05
"""Standard deviation of the wobble that is expected of a column nothing is known of."""
PRIOR_WINDOWS: Final = 8.0
"""Windows that the prior counts as."""
PRIOR_RHO: Final = 0.7
PRIOR_RHO_WINDOWS: Final = 20.0
FLOOR: Final = 0.01**2
MAX_RHO: Final = 0.97
GATE: Final = 0.1
GATE_SHARE: Final = 0.02
GATE_RATE: Final = 0.0005
"""The smallest effect worth a page: of a rank signal, a share, the rate of an event."""
DEADBAND: Final = 0.05
DEADBAND_SHARE: Final = 0.01
"""Constant shifts up to this size count as none while the order of time has shown nothing."""
TRUSTED_WINDOWS: Final = 48
"""A column that has shown so many windows in their order is calibrated."""
MIN_DAYS: Final = 5
MIN_WEEKS: Final = 2
"""How often an hour of the day, and one of the week, must have been seen."""
NORMAL_TAIL: Final = 1e6

_RANDOM_SHARE: Final = 0.99
_FACTS: Final = ("is_timed", "n_pairs", "n_told")


@dataclass(frozen=True, eq=False)
class Null:
    """The null model; arrays of shape (..., signals) unless said. Leading axes: several models side by side.

    level, season: shape (cells, ..., signals), season_variance: of its estimate. row_variance: of one row's value, the
    noise of n rows is 1 / n of it; pane_noise: by how much more panes of a window scatter. offset: variance of the
    reference's error. wobble, rho: see above; weight: windows that the wobble's estimate is worth, rho_weight: those of
    rho's. tail: degrees of freedom of the windows' surprises. most_rows: rows beyond them make a window no surer.
    deadband, gate: shape (signals,). event_rate: an upper bound of each event's rate; event_size: how many come
    together; event_gate: the rate that must be certain; each of shape (..., events). n_windows: windows whose order is
    known. is_timed: whether that order is time. n_pairs: signals, the last ones, that are of several columns; n_told:
    those of them, the last one or none, that come once in a window and tell of drift by rising alone.
    """

    level: Floats
    season: Floats
    season_variance: Floats
    row_variance: Floats
    pane_noise: Floats
    offset: Floats
    wobble: Floats
    rho: Floats
    weight: Floats
    rho_weight: Floats
    tail: Floats
    most_rows: Floats
    deadband: Floats
    gate: Floats
    event_rate: Floats
    event_size: Floats
    event_gate: Floats
    n_windows: Floats
    is_timed: bool
    n_pairs: int = 0
    n_told: int = 0

    def lengths(self, pane: float) -> Floats | float:
        """Windows that a pane of such a length adds to each signal's time, shape (signals,), or the same for all."""
        if not self.n_told:
            return pane
        return np.where(np.arange(self.level.shape[-1]) < self.level.shape[-1] - self.n_told, pane, 1.0)

    @cached_property
    def per_tail(self) -> Floats:
        """One over the degrees of freedom of the windows' surprises."""
        return np.asarray(1 / self.tail)

    @cached_property
    def widened(self) -> Floats:
        """The standard deviation of Student's t with so many."""
        return np.asarray(np.sqrt(self.tail / (self.tail - 2)))

    @cached_property
    def event_noise(self) -> Floats:
        """What one row lets expect of independent events, shape (..., events)."""
        return np.asarray(self.event_rate / self.event_size)

    @cached_property
    def rho_known(self) -> tuple[Floats, Floats]:
        """What is known of rho, the prior with it: a weighted sum, and its weight in windows."""
        before = np.where(self.rho_weight > 0, self.rho, PRIOR_RHO)
        return self.rho_weight * self.rho + PRIOR_RHO_WINDOWS * before, self.rho_weight + PRIOR_RHO_WINDOWS

    def at(self, cell: Places | int) -> tuple[Floats, Floats]:
        """Expected value and the variance of its estimate at a season's cell, one for each leading index if several."""
        if np.ndim(cell) == 0:
            return self.level + self.season[cell], self.season_variance[cell]
        several = np.arange(np.size(cell))
        return self.level + self.season[cell, several], self.season_variance[cell, several]

    @classmethod
    def stacked(cls, nulls: Sequence[Self]) -> Self:
        """Several models side by side on a new leading axis."""
        arrays: dict[str, Any] = {}
        for field in fields(cls):
            values = [getattr(null, field.name) for null in nulls]
            axis = 1 if field.name.startswith("season") else 0
            arrays[field.name] = values[0] if field.name in _FACTS else np.stack(values, axis)
        return cls(**arrays)

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Facts and arrays to be packed."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _FACTS}
        return {name: getattr(self, name) for name in _FACTS}, arrays

    @classmethod
    def from_arrays(cls, facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Read what `to_arrays` gave."""
        known = {name: array.astype(np.float64) for name, array in arrays.items()}
        return cls(**known, is_timed=bool(facts["is_timed"]), n_pairs=int(facts.get("n_pairs", 0)),
                   n_told=int(facts.get("n_told", 0)))  # fmt: skip

    def families(self) -> tuple[slice, slice]:
        """Signals of single columns, and of several: what moves alike is compared within either."""
        n_single = self.level.shape[-1] - self.n_pairs
        return slice(0, n_single), slice(n_single, None)


def prior(signals: Signals, whole: Reading, row_variance: Floats, blocks: Blocks | None) -> Null:
    """The null model of signals from the reference's rows alone, whose order says nothing."""
    level, rows = signals.values(whole)
    n, zero = np.maximum(rows, 1), np.zeros(signals.n_signals)
    is_share, unit = signals.is_share, signals.unit
    rate, size = _events(signals, whole, blocks)
    deadband, most_rows = np.where(is_share, DEADBAND_SHARE, DEADBAND) * unit, zero + np.inf
    if signals.n_told:
        # Rows of one source are told apart by chance alone, whatever stretches of a sorted file are. However columns
        # wobble, rows are told apart the better, so that it adds up and never comes home.
        level[-1] = 0.0
        deadband[-1] = DEADBAND * np.sqrt(signals.bins.n_columns)
        most_rows[-1] = signals.pairs.n_shown
    return Null(
        level=level, season=zero[None], season_variance=zero[None], row_variance=row_variance, pane_noise=zero + 1,
        offset=row_variance / n, wobble=zero + PRIOR_DEVIATION**2, rho=zero + PRIOR_RHO, weight=zero + PRIOR_WINDOWS,
        rho_weight=zero, tail=zero + NORMAL_TAIL, most_rows=most_rows, deadband=deadband,
        gate=np.where(is_share, GATE_SHARE, GATE) * unit, event_rate=rate, event_size=size,
        event_gate=2 * rate, n_windows=np.zeros(1), is_timed=False, n_pairs=int(signals.is_together.sum()),
        n_told=signals.n_told,
    )  # fmt: skip


def learnt(signals: Signals, blocks: Blocks, season: Season, base: Null) -> Null:
    """The null model from blocks whose order is that of time. base: the prior from all rows."""
    values, rows = signals.values(blocks.windows)
    seen = rows > 0
    noise = np.where(seen, base.row_variance / np.maximum(rows, 1), 0.0)
    weights = np.where(seen, 1 / (PRIOR_DEVIATION**2 + noise), 0.0)
    level = (weights * values).sum(axis=0) / np.maximum(weights.sum(axis=0), 1e-12)
    cells = season.cells(blocks.start_ms) if blocks.is_timed else np.zeros(blocks.n_blocks, np.intp)
    parts = _season(np.where(seen, values - level, 0.0), weights, cells, season if blocks.is_timed else Season(0))
    rest = _Rest(np.where(seen, parts.rest, 0.0), seen, noise, parts.used)
    wobble, rho, inflation = _wobble(rest)
    pooled = np.zeros_like(wobble)
    for family in base.families():
        pooled[family] = np.median(np.minimum(wobble[family], 0.25)) if wobble[family].size else 0.0
    n, dof = rest.n, rest.dof
    common = (PRIOR_WINDOWS * PRIOR_DEVIATION**2 + n * pooled) / (PRIOR_WINDOWS + n)
    weight = n * (wobble / (wobble + rest.mean_noise + 1e-12)) ** 2
    rho = np.clip((weight * rho + PRIOR_RHO_WINDOWS * PRIOR_RHO) / (weight + PRIOR_RHO_WINDOWS), 0, MAX_RHO)
    mixed = (PRIOR_WINDOWS * common + dof * wobble) / (PRIOR_WINDOWS + dof)
    alone = np.maximum(n * (1 - rho) / (1 + rho), 1)
    known = np.where(n > 0, 1.0, 0.0)
    return replace(
        base,
        level=np.where(n > 0, level, base.level),
        season=parts.season, season_variance=parts.variance,
        row_variance=base.row_variance * inflation,
        pane_noise=_pane_noise(signals, blocks, base.row_variance, mixed, rho),
        offset=base.offset + mixed / alone,
        wobble=np.maximum(mixed, FLOOR),
        rho=rho ** blocks.scale if blocks.scale < 1 else rho,
        weight=PRIOR_WINDOWS + known * dof, rho_weight=weight, tail=_tail(rest, wobble, rho),
        most_rows=np.quantile(np.where(seen, rows, 0), 0.95, axis=0) if blocks.is_timed else base.most_rows,
        deadband=base.deadband * max(1 - blocks.n_blocks / TRUSTED_WINDOWS, 0) if blocks.is_timed else base.deadband,
        n_windows=np.array([float(blocks.n_blocks)]), is_timed=blocks.is_timed,
    )  # fmt: skip


def order_speaks(signals: Signals, blocks: Blocks, row_variance: Floats) -> bool:
    """Whether blocks differ by more than their rows' noise: then the file's order is one of time, or of something."""
    values, rows = signals.values(blocks.windows)
    single = ~signals.is_together
    if blocks.n_blocks < 2 or not single.any():
        return False
    expected = (row_variance / np.maximum(rows, 1)).mean(axis=0)[single]
    z = (values[:, single].var(axis=0, ddof=1) / expected - 1) * np.sqrt((blocks.n_blocks - 1) / 2)
    return bool(np.median(z) > 1 or np.mean(z > 4) >= 0.1)


def _events(signals: Signals, whole: Reading, blocks: Blocks | None) -> tuple[Floats, Floats]:
    """Upper bounds of the events' rates, and how many events come together; each of shape (events,).

    The reference fixed its own range and words, so none of its rows lie outside. How many of other rows would is told
    by the rows that stand alone in one block of it, and by the words that occur once.
    """
    rows = np.maximum(signals.event_rows(whole), 1)
    found, size = whole.events.astype(np.float64), np.ones(signals.n_events)
    outside = np.array([kind is Event.OUTSIDE for kind in signals.event], np.bool_)
    alone = np.zeros(signals.bins.n_columns)
    alone[signals.bins.n_numeric :] = signals.bins.singleton_shares * whole.valid[signals.bins.n_numeric :]
    if blocks is not None and blocks.n_blocks > 1:
        alone = np.maximum(alone, blocks.lonely)
        events = blocks.windows.events
        mean, n = events.mean(axis=0), blocks.n_blocks
        ratio = events.var(axis=0, ddof=1) / np.maximum(mean, 1e-12)
        size = np.where((ratio - 1) * np.sqrt((n - 1) / 2) > 4, np.maximum(ratio, 1.0), 1.0)
    found = np.where(outside, np.maximum(found, alone[signals.event_column]), found)
    return np.minimum(special.gammaincinv(2 + found / size, _RANDOM_SHARE) * size / rows, 1.0), size


def of_mean(rho: Floats, n: Floats | int) -> Floats:
    """Variance of the mean of n successive windows of a wobble, times n, over the wobble's: 1 where rho is 0."""
    return np.asarray((1 + rho) / (1 - rho) - 2 * rho * (1 - rho**n) / (n * (1 - rho) ** 2))


@dataclass(frozen=True, eq=False)
class _Season:
    """What the season explains, and what is left. used: estimated numbers that it took, by signal."""

    season: Floats
    variance: Floats
    rest: Floats
    used: Floats


def _season(values: Floats, weights: Floats, cells: Places, season: Season) -> _Season:
    """The hour of the day, then what the hour of the week adds, each shrunk by how much cells differ beyond chance."""
    shape = (season.n_cells, values.shape[1])
    found = _Season(np.zeros(shape), np.zeros(shape), values, np.zeros(shape[1]))
    per_day = season.per_day
    if not per_day:
        return found
    if per_day > 1 and len(values) >= MIN_DAYS * per_day:
        day = cells % per_day
        found = _explained(found, weights, day, per_day, np.arange(season.n_cells) % per_day)
    if len(values) >= MIN_WEEKS * season.n_cells:
        found = _explained(found, weights, cells, season.n_cells, np.arange(season.n_cells))
    return found


def _explained(before: _Season, weights: Floats, cells: Places, n_cells: int, spread: Places) -> _Season:
    """One more level of the season. spread: the cell of this level for each cell of the week."""
    n_signals = before.rest.shape[1]
    place = (cells[:, None] * n_signals + np.arange(n_signals)).ravel()  # in one line: `add.at` takes ten times as long
    weight, total, count = (
        np.bincount(place, values.ravel(), n_cells * n_signals).reshape(n_cells, n_signals)
        for values in (weights, weights * before.rest, weights > 0)
    )
    mean = total / np.maximum(weight, 1e-12)
    rest = np.where(weights > 0, before.rest - mean[cells], 0.0)
    within = (rest**2).sum(axis=0) / np.maximum((weights > 0).sum(axis=0) - n_cells, 1)
    error = within / np.maximum(count, 1)
    between = np.maximum(mean.var(axis=0, ddof=1) - error.mean(axis=0), 0)
    kept = np.where(count > 0, between / (between + error + 1e-12), 0.0)
    unseen = np.where(count > 0, 0.0, between)
    return _Season(
        before.season + (kept * mean)[spread],
        before.variance + (kept * error + unseen)[spread],
        np.where(weights > 0, before.rest - (kept * mean)[cells], 0.0),
        before.used + kept.mean(axis=0) * (n_cells - 1),
    )


class _Rest:
    """What level and season leave of the windows' values, with the moments that the wobble is estimated from."""

    def __init__(self, values: Floats, seen: Bools, noise: Floats, used: Floats) -> None:
        self.values, self.seen, self.noise = values, seen, noise
        self.n = seen.sum(axis=0).astype(np.float64)
        self.dof = np.maximum(self.n - 1 - used, 1)
        self.mean_noise = noise.sum(axis=0) / np.maximum(self.n, 1)

    def covariance(self, lag: int) -> Floats:
        """Mean product of windows so many apart."""
        both = self.seen[lag:] & self.seen[:-lag]
        return np.asarray((self.values[lag:] * self.values[:-lag]).sum(axis=0) / np.maximum(both.sum(axis=0), 1))


def _wobble(rest: _Rest) -> tuple[Floats, Floats, Floats]:
    """Variance of the wobble, its correlation, and by how much a row's noise differs from that of independent rows."""
    sure = np.where(rest.seen, 1 / (PRIOR_DEVIATION**2 + rest.noise) ** 2, 0.0)
    square = rest.values**2 * (rest.n / rest.dof)
    variance = (sure * square).sum(axis=0) / np.maximum(sure.sum(axis=0), 1e-12)
    wobble = np.maximum((sure * (square - rest.noise)).sum(axis=0) / np.maximum(sure.sum(axis=0), 1e-12), 0)
    one, two, three = (rest.covariance(lag) if len(rest.values) > lag else 0 * wobble for lag in (1, 2, 3))
    rho = np.clip((one + two + three) / np.maximum(wobble + one + two, 1e-9), 0, MAX_RHO)
    # Windows that move together more than their own noise allows: rows inside a window are alike, not independent.
    alike = (rest.n >= 30) & (one > 4 * variance / np.sqrt(np.maximum(rest.n, 1)))
    raised = np.minimum(np.maximum(wobble, one / np.maximum(rho, 0.3)), variance)
    left = np.clip((variance - raised) / np.maximum(rest.mean_noise, 1e-12), 0.05, 1.0)
    return np.where(alike, raised, wobble), rho, np.where(alike & (raised > wobble), left, 1.0)


def _tail(rest: _Rest, wobble: Floats, rho: Floats) -> Floats:
    """Degrees of freedom of the law of surprises, from their kurtosis as far as it is certain."""
    if len(rest.values) < TRUSTED_WINDOWS:
        return np.full(wobble.shape, NORMAL_TAIL)
    carried = rho * wobble / (wobble + rest.mean_noise + 1e-12)
    both = rest.seen[1:] & rest.seen[:-1]
    surprise = np.where(both, rest.values[1:] - carried * rest.values[:-1], 0.0)
    surprise = surprise / np.sqrt(np.maximum(wobble * (1 - carried**2) + rest.noise[1:], 1e-12))
    n = np.maximum(both.sum(axis=0), 1)
    second = np.maximum((surprise**2).sum(axis=0) / n, 1e-12)
    kurtosis = (surprise**4).sum(axis=0) / n / second**2 - 3 - 2 * np.sqrt(24 / n)
    return np.where(kurtosis > 0, np.minimum(4 + 6 / np.maximum(kurtosis, 1e-6), NORMAL_TAIL), NORMAL_TAIL)


def _pane_noise(signals: Signals, blocks: Blocks, row_variance: Floats, wobble: Floats, rho: Floats) -> Floats:
    """By how much panes of one window scatter more than rows and wobble let them, at least 1."""
    n = blocks.n_panes
    if n == 1 or not signals.n_signals:
        return np.ones(signals.n_signals)
    values, rows = signals.values(blocks.reading)
    full = (rows > 0).all(axis=1)
    weight = rows / np.maximum(rows.sum(axis=1, keepdims=True), 1)
    spread = (weight * (values - (weight * values).sum(axis=1, keepdims=True)) ** 2).sum(axis=1)
    expected = row_variance * (n - 1) / np.maximum(rows.sum(axis=1), 1)
    apart = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    alike = (rho[:, None, None] ** (apart / n)).mean(axis=(1, 2))
    count = np.maximum(full.sum(axis=0), 1)
    noise = np.maximum((full * expected).sum(axis=0) / count, 1e-12)
    ratio = ((full * spread).sum(axis=0) / count - wobble * (1 - alike)) / noise
    sure = (ratio - 1) * np.sqrt(count * (n - 1) / 2) > 3
    return np.where(sure, np.maximum(ratio, 1.0), 1.0)
