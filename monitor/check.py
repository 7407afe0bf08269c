"""A closed window against its reference: one verdict per column, from all the decisions that a model asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import msgspec

from detectors import Bins, Pair, Profile
from monitor.config import Model, Rule
from monitor.decision import Decision, Outcome, Scores, Verdict
from monitor.decision.family import Family
from monitor.decision.rules import Thresholds
from monitor.window import WHOLE, Window


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What is normal for a model: a sealed reference, opened."""

    id: str
    bins: Bins
    profile: Profile


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A closed window and what is said of it."""

    window: Window
    verdicts: tuple[Verdict, ...]


class _Memory(msgspec.Struct, frozen=True):
    """What a Judge remembers of one segment: of each decision its bytes, and since when each column drifts."""

    decisions: tuple[bytes, ...] = ()
    since: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class Judge:
    """All decisions about one model, merged: a column drifts when any of them says so."""

    reference: Reference
    decisions: tuple[Decision, ...]

    @classmethod
    def of(cls, reference: Reference, model: Model, rules: Sequence[Rule]) -> Judge:
        """What the configuration asks for: the model's decision, and the rules that name it."""
        own = tuple(rule for rule in rules if fnmatchcase(model.name, rule.model))
        decisions: list[Decision] = [] if model.decision == "rules" else [Family()]
        if own or model.decision == "rules":
            decisions.append(Thresholds(own))
        return cls(reference, tuple(decisions))

    def judge(self, window: Window, memory: bytes) -> tuple[Judged, bytes]:
        """Judge the next window of a segment; memory is b"" at first."""
        known = msgspec.msgpack.decode(memory, type=_Memory) if memory else _Memory()
        scores = Scores(Pair(self.reference.profile, window.tally.profile))
        said, kept = [], []
        for i, decision in enumerate(self.decisions):
            verdicts, remembered = decision.judge(scores, known.decisions[i] if known.decisions else b"")
            said.append(verdicts)
            kept.append(remembered)
        merged = [_merged(verdicts) for verdicts in zip(*said, strict=True)]
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
        judged = Judged(window, (*dated, *unexpected(window)))
        return judged, msgspec.msgpack.encode(_Memory(tuple(kept), since))

    def rejudge(self, window: Window, before: Sequence[Verdict]) -> Judged:
        """Judge an amended window by itself; what was known of the runs of drift stays as it was said before."""
        judged, _ = self.judge(window, b"")
        since = {verdict.column: verdict.since_window for verdict in before if verdict.since_window is not None}
        dated = [
            msgspec.structs.replace(verdict, since_window=since.get(verdict.column, window.index))
            if verdict.outcome is Outcome.DRIFT
            else verdict
            for verdict in judged.verdicts
        ]
        return replace(judged, verdicts=tuple(dated))


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
    """One verdict out of several decisions' on one column: drift before ok before unknown, then the graver one."""
    order = (Outcome.DRIFT, Outcome.OK, Outcome.UNKNOWN)
    first = min(verdicts, key=lambda verdict: (order.index(verdict.outcome), -verdict.severity.rank))
    quality = dict.fromkeys(fact for verdict in verdicts for fact in verdict.quality)
    alike = [verdict for verdict in verdicts if verdict.outcome is first.outcome]
    return msgspec.structs.replace(first, quality=tuple(quality), faulty=all(verdict.faulty for verdict in alike))
