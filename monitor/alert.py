"""Incidents: verdicts with memory.

A model has at most one incident at a time. It opens when a column drifts, changes when more columns join it or it gets
graver, and is resolved after enough windows in a row in which every column is calm again. `advance` is the whole of it:
a pure function from what is remembered and the windows that closed together to what is remembered next and what
changed, if anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from monitor.batch import NO_TIME, Severity
from monitor.check import Judged
from monitor.decision import Outcome, Verdict
from monitor.window import WHOLE, Window


class State(StrEnum):
    """Where an incident stands."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


class Drifting(msgspec.Struct, frozen=True):
    """One column in an incident, as its latest drifting window shows it. since_ms: NO_TIME where rows have no time."""

    segment: str
    verdict: Verdict
    since_window: int
    since_ms: int


class Episode(msgspec.Struct, frozen=True):
    """The incident at hand. n_windows: its drifting windows; n_calm: calm windows in a row; n_changes: told so far."""

    id: str
    state: State
    opened_window: int
    since_ms: int
    severity: Severity
    columns: tuple[Drifting, ...]
    n_windows: int = 1
    n_calm: int = 0
    n_changes: int = 0


class Change(msgspec.Struct, frozen=True):
    """A step in an incident's life. change: pending | opened | updated | resolved. columns: the worst first."""

    change: str
    episode: Episode
    segment: str
    window: int
    columns: tuple[Drifting, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Policy:
    """for_windows: drifting windows in a row until an incident fires; clear_windows: calm ones until it is resolved."""

    for_windows: int = 1
    clear_windows: int = 2


def advance(
    model: str, episode: Episode | None, closed: Sequence[Judged], policy: Policy
) -> tuple[Episode | None, Change | None]:
    """The incident after windows of one span closed: the whole first, then its segments."""
    whole = closed[0].window
    drifting = [
        Drifting(judged.window.segment, verdict, verdict.since_window or 0, judged.window.start_ms)
        for judged in closed
        for verdict in judged.verdicts
        if verdict.outcome is Outcome.DRIFT
    ]
    if drifting:
        return _drift(model, episode, whole, drifting, policy)
    known = any(verdict.outcome is Outcome.OK for judged in closed for verdict in judged.verdicts)
    if episode is None or not known:
        return episode, None
    return _calm(episode, whole, policy)


def _drift(
    model: str, episode: Episode | None, whole: Window, drifting: Sequence[Drifting], policy: Policy
) -> tuple[Episode, Change | None]:
    before = {(column.segment, column.verdict.column): column for column in episode.columns} if episode else {}
    now = {(column.segment, column.verdict.column): _dated(column, before) for column in drifting}
    columns = tuple(sorted({**before, **now}.values(), key=_badness))
    severity = max((column.verdict.severity for column in columns), key=lambda severity: severity.rank)
    if episode is None:
        identity = f"{model}-{whole.index}{_stamp(whole.start_ms)}"
        fresh = Episode(identity, State.PENDING, whole.index, whole.start_ms, severity, columns)
        return _fired(fresh, whole, policy)
    grown = msgspec.structs.replace(
        episode, columns=columns, severity=severity, n_calm=0, n_windows=episode.n_windows + 1
    )  # fmt: skip
    if episode.state is State.PENDING:
        return _fired(grown, whole, policy)
    joined = [column for key, column in now.items() if key not in before]
    if joined:
        return _told(grown, "updated", whole, f"{len(joined)} more columns drift: {_names(joined)}")
    if severity.rank > episode.severity.rank:
        return _told(grown, "updated", whole, f"severity rose from {episode.severity} to {severity}")
    return grown, None


def _fired(episode: Episode, whole: Window, policy: Policy) -> tuple[Episode, Change | None]:
    names = _names(episode.columns)
    if episode.n_windows >= policy.for_windows:
        return _told(msgspec.structs.replace(episode, state=State.FIRING), "opened", whole, f"drift in {names}")
    if episode.n_windows > 1:
        return episode, None
    wanted = f"drift in {names}; fires after {policy.for_windows} windows in a row"
    return _told(episode, "pending", whole, wanted)


def _calm(episode: Episode, whole: Window, policy: Policy) -> tuple[Episode | None, Change | None]:
    calm = msgspec.structs.replace(episode, n_calm=episode.n_calm + 1)
    if episode.state is State.FIRING and calm.n_calm < policy.clear_windows:
        return calm, None
    times = f"{calm.n_calm} windows in a row" if calm.n_calm > 1 else "one window"
    resolved = msgspec.structs.replace(calm, state=State.RESOLVED)
    return None, _told(resolved, "resolved", whole, f"no column drifted for {times}")[1]


def _told(episode: Episode, change: str, whole: Window, reason: str) -> tuple[Episode, Change]:
    told = msgspec.structs.replace(episode, n_changes=episode.n_changes + 1)
    segments = {column.segment for column in episode.columns}
    segment = segments.pop() if len(segments) == 1 else WHOLE
    return told, Change(change, told, segment, whole.index, told.columns, reason)


def _dated(column: Drifting, before: dict[tuple[str, str], Drifting]) -> Drifting:
    """The column as it is now, since when it first joined the incident."""
    known = before.get((column.segment, column.verdict.column))
    if known is None:
        return column
    return msgspec.structs.replace(column, since_window=known.since_window, since_ms=known.since_ms)


def _badness(column: Drifting) -> tuple[int, bool, float, str, str]:
    """Sorts the worst first: by severity, the whole before segments, then by the size of the effect."""
    verdict = column.verdict
    return (
        -verdict.severity.rank, column.segment != WHOLE, -abs(verdict.effect or 0.0), column.segment, verdict.column
    )  # fmt: skip


def _names(columns: Sequence[Drifting]) -> str:
    names = list(dict.fromkeys(column.verdict.column for column in columns))
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _stamp(start_ms: int) -> str:
    """The window's start, so that an incident's name is not used again once the numbering begins anew."""
    if start_ms == NO_TIME:
        return ""
    return datetime.fromtimestamp(start_ms / 1000, UTC).strftime("-%Y%m%dT%H%MZ")
