"""A notice in plain words, unescaped: what every channel for people says of it, each in its own dress."""

from __future__ import annotations

from typing import Final, TypeGuard

from monitor import describe
from monitor.message import AlertBody, Body, ColumnChange, RetrainBody, WindowFacts

N_COLUMNS: Final = 8
N_RANGES: Final = 5

_ICONS: Final = {"info": "🔵", "warning": "🟠", "critical": "🔴"}


def headline(body: Body) -> str:
    """Which model, and how it stands."""
    version = "" if body.version is None else f" {body.version[:20]}"
    model = f"{'TEST · ' if body.test else ''}{body.model[:60]}{version}"
    if isinstance(body, RetrainBody):
        return f"🔁 {model} · retraining called for"
    if body.change == "digest":
        return f"📋 {body.title}"
    icon = "✅" if body.state == "resolved" else _ICONS[body.severity]
    segment = "" if body.segment in {"", "all"} else f" · {body.segment[:30]}"
    return f"{icon} {model}{segment} · {body.severity} · {body.state}"


def about(body: Body) -> str:
    """What happened, in a sentence or two."""
    return f"{body.title}. {body.summary}" if isinstance(body, AlertBody) else body.reason


def change(body: Body) -> str:
    """What this change was, for those who know the incident."""
    if isinstance(body, RetrainBody):
        return f"Retraining called for: {body.reason}"
    return f"{body.change.capitalize()} in window {body.window.index}, {body.severity}: {body.summary}"


def names(body: Body) -> str:
    """The worst columns by name."""
    return ", ".join(column.column for column in body.columns[:N_COLUMNS])


def n_more(body: Body) -> int:
    """How many columns there are beyond those that are shown."""
    return max(0, len(body.columns) - N_COLUMNS)


def numbers(column: ColumnChange) -> str:
    """Size, certainty and beginning of a column's change."""
    size = describe.size(column.measure[:60], column.effect, column.effect_low, column.effect_high)
    found = [" ".join(size)] if size else []
    if column.p_value is not None:
        found.append(f"p {column.p_value:.2g}")
    found += column.certainty
    when = column.since[:40] if column.since else ""
    if column.certainty and when:  # which says in which window it began
        return " · ".join([*found, f"since {when}"])
    return " · ".join([*found, f"since window {column.since_window}{f' ({when})' if when else ''}"])


def place(column: ColumnChange) -> str:
    """Where the column changed: its segment, "" for all rows."""
    return "" if column.segment in {"", "all"} else column.segment


def window(facts: WindowFacts) -> str:
    """The window that showed it."""
    span = "" if facts.start is None or facts.end is None else f", {facts.start[:40]} to {facts.end[:40]}"
    return f"Window {facts.index}{span}, {facts.n_rows:,} rows"


def reference(body: Body) -> str:
    """The beginning of the reference's id."""
    return body.reference.removeprefix("sha256:")[:12]


def rows(body: RetrainBody) -> str:
    """Where the drifted rows lie."""
    ranges = body.rows[:N_RANGES]
    shown = "; ".join(f"{r.topic[:40]}/{r.partition} {r.first_offset}–{r.last_offset}" for r in ranges)
    return f"{shown}; +{len(body.rows) - N_RANGES} more" if len(body.rows) > N_RANGES else shown


def is_digest(body: Body) -> TypeGuard[AlertBody]:
    """Whether it tells of several incidents at once."""
    return isinstance(body, AlertBody) and body.change == "digest"


def lines(body: AlertBody) -> list[str]:
    """A digest's lines, one for each incident."""
    return body.summary.split("; ")


def story(body: Body) -> list[str]:
    """What happened: a digest's lines, else one text."""
    return lines(body) if is_digest(body) else [about(body)]
