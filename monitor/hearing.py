"""Whether anything comes, and whether it can be read: facts about the log that need no law of the values.

Both are certain, so both stand outside any budget of false alarms. How long is too long a silence is learnt from the
gaps that the log has had, unless the configuration says it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from detectors.season import HOUR_MS
from monitor.batch import NO_TIME, Records, Reject

MIN_SILENCE_MS: Final = HOUR_MS
BLOCK: Final = 200
"""Records that are judged together: most of so many must be readable."""


class Hearing(msgspec.Struct, frozen=True):
    """What is known of the log itself.

    heard_ms: when the newest record was logged, 0 before the first. gap_ms: the longest time without one so far. n_bad,
    n_all: records that could not be read, and all, of the present block; kinds: how often each kind of fault.
    broken: why most of the last full block could not be read, or "".
    """

    heard_ms: int = 0
    gap_ms: int = 0
    n_bad: int = 0
    n_all: int = 0
    kinds: dict[str, int] = {}
    broken: str = ""

    def after(self, records: Records, rejects: Sequence[Reject], now_ms: int) -> Hearing:
        """What is known once these records came. now_ms: the time of those that were logged without one."""
        n_new = int(records.offsets.size)
        if not n_new:
            return self
        logged = np.sort(np.where(records.timestamps_ms == NO_TIME, now_ms, records.timestamps_ms))
        later = logged[logged > self.heard_ms]
        heard_ms, gap_ms = self.heard_ms, self.gap_ms
        if later.size:
            steps = np.diff(later, prepend=self.heard_ms or later[0])
            heard_ms, gap_ms = int(later[-1]), max(gap_ms, int(steps.max()))
        kinds = Counter(self.kinds)
        kinds.update(reject.kind for reject in rejects)
        n_bad, n_all = self.n_bad + len(rejects), self.n_all + n_new
        if n_all < BLOCK:
            return Hearing(heard_ms, gap_ms, n_bad, n_all, dict(kinds), self.broken)
        commonest = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(3))
        broken = f"{n_bad} of {n_all} records cannot be read: {commonest}" if 2 * n_bad > n_all else ""
        return Hearing(heard_ms, gap_ms, broken=broken)

    def silent_since(self, now_ms: int, limit_ms: int | None, width_ms: int) -> int:
        """Since when nothing has come, if that is too long; else 0. limit_ms: what is too long, None to learn it."""
        wanted = max(2 * width_ms, 2 * self.gap_ms, MIN_SILENCE_MS) if limit_ms is None else limit_ms
        return self.heard_ms if self.heard_ms and now_ms - self.heard_ms > wanted else 0
