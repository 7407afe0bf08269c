"""One segment's columns under watch: all that is known of them, window by window, as one value.

A window goes in as the readings of its panes, and out come the next state and what is to be said. All columns are one
vector; leading axes may hold several independent watches side by side, as the replay of a reference does.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import reduce
from typing import Any, Final

import numpy as np

from detectors.alarm import LEADING, Alarm, Standing, Terms
from detectors.belief import Belief, Span, Wobble
from detectors.cells import Bools, Floats
from detectors.evidence import Cap, Counted, Evidence
from detectors.learning import Learning
from detectors.null import GATE_RATE, TRUSTED_WINDOWS, Null
from detectors.packed import pack, unpack
from detectors.signals import Reading, Signals
from detectors.trail import Effect, Trail

VERSION: Final = 2


@dataclass(frozen=True, eq=False)
class Sight:
    """A window as it is judged. panes: shape (panes, ...); gap: windows without rows before it; cell: of the season."""

    panes: Reading
    gap: Floats | float = 0.0
    cell: np.ndarray[Any, np.dtype[np.intp]] | int = 0


@dataclass(frozen=True, eq=False)
class Seen:
    """What a window showed; arrays of shape (..., columns).

    ln_evidence: of what may be paged; alarm: see there; opened: columns whose incident opened now. wobble: of each
    signal at the time.
    """

    ln_evidence: Floats
    alarm: Alarm
    opened: Bools
    wobble: Wobble


@dataclass(frozen=True, eq=False)
class Vigil:
    """The state of a watch."""

    belief: Belief
    learning: Learning
    evidence: Evidence
    trail: Trail
    standing: Standing

    @classmethod
    def begin(cls, layout: Signals, null: Null, terms: Terms) -> Vigil:
        """A watch that has seen nothing."""
        learning = Learning.initial(null)
        shape = (*null.level.shape[:-1], layout.n_columns)
        return cls(
            Belief.initial(null, learning.wobble(null)), learning, Evidence.none(null), Trail.none(),
            Standing.initial(shape, terms),
        )  # fmt: skip

    def calibrating(self, layout: Signals, null: Null) -> Bools:
        """Columns of which too few windows are known yet, shape (..., columns)."""
        known = null.n_windows[..., :1] + self.learning.n_windows()
        return np.asarray(layout.best_of(-known) > -TRUSTED_WINDOWS)

    def after(self, layout: Signals, null: Null, terms: Terms, sight: Sight) -> tuple[Vigil, Seen]:
        """The state after a window, and what the window showed."""
        wobble = self.learning.wobble(null)
        belief, evidence, course = self._through_panes(layout, null, terms, sight, wobble)
        whole = sight.panes.sum(axis=0)
        values, rows = layout.values(whole)
        rows = np.minimum(rows, null.most_rows)
        expected, unsure = null.at(sight.cell)
        rest = np.where(rows > 0, values - expected, 0.0)
        counts = Counted(whole.events.astype(np.float64), layout.event_rows(whole))
        trail = self.trail.after(rest, rows, counts.events, counts.rows)
        learning = self.learning.after(null, wobble, rest, rows)
        standing = self.standing.passed(terms, 1 + np.asarray(sight.gap))
        if standing.firing.any():
            variance = wobble.variance + null.row_variance / np.maximum(rows, 1) + null.offset + unsure
            standing = standing.homeward(self._return(layout, null, rest, variance, counts))
        found = Vigil(belief, learning, evidence, trail, standing)
        silent = terms.silent | standing.wandering(terms)
        alarm, ln_evidence = found._alarms(layout, null, terms, course, wobble, silent)
        troubled = layout.troubled(alarm.loud | alarm.quiet | standing.firing)
        alarm = alarm.without(troubled)
        standing, opened = standing.after(terms, alarm, lambda: self.calibrating(layout, null))
        after = Vigil(belief, learning, evidence, trail, standing)
        after = after._reset(layout, null, wobble, alarm.loud | alarm.quiet | troubled)
        return after, Seen(ln_evidence, alarm, opened, wobble)

    def effect(self, layout: Signals, null: Null, wobble: Wobble, column: int) -> tuple[int, Effect]:
        """The part that speaks for a column, and its change by now; for a watch without leading axes."""
        part = int(self.standing.part[column])
        if part < layout.n_signals:
            return part, self.trail.effect(null, wobble, np.arange(layout.n_signals) == part)
        return part, self.trail.event_effect(null, np.arange(layout.n_events) == part - layout.n_signals)

    def to_bytes(self) -> bytes:
        """The state as bytes, numbers of four bytes each."""
        arrays, facts = {}, {"version": VERSION, "lengths": self.trail.lengths}
        for name, part in self._parts().items():
            for field in fields(part):
                if field.name != "lengths":
                    value = np.asarray(getattr(part, field.name))  # a trail's blocks lie one after the other
                    arrays[f"{name}.{field.name}"] = value.astype(_stored(value))
        return pack(facts, arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> Vigil:
        """Read what `to_bytes` wrote. ValueError when it is damaged or of another version."""
        facts, arrays = unpack(data)
        if facts["version"] != VERSION:
            raise ValueError(f"a watch of version {facts['version']}; this driftd reads version {VERSION}")
        kinds = {"belief": Belief, "learning": Learning, "evidence": Evidence, "trail": Trail, "standing": Standing}
        parts: dict[str, Any] = {}
        for name, kind in kinds.items():
            own: dict[str, Any] = {
                key.partition(".")[2]: _restored(array, np.float32 if kind is Evidence else np.float64)
                for key, array in arrays.items() if key.partition(".")[0] == name
            }  # fmt: skip
            if kind is Trail:
                own = {"lengths": facts["lengths"], **own}
                own = {key: tuple(blocks) for key, blocks in own.items()}
            parts[name] = kind(**own)
        return cls(**parts)

    def _parts(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def _through_panes(
        self, layout: Signals, null: Null, terms: Terms, sight: Sight, wobble: Wobble
    ) -> tuple[Belief, Evidence, _Course]:
        """Belief and evidence after the panes, and the evidence on the way."""
        belief, evidence = self.belief, self.evidence
        n_panes = sight.panes.n_all.shape[0]
        cap = Cap.below(layout, terms.ln_bar)
        values, rows = layout.values(sight.panes)
        event_rows = layout.event_rows(sight.panes)
        panes = []
        span = Span.of(null, wobble, 1 / n_panes, sight.gap, sight.cell)
        for pane in range(n_panes):
            if pane == 1 and np.any(sight.gap):
                span = Span.of(null, wobble, 1 / n_panes, 0.0, sight.cell)
            belief, surprise = belief.after(null, wobble, values[pane], rows[pane], span)
            counts = Counted(sight.panes.events[pane].astype(np.float64), event_rows[pane])
            evidence = evidence.after(null, surprise, counts, 1 / n_panes, cap)
            if terms.by_window:
                evidence = evidence.limited(self.evidence, cap, np.asarray(True))
            panes.append(evidence)
        return belief, evidence, _Course(layout, panes)

    def _alarms(
        self, layout: Signals, null: Null, terms: Terms, course: _Course, wobble: Wobble, silent: Bools
    ) -> tuple[Alarm, Floats]:
        with np.errstate(divide="ignore"):
            ln_all = ln_loud = np.log(course.strongest)
            if silent.any():
                faults = self._faults(layout, *course.parts())
                ln_loud = np.where(silent, np.log(layout.per_column(*faults)), ln_all)
        enough, quiet = ln_loud >= terms.ln_bar, silent & (ln_all >= terms.ln_bar)
        part, size = np.zeros(enough.shape, np.intp), np.zeros(enough.shape)
        passed = np.zeros(enough.shape, np.bool_)
        if (enough | quiet).any():
            # A column that is paged for its faults alone is not opened by its values.
            parts, only = course.parts(), enough & silent
            if only.any():
                faults = self._faults(layout, *parts)
                parts = (
                    np.where(only[..., layout.column], faults[0], parts[0]),
                    np.where(only[..., layout.event_column], faults[1], parts[1]),
                )
            part, size, passed = self._leading(layout, null, wobble, parts, enough | quiet)
        return Alarm(enough & passed, quiet & ~enough & passed, enough & ~passed, part, size), ln_loud

    @staticmethod
    def _faults(layout: Signals, of_signals: Floats, of_events: Floats) -> tuple[Floats, Floats]:
        """The parts that tell of the data's quality, 0 in place of the others."""
        return np.where(layout.is_fault, of_signals, 0.0), np.where(layout.is_event_fault, of_events, 0.0)

    def _leading(
        self, layout: Signals, null: Null, wobble: Wobble, parts: tuple[Floats, Floats], asked: Bools
    ) -> tuple[np.ndarray[Any, np.dtype[np.intp]], Floats, Bools]:
        """For the columns asked for: the strongest part whose change passes the gate, its size, if there is any."""
        columns, events = layout.column, layout.event_column
        of_signals, of_events = parts
        total = layout.per_column(of_signals, of_events)
        signals = asked[..., columns] & (of_signals >= LEADING * total[..., columns])
        counted = asked[..., events] & (of_events >= LEADING * total[..., events])
        sizes, strength = np.zeros(signals.shape), np.full(signals.shape, -np.inf)
        found = self.trail.effect(null, wobble, signals)
        gate = np.broadcast_to(null.gate, signals.shape)[signals]
        sizes[signals], strength[signals] = found.size, np.where(found.least >= gate, of_signals[signals], -np.inf)
        rates, rate_strength = np.zeros(counted.shape), np.full(counted.shape, -np.inf)
        found = self.trail.event_effect(null, counted)
        gate = np.broadcast_to(null.event_gate, counted.shape)[counted]
        likely = (found.size >= GATE_RATE) & (found.least_rate >= gate)
        rates[counted], rate_strength[counted] = found.size, np.where(likely, of_events[counted], -np.inf)
        strongest = layout.best_of(strength, rate_strength)
        part, size = np.zeros(asked.shape, np.intp), np.zeros(asked.shape)
        for offset, where, power, change in (
            (0, columns, strength, sizes), (layout.n_signals, events, rate_strength, rates),
        ):  # fmt: skip
            first = np.isfinite(power) & (power == strongest[..., where])
            index = np.nonzero(first)
            part[(*index[:-1], where[index[-1]])] = offset + index[-1]
            size[(*index[:-1], where[index[-1]])] = change[first]
        return part, size, np.isfinite(strongest)

    def _return(
        self, layout: Signals, null: Null, rest: Floats, variance: Floats, counts: Counted
    ) -> tuple[Floats, Floats]:
        """How much likelier the window is if the change that a column told is over, as logarithms."""
        size = self.standing.size[..., layout.column]
        of_signals = (size * size - 2 * rest * size) / (2 * variance)
        ratio = np.maximum(self.standing.size[..., layout.event_column] / null.event_rate, 1.0)
        lost = counts.rows * (ratio - 1) * null.event_rate - counts.events * np.log(ratio)
        return of_signals, lost / null.event_size

    def _reset(self, layout: Signals, null: Null, wobble: Wobble, told: Bools) -> Vigil:
        """What alarmed begins anew from the reference, so that a change that lasts alarms again."""
        if not told.any():
            return self
        signals, events = told[..., layout.column], told[..., layout.event_column]
        belief = self.belief.where(signals, Belief.initial(null, wobble))
        return Vigil(belief, self.learning, self.evidence.where(signals, events), self.trail, self.standing)


class _Course:
    """The evidence of one window, pane by pane. strongest: of each column, at its best pane, shape (..., columns)."""

    def __init__(self, layout: Signals, panes: list[Evidence]) -> None:
        self._layout, self._panes = layout, [evidence.parts(layout) for evidence in panes]
        self._totals = [layout.per_column(*parts) for parts in self._panes]
        self.strongest: Floats = reduce(np.maximum, self._totals)

    def parts(self) -> tuple[Floats, Floats]:
        """The parts of each column's evidence at its best pane."""
        best = np.argmax(self._totals, axis=0)[None]
        signals, events = (np.stack(parts) for parts in zip(*self._panes, strict=True))
        of_signals = np.take_along_axis(signals, best[..., self._layout.column], axis=0)
        return of_signals[0], np.take_along_axis(events, best[..., self._layout.event_column], axis=0)[0]


def _stored(value: Floats) -> np.dtype[Any]:
    return np.dtype(np.bool_ if value.dtype == np.bool_ else np.int32 if value.dtype.kind == "i" else np.float32)


def _restored(value: np.ndarray[Any, Any], numbers: type[np.floating[Any]]) -> np.ndarray[Any, Any]:
    kind = np.intp if value.dtype.kind == "i" else numbers
    return value.copy() if value.dtype == np.bool_ else value.astype(kind)
