"""How two profiles become verdicts. One file per way to decide; `monitor.check` puts them together for a model.

Whatever a decision remembers from window to window is bytes that it gets back the next time, so that equal windows give
equal verdicts in any process.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

import msgspec
import numpy as np

from detectors import REGISTRY, Pair, Score
from detectors.cells import Cells
from detectors.parts import Measure
from monitor import describe
from monitor.batch import NO_TIME, Severity
from monitor.tally import Panes
from monitor.window import WHOLE

RARE: Final = 1e6
"""Beyond so many periods it does not matter how many."""
_MOST_DIGITS: Final = 300.0
MIN_ROWS: Final = 30
"""Fewer valid rows of a column are too few to call it ok."""
QUALITY: Final = frozenset({"missing", "type_error", "out_of_range", "unseen", "constant", "duplicate", "row_count"})
"""Detectors of faults in the data itself, which a new model would only learn."""
CORRELATION: Final = str(Measure.CORRELATION)
"""The measure of a verdict that speaks of a pair of columns."""
JOINT: Final = str(Measure.JOINT)
"""The measure of a verdict that speaks of all columns at once, and its name in the configuration."""
CLASSIFIER: Final = str(Measure.CLASSIFIER)
"""The same of one that speaks of whole rows."""


class Outcome(StrEnum):
    """What is said of one column in one window. Too little data is never "ok"."""

    OK = "ok"
    DRIFT = "drift"
    UNKNOWN = "unknown"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of one column of one window, and why.

    measure: the detector that speaks; effect: its size (see the detector) with a 95 % interval where one is known.
    p_value: corrected over the window. evidence: windows that chance takes to bring as much. since_window: where the
    present run of drift began; began: the window in which the change itself did, the likeliest and the ends of a 95 %
    interval. quality: facts about the data itself, each a phrase. faulty: the change is in the data's quality, nothing
    that a new model could learn. by_chance: periods of the budget in which chance brings as much evidence once; period:
    one of them. share: of the budget that is the column's. calibrating: too little is known yet of how the column moves
    while nothing is wrong.
    """

    column: str
    outcome: Outcome
    reason: str
    n_reference: int
    n_current: int
    measure: str
    severity: Severity = Severity.WARNING
    effect: float | None = None
    effect_low: float | None = None
    effect_high: float | None = None
    p_value: float | None = None
    evidence: float | None = None
    since_window: int | None = None
    began: tuple[int, int, int] | None = None
    quality: tuple[str, ...] = ()
    faulty: bool = False
    by_chance: float | None = None
    period: str = ""
    share: float | None = None
    calibrating: bool = False

    @property
    def rarity(self) -> float:
        """How rarely chance brings as much: decimal digits of the odds, in [0, 300]; 0 where nothing tells."""
        if self.evidence is not None:
            return min(math.log10(max(self.evidence, 1.0)), _MOST_DIGITS)
        return 0.0 if self.p_value is None else -math.log10(max(self.p_value, 10.0**-_MOST_DIGITS))

    def certainty(self) -> Iterator[str]:
        """How sure the verdict is and when the change began, in a few phrases."""
        if self.by_chance is not None:
            rare = self.by_chance >= RARE
            yield f"by chance once in {'over a million' if rare else describe.number(self.by_chance)} {self.period}s"
        if self.began is not None:
            best, first, last = self.began
            verb = "began" if self.since_window is None or best <= self.since_window else "changed again"
            yield f"{verb} in window {best}" + (f" ({first} to {last})" if first != last else "")
        if self.share is not None and self.by_chance is not None:
            yield f"{describe.percent(self.share)} of the budget"
        if self.calibrating and self.by_chance is not None:
            yield "calibrating"


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a window lies: its segment, its number there and its start (NO_TIME where rows have none).

    panes: its four quarters; None where they were not counted. rows: cells of some of its rows, in random order, shape
    (columns, rows); None where none are kept.
    """

    segment: str = WHOLE
    index: int = 0
    start_ms: int = NO_TIME
    panes: Panes | None = None
    rows: Cells | None = None


Clock = Callable[[], float]
"""Seconds, by which work is timed."""


def no_clock() -> float:
    """For who does not ask how long things take."""
    return 0.0


class Scores(Mapping[str, Score]):
    """What every detector says of a pair, each worked out when first asked for.

    A detector that fails on one column fails on that one alone: the others are scored by themselves.
    place: of the current side. failures: why, by column; n_failed: columns, by detector. seconds: that each took, by
    the clock.
    """

    def __init__(self, pair: Pair, place: Place | None = None, clock: Clock = no_clock) -> None:
        self.pair = pair
        self.place = place or Place()
        self.failures: dict[str, str] = {}
        self.n_failed: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}
        self._clock = clock
        self._known: dict[str, Score] = {}

    def __getitem__(self, name: str) -> Score:
        if name not in self._known:
            began = self._clock()
            try:
                self._known[name] = REGISTRY[name].score(self.pair)
            except Exception:  # noqa: BLE001  # found again below, column by column, and told in the verdict
                self._known[name] = self._one_by_one(name)
            self.seconds[name] = self._clock() - began
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(REGISTRY)

    def __len__(self) -> int:
        return len(REGISTRY)

    def _one_by_one(self, name: str) -> Score:
        pair, nothing = self.pair, np.full(self.pair.bins.n_columns, np.nan)
        whole = Score(nothing, nothing.copy(), nothing.copy(), pair.n, pair.m)
        for row, column in enumerate(pair.bins.names):
            try:
                score = REGISTRY[name].score(pair.only(row))
            except Exception as error:  # noqa: BLE001  # whatever a detector does, its column is unknown, with the reason
                self.failures[column] = f"{name} failed: {type(error).__name__}: {error}"
                self.n_failed[name] += 1
                continue
            for part in ("statistic", "p_value", "effect"):
                getattr(whole, part)[row] = getattr(score, part)[0]
        return whole


class Decision(Protocol):
    """Judges windows of one segment in their order. Pure: equal scores and memory give equal verdicts."""

    def judge(self, scores: Scores, memory: bytes) -> tuple[tuple[Verdict, ...], bytes]:
        """One verdict per column, in the order of `bins.names`, and what to remember; memory is b"" at first.

        After those of the columns may come verdicts on several columns at once, where there is something to say.
        """

    def again(self, scores: Scores, before: Sequence[Verdict]) -> tuple[Verdict, ...]:
        """Verdicts on the columns of a window that was amended; before: what was said of them, in the same order."""

    def limits(self, names: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        """What each of these columns' statistics are held against in the whole: by detector, by column."""


def too_few(n_rows: int, wanted: int = MIN_ROWS) -> str:
    """Why nothing is said of a column with so few valid rows."""
    return f"found {n_rows} valid rows, wanted {wanted} or more"


def finite(value: float) -> float | None:
    """The number itself, None for NaN and infinities."""
    return None if not np.isfinite(value) else float(value)
