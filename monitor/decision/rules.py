"""Fixed thresholds: the rules of the configuration, for who wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import msgspec
import numpy as np

from monitor import describe
from monitor.batch import Severity
from monitor.config import Rule
from monitor.decision import MIN_ROWS, QUALITY, Outcome, Scores, Verdict, finite, too_few


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Fixed rules: a column drifts once a detector's statistic, whatever its sign, has reached a rule's threshold for
    so many windows in a row as the rule says."""

    rules: tuple[Rule, ...]
    min_rows: int = MIN_ROWS

    def judge(self, scores: Scores, memory: bytes) -> tuple[tuple[Verdict, ...], bytes]:
        """See `Decision.judge`. Remembers for how many windows each rule has held for each column."""
        before = msgspec.msgpack.decode(memory, type=dict[str, dict[str, int]]) if memory else {}
        after: dict[str, dict[str, int]] = {}
        verdicts = []
        for row, column in enumerate(scores.pair.bins.names):
            runs = before.get(column, {})
            held = {str(i): runs.get(str(i), 0) + 1 for i in self._reached(scores, row, runs)}
            verdicts.append(self._verdict(scores, row, held))
            if held:
                after[column] = held
        return tuple(verdicts), msgspec.msgpack.encode(after)

    def again(self, scores: Scores, before: Sequence[Verdict]) -> tuple[Verdict, ...]:  # noqa: ARG002  # contract
        """See `Decision.again`."""
        return self.judge(scores, b"")[0]

    def limits(self, names: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        """See `Decision.limits`; of several rules the lowest threshold."""
        found: dict[str, dict[str, float]] = {}
        for name in names:
            for rule in (self.rules[i] for i in self._matching(name)):
                known = found.setdefault(rule.detector, {})
                known[name] = min(rule.threshold, known.get(name, rule.threshold))
        return found

    def _matching(self, column: str) -> list[int]:
        return [i for i, rule in enumerate(self.rules) if fnmatchcase(column, rule.column)]

    def _reached(self, scores: Scores, row: int, runs: Mapping[str, int]) -> list[int]:
        """Rules whose threshold this column reaches, or does not yet clear. runs: windows in a row so far, by rule."""
        if int(scores.pair.m[row]) < self.min_rows and int(scores.pair.current.counts[row].sum()) < self.min_rows:
            return []
        reached = []
        for i in self._matching(scores.pair.bins.names[row]):
            rule = self.rules[i]
            firing = runs.get(str(i), 0) >= rule.for_windows
            level = rule.clear if firing and rule.clear is not None else rule.threshold
            if abs(scores[rule.detector].statistic[row]) >= level:
                reached.append(i)
        return reached

    def _verdict(self, scores: Scores, row: int, held: Mapping[str, int]) -> Verdict:
        pair, column = scores.pair, scores.pair.bins.names[row]
        matching = self._matching(column)
        firing = [self.rules[int(i)] for i, n_windows in held.items() if n_windows >= self.rules[int(i)].for_windows]
        n_current = int(pair.m[row])
        rule = max(firing, key=lambda rule: rule.severity == "critical", default=None)
        rule = rule or (self.rules[matching[0]] if matching else None)
        outcome, reason = Outcome.OK, ""
        if firing and rule is not None:
            statistic = float(scores[rule.detector].statistic[row])
            outcome = Outcome.DRIFT
            limit = f"{rule.detector} {statistic:.3g}, threshold {rule.threshold:g}"
            reason = f"{describe.change(pair, row, rule.detector)} ({limit})"
        elif rule is None:
            outcome, reason = Outcome.UNKNOWN, "no rule for this column"
        elif column in scores.failures:
            outcome, reason = Outcome.UNKNOWN, scores.failures[column]
        elif n_current < self.min_rows:
            outcome, reason = Outcome.UNKNOWN, too_few(n_current, self.min_rows)
        elif all(np.isnan(scores[self.rules[i].detector].statistic[row]) for i in matching):
            outcome, reason = Outcome.UNKNOWN, scores[rule.detector].reason(row) or ""
        measure = rule.detector if rule is not None else ""
        return Verdict(
            column=column, outcome=outcome, reason=reason, n_reference=int(pair.n[row]), n_current=n_current,
            measure=measure, severity=Severity(rule.severity) if rule is not None else Severity.WARNING,
            effect=finite(scores[measure].effect[row]) if measure else None,
            faulty=outcome is Outcome.DRIFT and measure in QUALITY,
        )  # fmt: skip
