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
from numpy.typing import NDArray

from detectors.belief import Surprise
from detectors.cells import Bools, Floats
from detectors.null import Null
from detectors.signals import Signals

SIZES: Final = np.array([0.35, 0.8, 1.8, 4.0])
RATES: Final = np.array([0.5, 2.0, 8.0, 50.0])
"""Shifts in standard deviations of a surprise, and rates above the allowed one, in multiples of it."""
N_FACTORS: Final = 2 * SIZES.size
MOST: Final = 1e30
MOST_LN: Final = float(np.log(MOST))
NEVER: Final = -100.0
"""A surprise that is evidence of nothing."""

Evident = NDArray[np.float32]
"""Evidence spans thirty powers of ten, of which seven digits count; numbers of four bytes are twice as fast."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """R of every signal and size, shape (8, ..., signals), and of every event and rate, shape (4, ..., events)."""

    signals: Evident
    events: Evident

    @classmethod
    def none(cls, null: Null) -> Self:
        """No evidence."""
        shapes = (N_FACTORS, *null.level.shape), (RATES.size, *null.event_rate.shape)
        return cls(*(np.zeros(shape, np.float32) for shape in shapes))

    def after(self, null: Null, surprise: Surprise, counts: Counted, length: float, cap: Cap) -> Evidence:
        """The evidence after a pane of such a length in windows."""
        shift = null.deadband * surprise.response
        z = np.empty((2, *shift.shape), np.float32)
        z[0], z[1] = surprise.z - shift, -surprise.z - shift
        z[1, ..., shift.shape[-1] - null.n_told :] = NEVER
        sizes = SIZES.astype(np.float32).reshape(-1, *[1] * shift.ndim)
        gain = sizes * z[:, None]
        gain -= sizes * sizes / 2
        found = (counts.events / null.event_size).astype(np.float32)
        expected = (counts.rows * null.event_noise).astype(np.float32)
        rates = RATES.astype(np.float32).reshape(-1, *[1] * found.ndim)
        of_events = np.log1p(rates) * found
        of_events -= rates * expected
        return Evidence(
            _grown(self.signals, null.lengths(length), gain.reshape(self.signals.shape), cap.signals, surprise.seen),
            _grown(self.events, length, of_events, cap.events, counts.rows > 0),
        )

    def limited(self, before: Evidence, cap: Cap, chosen: Bools) -> Evidence:
        """The same, where chosen no more than one cap above what it was a window before."""
        return Evidence(
            np.where(chosen, np.minimum(self.signals, (1 + before.signals) * np.exp(cap.signals)), self.signals),
            np.where(chosen, np.minimum(self.events, (1 + before.events) * np.exp(cap.events)), self.events),
        )

    def where(self, signals: Bools, events: Bools) -> Evidence:
        """None where chosen, this elsewhere."""
        zero = np.float32(0)
        return Evidence(np.where(signals, zero, self.signals), np.where(events, zero, self.events))

    def parts(self, layout: Signals) -> tuple[Floats, Floats]:
        """What each signal and each event adds to its column's evidence."""
        of_signals = self.signals.sum(axis=0) / (N_FACTORS * layout.n_parts[layout.column])
        of_events = self.events.sum(axis=0) / (RATES.size * layout.n_parts[layout.event_column])
        return of_signals, of_events


def _grown(before: Evident, length: Floats | float, gain: Evident, cap: Evident, seen: Bools) -> Evident:
    """The recursion, where there were rows. gain: logarithm of the factor; it is overwritten."""
    np.minimum(gain, cap, out=gain)
    np.exp(gain, out=gain)
    grown = before + np.asarray(length, np.float32)
    with np.errstate(over="ignore"):
        grown *= gain
    np.minimum(grown, np.full_like(cap, MOST), out=grown)  # twice as fast as with one number
    return grown if seen.all() else np.where(seen, grown, before)


@dataclass(frozen=True, eq=False)
class Counted:
    """Events of a pane and the rows in which they could happen, each of shape (..., events)."""

    events: Floats
    rows: Floats


@dataclass(frozen=True, eq=False)
class Cap:
    """The most that the logarithm of evidence may grow at once: by signals and by events, shapes (..., parts)."""

    signals: Evident
    events: Evident

    @classmethod
    def below(cls, layout: Signals, ln_bar: Floats) -> Cap:
        """Half of what a single part needs to reach the bar, shape (..., columns): two outliers are the least."""
        half = np.minimum(np.log(N_FACTORS) + layout.ln_parts + np.maximum(ln_bar, 0), MOST_LN) / 2
        half = half.astype(np.float32)
        return cls(half[..., layout.column], half[..., layout.event_column])
