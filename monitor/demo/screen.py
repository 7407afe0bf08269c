"""The demo for people: windows as they close, the incident as Slack shows it, the call that CI accepted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from monitor.account import ClosedWindow, Status
from monitor.demo.standins.slack import Message

N_WINDOWS: Final = 12
BOX_WIDTH: Final = 110
"""At most, where a line may be as long as it likes."""
_COLOURS: Final = {"ok": "green", "drift": "red", "unknown": "yellow"}


class Screen:
    """Says things as they happen. quiet: nothing at all, for scripts."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._live: Live | None = None
        self._n_printed = 0
        self._shown: set[str] = set()

    def say(self, words: str) -> None:
        """One line."""
        if not self._quiet:
            self._console.print(words, highlight=False, soft_wrap=True)  # a path or a token is copied whole

    def live(self) -> AbstractContextManager[object]:
        """A picture that changes in place, where the terminal can; else windows are printed line by line."""
        if self._quiet or not self._console.is_terminal:
            return nullcontext()
        self._live = Live(console=self._console, refresh_per_second=8, transient=True)
        return self._live

    def show(self, n_sent: int, n_rows: int, status: Status, windows: Sequence[ClosedWindow]) -> None:
        """How far the log has come, and the windows that have closed."""
        if self._quiet:
            return
        if self._live is not None:
            self._live.update(_picture(n_sent, n_rows, status, windows))
            return
        for window in windows[self._n_printed :]:
            self._console.print(_line(window))
        self._n_printed = len(windows)

    def messages(self, slack: Sequence[Message], calls: Mapping[str, dict[str, Any]]) -> None:
        """Print what Slack and CI received since the last time."""
        if self._quiet:
            return
        for message in slack:
            if (key := f"{message.ts}/{len(message.edits)}") not in self._shown:
                self._shown.add(key)
                self._box(slack_panel(message))
        for trigger, body in calls.items():
            if trigger not in self._shown:
                self._shown.add(trigger)
                self._box(_call_panel(trigger, body))

    def _box(self, box: RenderableType) -> None:
        self._console.print(box, width=min(self._console.width, BOX_WIDTH))


def slack_panel(message: Message) -> RenderableType:
    """A message of Block Kit as it looks in Slack, as far as a terminal can."""
    lines: list[RenderableType] = []
    for block in message.blocks:
        if block["type"] == "header":
            lines += [Text(_plain(block["text"]["text"]), style="bold"), ""]
        elif block["type"] == "section":
            lines += [_mrkdwn(block["text"]["text"]), ""]
        elif block["type"] == "context":
            words = "  ".join(element["text"] for element in block["elements"])
            lines.append(Text.assemble((_plain(words).replace("`", ""), "dim")))
    edited = " (edited)" if message.edits else ""
    return Panel(Group(*lines), title=f"Slack #ml-alerts{edited}", title_align="left", border_style="magenta")


def _mrkdwn(words: str) -> Text:
    marked = re.sub(r"\*([^*\n]+)\*", r"[bold]\1[/bold]", escape(_plain(words)))
    return Text.from_markup(re.sub(r"`([^`\n]+)`", r"[cyan]\1[/cyan]", marked))


def _plain(words: str) -> str:
    return words.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _call_panel(trigger: str, body: Mapping[str, Any]) -> RenderableType:
    rows = sum(r["last_offset"] - r["first_offset"] + 1 for r in body["rows"])
    facts = Table.grid(padding=(0, 2))
    facts.add_row("webhook-id", trigger)
    facts.add_row("model", f"{body['model']} {body['version'] or ''}")
    facts.add_row("reason", body["reason"])
    facts.add_row("since", str(body["since"]))
    facts.add_row("rows", f"{rows:,} records of {len(body['rows'])} partitions, by first and last offset")
    title = "POST to the retraining job: signature good, accepted with 202"
    return Panel(facts, title=title, title_align="left", border_style="blue")


def _picture(n_sent: int, n_rows: int, status: Status, windows: Sequence[ClosedWindow]) -> RenderableType:
    read = sum(model.counts.rows for model in status.models)
    bar = ProgressBar(total=n_rows, completed=min(n_sent, n_rows), width=40)
    grid = Table.grid(padding=(0, 2))
    grid.add_row("produced", bar, f"{n_sent:,} records")
    grid.add_row("committed", ProgressBar(total=n_rows, completed=min(read, n_rows), width=40), f"{read:,} rows")
    return Group(*map(_line, windows[-N_WINDOWS:]), "", grid)


def _line(window: ClosedWindow) -> Text:
    verdicts = [(f"{n} {outcome}  ", _COLOURS[outcome]) for outcome, n in window.outcomes.items()]
    span = f"{(window.start or '')[:10]} to {(window.end or '')[:10]}"
    return Text.assemble(f"window {window.index:>3}  {span}  {window.n_rows:>6,} rows  ", *verdicts)
