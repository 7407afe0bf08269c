"""A closed window against its reference: one verdict per column, from all the decisions that a model asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import msgspec

from detectors import Bins, Pair, Profile
from detectors.law import Laws
from detectors.parts import TOGETHER, Measure
from monitor import allowance
from monitor.allowance import Calibrations
from monitor.batch import NO_TIME
from monitor.config import EVIDENCE, Config, Model
from monitor.decision import Clock, Decision, Outcome, Place, Scores, Verdict, finite, no_clock
from monitor.decision.budget import Budget, Ledger
from monitor.decision.family import Family
from monitor.decision.rules import Thresholds
from monitor.past import DEFAULT_ROWS, Past, Pasts
from monitor.rowsample import RowSample, taught
from monitor.window import WHOLE, Window


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What is normal for a model: a sealed reference, opened.

    pasts: its own windows, where they were sealed with it. calibrations: what was learnt of them, under some budget.
    rows: some of its rows; None where it was sealed without any. laws: null laws that had to be drawn, of all rows;
    None where they were not. sealed_at: when it was made, in epoch seconds; 0 where that is not known.
    """

    id: str
    bins: Bins
    profile: Profile
    pasts: Pasts = field(default_factory=dict)
    calibrations: Calibrations = field(default_factory=Calibrations)
    rows: RowSample | None = None
    laws: Laws | None = None
    sealed_at: float = 0.0

    @property
    def until_ms(self) -> int:
        """The end of the last of its windows; NO_TIME where it was not cut by time."""
        past = self.pasts.get(WHOLE)
        if past is None or past.blocks is None or not past.blocks.is_timed or not past.blocks.n_blocks:
            return NO_TIME
        return int(past.blocks.start_ms[-1]) + past.cut.width_ms

    def side(self, segment: str) -> Profile:
        """What a segment's windows are compared with: its own rows if they were sealed, else all."""
        past: Past | None = self.pasts.get(segment)
        return self.profile if segment == WHOLE or past is None else past.profile

    def beside(self, current: Profile, segment: str) -> Pair:
        """A segment's window beside what it is compared with."""
        side = self.side(segment)
        return Pair(side, current, self.laws if side is self.profile else None)


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A closed window and what is said of it.

    statistics: of the detectors that are to be shown, by column. seconds: of work, by detector; what a decision does
    beside them stands under its own name. n_failed: columns on which a detector failed, by detector.
    """

    window: Window
    verdicts: tuple[Verdict, ...]
    statistics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    n_failed: Mapping[str, int] = field(default_factory=dict)


class _Memory(msgspec.Struct, frozen=True):
    """What a Judge remembers of one segment: of each decision its bytes, and since when each column drifts.

    kinds: of the decisions; what one remembers means nothing to another.
    """

    decisions: tuple[bytes, ...] = ()
    since: dict[str, int] = {}
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judge:
    """All decisions about one model, merged: a column drifts when any of them says so.

    shown: detectors whose statistics are to be shown, EVIDENCE among them perhaps. clock: by which work is timed.
    """

    reference: Reference
    decisions: tuple[Decision, ...]
    shown: tuple[str, ...] = ()
    clock: Clock = no_clock

    @classmethod
    def of(cls, reference: Reference, config: Config, model: Model) -> Judge:
        """What the configuration asks for: the model's decision, and the rules that name it."""
        own = tuple(rule for rule in config.rule if fnmatchcase(model.name, rule.model))
        decisions: list[Decision] = []
        if model.decision == "budget":
            decisions.append(budgeted(reference, config, model))
        elif model.decision == "family":
            decisions.append(Family())
        if own or model.decision == "rules":
            decisions.append(Thresholds(own))
        return cls(reference, tuple(decisions), config.http.scores)

    def judge(self, window: Window, memory: bytes) -> tuple[Judged, bytes]:
        """Judge the next window of a segment; memory is b"" at first."""
        known = msgspec.msgpack.decode(memory, type=_Memory) if memory else _Memory()
        scores = self._scores(window)
        kinds = tuple(type(decision).__name__ for decision in self.decisions)
        said, kept, own = [], [], dict[str, float]()
        for i, decision in enumerate(self.decisions):
            before = sum(scores.seconds.values())
            began = self.clock()
            verdicts, remembered = decision.judge(scores, known.decisions[i] if known.kinds == kinds else b"")
            taken = self.clock() - began
            own[kinds[i].lower()] = taken - (sum(scores.seconds.values()) - before)
            said.append(verdicts)
            kept.append(remembered)
        n_columns = self.reference.bins.n_columns
        merged = [_merged(verdicts) for verdicts in zip(*(each[:n_columns] for each in said), strict=True)]
        merged += [verdict for each in said for verdict in each[n_columns:]]
        since = {
            verdict.column: known.since.get(verdict.column, window.index)
            for verdict in merged
            # A window that says nothing of a column does not end the run.
            if verdict.outcome is Outcome.DRIFT
            or (verdict.outcome is Outcome.UNKNOWN and verdict.column in known.since)
        }
        dated = [
            msgspec.structs.replace(verdict, since_window=since[verdict.column])
            if verdict.outcome is Outcome.DRIFT
            else verdict
            for verdict in merged
        ]
        verdicts = (*dated, *unexpected(window))
        statistics = self._statistics(scores, dated) if window.segment == WHOLE else {}
        judged = Judged(window, verdicts, statistics, {**scores.seconds, **own}, scores.n_failed)
        return judged, msgspec.msgpack.encode(_Memory(tuple(kept), since, kinds))

    def rejudge(self, window: Window, before: Sequence[Verdict]) -> Judged:
        """Judge an amended window by itself; what was known of the runs of drift stays as it was said before.

        A run that began in an earlier window is remembered even while an amendment makes this one calm: the last word
        must not depend on how late rows were divided among amendments.
        """
        scores = self._scores(window)
        n_columns = self.reference.bins.n_columns
        known, together = before[:n_columns], [v for v in before[n_columns:] if v.measure in TOGETHER]
        said = [decision.again(scores, known) for decision in self.decisions]
        since = {verdict.column: verdict.since_window for verdict in before if verdict.since_window is not None}
        dated = []
        for verdict in (_merged(verdicts) for verdicts in zip(*said, strict=True)):
            began = since.get(verdict.column, window.index)
            known_run = verdict.outcome is Outcome.DRIFT or began < window.index
            dated.append(msgspec.structs.replace(verdict, since_window=began) if known_run else verdict)
        return Judged(window, (*dated, *together, *unexpected(window)))

    def limits(self) -> Mapping[str, Mapping[str, float]]:
        """What the statistics of the whole are held against: by detector, by column."""
        found: dict[str, Mapping[str, float]] = {}
        for decision in self.decisions:
            found |= decision.limits(self.reference.bins.names)
        return found

    def _statistics(self, scores: Scores, verdicts: Sequence[Verdict]) -> Mapping[str, Mapping[str, float]]:
        names, found = self.reference.bins.names, dict[str, Mapping[str, float]]()
        for name in self.shown:
            own = [verdict.evidence for verdict in verdicts] if name == EVIDENCE else scores[name].statistic.tolist()
            known = zip(names, own, strict=False)  # verdicts on pairs of columns come last
            found[name] = {column: value for column, value in known if value is not None and finite(value) is not None}
        return found

    def _scores(self, window: Window) -> Scores:
        panes = None if window.revision else window.tally.panes
        rows = None if window.sample is None else window.sample.cells
        place = Place(window.segment, window.index, window.start_ms, panes, rows)
        return Scores(self.reference.beside(window.tally.profile, window.segment), place, self.clock)


def budgeted(
    reference: Reference, config: Config, model: Model, progress: Callable[[float], None] = lambda _: None
) -> Budget:
    """The budget's decision for a model: as it was calibrated, if that was under this very budget; else anew."""
    terms = allowance.of(config, model, reference.bins)
    known = reference.calibrations.under(terms.key(reference.id))
    classifier = None
    if Measure.CLASSIFIER in model.multivariate and reference.bins.pairs.n_shown and reference.rows is not None:
        past = reference.pasts.get(WHOLE)
        classifier = taught(reference.profile, reference.rows, past.blocks if past else None)
    return Budget.of(terms, reference.bins, _pasts(reference, terms), known, classifier, progress)


def _pasts(reference: Reference, terms: allowance.Allowances) -> Pasts:
    """The windows of every segment's reference; of all rows where the segment's own were not sealed."""
    whole = reference.pasts.get(WHOLE) or Past(reference.profile, terms.cut, float(terms.cut.n_rows) or DEFAULT_ROWS)
    bare = whole.without_pairs()
    own = {segment: whole if segment == WHOLE else reference.pasts.get(segment, bare) for segment in terms.by_segment}
    return {segment: past.under(terms.cut) for segment, past in own.items()}


def ledger(memory: bytes) -> Ledger | None:
    """What the budget has come to in a segment, from what its judge remembers; None under another decision."""
    known = msgspec.msgpack.decode(memory, type=_Memory) if memory else _Memory()
    found = (Budget.ledger(kept) for kept in known.decisions[:1])
    return next((each for each in found if each is not None), None)


def unexpected(window: Window) -> tuple[Verdict, ...]:
    """A verdict for every column that the reference does not have."""
    if window.segment != WHOLE:
        return ()
    return tuple(
        Verdict(
            column=name, outcome=Outcome.UNKNOWN, n_reference=0, n_current=count, measure="",
            reason=f"the reference has no such column; it was in {count} of {window.tally.n_inspected} inspected rows",
            quality=("not in the reference",),
        )
        for name, count in window.tally.unknown.items()
    )  # fmt: skip


def _merged(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict out of several decisions' on one column: drift before ok before unknown, then the graver one, then a
    fault of the data before drift. A column with a fault is faulty, whatever else is said of it."""
    order = (Outcome.DRIFT, Outcome.OK, Outcome.UNKNOWN)
    first = min(verdicts, key=lambda v: (order.index(v.outcome), -v.severity.rank, not v.faulty))
    quality = dict.fromkeys(fact for verdict in verdicts for fact in verdict.quality)
    alike = [verdict for verdict in verdicts if verdict.outcome is first.outcome]
    return msgspec.structs.replace(first, quality=tuple(quality), faulty=any(verdict.faulty for verdict in alike))
