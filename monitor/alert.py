"""Incidents: verdicts with memory.

A model has at most one incident at a time. It opens when a column drifts, when the topic falls silent, or when records
cannot be read any more; it changes when more joins it, and is resolved after enough windows in a row in which every
column is calm. The functions here say what an incident is; whether anybody is told is the business of `monitor.notify`.
All are pure: from what is remembered and what was seen to what is remembered next and what changed, if anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from monitor.batch import NO_TIME, Partition, Severity
from monitor.check import Judged
from monitor.decision import Outcome, Verdict
from monitor.tally import Extent, Extents, union
from monitor.window import WHOLE, Window

ColumnKey = tuple[str, str]
"""Segment and column."""


class State(StrEnum):
    """Where an incident stands. What cannot be seen or read is a state of its own, and never "ok"."""

    PENDING = "pending"
    FIRING = "firing"
    NODATA = "nodata"
    ERROR = "error"
    RESOLVED = "resolved"


class Drifting(msgspec.Struct, frozen=True):
    """One column in an incident, as its latest drifting window shows it. since_ms: NO_TIME where rows have no time.

    weight: how rarely chance brings as much, times the column's importance.
    """

    segment: str
    verdict: Verdict
    since_window: int
    since_ms: int
    weight: float = 0.0

    @property
    def key(self) -> ColumnKey:
        return self.segment, self.verdict.column


class Seen(msgspec.Struct, frozen=True):
    """The window that showed something last; rows: where its rows lie (topic, partition, first and last offset)."""

    index: int
    start_ms: int
    end_ms: int
    n_rows: int
    rows: tuple[tuple[str, int, int, int], ...] = ()

    @classmethod
    def of(cls, window: Window, *more: Extents) -> Seen:
        """The window, its rows together with more of them."""
        rows = union(window.tally.extents, *more)
        places = tuple((at.topic, at.number, extent.first, extent.last) for at, extent in rows.items())
        return cls(window.index, window.start_ms, window.end_ms, window.n_rows, places)


class Mark(msgspec.Struct, frozen=True):
    """Who did something, and when by the wall clock."""

    by: str
    at_ms: int


class Told(msgspec.Struct, frozen=True):
    """What people were told last. channels: those that have a message of it; none when it was one line of a digest."""

    at_ms: int
    severity: Severity
    columns: tuple[ColumnKey, ...]
    channels: tuple[str, ...]


class Episode(msgspec.Struct, frozen=True):
    """The incident at hand.

    columns: all that drifted in it, the worst first. window: the one that changed it last. n_windows: drifting windows;
    n_calm: calm windows in a row; calm_since_ms: end of the last drifting window. n_changes: changes so far.
    silent_since_ms: since when nothing comes, 0 while something does. broken: why records cannot be read, or "".
    aged: it is there because the model has become too old, until its retraining has ended.
    """

    id: str
    state: State
    since_ms: int
    severity: Severity
    window: Seen
    opened_window: int
    columns: tuple[Drifting, ...] = ()
    n_windows: int = 0
    n_calm: int = 0
    n_changes: int = 0
    calm_since_ms: int = NO_TIME
    silent_since_ms: int = 0
    broken: str = ""
    aged: bool = False
    acknowledged: Mark | None = None
    snoozed_until_ms: int = 0
    told: Told | None = None


class Change(msgspec.Struct, frozen=True):
    """A step in an incident's life.

    change: pending | opened | updated | resolved | nodata | error | recovered | acknowledged | snoozed | repeated |
    retraining.
    reason: what happened. told: whether people were told; notice: why, or why not.
    """

    change: str
    episode: Episode
    segment: str
    reason: str
    told: bool = False
    notice: str = ""

    @property
    def window(self) -> int:
        """Index of the window that brought it, or of the last one before."""
        return self.episode.window.index


@dataclass(frozen=True, slots=True)
class Policy:
    """When incidents fire and end, and what weighs most in them.

    for_windows: drifting windows in a row until one fires. clear_windows: calm windows in a row until it is resolved,
    and at least keep_firing_ms of event time after the last drifting window. importance: of columns, 1 where there is
    none.
    """

    for_windows: int = 1
    clear_windows: int = 2
    keep_firing_ms: int = 0
    importance: Mapping[str, float] = field(default_factory=dict)

    def weight(self, verdict: Verdict) -> float:
        """What a column weighs in an incident: how rarely chance brings as much, times its importance."""
        return verdict.rarity * self.importance.get(verdict.column, 1.0)


Step = tuple[Episode | None, Change | None]
Dismissed = Mapping[ColumnKey, str]
"""Columns that are not told of until they were calm, and the incident in which somebody said so."""


def advance(
    model: str, episode: Episode | None, closed: Sequence[Judged], policy: Policy, dismissed: Dismissed
) -> Step:
    """The incident after windows of one span closed: the whole first, then its segments."""
    whole = closed[0].window
    found = [
        Drifting(
            judged.window.segment, verdict, verdict.since_window or 0, judged.window.start_ms, policy.weight(verdict)
        )
        for judged in closed
        for verdict in judged.verdicts
        if verdict.outcome is Outcome.DRIFT
    ]
    drifting = [column for column in found if column.key not in dismissed]
    if drifting:
        return _drift(model, episode, whole, drifting, policy)
    known = any(verdict.outcome is Outcome.OK for judged in closed for verdict in judged.verdicts)
    if episode is None or not known or found:
        return episode, None
    return _calm(episode, whole, policy)


def still_dismissed(dismissed: Dismissed, closed: Sequence[Judged]) -> dict[ColumnKey, str]:
    """The dismissed columns less those that were calm in these windows."""
    calm = {(j.window.segment, v.column) for j in closed for v in j.verdicts if v.outcome is Outcome.OK}
    return {key: incident for key, incident in dismissed.items() if key not in calm}


def silence(model: str, episode: Episode | None, since_ms: int, now_ms: int) -> Step:
    """The incident once nothing has come since then; since_ms 0: something comes again."""
    if since_ms:
        if episode is not None and episode.silent_since_ms:
            return episode, None
        base = episode or _without_window(model, "silent", since_ms)
        quiet = msgspec.structs.replace(base, silent_since_ms=since_ms, severity=Severity.CRITICAL)
        minutes = (now_ms - since_ms) // 60_000
        return changed(quiet, "nodata" if episode else "opened", f"no record has come for {_span(minutes)}")
    if episode is None or not episode.silent_since_ms:
        return episode, None
    return _recovered(msgspec.structs.replace(episode, silent_since_ms=0), "records come again")


def breakage(model: str, episode: Episode | None, reason: str, now_ms: int) -> Step:
    """The incident once most records cannot be read, for this reason; "": they can again."""
    if reason:
        if episode is not None and episode.broken:
            return episode, None
        base = episode or _without_window(model, "unreadable", now_ms)
        broken = msgspec.structs.replace(base, broken=reason, severity=Severity.CRITICAL)
        return changed(broken, "error" if episode else "opened", reason)
    if episode is None or not episode.broken:
        return episode, None
    return _recovered(msgspec.structs.replace(episode, broken=""), "records can be read again")


def age(model: str, whole: Window, reason: str) -> tuple[Episode, Change]:
    """An incident that only the model's age brought, in a window in which nothing was wrong."""
    identity = f"{model}-age{_stamp(whole.end_ms)}"
    aged = Episode(identity, State.FIRING, whole.end_ms, Severity.INFO, Seen.of(whole), whole.index, aged=True)
    return changed(aged, "opened", reason)


def renewed(episode: Episode, reason: str) -> Step:
    """The retraining that the model's age asked for has ended."""
    return _recovered(msgspec.structs.replace(episode, aged=False), reason)


def acknowledge(episode: Episode, by: str, now_ms: int) -> Step:
    """Somebody looks after it."""
    return changed(msgspec.structs.replace(episode, acknowledged=Mark(by, now_ms)), "acknowledged", f"by {by}")


def snooze(episode: Episode, by: str, until_ms: int) -> Step:
    """Nothing is told of it until then."""
    until = datetime.fromtimestamp(until_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    snoozed = msgspec.structs.replace(episode, snoozed_until_ms=until_ms)
    return changed(snoozed, "snoozed", f"by {by} until {until}")


def resolve(episode: Episode, by: str, note: str) -> Step:
    """Somebody says that it is over."""
    closed = msgspec.structs.replace(episode, state=State.RESOLVED)
    return None, changed(closed, "resolved", f"by {by}: {note}" if note else f"by {by}")[1]


def names(columns: Sequence[Drifting]) -> tuple[str, ...]:
    """Each name once: a column may drift in several segments."""
    return tuple(dict.fromkeys(column.verdict.column for column in columns))


def named(columns: Sequence[Drifting]) -> str:
    """The first few names, and how many more there are."""
    found = names(columns)
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")


def _drift(
    model: str, episode: Episode | None, whole: Window, drifting: Sequence[Drifting], policy: Policy
) -> Step:  # fmt: skip
    before = {column.key: column for column in episode.columns} if episode else {}
    now = {column.key: _dated(column, before) for column in drifting}
    columns = tuple(sorted({**before, **now}.values(), key=_badness))
    severity = max((column.verdict.severity for column in columns), key=lambda severity: severity.rank)
    if episode is None:
        identity = f"{model}-{whole.index}{_stamp(whole.start_ms)}"
        episode = Episode(identity, State.PENDING, whole.start_ms, severity, Seen.of(whole), whole.index)
    troubled = episode.silent_since_ms or episode.broken
    grown = msgspec.structs.replace(
        episode,
        columns=columns,
        severity=Severity.CRITICAL if troubled else severity,
        window=Seen.of(whole, _rows(episode.window) if episode.n_windows else {}),
        n_calm=0,
        n_windows=episode.n_windows + 1,
        calm_since_ms=whole.end_ms,
    )
    if episode.state is State.PENDING:
        return _fired(grown, policy)
    joined = [column for column in columns if column.key not in before]
    if joined:
        what = "1 more column drifts" if len(joined) == 1 else f"{len(joined)} more columns drift"
        return changed(grown, "updated", f"{what}: {named(joined)}" if before else f"drift in {named(joined)}")
    if severity.rank > episode.severity.rank:
        return changed(grown, "updated", f"severity rose from {episode.severity} to {severity}")
    return grown, None


def _fired(episode: Episode, policy: Policy) -> Step:
    drift = f"drift in {named(episode.columns)}"
    if episode.n_windows >= policy.for_windows:
        return changed(msgspec.structs.replace(episode, state=State.FIRING), "opened", drift)
    if episode.n_windows > 1:
        return episode, None
    return changed(episode, "pending", f"{drift}; fires after {policy.for_windows} windows in a row")


def _calm(episode: Episode, whole: Window, policy: Policy) -> Step:
    calm = msgspec.structs.replace(episode, n_calm=episode.n_calm + 1)
    if episode.silent_since_ms or episode.broken or episode.aged:
        return calm, None
    kept = NO_TIME not in (whole.end_ms, calm.calm_since_ms) and (
        whole.end_ms - calm.calm_since_ms < policy.keep_firing_ms
    )
    if episode.state is not State.PENDING and (calm.n_calm < policy.clear_windows or kept):
        return calm, None
    times = f"{calm.n_calm} windows in a row" if calm.n_calm > 1 else "one window"
    resolved = msgspec.structs.replace(calm, state=State.RESOLVED, window=Seen.of(whole))
    return None, changed(resolved, "resolved", f"no column drifted for {times}")[1]


def _recovered(episode: Episode, reason: str) -> Step:
    """The incident goes on for what else is wrong, or is over."""
    if episode.columns or episode.silent_since_ms or episode.broken or episode.aged:
        usual = episode.severity if episode.silent_since_ms or episode.broken else Severity.INFO
        severity = max((c.verdict.severity for c in episode.columns), key=lambda s: s.rank, default=usual)
        return changed(msgspec.structs.replace(episode, severity=severity), "recovered", reason)
    return None, changed(msgspec.structs.replace(episode, state=State.RESOLVED), "resolved", reason)[1]


def changed(episode: Episode, change: str, reason: str) -> tuple[Episode, Change]:
    """The incident one change further, and that change: of its columns, or that time made it worth a word."""
    state = episode.state
    if state is not State.RESOLVED:
        firing = State.PENDING if state is State.PENDING else State.FIRING
        state = State.NODATA if episode.silent_since_ms else State.ERROR if episode.broken else firing
    told = msgspec.structs.replace(episode, state=state, n_changes=episode.n_changes + 1)
    segments = {column.segment for column in episode.columns}
    segment = segments.pop() if len(segments) == 1 else WHOLE
    return told, Change(change, told, segment, reason)


def _without_window(model: str, what: str, at_ms: int) -> Episode:
    """An incident that no window brought."""
    nothing = Seen(0, NO_TIME, NO_TIME, 0)
    return Episode(f"{model}-{what}{_stamp(at_ms)}", State.FIRING, at_ms, Severity.CRITICAL, nothing, 0)


def _rows(seen: Seen) -> Extents:
    return {Partition(topic, number): Extent(first, last) for topic, number, first, last in seen.rows}


def _dated(column: Drifting, before: Mapping[ColumnKey, Drifting]) -> Drifting:
    """The column as it is now, since when it first joined the incident."""
    known = before.get(column.key)
    if known is None:
        return column
    return msgspec.structs.replace(column, since_window=known.since_window, since_ms=known.since_ms)


def _badness(column: Drifting) -> tuple[int, bool, float, float, str, str]:
    """Sorts the worst first: by severity, the whole before segments, by weight, then by the size of the effect."""
    verdict = column.verdict
    return (
        -verdict.severity.rank, column.segment != WHOLE, -column.weight, -abs(verdict.effect or 0.0), column.segment,
        verdict.column,
    )  # fmt: skip


def _stamp(time_ms: int) -> str:
    """A time, so that an incident's name is not used again once the numbering begins anew."""
    if time_ms == NO_TIME:
        return ""
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("-%Y%m%dT%H%MZ")
    except (ValueError, OverflowError, OSError):  # beyond the calendar
        return f"-{time_ms}"


def _span(minutes: int) -> str:
    return f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} hours"
