"""How live windows teach how much a signal wobbles: only by excursions that came home.

Squares and products of what windows leave wait until the smoothed level is near the reference's again. A shift that
stays, or a ramp, never comes home, and so is never learnt as normal; a wobble does, and is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from detectors.belief import CLIP, Wobble
from detectors.cells import Bools, Floats
from detectors.null import FLOOR, MAX_RHO, Null

SMOOTHING: Final = 0.25
MAX_WEIGHT: Final = 500.0
LONGEST: Final = 168.0
"""An excursion that took more windows than this is not learnt: it was a change that somebody undid."""
N_MOMENTS: Final = 6
SQUARE, ONE, TWO, THREE, NOISE, COUNT = range(N_MOMENTS)
"""Moments: square, products with the window one, two and three before, the noise's variance, windows."""


@dataclass(frozen=True, eq=False)
class Learning:
    """What live windows have taught; arrays of shape (..., signals).

    smooth: the level, smoothed over windows, against the reference. last: what the last three windows left, 0 for none,
    shape (3, ...). waiting, learnt: moments, shape (6, ...).
    """

    smooth: Floats
    last: Floats
    waiting: Floats
    learnt: Floats

    @classmethod
    def initial(cls, null: Null) -> Self:
        """Nothing yet."""
        shape = null.level.shape
        moments = np.zeros((N_MOMENTS, *shape))
        return cls(np.zeros(shape), np.zeros((3, *shape)), moments, moments)

    def wobble(self, null: Null) -> Wobble:
        """How much signals wobble, by the reference and by what was learnt."""
        count = self.learnt[COUNT]
        n = np.maximum(count, 1)
        mean = self.learnt[:COUNT] / n
        live = np.maximum(mean[SQUARE] - mean[NOISE], 0)
        rho = np.clip(mean[ONE:NOISE].sum(axis=0) / np.maximum(live + mean[ONE] + mean[TWO], 1e-9), 0, MAX_RHO)
        weight = count * np.square(live / (live + mean[NOISE] + 1e-12))
        so_far, windows = null.rho_known
        rho = np.clip((so_far + weight * rho) / (windows + weight), 0, MAX_RHO)
        known = count * (1 - rho**2) / (1 + rho**2)
        variance = (null.weight * _pooled(null, live, count) + known * live) / (null.weight + known)
        return Wobble(
            np.maximum(variance, FLOOR), rho, np.minimum(null.weight + known, np.maximum(MAX_WEIGHT, null.weight))
        )

    def after(self, null: Null, wobble: Wobble, rest: Floats, rows: Floats) -> Learning:
        """What is learnt once a window has left `rest` beside level and season; rows, rest: shape (..., signals)."""
        seen = rows > 0
        noise = null.row_variance / np.maximum(rows, 1)
        limit = CLIP * np.sqrt(wobble.variance + noise + null.offset)
        kept = np.minimum(np.maximum(rest, -limit), limit)
        new = np.empty(self.waiting.shape)
        new[SQUARE], new[ONE:NOISE], new[NOISE], new[COUNT] = kept * kept, kept * self.last, noise, 1.0
        new *= seen
        new += self.waiting
        smooth = np.where(seen, (1 - SMOOTHING) * self.smooth + SMOOTHING * rest, self.smooth)
        last = np.where(seen, np.concatenate((kept[None], self.last[:-1])), self.last)
        home = seen & (np.abs(smooth) <= self.home(null, noise))
        learnt = self.learnt + new * (home & (new[COUNT] <= LONGEST))
        new *= ~home
        return Learning(smooth, last, new, learnt)

    @staticmethod
    def home(null: Null, noise: Floats) -> Floats:
        """How near the reference's level is home."""
        smoothed = noise * SMOOTHING / (2 - SMOOTHING)
        return np.asarray(np.maximum(null.gate / 2, 2 * np.sqrt(null.offset + smoothed)))

    def n_windows(self) -> Floats:
        """Windows learnt of each signal, shape (..., signals)."""
        return np.asarray(self.learnt[COUNT])


def _pooled(null: Null, live: Floats, count: Floats) -> Floats:
    """The reference's wobble; where its order shows none, no less than half of all signals show by now."""
    if null.n_windows.max(initial=0) > 0:
        return null.wobble
    told: Bools = count >= 5
    found = null.wobble
    for family in null.families():
        own, least = told[..., family], null.wobble[..., family].min(axis=-1, keepdims=True, initial=np.inf)
        n_told = own.sum(axis=-1, keepdims=True)
        higher = own & (live[..., family] > least)
        raised = (n_told >= 10) & (2 * higher.sum(axis=-1, keepdims=True) >= n_told)  # else the median is no higher
        if raised.any():
            middle = np.nanmedian(np.where(own, live[..., family], np.nan), axis=-1, keepdims=True)
            found = found.copy() if found is null.wobble else found
            mine = found[..., family]
            found[..., family] = np.where(raised, np.maximum(mine, np.nan_to_num(middle)), mine)
    return found
