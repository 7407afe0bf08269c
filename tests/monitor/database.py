"""A stand-in for the database: it applies commits in memory, and is asked for closed windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monitor.check import Judged
from monitor.decision import Verdict
from monitor.join import Run
from monitor.line import Saved
from monitor.window import Window


class Database:
    """What a line would find after a crash, the windows that closed, and the notices that wait."""

    def __init__(self) -> None:
        self.saved = Saved()
        self.windows: dict[tuple[str, int], tuple[Window, Sequence[Verdict]]] = {}
        self.notices: dict[str, Any] = {}

    def recall(self, _: str, segment: str, start_ms: int) -> tuple[Window, Sequence[Verdict]] | None:
        return self.windows.get((segment, start_ms))

    def apply(self, commit: Any) -> None:
        for part in [] if commit is None else commit.models:
            now_open = {key: window for key, window in self.saved.open.items() if key not in part.gone}
            waiting = {key: run for key, run in self.saved.waiting.items() if key not in part.no_longer}
            thawed = {key: Run.from_bytes(run.to_bytes()) for key, run in part.waiting.items()}
            self.saved = Saved(
                part.state, {**self.saved.offsets, **part.offsets}, {**now_open, **part.open},
                {**self.saved.memories, **part.memories}, {**waiting, **thawed},
            )  # fmt: skip
            for judged in part.judged:
                self.keep(judged)
            self.notices.update({notice.id: notice for notice in part.out.notices})

    def keep(self, judged: Judged) -> None:
        """Of a window that closed, or was amended."""
        self.windows[judged.window.segment, judged.window.start_ms] = (judged.window, judged.verdicts)
