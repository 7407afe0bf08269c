"""What is believed of every signal's offset and wobble, and how surprising a window is in the light of it.

A Kalman filter of two states: an offset that never moves, and a wobble that comes home. A window's value is compared
with what was expected of it; what the filter has learnt of a wobble it does not find surprising again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from detectors.bins import Bools, Floats
from detectors.null import Null

CLIP: Final = 3.0
"""A surprise moves the belief as if it were at most so many standard deviations."""


@dataclass(frozen=True, eq=False)
class Wobble:
    """How much signals wobble, as far as it is known now: variance, correlation, and windows that the variance rests
    on; each of shape (..., signals)."""

    variance: Floats
    rho: Floats
    weight: Floats


@dataclass(frozen=True, eq=False)
class Span:
    """The time that a pane takes.

    length: in windows, (0, 1]. gap: windows without rows before it; cell: of the season.
    """

    length: float
    gap: Floats | float = 0.0
    cell: np.ndarray[tuple[int, ...], np.dtype[np.intp]] | int = 0


@dataclass(frozen=True, eq=False)
class Surprise:
    """How far a pane was from what was expected; arrays of shape (..., signals).

    z: standard normal without drift. response: by how much a shift by 1 that was always there moves z. seen: whether
    there were rows.
    """

    z: Floats
    response: Floats
    seen: Bools


@dataclass(frozen=True, eq=False)
class Belief:
    """Means and covariances of offset and wobble; arrays of shape (..., signals).

    of_offset, of_wobble: what the same filter would believe if all values were 1.
    """

    offset: Floats
    wobble: Floats
    v_offset: Floats
    v_cross: Floats
    v_wobble: Floats
    of_offset: Floats
    of_wobble: Floats

    @classmethod
    def initial(cls, null: Null, wobble: Wobble) -> Self:
        """What the reference lets believe."""
        zero = np.zeros(null.level.shape)
        return cls(zero, zero, null.offset + zero, zero, wobble.variance + zero, zero, zero)

    def where(self, chosen: Bools, other: Belief) -> Belief:
        """The other belief for chosen signals, this one for the rest."""
        return Belief(
            *(np.where(chosen, theirs, mine) for mine, theirs in zip(_parts(self), _parts(other), strict=True))
        )

    def after(self, null: Null, wobble: Wobble, values: Floats, rows: Floats, span: Span) -> tuple[Belief, Surprise]:
        """What is believed after a pane, and how surprising it was. values, rows: shape (..., signals)."""
        seen = rows > 0
        expected, unsure = null.at(span.cell)
        kept = wobble.rho ** (
            span.length + np.asarray(span.gap)[..., None] if np.ndim(span.gap) else span.length + span.gap
        )
        u, cross = kept * self.wobble, kept * self.v_cross
        v_wobble = kept * kept * self.v_wobble + (1 - kept * kept) * wobble.variance
        noise = (
            null.row_variance
            * (null.pane_noise if span.length < 1 else 1.0)
            / np.minimum(np.maximum(rows, 1), np.maximum(null.most_rows * span.length, 1))
            + unsure
        )
        known = self.v_offset + 2 * cross + v_wobble
        variance = known + noise
        deviation = np.sqrt(variance)
        miss = np.where(seen, values - expected - self.offset - u, 0.0)
        gain_offset = np.where(seen, (self.v_offset + cross) / variance, 0.0)
        gain_wobble = np.where(seen, (cross + v_wobble) / variance, 0.0)
        moved = np.clip(miss, -CLIP * deviation, CLIP * deviation)
        one = 1 - self.of_offset - kept * self.of_wobble
        after = Belief(
            self.offset + gain_offset * moved,
            u + gain_wobble * moved,
            self.v_offset - gain_offset * (self.v_offset + cross),
            cross - gain_offset * (cross + v_wobble),
            v_wobble - gain_wobble * (cross + v_wobble),
            self.of_offset + gain_offset * one,
            kept * self.of_wobble + gain_wobble * one,
        )
        z = _normal(miss / deviation, wobble.weight * np.square(variance / known), null.tail)
        return after, Surprise(z, np.maximum(one, 0) / deviation, seen)


def _parts(belief: Belief) -> tuple[Floats, ...]:
    return (
        belief.offset, belief.wobble, belief.v_offset, belief.v_cross, belief.v_wobble, belief.of_offset,
        belief.of_wobble,
    )  # fmt: skip


def _normal(t: Floats, windows: Floats, tail: Floats) -> Floats:
    """Student's t as a standard normal, after Wallace (1959): the variance rests on few windows, or tails are heavy."""
    nu = 1 / (1 / windows + 1 / tail)
    t = t * np.sqrt(tail / (tail - 2))
    return np.asarray(np.sign(t) * (8 * nu + 1) / (8 * nu + 3) * np.sqrt(nu * np.log1p(t * t / nu)))
