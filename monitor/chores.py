"""The housekeeping of a configuration: what is done, and how often. What writes to the state is handed to the loop."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from detectors.season import HOUR_MS
from monitor.config import Config
from monitor.daemon import Outside
from monitor.engine import Engine
from monitor.errors import ReferenceFault
from monitor.heartbeat import Heartbeat
from monitor.reference import verified
from monitor.schedule import Housekeeping, Job
from monitor.store import Store, backup
from monitor.tune import give_back

log = logging.getLogger(__name__)

RETENTION_STEP_MS: Final = 2 * HOUR_MS
"""What grows old does so at most twice as fast as it should, however wrong the clock is."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model's reference in force was read from, and its id."""

    directory: Path
    id: str


@dataclass(frozen=True, slots=True)
class Estate:
    """What is kept in order. directory: of the state; places: by model; heartbeat: None where there is none."""

    config: Config
    directory: Path
    places: Mapping[str, Place]
    heartbeat: Heartbeat | None


def housekeeping(estate: Estate, store: Store, outside: Outside) -> Housekeeping:
    """The jobs."""
    config, chores = estate.config, outside.inbox.chores

    def prune() -> None:
        now_ms, kept = int(time.time() * 1000), config.state

        def forget(_: Engine, store: Store) -> None:
            at_ms = store.paced(now_ms, RETENTION_STEP_MS)
            store.prune(at_ms - kept.retention, at_ms - kept.sample_retention)
            store.database.give_back()

        chores.put(forget)

    def summarise() -> None:
        called = {retrain.channel for retrain in config.retrain}
        channels = [table.name for table in config.channel if table.name not in called]
        chores.put(lambda engine, _: engine.digest(channels, int(time.time() * 1000)))

    def beat(heartbeat: Heartbeat) -> None:
        if outside.health.ready().ok:  # else silence tells it
            heartbeat.beat()

    def ran(name: str, outcome: str, at_ms: int) -> None:
        outside.metrics.job(name, outcome)
        chores.put(lambda _, store: store.ran(name, outcome, at_ms))

    jobs = [
        Job("retention", prune, every_ms=HOUR_MS),
        Job("memory", give_back, every_ms=300_000),
        Job("references", partial(look_at, estate.places, outside), every_ms=HOUR_MS),
    ]
    if config.state.backup:
        jobs.append(Job("backup", partial(backup, estate.directory), every_ms=config.state.backup))
    if config.alert.digest:
        jobs.append(Job("digest", summarise, daily=config.alert.digest))
    if estate.heartbeat is not None:
        every_ms = estate.heartbeat.every_ms
        jobs.append(Job("heartbeat", partial(beat, estate.heartbeat), every_ms=every_ms, deadline_seconds=60.0))
    return Housekeeping(jobs, store.jobs(), ran, int(time.time() * 1000))


def look_at(places: Mapping[str, Place], outside: Outside) -> None:
    """Whether the references on the disk are those in force. What a person put there takes over when they say so, by a
    reload: what is normal never changes by itself."""
    for model, place in places.items():
        found = ""
        try:
            if (other := verified(place.directory).id) != place.id:
                found = f"{place.directory} holds another one ({other[:12]}), which the next reload takes"
        except ReferenceFault as fault:
            found = f"the next reload or start will fail: {fault}"
        outside.metrics.outdated(model, bool(found))
        if found:
            outdated = {"event": "reference.outdated", "key": model, "model": model}
            log.warning("model %s: its reference on the disk is not the one in force: %s", model, found, extra=outdated)
