"""Evidence of drift, as a number that says how many windows chance needs for as much of it.

Each surprise z is worth a factor exp(l z - l^2 / 2), for shifts of four sizes l up and four down; without drift its
mean is 1. Each count of events is worth the likelihood of a higher rate over that of the rate allowed. The
Shiryaev-Roberts recursion adds up the products since every possible beginning of the drift,

    R = (length + R) * factor,

so that without drift the mean of R is the number of windows so far: R reaches a bar b at most once in b windows, in the
long run, whatever depends on what. The evidence of a column is the mean of R over its signals and sizes. No single pane
is worth more than a cap, so that one outlier is never enough.

Shiryaev (1963), Theory Prob. Appl. 8; Roberts (1966), Technometrics 8; Shin, Ramdas and Rinaldo (2022), E-detectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from detectors.belief import Surprise
from detectors.bins import Bools, Floats
from detectors.null import Null
from detectors.signals import Signals

SIZES: Final = np.array([0.35, 0.8, 1.8, 4.0])
RATES: Final = np.array([0.5, 2.0, 8.0, 50.0])
"""Shifts in standard deviations of a surprise, and rates above the allowed one, in multiples of it."""
N_FACTORS: Final = 2 * SIZES.size
MOST: Final = 1e30
MOST_LN: Final = float(np.log(MOST))

_SIGNED: Final = np.concatenate((SIZES, -SIZES))


@dataclass(frozen=True, eq=False)
class Evidence:
    """R of every signal and size, shape (8, ..., signals), and of every event and rate, shape (4, ..., events)."""

    signals: Floats
    events: Floats

    @classmethod
    def none(cls, null: Null) -> Self:
        """No evidence."""
        return cls(np.zeros((N_FACTORS, *null.level.shape)), np.zeros((RATES.size, *null.event_rate.shape)))

    def after(self, null: Null, surprise: Surprise, counts: Counted, length: float, cap: Cap) -> Evidence:
        """The evidence after a pane of such a length in windows."""
        shift = null.deadband * surprise.response
        z = np.stack((surprise.z - shift, -surprise.z - shift))
        sizes = SIZES.reshape(-1, *[1] * z.ndim)
        gain = (sizes * z - sizes * sizes / 2).swapaxes(0, 1).reshape(N_FACTORS, *shift.shape)
        grown = (self.signals + length) * np.exp(np.minimum(gain, cap.signals))
        return Evidence(
            np.where(surprise.seen, np.minimum(grown, MOST), self.signals),
            self._events_after(null, counts, length, cap.events),
        )

    def limited(self, before: Evidence, cap: Cap, chosen: Bools) -> Evidence:
        """The same, where chosen no more than one cap above what it was a window before."""
        return Evidence(
            np.where(chosen, np.minimum(self.signals, (1 + before.signals) * np.exp(cap.signals)), self.signals),
            np.where(chosen, np.minimum(self.events, (1 + before.events) * np.exp(cap.events)), self.events),
        )

    def where(self, signals: Bools, events: Bools) -> Evidence:
        """None where chosen, this elsewhere."""
        return Evidence(np.where(signals, 0.0, self.signals), np.where(events, 0.0, self.events))

    def parts(self, layout: Signals) -> tuple[Floats, Floats]:
        """What each signal and each event adds to its column's evidence."""
        of_signals = self.signals.mean(axis=0) / layout.n_parts[layout.column]
        of_events = self.events.mean(axis=0) / layout.n_parts[layout.event_column]
        return of_signals, of_events

    def _events_after(self, null: Null, counts: Counted, length: float, cap: Floats) -> Floats:
        rates = RATES.reshape(-1, *[1] * counts.events.ndim)
        found, expected = counts.events / null.event_size, counts.rows * null.event_rate / null.event_size
        gain = np.log1p(rates) * found - rates * expected
        grown = np.minimum((self.events + length) * np.exp(np.minimum(gain, cap)), MOST)
        return np.where(counts.rows > 0, grown, self.events)


@dataclass(frozen=True, eq=False)
class Counted:
    """Events of a pane and the rows in which they could happen, each of shape (..., events)."""

    events: Floats
    rows: Floats


@dataclass(frozen=True, eq=False)
class Cap:
    """The most that the logarithm of evidence may grow at once: by signals and by events, shapes (..., parts)."""

    signals: Floats
    events: Floats

    @classmethod
    def below(cls, layout: Signals, ln_bar: Floats) -> Cap:
        """Half of what a single part needs to reach the bar, shape (..., columns): two outliers are the least."""
        half = np.minimum(np.log(N_FACTORS * layout.n_parts) + np.maximum(ln_bar, 0), MOST_LN) / 2
        return cls(half[..., layout.column], half[..., layout.event_column])
