"""Whether people are told of a change, and the name of the reason, which is kept and shown.

Silence of a topic outranks unreadable records, which outrank faults and drift of columns: while the graver trouble
lasts, nothing new is told of the lesser one. An acknowledged incident is quiet unless it gets graver, a silenced or
snoozed one until that ends; then what is still true is told. While a new model waits to take over, nothing new is told
of the drift of the old one. What was never told is not resolved aloud.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from detectors.season import DAY_MS, HOUR_MS
from monitor.alert import Change, Drifting, Episode, State
from monitor.order import Silence


@dataclass(frozen=True, slots=True)
class Manners:
    """repeat_ms: how long until an incident that goes on, and nobody looks after, is told again; 0 for never."""

    repeat_ms: int = DAY_MS


@dataclass(frozen=True, slots=True)
class Decision:
    """told: whether people are told; reason: why, or why not."""

    told: bool
    reason: str


REPLACED: Final = "held: a new model is ready, and its reference waits for approval"


def decide(model: str, change: Change, silences: Sequence[Silence], now_ms: int, *, replaced: bool = False) -> Decision:
    """What becomes of a change at this time by the wall clock. replaced: whether the model's successor is ready."""
    episode = change.episode
    if episode.state is State.PENDING:
        return Decision(False, "pending")
    if change.change in {"resolved", "acknowledged", "snoozed", "retraining"}:
        return Decision(True, change.change) if episode.told else Decision(False, "never told")
    if change.change == "repeated":  # `review` has found it due
        return Decision(True, change.reason)
    held = holding(model, episode, silences, now_ms)
    if held:
        return Decision(False, held)
    if change.change in {"opened", "updated"} and episode.told and episode.state in {State.NODATA, State.ERROR}:
        trouble = "the topic is silent" if episode.state is State.NODATA else "records cannot be read"
        return Decision(False, f"inhibited: {trouble}")
    if replaced and change.change in {"opened", "updated"} and _is_drift_alone(episode):
        return Decision(False, REPLACED)
    return Decision(True, _why(episode, change.reason))


def review(
    model: str, episode: Episode, silences: Sequence[Silence], manners: Manners, now_ms: int, *, replaced: bool = False
) -> Decision | None:  # fmt: skip
    """Whether an incident in which nothing happened is to be told now: a repeat, or what was held back; else None."""
    if episode.state in {State.PENDING, State.RESOLVED} or holding(model, episode, silences, now_ms):
        return None
    told = episode.told
    if told is None or _is_graver(episode) or set(_keys(episode)) - set(told.columns):
        if told is not None and episode.state in {State.NODATA, State.ERROR}:
            return None
        if replaced and _is_drift_alone(episode):
            return None
        return Decision(True, _why(episode, "held back until now"))
    if manners.repeat_ms and not episode.acknowledged and now_ms - told.at_ms >= manners.repeat_ms:
        return Decision(True, f"repeated: it has gone on for {manners.repeat_ms // HOUR_MS} h")
    return None


def holding(model: str, episode: Episode, silences: Sequence[Silence], now_ms: int) -> str:
    """Why nothing may be told of this incident now, or ""."""
    if now_ms < episode.snoozed_until_ms:
        return "snoozed"
    silence = covering(model, episode, silences, now_ms)
    if silence is not None:
        return f"silenced by {silence.by}: {silence.comment} ({silence.id})"
    if episode.acknowledged and not _is_graver(episode):
        return f"acknowledged by {episode.acknowledged.by}"
    return ""


def covering(model: str, episode: Episode, silences: Sequence[Silence], now_ms: int) -> Silence | None:
    """A silence, in force at this time, that covers all there is to tell of the incident."""
    running = [silence for silence in silences if silence.starts_ms <= now_ms < silence.ends_ms]
    mine = [s for s in running if fnmatchcase(model, s.model) and fnmatchcase(episode.severity, s.severity)]
    if episode.silent_since_ms or episode.broken or not episode.columns:
        return next((s for s in mine if s.column == "*" and s.segment == "*"), None)
    by_column = [next((s for s in mine if _matches(s, column)), None) for column in episode.columns]
    return by_column[0] if by_column and all(by_column) else None


def _matches(silence: Silence, column: Drifting) -> bool:
    return fnmatchcase(column.segment, silence.segment) and fnmatchcase(column.verdict.column, silence.column)


def _is_graver(episode: Episode) -> bool:
    told = episode.told
    return told is not None and episode.severity.rank > told.severity.rank


def _is_drift_alone(episode: Episode) -> bool:
    """Whether there is nothing in it that a new model would not end: the log is well, and it is no graver than told."""
    faulty = any(column.verdict.faulty for column in episode.columns)
    return episode.state is State.FIRING and not faulty and not _is_graver(episode)


def _keys(episode: Episode) -> list[tuple[str, str]]:
    return [column.key for column in episode.columns]


def _why(episode: Episode, reason: str) -> str:
    if episode.told is None:
        return "first notification"
    return f"severity rose to {episode.severity}" if _is_graver(episode) else reason
