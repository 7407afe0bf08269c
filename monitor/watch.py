"""From closed windows to notices: one model's judge, incident and retraining, in step.

Only the first form of a window moves the incident. A window that late rows amend is judged anew for the record; were it
to move the incident too, what people are told would depend on when the late rows were read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from monitor.alert import Change, Episode, Policy, State, advance
from monitor.check import Judge, Judged
from monitor.config import Config
from monitor.decision import Verdict
from monitor.message import Body, Notice, Purpose, Subject, alert_body, retrain_body
from monitor.retrain import Calls, Step, Trigger, consider
from monitor.route import recipients
from monitor.window import WHOLE, Piece, Window

Recall = Callable[[str, str, int], tuple[Window, Sequence[Verdict]] | None]
"""Finds a closed window by model, segment and start, with what was said of it; None when none is kept."""


class WatchState(msgspec.Struct, frozen=True):
    """What is remembered of a model's closed windows. next_index: by segment."""

    next_index: dict[str, int] = {}
    episode: Episode | None = None
    calls: Calls = Calls()


@dataclass(slots=True)
class Found:
    """What came of windows, in order."""

    judged: list[Judged] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    triggers: list[Trigger] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    n_late: int = 0


class Watch:
    """One model's closed windows, one after the other.

    state and memories (by segment) are what it goes on from; found is what came of the windows since it was last taken.
    """

    def __init__(self, config: Config, subject: Subject, judge: Judge, recall: Recall) -> None:
        self._config = config
        self._subject = subject
        self._judge = judge
        self._recall = recall
        self._retrains = [retrain for retrain in config.retrain if retrain.model == subject.model]
        self.state = WatchState()
        self.memories: dict[str, bytes] = {}
        self.found = Found()

    def close(self, group: Sequence[Window]) -> None:
        """Judge the windows of one span, the whole first, and tell what it means."""
        closed = []
        for window in group:
            judged, memory = self._judge.judge(window.closed(self._number(window.segment)), self.memory(window.segment))
            self.memories[window.segment] = memory
            closed.append(judged)
        self.found.judged += closed
        episode, change = advance(self._subject.model, self.state.episode, closed, Policy())
        self.state = msgspec.structs.replace(self.state, episode=episode)
        if change is not None:
            self._tell(change, closed[0].window)

    def amend(self, late: Iterable[Piece]) -> None:
        """Count rows into windows that have closed."""
        merged: dict[tuple[str, int], Piece] = {}
        for piece in late:
            known = merged.get((piece.segment, piece.start_ms))
            tally = piece.tally if known is None else known.tally + piece.tally
            merged[piece.segment, piece.start_ms] = replace(piece, tally=tally)
        for piece in sorted(merged.values(), key=lambda piece: (piece.start_ms, piece.segment)):
            self.found.n_late += piece.tally.n_rows if piece.segment == WHOLE else 0
            window, verdicts = self._closed(piece)
            self.found.judged.append(self._judge.rejudge(window.amended(piece.tally), verdicts))

    def memory(self, segment: str) -> bytes:
        """What the judge remembers of a segment; b"" before its first window."""
        return self.memories.get(segment, b"")

    def _closed(self, piece: Piece) -> tuple[Window, Sequence[Verdict]]:
        """The window that these rows amend and what was said of it; where none has closed there, one without rows."""
        for judged in reversed(self.found.judged):
            if (judged.window.segment, judged.window.start_ms) == (piece.segment, piece.start_ms):
                return judged.window, judged.verdicts
        known = self._recall(self._subject.model, piece.segment, piece.start_ms)
        if known is not None:
            return known
        # Late rows alone made this window. It stands outside the count, or the numbers of all later windows would
        # depend on when these rows were read.
        fresh = Window.fresh(piece.tally.profile.bins, piece.segment, piece.start_ms, piece.end_ms)
        return fresh.closed(-piece.start_ms), ()

    def _number(self, segment: str) -> int:
        """The next window's number; counts it."""
        numbers = self.state.next_index
        number = numbers.get(segment, 0)
        self.state = msgspec.structs.replace(self.state, next_index={**numbers, segment: number + 1})
        return number

    def _tell(self, change: Change, window: Window) -> None:
        said = []
        for options in self._retrains:
            trigger, words = consider(change, window, options, self.state.calls)
            said += [words] if words else []
            if trigger is None:
                continue
            self.state = msgspec.structs.replace(self.state, calls=Calls(trigger))
            self.found.triggers.append(trigger)
            if trigger.step is Step.CALLED:
                call = retrain_body(self._subject, change, window, trigger.id, change.reason)
                self._queue(trigger.id, trigger.channel, Purpose.RETRAIN, call)
        self.found.changes.append(change)
        if change.episode.state is State.PENDING:
            return
        alert = alert_body(self._subject, change, window, "; ".join(said) or None)
        for channel in recipients(self._config, self._subject.model, change.episode.severity):
            self._queue(f"{change.episode.id}/{change.episode.n_changes}/{channel}", channel, Purpose.ALERT, alert)

    def _queue(self, identity: str, channel: str, purpose: Purpose, body: Body) -> None:
        notice = Notice(
            id=identity, incident=body.incident, channel=channel, purpose=purpose, model=body.model,
            window=body.window.index, body=body,
        )  # fmt: skip
        self.found.notices.append(notice)
