"""The last windows in brief, for when something drifts: how large is it, and when did it begin.

Sums over windows are kept in blocks that get longer with age (1, 2, 4 ... windows, four of each length), so that the
beginning of a change is known about as exactly as its age, and a week of windows takes little room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from scipy import special

from detectors.belief import Wobble
from detectors.cells import Bools, Floats
from detectors.null import Null, of_mean

PER_LENGTH: Final = 4
N_LENGTHS: Final = 6
SURE: Final = 1.96
LIKELY: Final = 1.92
"""What a beginning's log likelihood may lack of the best one's to be within the 95 % interval."""


@dataclass(frozen=True, eq=False)
class Effect:
    """The change of chosen parts since its likeliest beginning; arrays of shape (chosen,).

    size: against the reference, in the signal's unit or as a rate. error: its standard error. age: windows since it
    began, with the last; youngest, oldest: the ends of a 95 % interval of the age.
    """

    size: Floats
    error: Floats
    age: Floats
    youngest: Floats
    oldest: Floats

    @property
    def least(self) -> Floats:
        """The smallest size that a 95 % interval holds, 0 if it holds none."""
        return np.asarray(np.maximum(np.abs(self.size) - SURE * self.error, 0))

    @property
    def least_rate(self) -> Floats:
        """The same for a rate of events, which a normal law does not hold for: Poisson's exact lower limit."""
        count = np.square(self.size / self.error)
        return np.asarray(
            np.where(self.size > 0, special.gammaincinv(count, 0.025) / np.maximum(count, 1e-9), 0) * self.size
        )


@dataclass(frozen=True, eq=False)
class Trail:
    """Blocks of windows, the oldest first; what is told of each is one array per block.

    lengths: windows in each block. sums, rows: of what windows left beside level and season times rows, and the rows;
    each of shape (..., signals). events, event_rows: each of shape (..., events).
    """

    lengths: tuple[int, ...]
    sums: tuple[Floats, ...]
    rows: tuple[Floats, ...]
    events: tuple[Floats, ...]
    event_rows: tuple[Floats, ...]

    @classmethod
    def none(cls) -> Self:
        """No window yet."""
        return cls((), (), (), (), ())

    def after(self, rest: Floats, rows: Floats, events: Floats, event_rows: Floats) -> Trail:
        """With one more window; rest: what it left beside level and season."""
        lengths, firsts = _merged([*self.lengths, 1])
        kept = firsts[len(firsts) - len(lengths) :]
        return Trail(
            lengths,
            _joined((*self.sums, rest * rows), kept),
            _joined((*self.rows, rows), kept),
            _joined((*self.events, events), kept),
            _joined((*self.event_rows, event_rows), kept),
        )

    def effect(self, null: Null, wobble: Wobble, chosen: Bools) -> Effect:
        """The change of chosen signals (mask of shape (..., signals))."""
        total, rows, ages = self._since(self.sums, chosen), self._since(self.rows, chosen), self._ages()
        size = total / np.maximum(rows, 1)
        rho, variance = wobble.rho[chosen], wobble.variance[chosen]
        noise = np.broadcast_to(null.row_variance, chosen.shape)[chosen] / np.maximum(rows, 1)
        offset = np.broadcast_to(null.offset, chosen.shape)[chosen]
        error = np.sqrt(offset + noise + variance * of_mean(rho, ages) / ages)
        return self._best(size, error, np.where(rows > 0, np.square(size / error) / 2, 0.0))

    def event_effect(self, null: Null, chosen: Bools) -> Effect:
        """The rate of chosen events (mask of shape (..., events))."""
        found, rows = self._since(self.events, chosen), self._since(self.event_rows, chosen)
        usual, together = (np.broadcast_to(a, chosen.shape)[chosen] for a in (null.event_rate, null.event_size))
        rate = found / np.maximum(rows, 1)
        ratio = np.maximum(rate / usual, 1.0)
        likelihood = np.maximum(found * np.log(ratio) - rows * (ratio - 1) * usual, 0) / together
        return self._best(rate, np.sqrt(np.maximum(found, 1) * together) / np.maximum(rows, 1), likelihood)

    @staticmethod
    def _since(blocks: Sequence[Floats], chosen: Bools) -> Floats:
        """Sums since each block's beginning, the youngest first, shape (blocks, chosen)."""
        return np.cumsum([block[chosen] for block in reversed(blocks)], axis=0)

    def _ages(self) -> Floats:
        return np.cumsum(self.lengths[::-1], dtype=np.float64)[:, None]

    def _best(self, size: Floats, error: Floats, likelihood: Floats) -> Effect:
        best, ages = likelihood.argmax(axis=0), self._ages()
        at = (best, np.arange(best.size))
        likely = likelihood >= likelihood[at] - LIKELY
        youngest = np.where(likely, ages, np.inf).min(axis=0)
        oldest = np.where(likely, ages, 0.0).max(axis=0)
        return Effect(size[at], error[at], ages[best, 0], youngest, oldest)


def _joined(blocks: Sequence[Floats], firsts: Sequence[int]) -> tuple[Floats, ...]:
    """The sum of each run of blocks."""
    ends = [*firsts[1:], len(blocks)]
    return tuple(
        blocks[a] if b == a + 1 else sum(blocks[a + 1 : b], blocks[a]) for a, b in zip(firsts, ends, strict=True)
    )


def _merged(lengths: list[int]) -> tuple[tuple[int, ...], list[int]]:
    """Lengths of the blocks once those of one length that are too many are merged, and which blocks begin them.

    There is one length less than beginnings if the oldest block is to be forgotten.
    """
    firsts = list(range(len(lengths)))
    for power in range(N_LENGTHS):
        length = 2**power
        if lengths.count(length) <= PER_LENGTH:
            break
        oldest = lengths.index(length)
        if power == N_LENGTHS - 1:
            return tuple(lengths[1:]), firsts
        lengths[oldest : oldest + 2] = [2 * length]
        del firsts[oldest + 1]
    return tuple(lengths), firsts
