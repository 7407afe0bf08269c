"""When drift calls a retraining job.

`consider` is a pure function of the incident's change and what was called before. A job is called at most once per
incident and never for faults of the data alone: a model retrained on those would learn them.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from monitor.alert import Change, State
from monitor.batch import NO_TIME
from monitor.config import Retrain
from monitor.window import Window


class Step(StrEnum):
    """What was done about a trigger."""

    CALLED = "called"
    DRY_RUN = "dry_run"
    AWAITS_APPROVAL = "awaits_approval"


class Trigger(msgspec.Struct, frozen=True):
    """One decision to retrain. id: the idempotency key; at_ms: event time of the deciding window, or NO_TIME."""

    id: str
    incident: str
    channel: str
    step: Step
    at_ms: int


class Calls(msgspec.Struct, frozen=True):
    """What is remembered of a model's retraining: the latest trigger."""

    latest: Trigger | None = None


def consider(change: Change, window: Window, options: Retrain, before: Calls) -> tuple[Trigger | None, str]:
    """The trigger, if there is to be one, and what the alert says of it."""
    latest = before.latest
    if change.episode.state is not State.FIRING:
        return None, ""
    if latest is not None and latest.incident == change.episode.id:
        return None, _said(latest)
    if all(column.verdict.faulty for column in change.columns):
        return None, "not called: the data is faulty, and a new model would learn the fault"
    if latest is not None and NO_TIME not in (latest.at_ms, window.end_ms):
        wait_ms = latest.at_ms + options.cooldown - window.end_ms
        if wait_ms > 0:
            return (
                None,
                f"not called: the last trigger was too recent; the cool-down ends in {wait_ms / 3_600_000:.1f} h",
            )
    step = {"auto": Step.CALLED, "dry_run": Step.DRY_RUN, "approve": Step.AWAITS_APPROVAL}[options.mode]
    trigger = Trigger(f"{change.episode.id}-retrain", change.episode.id, options.channel, step, window.end_ms)
    return trigger, _said(trigger)


def _said(trigger: Trigger) -> str:
    words = {
        Step.CALLED: f"called {trigger.channel}",
        Step.DRY_RUN: f"dry run: would have called {trigger.channel}",
        Step.AWAITS_APPROVAL: f"{trigger.channel} waits for approval",
    }
    return words[trigger.step]
