"""From evidence to pages: alarms, incidents of columns, and when to stop calling.

A column alarms when its evidence reaches its bar and one of its parts has changed by more than is worth a page (the
gate). The first alarm opens an incident of the column; it ends when the column has come home, or has not alarmed again
for some windows. A column whose incidents come too often wanders, and is not paged for its values any more until it is
quiet; while the null model is still being learnt, a token bucket limits how often the model pages at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np

from detectors.cells import Bools, Floats, Places

HOLD: Final = 12.0
"""Alarms of a column this near each other, in windows, belong to one incident."""
MAX_INCIDENTS: Final = 3
BREAK_PERIODS: Final = 4
"""The next incident of a column after so many within so many periods is not paged."""
BUCKET: Final = 3.0
"""Periods' worth of pages that may come at once while columns are calibrating."""
RETURNED: Final = 5.0
"""Evidence, as a logarithm, that a column has come home."""
STEP: Final = 3.0
"""The most of it that one window gives."""
LEADING: Final = 0.05
"""A part speaks for its column if it holds this share of the column's evidence."""


@dataclass(frozen=True, eq=False)
class Terms:
    """What the budget allows one segment of a model.

    ln_bar: of each column, the logarithm of the evidence that counts, shape (columns,) or (..., columns); infinite
    where nothing is to be paged. period: windows in a period of the budget. pages: of the budget, per period, that are
    this model's. silent: columns that are not paged for their values, shape (columns,). by_window: whether evidence is
    capped by the window instead of the pane. is_live: whether breaker and bucket are at work; else everything that
    alarms is counted.
    """

    ln_bar: Floats
    period: float
    pages: float
    hold: float
    silent: Bools
    by_window: bool = False
    is_live: bool = True


@dataclass(frozen=True, eq=False)
class Standing:
    """How the columns stand; arrays of shape (..., columns), clock and tokens of shape (...).

    clock: windows so far, empty ones counted. last: when it alarmed last. openings: when its last three incidents
    opened, shape (3, ..., columns). firing: whether its incident is paged; held: whether it would be, were there a
    token. part: which signal speaks (an event: n_signals + its place), size: the change that it told. home: evidence
    that the change is over.
    """

    clock: Floats
    tokens: Floats
    last: Floats
    openings: Floats
    firing: Bools
    held: Bools
    part: Places
    size: Floats
    home: Floats

    @classmethod
    def initial(cls, shape: tuple[int, ...], terms: Terms) -> Self:
        """Nothing has happened. shape: (..., columns)."""
        never, no = np.full(shape, -np.inf), np.zeros(shape, np.bool_)
        tokens = np.full(shape[:-1], BUCKET * max(terms.pages, 1.0))
        zero = np.zeros(shape)
        return cls(
            np.zeros(shape[:-1]), tokens, never, np.full((MAX_INCIDENTS, *shape), -np.inf), no, no,
            np.zeros(shape, np.intp), zero, zero,
        )  # fmt: skip

    def wandering(self, terms: Terms) -> Bools:
        """Columns that have had as many incidents lately as are paged."""
        if not terms.is_live:
            return np.zeros(self.firing.shape, np.bool_)
        return np.asarray(self.openings[0] > self.clock[..., None] - BREAK_PERIODS * terms.period)

    def passed(self, terms: Terms, length: Floats | float) -> Standing:
        """Time went by, so many windows."""
        most, rate = BUCKET * max(terms.pages, 1.0), max(terms.pages, 1.0) / terms.period
        clock = self.clock + length
        firing = self.firing & (clock[..., None] - self.last <= terms.hold)
        return replace(self, clock=clock, tokens=np.minimum(self.tokens + rate * length, most), firing=firing)

    def after(self, terms: Terms, alarm: Alarm, calibrating: Callable[[], Bools]) -> tuple[Standing, Bools]:
        """After the alarms of a window, and which columns' incidents opened. calibrating: tells which columns are."""
        clock = np.broadcast_to(self.clock[..., None], self.last.shape)
        any_alarm = alarm.loud | alarm.quiet
        if not any_alarm.any():
            return replace(self, held=self.held & (clock - self.last <= terms.hold)), any_alarm
        opened = (alarm.loud & ~self.firing & ~self.held) | (alarm.quiet & (clock - self.last > terms.hold))
        openings = np.where(opened, np.concatenate((self.openings[1:], clock[None])), self.openings)
        fresh = alarm.loud & ~self.firing
        wants = fresh & (calibrating() if terms.is_live else np.zeros_like(fresh))
        granted = (self.tokens >= 1) & wants.any(axis=-1)
        held = wants & ~granted[..., None]
        firing = self.firing | (fresh & ~held)
        told = alarm.loud & firing
        standing = replace(
            self,
            tokens=self.tokens - granted,
            last=np.where(any_alarm, clock, self.last),
            openings=openings,
            firing=firing,
            held=np.where(fresh, held, self.held & (clock - self.last <= terms.hold)),
            part=np.where(told, alarm.part, self.part),
            size=np.where(told, alarm.size, self.size),
            home=np.where(told, 0.0, self.home),
        )
        return standing, firing & ~self.firing

    def homeward(self, gain: tuple[Floats, Floats]) -> Standing:
        """With a window's evidence that changes are over, of each signal and event."""
        mine = np.take_along_axis(np.concatenate(gain, axis=-1), self.part, axis=-1)
        home = np.maximum(self.home + np.clip(mine, -STEP, STEP), 0.0)
        return replace(self, home=home, firing=self.firing & (home < RETURNED))


@dataclass(frozen=True, eq=False)
class Alarm:
    """What a window showed; arrays of shape (..., columns).

    loud: alarms to be paged; quiet: alarms of columns whose values are not. small: evidence enough, but the change is
    below the gate. part, size: the part that speaks and its change, where there is an alarm.
    """

    loud: Bools
    quiet: Bools
    small: Bools
    part: Places
    size: Floats

    def without(self, chosen: Bools) -> Alarm:
        """The same, as if nothing had been seen of the chosen columns."""
        return replace(self, loud=self.loud & ~chosen, quiet=self.quiet & ~chosen, small=self.small & ~chosen)
