"""Which channels hear of an incident."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from monitor.alert import Change
from monitor.batch import Severity
from monitor.config import Config, Route


def recipients(config: Config, model: str, change: Change, now_ms: int) -> Sequence[str]:
    """Names of the channels: those of the first route that matches; without any route, every channel that is not a
    retraining job's."""
    if not config.route:
        jobs = {retrain.channel for retrain in config.retrain}
        return [channel.name for channel in config.channel if channel.name not in jobs]
    for route in config.route:
        if _matches(route, model, change, now_ms):
            return route.channels
    return []


def _matches(route: Route, model: str, change: Change, now_ms: int) -> bool:
    return (
        any(fnmatchcase(model, pattern) for pattern in route.models)
        and any(fnmatchcase(change.segment, pattern) for pattern in route.segments)
        and change.episode.severity.rank >= Severity(route.min_severity).rank
        and _is_open(route.hours, now_ms)
    )


def _is_open(hours: str, now_ms: int) -> bool:
    """Whether the time of day lies in "08:00-18:00"; "" is always, and "22:00-06:00" goes over midnight."""
    if not hours:
        return True
    begin, end = hours.split("-")
    now = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%H:%M")
    return begin <= now < end if begin <= end else now >= begin or now < end
