"""The loss: one more numeric column, what the labels among the records make of the model's output.

Outputs that are numbers have their absolute error, words are right (0) or wrong (1). A row without label, or without
output, has none: it was not observed, which is no fault.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec
import numpy as np

from detectors import Bins, Profile
from detectors.cells import INVALID, RARE, UNSEEN, Cells, Floats
from detectors.profile import INFINITE, SQUARES, SUM

LOSS: Final = "loss"
SURE: Final = 1.96


def absolute(labels: Floats, outputs: Floats) -> Floats:
    """The absolute error, NaN where either is."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.abs(labels - outputs))


def labels_of(cells: Cells) -> Floats:
    """Labels in words, as cells of the output's column; NaN where there is none."""
    return np.where(cells > INVALID, cells, np.nan)


def unlike(labels: Floats, said: Floats) -> Floats:
    """0 where a word was right and 1 where it was wrong, both as `labels_of` has them.

    Of words that share a cell nobody can say whether they are one: such rows have no loss.
    """
    alike = (labels == said) & ((said == UNSEEN) | (said == RARE))
    known = ~np.isnan(labels) & ~np.isnan(said) & ~alike
    return np.where(known, labels != said, np.nan)


def from_labels(bins: Bins, numbers: Floats, words: Cells) -> None:
    """Make losses of the labels that stand where the losses belong. Shapes as `Bins.cells` wants them."""
    for row, output in bins.errors.items():
        if output < bins.n_numeric:
            numbers[row] = absolute(numbers[row], numbers[output])
            continue
        numbers[row] = unlike(numbers[row], labels_of(words[output - bins.n_numeric]))


class Loss(msgspec.Struct, frozen=True):
    """The loss of some rows. n: those that have one; usual: the reference's mean.

    above, squares: sums over the rows of how much each lies above the usual, and of that squared. Losses against one
    reference add.
    """

    n: int
    usual: float
    above: float
    squares: float

    @classmethod
    def of(cls, profile: Profile) -> Loss | None:
        """The loss in a profile; None where it has no such column, or no row of it a label."""
        row = next(iter(profile.bins.errors), None)
        n = 0 if row is None else int(profile.n_valid[row] - profile.sums[row, INFINITE])
        if row is None or n == 0:
            return None
        column = profile.bins.numeric[row]
        total, squares = (int(profile.sums[row, which]) for which in (SUM, SQUARES))
        shift = column.centre - column.mean
        above = column.unit * total + n * shift
        return cls(n, column.mean, above, column.unit**2 * squares + 2 * column.unit * shift * total + n * shift**2)

    def __add__(self, other: Loss) -> Loss:
        """Of both sets of rows. ValueError when they were compared with different references."""
        if self.usual != other.usual:
            raise ValueError(f"losses add against one reference; the usual mean is {self.usual} and {other.usual}")
        return Loss(self.n + other.n, self.usual, self.above + other.above, self.squares + other.squares)

    @property
    def rise(self) -> float:
        """How far the mean lies above the usual."""
        return self.above / self.n

    @property
    def mean(self) -> float:
        return self.usual + self.above / self.n

    @property
    def low(self) -> float:
        """Lower end of the mean's 95 % interval; `high` is the upper one."""
        return self.mean - SURE * self._error

    @property
    def high(self) -> float:
        return self.mean + SURE * self._error

    @property
    def _error(self) -> float:
        spread = max(self.squares / self.n - (self.above / self.n) ** 2, 0.0)
        return math.sqrt(spread / self.n)


class Toll(msgspec.Struct, frozen=True):
    """What a risen loss has cost since the model was deployed, in units of the loss summed over predictions.

    total: never below nothing, so that good times do not pay for bad ones to come. per_ms: in the latest window.
    n_labels: labels so far.
    """

    total: float = 0.0
    per_ms: float = 0.0
    n_labels: int = 0

    def after(self, loss: Loss, n_rows: int, width_ms: int) -> Toll:
        """After a window of so many predictions, of which this loss is known."""
        cost = loss.rise * n_rows
        return Toll(max(self.total + cost, 0.0), cost / width_ms if width_ms > 0 else 0.0, self.n_labels + loss.n)

    def by(self, ahead_ms: int) -> float:
        """What it has cost, and will have cost in so long if it goes on."""
        return self.total + max(self.per_ms, 0.0) * ahead_ms
