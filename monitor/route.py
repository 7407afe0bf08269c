"""Which channels hear of an incident."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.batch import Severity
from monitor.config import Config


def recipients(config: Config, model: str, severity: Severity) -> Sequence[str]:
    """Names of the channels: those of the first route that matches; without any route, every channel that is not a
    retraining job's."""
    if not config.route:
        jobs = {retrain.channel for retrain in config.retrain}
        return [channel.name for channel in config.channel if channel.name not in jobs]
    for route in config.route:
        if (model in route.models or "*" in route.models) and severity.rank >= Severity(route.min_severity).rank:
            return route.channels
    return []
