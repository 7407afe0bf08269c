"""A picture of an incident for messages: its worst columns, reference against current, and their course.

It is drawn in a process of its own: what draws is large, stays where it was once loaded, and is seldom needed.
"""

from __future__ import annotations

import io
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from monitor import child
from monitor.errors import ChildFault
from monitor.history import Compared, History, Unknown
from monitor.message import ColumnChange, Notice
from monitor.outline import Outline, outline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

N_COLUMNS: Final = 3
N_WINDOWS: Final = 60
_REFERENCE, _CURRENT, _FAINT = "#8a94a6", "#d1495b", "#d8dce3"
LIMITS: Final = child.Limits(seconds=10, n_bytes=2**30)
"""A mail, which carries its picture, waits meanwhile, and the mails after it."""
TURN_SECONDS: Final = 20.0
"""How long the one before is waited for; a drawing may pass twice its seconds of work."""
_ONE_AT_A_TIME: Final = threading.Lock()


class Asked(msgspec.Struct, frozen=True):
    """What is to be drawn. directory: of the state."""

    directory: str
    notice: Notice


def picture(directory: Path, notice: Notice) -> bytes | None:
    """A PNG with a row per column: its distribution beside the reference's, and effect or evidence over the latest
    windows. None when nothing is kept of which it could be drawn; ChildFault when it cannot be, at the latest after
    TURN_SECONDS and twice the seconds of LIMITS."""
    asked = msgspec.json.encode(Asked(str(directory.resolve()), notice))
    if not _ONE_AT_A_TIME.acquire(timeout=TURN_SECONDS):
        raise ChildFault(f"others were being drawn for {TURN_SECONDS:g} s")
    try:
        return child.run(__name__, asked, LIMITS) or None
    finally:
        _ONE_AT_A_TIME.release()


def in_child(given: bytes) -> bytes:
    """The picture, empty when there is none."""
    asked = msgspec.json.decode(given, type=Asked)
    with closing(History(Path(asked.directory))) as history:
        shown = [
            (column, compared)
            for column in asked.notice.body.columns[:N_COLUMNS]
            if (compared := history.compared(asked.notice.model, column.segment, asked.notice.window)) is not None
            and column.column in compared.pair.bins.names
        ]
        return _drawn(history, asked.notice, shown) if shown else b""


def _drawn(history: History, notice: Notice, shown: list[tuple[ColumnChange, Compared]]) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.4 * len(shown) + 0.5), dpi=110, layout="constrained")
    figure.suptitle(f"{_plain(notice.model)}, window {notice.window}", fontsize=11, parse_math=False)
    grid = figure.subplots(len(shown), 2, squeeze=False, width_ratios=(3, 2))
    for (column, compared), (left, right) in zip(shown, grid, strict=True):
        _compare(left, column, outline(compared.pair, compared.pair.bins.names.index(column.column)))
        _course(right, history, notice, column)
    grid[0][0].legend(fontsize=8, frameon=False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _compare(axes: Axes, column: ColumnChange, found: Outline) -> None:
    """Shares of rows by value, the reference's as an area, the window's as a line or as bars."""
    axes.set_title(_plain(column.column), fontsize=10, loc="left", parse_math=False)
    reference, current = [part.reference for part in found.parts], [part.current for part in found.parts]
    if found.is_numeric:
        axes.stairs(reference, found.borders, fill=True, color=_FAINT, label="reference")
        axes.stairs(reference, found.borders, color=_REFERENCE)
        axes.stairs(current, found.borders, color=_CURRENT, linewidth=1.6, label="current")
    else:
        places = range(len(reference))
        axes.bar([i - 0.2 for i in places], reference, 0.4, color=_REFERENCE, label="reference")
        axes.bar([i + 0.2 for i in places], current, 0.4, color=_CURRENT, label="current")
        labels = [_plain(part.label)[:12] for part in found.parts]
        axes.set_xticks(list(places), labels, rotation=30, ha="right", parse_math=False)
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.tick_params(labelsize=8)


def _course(axes: Axes, history: History, notice: Notice, column: ColumnChange) -> None:
    """Evidence over the latest windows where there is such, else the effect."""
    try:
        points = history.column(notice.model, column.column, column.segment, N_WINDOWS).points
    except Unknown:
        points = ()
    has_evidence = any(point.evidence is not None for point in points)
    drawn = [
        (point.index, value)
        for point in points
        if point.index <= notice.window and (value := point.evidence if has_evidence else point.effect) is not None
    ]
    axes.set_title("evidence" if has_evidence else f"effect ({_plain(column.measure)})", fontsize=9, loc="left")
    axes.plot([at for at, _ in drawn], [value for _, value in drawn], ".-", color=_CURRENT, linewidth=1.2, markersize=4)
    axes.axvline(column.since_window, color=_REFERENCE, linestyle=":", linewidth=1)
    axes.set_xlabel("window", fontsize=8)
    axes.tick_params(labelsize=8)


def _plain(name: str) -> str:
    """A name as fonts can draw it."""
    seen = "".join(letter if letter.isprintable() and ord(letter) < 0x2E80 else "?" for letter in name)
    return seen if len(seen) <= 40 else f"{seen[:39]}…"
