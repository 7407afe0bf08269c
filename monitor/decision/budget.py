"""The budget's decision: evidence adds up over windows, and a column alarms when chance would bring as much of it no
oftener than the budget allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import msgspec
import numpy as np

from detectors import Bins
from detectors.alarm import Terms
from detectors.blocks import PANE_ROWS, folded
from detectors.calibration import Allowance, Calibration, calibrate
from detectors.cells import Bools, Floats
from detectors.domain import Classifier, Told, auc_of
from detectors.joint import JOINT_NAME
from detectors.pairs import WHOLE_ROWS
from detectors.parts import Event, Measure
from detectors.season import Season
from detectors.signals import Signals
from detectors.vigil import Seen, Sight, Vigil
from monitor import describe
from monitor.allowance import Allowances
from monitor.batch import NO_TIME
from monitor.config import EVIDENCE
from monitor.decision import MIN_ROWS, Outcome, Scores, Verdict, finite, too_few
from monitor.past import Past, Pasts
from monitor.window import WHOLE

SURE: Final = 1.96
LN_MOST: Final = 700.0
_EVENTS: Final = {Event.MISSING: "missing", Event.INVALID: "type_error"}
_FAULTS: Final = frozenset({"missing", "type_error", "out_of_range", "unseen"})


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """What the budget has come to in one segment.

    false_alarms, per: the whole budget. n_windows, n_periods: so far. expected: alarms that chance brings in them, at
    most; pages: windows that told something new, alarms: of columns, a lasting change again and again. raised: by what
    factor the bar was raised; replayed, allowed: alarms of the reference's replay, and what the budget allows in it;
    order: what the order of the reference's rows told.
    n_columns, n_pairs: columns, and pairs of them, that are watched. off: those off paging, and why; calibrating: those
    of which too little is known yet. least: smallest shift that each column shows within 24 windows in four of five
    cases, in standard deviations; least_pairs: smallest change of each pair's correlation, in Fisher's z; least_joint:
    of a joint score, in its standard deviations; least_auc: smallest growth of the AUC of a classifier of whole rows.
    """

    false_alarms: float
    per: str
    n_windows: int = 0
    n_periods: float = 0.0
    expected: float = 0.0
    pages: int = 0
    alarms: int = 0
    raised: float = 1.0
    replayed: float | None = None
    allowed: float | None = None
    order: str = ""
    n_columns: int = 0
    n_pairs: int = 0
    off: dict[str, str] = {}
    calibrating: tuple[str, ...] = ()
    least: dict[str, float] = {}
    least_pairs: dict[str, float] = {}
    least_joint: float | None = None
    least_auc: float | None = None


class _Kept(msgspec.Struct, frozen=True, tag="budget"):
    """What is remembered. start_ms: of the last window; strongest: logarithm of the most evidence of firing columns."""

    vigil: bytes
    start_ms: int
    ledger: Ledger
    strongest: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Ward:
    """One segment under watch. classifier: of whole rows; None where they are not watched."""

    layout: Signals
    allowance: Allowance
    calibration: Calibration
    terms: Terms
    width_ms: int
    classifier: Classifier | None = None

    @classmethod
    def of(cls, past: Past, allowance: Allowance, known: Calibration | None, progress: Callable[[float], None]) -> Self:
        """The segment, calibrated if it is not yet."""
        material = past.material()
        calibration = known or calibrate(material, allowance, progress)
        return cls(material.signals, allowance, calibration, calibration.terms(allowance), material.width_ms)

    def told(self, scores: Scores) -> Told | None:
        """What the classifier says of the window: of as many rows as it was learnt from, or nothing."""
        rows, n_shown = scores.place.rows, self.layout.pairs.n_shown
        if self.classifier is None or not self.layout.n_told or rows is None or rows.shape[1] < n_shown:
            return None
        return self.classifier.tell(rows[:, :n_shown])

    def sight(self, scores: Scores, last_ms: int, told: Told | None) -> Sight:
        """The window as it is judged. told: of its rows."""
        place, current = scores.place, scores.pair.current
        if place.panes is None or current.n_rows < 2 * PANE_ROWS:
            panes = self.layout.read(current)[None]
        else:
            panes = folded(self.layout.read_counts(place.panes.counts.astype(np.int64), place.panes.pairs))
        if told is not None:
            panes.told[-1] = told.reading
        if not self.width_ms or place.start_ms == NO_TIME:
            return Sight(panes)
        gap = 0.0 if last_ms == NO_TIME else max((place.start_ms - last_ms) / self.width_ms - 1, 0.0)
        n_cells = len(self.calibration.null.season)
        cell = int(Season.of(self.width_ms).cells(np.array(place.start_ms))) if n_cells > 1 else 0
        return Sight(panes, gap, cell)


@dataclass(frozen=True, slots=True)
class Budget:
    """Evidence under a stated budget of false alarms. wards: by segment."""

    allowances: Allowances
    bins: Bins
    wards: Mapping[str, Ward]

    @classmethod
    def of(
        cls, allowances: Allowances, bins: Bins, pasts: Pasts, known: Mapping[str, Calibration],
        classifier: Classifier | None = None, progress: Callable[[float], None] = lambda _: None,
    ) -> Self:  # fmt: skip
        """Calibrated on the segments' references. classifier: of whole rows, where they are watched. progress: told the
        share that is done."""
        n = len(allowances.by_segment)
        wards = {}
        for i, (segment, allowance) in enumerate(allowances.by_segment.items()):

            def told(part: float, done: int = i) -> None:
                progress((done + part) / n)

            wards[segment] = Ward.of(pasts[segment], allowance, known.get(segment), told)
        wards[WHOLE] = replace(wards[WHOLE], classifier=classifier)
        return cls(allowances, bins, wards)

    def judge(self, scores: Scores, memory: bytes) -> tuple[tuple[Verdict, ...], bytes]:
        """See `Decision.judge`. Remembers the watch."""
        place = scores.place
        ward = self.wards[place.segment]
        null, layout, terms = ward.calibration.null, ward.layout, ward.terms
        kept = msgspec.msgpack.decode(memory, type=_Kept) if memory else self._first(place.segment)
        before = Vigil.from_bytes(kept.vigil) if memory else Vigil.begin(layout, null, terms)
        apart = ward.told(scores)
        sight = ward.sight(scores, kept.start_ms, apart)
        after, seen = before.after(layout, null, terms, sight)
        found = _Findings(ward, sight, after, seen, apart)
        names = ward.layout.names
        strongest = {
            names[c]: max(float(seen.ln_evidence[c]), kept.strongest.get(names[c], -np.inf))
            for c in np.flatnonzero(after.standing.firing).tolist()
        }
        told = [*range(self.bins.n_columns), *found.together(before)]
        verdicts = tuple(self._verdict(scores, found, row, strongest) for row in told)
        book = self._booked(ward, kept.ledger, sight, found)
        data = msgspec.msgpack.encode(_Kept(after.to_bytes(), place.start_ms, book, strongest))
        return verdicts, data

    def again(self, scores: Scores, before: Sequence[Verdict]) -> tuple[Verdict, ...]:
        """See `Decision.again`. Late rows change the numbers; what the evidence of that time said stays said."""
        fresh = self.judge(scores, b"")[0][: self.bins.n_columns]
        if not before or scores.place.index < 0:
            return fresh
        return tuple(_revised(*pair) for pair in zip(before, fresh, strict=True))

    def limits(self, names: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        """See `Decision.limits`; columns that are not paged for have none."""
        ward = self.wards[WHOLE]
        bars = zip(ward.layout.names, np.broadcast_to(ward.terms.ln_bar, len(ward.layout.names)), strict=True)
        known = {name: float(np.exp(min(ln_bar, LN_MOST))) for name, ln_bar in bars if np.isfinite(ln_bar)}
        return {EVIDENCE: {name: known[name] for name in names if name in known}}

    @staticmethod
    def ledger(memory: bytes) -> Ledger | None:
        """The ledger in what was remembered; None if another decision remembered it."""
        try:
            return msgspec.msgpack.decode(memory, type=_Kept).ledger
        except msgspec.MsgspecError:
            return None

    def _first(self, segment: str) -> _Kept:
        return _Kept(b"", NO_TIME, self.account(segment), {})

    def account(self, segment: str) -> Ledger:
        """A segment's ledger before its first window."""
        ward = self.wards[segment]
        layout, calibration = ward.layout, ward.calibration
        names, first, end = layout.names, self.bins.n_columns, self.bins.n_columns + layout.n_pairs
        others = _known(names[end:], calibration.least[end:])
        return Ledger(
            false_alarms=self.allowances.false_alarms, per=self.allowances.per,
            raised=float(np.exp(calibration.ln_factor)), replayed=finite(calibration.replayed),
            allowed=finite(calibration.allowed), order=calibration.order, n_columns=self.bins.n_columns,
            n_pairs=layout.n_pairs, off=self._off(ward, calibration.off),
            least=_known(self.bins.names, calibration.least[:first]),
            least_pairs=_known(names[first:end], calibration.least[first:end]),
            least_joint=others.get(JOINT_NAME),
            least_auc=round(auc_of(others[WHOLE_ROWS]) - auc_of(0), 4) if WHOLE_ROWS in others else None,
        )  # fmt: skip

    def _booked(self, ward: Ward, book: Ledger, sight: Sight, found: _Findings) -> Ledger:
        length = 1 + float(np.asarray(sight.gap))
        names = ward.layout.names
        return msgspec.structs.replace(
            book, n_windows=book.n_windows + 1, n_periods=book.n_periods + length / ward.allowance.period,
            expected=book.expected + length / ward.allowance.period * ward.allowance.own,
            pages=book.pages + bool(found.seen.opened.any()), alarms=book.alarms + int(found.seen.alarm.loud.sum()),
            off=self._off(ward, found.off),
            calibrating=tuple(names[c] for c in np.flatnonzero(found.calibrating).tolist()),
        )  # fmt: skip

    def _off(self, ward: Ward, off: Mapping[int, str]) -> dict[str, str]:
        """What is off paging, and why, by its name; what the reference was not made for too."""
        return {**self.allowances.unknown, **{ward.layout.names[column]: why for column, why in off.items()}}

    def _verdict(self, scores: Scores, found: _Findings, row: int, strongest: Mapping[str, float]) -> Verdict:
        pair, column, single = scores.pair, found.ward.layout.names[row], row < self.bins.n_columns
        n, m = (int(pair.n[row]), int(pair.m[row])) if single else (pair.reference.n_rows, pair.current.n_rows)
        firing = bool(found.firing[row])
        measure, effect, low, high = found.told(row, scores)
        ln_evidence = strongest.get(column, float(found.seen.ln_evidence[row]))
        outcome, reason = Outcome.OK, ""
        if firing:
            words = describe.change(pair, row, measure) if single else found.related(row, effect or 0.0)
            empty = not m and measure not in _FAULTS
            outcome, reason = Outcome.DRIFT, "it drifted before, and has no value in this window" if empty else words
        elif row in found.off:
            outcome, reason = Outcome.UNKNOWN, found.off[row]
        elif found.held[row]:
            outcome = Outcome.UNKNOWN
            reason = "rang while it is calibrating, when the budget's pages were used up"
        elif m < MIN_ROWS:
            outcome, reason = Outcome.UNKNOWN, too_few(m)
        elif found.seen.alarm.small[row]:
            reason = "statistically real, but too small to be worth a page"
        return Verdict(
            column=column, outcome=outcome, reason=reason, n_reference=n, n_current=m,
            measure=measure, effect=effect, effect_low=low, effect_high=high,
            evidence=finite(float(np.exp(min(ln_evidence, LN_MOST)))),
            began=found.began(row, scores.place.index) if firing else None,
            quality=(reason,) if firing and measure in _FAULTS else (), faulty=firing and measure in _FAULTS,
            by_chance=found.by_chance(ln_evidence) if firing else None,
            period=self.allowances.per,
            share=round(float(found.ward.allowance.shares[row]), 6), calibrating=bool(found.calibrating[row]),
        )  # fmt: skip


def _known(names: Sequence[str], sizes: Floats) -> dict[str, float]:
    return {name: round(float(size), 4) for name, size in zip(names, sizes, strict=True) if np.isfinite(size)}


def _revised(before: Verdict, fresh: Verdict) -> Verdict:
    """What is said of a column once late rows were counted in. fresh: judged without what came before it."""
    if before.outcome is Outcome.DRIFT:
        return msgspec.structs.replace(before, n_current=fresh.n_current)
    if fresh.outcome is Outcome.DRIFT:
        return msgspec.structs.replace(fresh, outcome=Outcome.OK, reason="", quality=(), faulty=False)
    return fresh


class _Findings:
    """What a window showed of every column, in the words of verdicts."""

    def __init__(self, ward: Ward, sight: Sight, vigil: Vigil, seen: Seen, told: Told | None) -> None:
        layout, null = ward.layout, ward.calibration.null
        self.ward, self.seen, self._vigil, self._told = ward, seen, vigil, told
        self.firing: Bools = vigil.standing.firing
        self.held: Bools = vigil.standing.held
        self.calibrating: Bools = vigil.calibrating(layout, null)
        self.off = dict(ward.calibration.off)
        for column in np.flatnonzero(vigil.standing.wandering(ward.terms)).tolist():
            self.off.setdefault(column, "it wanders: give a reference of the present level, or watch its differences")
        self._changes = {
            column: vigil.effect(layout, null, seen.wobble, column) for column in np.flatnonzero(self.firing).tolist()
        }
        self._now, self._error = self._present(sight)
        self._expected = null.at(sight.cell)[0]

    def _present(self, sight: Sight) -> tuple[Floats, Floats]:
        """How far each column's level, or its most frequent word's share, is from what was expected, and how surely."""
        layout, null = self.ward.layout, self.ward.calibration.null
        values, rows = layout.values(sight.panes.sum(axis=0))
        expected, unsure = null.at(sight.cell)
        error = np.sqrt(null.row_variance / np.maximum(rows, 1) + null.offset + unsure)
        size, wide = np.where(rows > 0, values - expected, np.nan) / layout.unit, error / layout.unit
        found = np.full((2, layout.n_columns), np.nan)
        found[:, layout.column[::-1]] = np.stack((size, wide))[:, ::-1]  # the first of each column is left standing
        return found[0], found[1]

    def together(self, before: Vigil) -> Iterable[int]:
        """Rows of what is watched of several columns at once, where there is something to say of it."""
        standing, first = before.standing, self.ward.layout.bins.n_columns
        told = self.firing | self.held | standing.firing | standing.held
        return (first + np.flatnonzero(told[first:])).tolist()

    def related(self, row: int, change: float) -> str:
        """What became of the correlation of a pair of columns, of a joint score, or of whole rows; change: in the
        effect's unit."""
        layout = self.ward.layout
        signal = layout.first_of(row)
        if layout.measure[signal] is Measure.JOINT:
            members = layout.pairs.joint.members(self._changes[row][0] - signal)
            *others, last = (layout.bins.names[column] for column in members)
            return f"{', '.join(others)} and {last} no longer go together as they did"
        if layout.measure[signal] is Measure.CLASSIFIER:
            leaning = [] if self._told is None else [layout.bins.names[column] for column in self._told.columns]
            return describe.told_apart(auc_of(self._expected[signal]), auc_of(self._expected[signal] + change), leaning)
        z = self._expected[signal] / layout.scale[signal] + layout.mean[signal]
        return f"from {np.tanh(z):.2f} to {np.tanh(z + change):.2f}"

    def told(self, row: int, scores: Scores) -> tuple[str, float | None, float | None, float | None]:
        """The measure that speaks, and the size of the change with its 95 % interval."""
        layout = self.ward.layout
        if row not in self._changes:
            size, error = float(self._now[row]), float(self._error[row])
            first = layout.first_of(row)
            measure = str(layout.measure[first]) if first < layout.n_signals else ""
            return measure, finite(size), finite(size - SURE * error), finite(size + SURE * error)
        part, change = self._changes[row]
        size, error = float(change.size[0]), float(change.error[0])
        if part < layout.n_signals:
            unit = float(layout.unit[part])
            measure = layout.measure[part]
            name = "missing" if measure is Measure.MISSING else str(measure)
            return name, size / unit, (size - SURE * error) / unit, (size + SURE * error) / unit
        event = layout.event[part - layout.n_signals]
        numeric = row < scores.pair.bins.n_numeric
        name = _EVENTS.get(event) or ("out_of_range" if numeric else "unseen")
        return name, size, max(size - SURE * error, 0.0), size + SURE * error

    def began(self, row: int, index: int) -> tuple[int, int, int]:
        """The windows in which the change began: the likeliest, the earliest and the latest."""
        _, change = self._changes[row]
        ages = (change.age[0], change.oldest[0], change.youngest[0])
        best, first, last = (max(index + 1 - int(age), 0) for age in ages)
        return best, first, last

    def by_chance(self, ln_evidence: float) -> float:
        """Periods of the budget in which chance brings as much evidence once in this column."""
        ln_windows = ln_evidence - self.ward.calibration.ln_factor
        return float(f"{np.exp(min(ln_windows, 60.0)) / self.ward.allowance.period:.3g}")
