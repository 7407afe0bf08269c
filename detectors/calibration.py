"""Learning what is normal from a reference, and proving that the budget holds on the reference itself.

The null model is fitted to the reference's blocks. Then the reference is replayed through the very detector that will
watch, each stretch of it under a null model that was fitted without it; the bar is raised until the replay alarms no
more often than the budget allows. A column that cannot be held to it is taken off paging, by a rule that is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from detectors.alarm import HOLD, Terms
from detectors.belief import Belief, Span
from detectors.blocks import Blocks
from detectors.cells import Bools, Counts, Floats
from detectors.evidence import N_FACTORS
from detectors.learning import Learning
from detectors.null import GATE, Null, learnt, of_mean, order_speaks, prior
from detectors.packed import pack, unpack
from detectors.parts import TOGETHER, Measure
from detectors.season import Season
from detectors.signals import Reading, Signals
from detectors.vigil import Sight, Vigil

VERSION: Final = 1
MAX_LN_FACTOR: Final = 3.0
STEP_LN_FACTOR: Final = 0.5
N_FOLDS: Final = 10
MIN_REPLAY: Final = 20
"""Blocks without which there is nothing to replay."""
SOON: Final = 24
BLIND: Final = 1.0
"""A column that would not show a shift of so many standard deviations within a period is off paging."""
MISLED: Final = 0.25
"""If so many columns cannot be held to the budget in the order of rows without a time, it is not that of time."""
FEW_STEPS: Final = 2.5
"""Of squared steps from block to block, over the squared range, that a file sorted by few values has."""
POWER: Final = 0.84
SURE: Final = 1.96
MIN_LONG_BLOCKS: Final = 4

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True, eq=False)
class Allowance:
    """What one segment of a model may ring.

    alarms: of the whole budget, in one period, over everything. period: windows in it. shares: of each column, shape
    (columns,); over all models, segments and columns they add up to 1.
    """

    alarms: float
    period: float
    shares: Floats

    @property
    def ln_bar(self) -> Floats:
        """Evidence that chance brings as often as the column may ring, shape (columns,), infinite for no share."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.period / self.alarms) - np.log(self.shares))

    @property
    def own(self) -> float:
        """Alarms in a period that are this segment's."""
        return float(self.alarms * self.shares.sum())


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What there is to learn from: the signals, the reading and row variance of all rows, blocks and their season.

    width_ms: of windows of time, else 0. misleading: why the blocks' order is known not to be that of time; "" if it is
    not known.
    """

    signals: Signals
    whole: Reading
    row_variance: Floats
    blocks: Blocks | None
    width_ms: int
    misleading: str = ""

    @property
    def season(self) -> Season:
        return Season.of(self.width_ms)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was learnt from a reference for one segment.

    ln_factor: logarithm of what the bar is raised by. by_window: see `Terms`. off: why a column is off paging, by its
    row. replayed, allowed: alarms of the replay, and how many the budget allows in it, NaN where nothing was replayed.
    n_blocks: what was replayed. least: smallest shift that each column shows in four of five cases within 24 windows,
    in standard deviations; least_period: within a period; shape (columns,), NaN for columns without values to shift.
    rows: usual rows of a window. order: what the order of the reference's rows told.
    """

    null: Null
    ln_factor: float
    by_window: bool
    off: dict[int, str]
    replayed: float
    allowed: float
    n_blocks: int
    least: Floats
    least_period: Floats
    rows: float
    order: str

    def terms(self, allowance: Allowance) -> Terms:
        """What the watch works under."""
        silent = np.zeros(allowance.shares.shape, np.bool_)
        silent[list(self.off)] = True
        hold = max(HOLD, len(self.null.season) / 7) if len(self.null.season) > 7 else HOLD
        return Terms(
            allowance.ln_bar + self.ln_factor, allowance.period, allowance.own, hold, silent, self.by_window
        )  # fmt: skip

    def to_bytes(self) -> bytes:
        """Versioned and checksummed."""
        own, arrays = self.null.to_arrays()
        facts = {
            "version": VERSION, "null": own, "ln_factor": self.ln_factor, "by_window": self.by_window,
            "off": {str(column): why for column, why in self.off.items()}, "replayed": self.replayed,
            "allowed": self.allowed, "n_blocks": self.n_blocks, "rows": self.rows, "order": self.order,
        }  # fmt: skip
        return pack(facts, {**arrays, "least": self.least, "least_period": self.least_period}, level=6)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote. ValueError when it is damaged or of another version."""
        facts, arrays = unpack(data)
        if facts.pop("version") != VERSION:
            raise ValueError("a calibration of another version")
        own: dict[str, Any] = {name: arrays.pop(name) for name in ("least", "least_period")}
        off = {int(column): why for column, why in facts.pop("off").items()}
        return cls(null=Null.from_arrays(facts.pop("null"), arrays), off=off, **own, **facts)


def calibrate(material: Material, allowance: Allowance, progress: Progress = lambda _: None) -> Calibration:
    """Learn, replay, and take off paging what cannot be held to the budget. progress: told the share that is done."""
    blocks = None if material.misleading else material.blocks
    null, trusted = _fit(material, blocks)
    off = _unsteady(material, blocks, null) if trusted and blocks is not None else {}
    proof = _Proof(0.0, False, float("nan"), float("nan"), {})
    if blocks is not None and blocks.n_blocks >= MIN_REPLAY and blocks.scale == 1:
        proof = _prove(material, blocks, null, allowance, off, progress)
        off = {**off, **proof.off}
    order = _order(material, trusted)
    bare = Calibration(
        null, proof.ln_factor, proof.by_window, off, proof.replayed, proof.allowed,
        0 if blocks is None else blocks.n_blocks, np.zeros(0), np.zeros(0), _usual_rows(material), order,
    )  # fmt: skip
    soon, later = least_shift(material, bare, allowance)
    for column in np.flatnonzero(later > BLIND):
        off.setdefault(int(column), f"sees no shift below {later[column]:.2g} standard deviations in a period")
    if blocks is not None and not blocks.is_timed and (why := _misleading(material, blocks, off)):
        return calibrate(replace(material, misleading=why), allowance, progress)
    progress(1.0)
    return replace(bare, off=dict(sorted(off.items())), least=soon, least_period=later)


def _misleading(material: Material, blocks: Blocks, off: Mapping[int, str]) -> str:
    """Why the order of rows without a time is none of time: too many columns cannot be watched in it, or move as in a
    sorted file, in few steps or all the way in one direction; "" if nothing says so."""
    layout = material.signals
    n_columns = layout.bins.n_columns
    n_off = sum(column < n_columns for column in off)
    if n_off > MISLED * n_columns:
        return f"{n_off} of {n_columns} columns change too much along the rows"
    if blocks.n_blocks < MIN_REPLAY:
        return ""
    values, rows = layout.values(blocks.windows)
    noise = (material.row_variance / np.maximum(rows, 1)).mean(axis=0)
    excess = values.var(axis=0, ddof=1) - noise
    steps = np.square(np.diff(values, axis=0)).mean(axis=0) / 2 - noise
    smooth = (excess > GATE**2) & (steps <= FEW_STEPS / (blocks.n_blocks - 1) * excess) & ~layout.is_together
    n_smooth = np.unique(layout.column[smooth]).size
    if n_smooth > MISLED * n_columns:
        return f"{n_smooth} of {n_columns} columns lie in it as in a sorted file"
    return ""


def _order(material: Material, trusted: bool) -> str:
    """What the order of the reference's rows told."""
    blocks = material.blocks
    if material.misleading:
        return f"the order of the rows is not that of time: {material.misleading}"
    if blocks is None:
        return "the windows of the reference are not known"
    if blocks.is_timed:
        return "the rows have a time"
    if trusted:
        return "the rows have no time, but their order shows how they move"
    return "the rows have no time, and their order shows nothing"


def least_shift(material: Material, calibration: Calibration, allowance: Allowance) -> tuple[Floats, Floats]:
    """The smallest shift that is found in four of five cases, within 24 windows and within a period.

    By the filter's own response to a shift: what it has not absorbed yet counts. In standard deviations of the level;
    of the most frequent word's indicator, for words; of pairs, in Fisher's z; of joint scores, in their own; of a
    classifier, in `Told.effect`. NaN where there is nothing to shift.
    """
    layout, null = material.signals, calibration.null
    speaks, columns = _speakers(layout)
    found = np.full((2, layout.n_columns), np.nan)
    if not speaks.size:
        return found[0], found[1]
    wobble = Learning.initial(null).wobble(null)
    rows = np.minimum(np.full(layout.n_signals, calibration.rows), null.most_rows)
    still, n_long = Belief.initial(null, wobble), int(min(max(allowance.period, SOON), 336))
    middle = int(np.argsort(null.season_variance.mean(axis=1))[len(null.season_variance) // 2])
    span = Span.of(null, wobble, 1.0, 0.0, middle)
    for _ in range(n_long):
        still, _ = still.after(null, wobble, span.expected, rows, span)
    still = replace(still, of_offset=np.zeros_like(rows), of_wobble=np.zeros_like(rows))
    information = np.zeros(layout.n_signals)
    wanted = allowance.ln_bar + calibration.ln_factor + np.log(N_FACTORS * layout.n_parts)
    threshold = np.sqrt(2 * np.maximum(wanted, 0))[layout.column] + POWER
    noise, rho = null.row_variance / np.maximum(rows, 1), wobble.rho
    for window in range(1, n_long + 1):
        still, surprise = still.after(null, wobble, span.expected, rows, span)
        information += np.square(surprise.response)
        if window in (SOON, n_long):
            error = np.sqrt(null.offset + noise / window + wobble.variance * of_mean(rho, window) / window)
            least = np.maximum(null.deadband + threshold / np.sqrt(information), null.gate + (SURE + POWER) * error)
            for place in range(0 if window == SOON else 1, 2 if window == n_long else 1):
                found[place, columns] = least[speaks] / np.where(layout.is_pair, layout.unit, 1.0)[speaks]
    return found[0], found[1]


@dataclass(frozen=True, slots=True)
class _Proof:
    ln_factor: float
    by_window: bool
    replayed: float
    allowed: float
    off: dict[int, str]


def _fit(material: Material, blocks: Blocks | None) -> tuple[Null, bool]:
    """The null model, and whether the order of blocks was taken for that of time."""
    base = prior(material.signals, material.whole, material.row_variance, blocks)
    if blocks is None or blocks.n_blocks < 2:
        return base, False
    speaks = order_speaks(material.signals, blocks, material.row_variance)
    if not (blocks.is_timed or speaks):
        return base, False
    return learnt(material.signals, blocks, material.season, base), True


def _usual_rows(material: Material) -> float:
    blocks = material.blocks
    if blocks is None or not blocks.n_blocks:
        return 1000.0
    return float(np.median(blocks.windows.n_all)) / blocks.scale


def _speakers(layout: Signals) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The signal that stands for each column's values (level, or the most frequent word), and its column."""
    found: dict[int, int] = {}
    for signal, (column, measure) in enumerate(zip(layout.column.tolist(), layout.measure, strict=True)):
        if measure in (Measure.LEVEL, Measure.SHARE, *TOGETHER):
            found.setdefault(column, signal)
    return np.array(list(found.values()), np.intp), np.array(list(found), np.intp)


def _unsteady(material: Material, blocks: Blocks, null: Null) -> dict[int, str]:
    """Columns whose level in long stretches of the reference differs by more than their wobble explains."""
    layout = material.signals
    n_long = min(8, blocks.n_blocks // 7)
    if n_long < MIN_LONG_BLOCKS:
        return {}
    values, rows = layout.values(blocks.windows)
    cells = material.season.cells(blocks.start_ms) if blocks.is_timed else np.zeros(blocks.n_blocks, np.intp)
    length = blocks.n_blocks // n_long
    kept = slice(0, n_long * length)
    rest = np.where(rows > 0, values - null.level - null.season[cells], 0.0)[kept].reshape(n_long, length, -1)
    long_rows = rows[kept].reshape(n_long, length, -1).sum(axis=1)
    means = rest.mean(axis=1)
    scatter = null.wobble * of_mean(null.rho, length) / length
    expected = scatter + (null.row_variance / np.maximum(long_rows, 1)).mean(axis=0)
    variance = means.var(axis=0, ddof=1)
    limit = special.chdtri(n_long - 1, 0.001) / (n_long - 1)
    excess = np.sqrt(np.maximum(variance - expected, 0))
    moved = (variance > limit * expected) & (excess >= null.gate) & ~layout.is_fault
    return {
        int(column): "its level moves within the reference by more than it wobbles: give a reference whose level is "
        "the present one, or watch its differences"
        for column in np.unique(layout.column[moved])
    }


def _prove(
    material: Material, blocks: Blocks, null: Null, allowance: Allowance, off: dict[int, str], progress: Progress
) -> _Proof:
    """Replay each stretch of the reference under the model of the rest, and raise the bar until the budget holds."""
    replay = _Replay(material, blocks, null, allowance, off)
    allowed = allowance.own * blocks.n_blocks / allowance.period
    ways = N_FOLDS
    by_window = False
    if blocks.n_panes > 1:
        by_window = bool(replay.alarms(0.0, by_window=False).sum() > allowed / 2)
    progress(1 / ways)
    counted = replay.alarms(0.0, by_window)
    ln_factor = 0.0
    while counted.sum() > allowed and ln_factor < MAX_LN_FACTOR:
        ln_factor += STEP_LN_FACTOR
        counted = replay.alarms(ln_factor, by_window)
        progress((2 + ln_factor / STEP_LN_FACTOR) / ways)
    gone: dict[int, str] = {}
    for column in np.argsort(-counted, kind="stable").tolist():
        if counted.sum() <= allowed:
            break
        gone[column] = f"rang {counted[column]:.0f} times in {blocks.n_blocks} windows of the reference itself"
        counted[column] = 0
    return _Proof(ln_factor, by_window, float(counted.sum()), allowed, gone)


class _Replay:
    """The reference in stretches side by side, each with the null model of the others."""

    def __init__(
        self, material: Material, blocks: Blocks, null: Null, allowance: Allowance, off: dict[int, str]
    ) -> None:
        season = material.season
        shortest = season.per_day if blocks.is_timed and season.per_day > 1 else MIN_REPLAY // N_FOLDS
        n_folds = int(np.clip(blocks.n_blocks // max(shortest, 1), 2, N_FOLDS))
        fold = np.arange(blocks.n_blocks) * n_folds // blocks.n_blocks
        nulls = []
        for i in range(n_folds):
            fitted, _ = _fit(material, blocks.chosen(fold != i))
            if len(fitted.season) < len(null.season):
                shape = null.season.shape
                fitted = replace(
                    fitted, season=np.broadcast_to(fitted.season, shape),
                    season_variance=np.broadcast_to(fitted.season_variance, shape),
                )  # fmt: skip
            nulls.append(fitted)
        self._layout, self._allowance = material.signals, allowance
        self._null = Null.stacked(nulls)
        self._silent = np.isin(np.arange(material.signals.n_columns), list(off))
        self._hold = HOLD
        self._sights = list(_side_by_side(blocks, fold, n_folds, material))

    def alarms(self, ln_factor: float, by_window: bool) -> Floats:
        """How often each column alarms, shape (columns,)."""
        bar = self._allowance.ln_bar + ln_factor
        terms = Terms(bar, self._allowance.period, self._allowance.own, self._hold, self._silent, by_window, False)
        vigil = Vigil.begin(self._layout, self._null, terms)
        counted = np.zeros(self._layout.n_columns)
        for sight in self._sights:
            vigil, seen = vigil.after(self._layout, self._null, terms, sight)
            counted += seen.alarm.loud.sum(axis=0)
        return counted


def _side_by_side(blocks: Blocks, fold: NDArray[np.intp], n_folds: int, material: Material) -> Iterator[Sight]:
    """The k-th block of every fold at once; folds that have ended show windows without rows."""
    cells, gaps = material.season.cells(blocks.start_ms), blocks.gaps(material.width_ms)
    begins = np.searchsorted(fold, np.arange(n_folds))
    ends = np.append(begins[1:], blocks.n_blocks)
    panes = blocks.reading
    for k in range(int((ends - begins).max())):
        at = np.minimum(begins + k, ends - 1)
        over = begins + k >= ends
        gap = np.where(over | (k == 0), 0.0, gaps[at])
        yield Sight(panes[at].each(partial(_emptied, over=over)), gap, cells[at] if blocks.is_timed else 0)


def _emptied(array: Counts, over: Bools) -> Counts:
    """Zeros where it is over; the first two axes change places."""
    return np.where(over.reshape(-1, *[1] * (array.ndim - 1)), 0, array).swapaxes(0, 1)
