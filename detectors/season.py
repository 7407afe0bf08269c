"""The hours of a week: where in its season a window lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.cells import Counts, Places

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
WEEK_MS: Final = 7 * DAY_MS
MONDAY_MS: Final = 4 * DAY_MS
"""The first Monday of the epoch."""


@dataclass(frozen=True, slots=True)
class Season:
    """Cells of a week, in UTC. per_day: cells of a day, at most one an hour; 0 for windows that know no season."""

    per_day: int

    @classmethod
    def of(cls, width_ms: int) -> Season:
        """The season that windows of this width can show; windows longer than a day show none."""
        if not 0 < width_ms <= DAY_MS:
            return cls(0)
        return cls(min(DAY_MS // width_ms, 24))

    @property
    def n_cells(self) -> int:
        """Cells of a week, at least one."""
        return max(7 * self.per_day, 1)

    def cells(self, start_ms: Counts) -> Places:
        """The cell of each window by its start."""
        if not self.per_day:
            return np.zeros(np.shape(start_ms), np.intp)
        return np.asarray((start_ms - MONDAY_MS) % WEEK_MS * self.per_day // DAY_MS, np.intp)
