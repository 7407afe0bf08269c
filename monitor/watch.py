"""From closed windows to verdicts, one after the other, and on to the incident.

Only the first form of a window moves the incident. A window that late rows amend is judged anew for the record; were it
to move the incident too, what people are told would depend on when the late rows were read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import msgspec

from monitor.check import Judge, Judged
from monitor.decision import Verdict
from monitor.desk import Desk, DeskState
from monitor.window import WHOLE, Piece, Window

Recall = Callable[[str, str, int], tuple[Window, Sequence[Verdict]] | None]
"""Finds a closed window by model, segment and start, with what was said of it; None when none is kept."""


class WatchState(msgspec.Struct, frozen=True):
    """What is remembered of a model's closed windows. next_index: by segment."""

    next_index: dict[str, int] = {}
    desk: DeskState = DeskState()


class Watch:
    """One model's closed windows, one after the other.

    memories: of the judge, by segment. judged, n_late: windows and late rows since they were last taken.
    """

    def __init__(self, model: str, judge: Judge, recall: Recall, desk: Desk) -> None:
        self._model = model
        self.judge = judge
        self._recall = recall
        self._next_index: dict[str, int] = {}
        self.desk = desk
        self.memories: dict[str, bytes] = {}
        self.judged: list[Judged] = []
        self.n_late = 0

    @property
    def state(self) -> WatchState:
        """What is remembered beside the memories."""
        return WatchState(dict(self._next_index), self.desk.state)

    def restore(self, state: WatchState) -> None:
        """Go on from what was remembered."""
        self._next_index, self.desk.state = dict(state.next_index), state.desk

    def close(self, group: Sequence[Window], now_ms: int) -> None:
        """Judge the windows of one span, the whole first, and tell what it means."""
        closed = []
        for window in group:
            memory = self.memories.get(window.segment, b"")  # none before its first window
            judged, memory = self.judge.judge(window.closed(self._number(window.segment)), memory)
            self.memories[window.segment] = memory
            closed.append(judged)
        self.judged += closed
        self.desk.close(closed, now_ms)

    def amend(self, late: Iterable[Piece]) -> None:
        """Count rows into windows that have closed."""
        merged: dict[tuple[str, int], Piece] = {}
        for piece in late:
            known = merged.get((piece.segment, piece.start_ms))
            tally = piece.tally if known is None else known.tally + piece.tally
            merged[piece.segment, piece.start_ms] = replace(piece, tally=tally)
        for piece in sorted(merged.values(), key=lambda piece: (piece.start_ms, piece.segment)):
            self.n_late += piece.tally.n_rows if piece.segment == WHOLE else 0
            window, verdicts = self._closed(piece)
            self.judged.append(self.judge.rejudge(window.amended(piece.tally), verdicts))

    def _closed(self, piece: Piece) -> tuple[Window, Sequence[Verdict]]:
        """The window that these rows amend and what was said of it; where none has closed there, one without rows."""
        for judged in reversed(self.judged):
            if (judged.window.segment, judged.window.start_ms) == (piece.segment, piece.start_ms):
                return judged.window, judged.verdicts
        known = self._recall(self._model, piece.segment, piece.start_ms)
        if known is not None:
            return known
        # Late rows alone made this window. It stands outside the count, or the numbers of all later windows would
        # depend on when these rows were read.
        fresh = Window.fresh(piece.tally.profile.bins, piece.segment, piece.start_ms, piece.end_ms)
        return fresh.closed(-piece.start_ms), ()

    def _number(self, segment: str) -> int:
        """The next window's number; counts it."""
        number = self._next_index.get(segment, 0)
        self._next_index[segment] = number + 1
        return number
