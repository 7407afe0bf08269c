"""What is believed of every signal's offset and wobble, and how surprising a window is in the light of it.

A Kalman filter of two states: an offset that never moves, and a wobble that comes home. A window's value is compared
with what was expected of it; what the filter has learnt of a wobble it does not find surprising again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from detectors.cells import Bools, Floats, Places
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
    """A pane's time, and what it lets expect; arrays of shape (..., signals).

    length: in windows, (0, 1]. kept: share of a wobble that is left at its end; fresh: variance that came instead.
    expected, unsure: the season's value, and the variance of its estimate. row_noise: variance of one row; most_rows:
    rows beyond them make it no surer.
    """

    length: float
    kept: Floats
    fresh: Floats
    expected: Floats
    unsure: Floats
    row_noise: Floats
    most_rows: Floats

    @classmethod
    def of(cls, null: Null, wobble: Wobble, length: float, gap: Floats | float, cell: Places | int) -> Self:
        """A pane of a window in a season's cell. gap: windows without rows before it, shape (...)."""
        kept = wobble.rho ** (length + np.asarray(gap)[..., None])
        expected, unsure = null.at(cell)
        row_noise = null.row_variance * null.pane_noise if length < 1 else null.row_variance
        most_rows = np.maximum(null.most_rows * null.lengths(length), 1)
        return cls(length, kept, (1 - kept * kept) * wobble.variance, expected, unsure, row_noise, most_rows)


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
        kept = span.kept
        u, cross = kept * self.wobble, kept * self.v_cross
        v_wobble = kept * kept * self.v_wobble + span.fresh
        with np.errstate(divide="ignore"):  # no rows, endless noise: nothing is learnt and nothing surprises
            noise = span.row_noise / np.minimum(rows, span.most_rows) + span.unsure
        to_offset, to_wobble = self.v_offset + cross, cross + v_wobble
        known = to_offset + to_wobble
        variance = known + noise
        deviation = np.sqrt(variance)
        miss = values - span.expected - self.offset - u
        gain_offset, gain_wobble = to_offset / variance, to_wobble / variance
        limit = CLIP * deviation
        moved = np.maximum(np.minimum(miss, limit), -limit)
        u_of_one = kept * self.of_wobble
        one = 1 - self.of_offset - u_of_one
        after = Belief(
            self.offset + gain_offset * moved,
            u + gain_wobble * moved,
            self.v_offset - gain_offset * to_offset,
            cross - gain_offset * to_wobble,
            v_wobble - gain_wobble * to_wobble,
            self.of_offset + gain_offset * one,
            u_of_one + gain_wobble * one,
        )
        z = _normal(miss / deviation, np.square(known / variance) / wobble.weight, null)
        return after, Surprise(z, np.maximum(one, 0) / deviation, rows > 0)


def _parts(belief: Belief) -> tuple[Floats, ...]:
    return (
        belief.offset, belief.wobble, belief.v_offset, belief.v_cross, belief.v_wobble, belief.of_offset,
        belief.of_wobble,
    )  # fmt: skip


def _normal(t: Floats, unsure: Floats, null: Null) -> Floats:
    """Student's t as a standard normal, after Wallace (1959), of 1 / (unsure + 1 / null.tail) degrees of freedom.

    unsure: one over the windows that the variance rests on.
    """
    t = t * null.widened
    unsure = unsure + null.per_tail
    tall = t * t
    tall *= unsure
    tall += 1 + 1e-12  # more than 1
    ratio = np.log(tall) / (tall - 1)  # log1p(x) / x to the last digits, several times as fast
    return np.asarray(t * np.sqrt(ratio) * ((8 + unsure) / (8 + 3 * unsure)))
