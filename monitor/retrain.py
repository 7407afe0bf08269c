"""When drift calls a retraining job, and how that ends.

A trigger is made at most once per incident, one at a time per model, and never for faults of the data alone: a model
retrained on those would learn them. One that has become too old is retrained though nothing drifts. A trigger lives
until the job has answered, the new reference is in force, and a while later drift is really gone, or not. All functions
are pure; where they change a trigger they say so in its history.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import msgspec

from detectors.season import DAY_MS, HOUR_MS
from monitor.alert import Change, State
from monitor.batch import NO_TIME
from monitor.config import Retrain
from monitor.loss import Loss, Toll
from monitor.message import RetrainBody
from monitor.order import CallBack

AHEAD_MS: Final = 14 * DAY_MS
"""How long a risen loss is taken to go on where nobody retrains."""


class Step(StrEnum):
    """Where a trigger stands."""

    DRY_RUN = "dry_run"
    AWAITS_APPROVAL = "awaits_approval"
    CALLED = "called"
    GIVEN_UP = "given_up"
    STARTED = "started"
    SUCCEEDED = "succeeded"
    ROTATED = "rotated"
    EFFECTIVE = "effective"
    INEFFECTIVE = "ineffective"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "expired"
    TIMED_OUT = "timed_out"


IN_FLIGHT: Final = frozenset({Step.AWAITS_APPROVAL, Step.CALLED, Step.STARTED})
DONE: Final = frozenset({Step.SUCCEEDED, Step.ROTATED})


class Past(msgspec.Struct, frozen=True):
    """One step that a trigger took; at_ms by the wall clock."""

    step: Step
    at_ms: int
    by: str
    note: str = ""


class Trigger(msgspec.Struct, frozen=True):
    """One decision to retrain, with its evidence.

    id: the idempotency key. at_ms: event time of the deciding window, or NO_TIME. body: the call to the job. version,
    reference: of the new model, once the job has said so. loss: the risen loss that spoke for it, where labels tell it.
    """

    id: str
    incident: str
    channel: str
    at_ms: int
    body: RetrainBody
    history: tuple[Past, ...]
    version: str | None = None
    reference: str | None = None
    loss: Loss | None = None

    @property
    def step(self) -> Step:
        return self.history[-1].step

    @property
    def under_way(self) -> bool:
        """Whether the job, or a person's word on it, is still to come."""
        return self.step in IN_FLIGHT or (self.step is Step.SUCCEEDED and self.reference is not None)

    @property
    def approvable(self) -> bool:
        """Whether it waits for a person's word."""
        return self.under_way and self.step in {Step.AWAITS_APPROVAL, Step.SUCCEEDED}

    def stepped(self, step: Step, at_ms: int, by: str, note: str = "") -> Trigger:
        """The trigger one step further."""
        return msgspec.structs.replace(self, history=(*self.history, Past(step, at_ms, by, note)))


class Learnt(msgspec.Struct, frozen=True):
    """Event time up to which a model can have learnt, NO_TIME before its first window; and its reference."""

    reference: str = ""
    until_ms: int = NO_TIME

    def under(self, reference: str, known_ms: int, first_ms: int) -> Learnt:
        """With this reference in force. known_ms: where its rows end; first_ms: where its first window begins, which
        counts where the rows have no time."""
        if reference == self.reference:
            return self
        return Learnt(reference, max(self.until_ms, first_ms if known_ms == NO_TIME else known_ms))

    def age_ms(self, at_ms: int) -> int:
        """How old it is at this event time, 0 where nobody knows."""
        return 0 if NO_TIME in (at_ms, self.until_ms) else max(at_ms - self.until_ms, 0)


class Retraining(msgspec.Struct, frozen=True):
    """What is remembered of a model's retraining.

    made_ms: event times of its triggers within the last day. n_rows: rows counted when the latest was made.
    n_ineffective: triggers in a row that did not help; each doubles the cool-down. n_labels: as n_rows, of labels.
    learnt: how far the model can know the data.
    """

    latest: Trigger | None = None
    made_ms: tuple[int, ...] = ()
    n_rows: int = 0
    n_ineffective: int = 0
    n_labels: int = 0
    learnt: Learnt = Learnt()

    def stepped(self, trigger: Trigger) -> Retraining:
        """With the latest trigger one step further. A job that succeeded has learnt the data up to its trigger."""
        failed = {Step.INEFFECTIVE: self.n_ineffective + 1, Step.EFFECTIVE: 0}.get(trigger.step, self.n_ineffective)
        learnt = self.learnt
        if trigger.step in DONE:
            learnt = Learnt(learnt.reference, max(learnt.until_ms, trigger.at_ms))
        return msgspec.structs.replace(self, latest=trigger, n_ineffective=failed, learnt=learnt)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for retraining. effect: sum of importance times effect over the drifting columns; predicts: whether
    the model's own output drifts, None where none is watched; loss: of the deciding window, None without labels; toll:
    what it has cost; age_ms: of the model, see `Learnt`."""

    n_rows: int
    effect: float
    predicts: bool | None
    loss: Loss | None = None
    toll: Toll = field(default_factory=Toll)
    age_ms: int = 0


def consider(change: Change, evidence: Evidence, options: Retrain, before: Retraining) -> str | None:
    """Why no trigger is to be made now; None when one is."""
    episode, latest = change.episode, before.latest
    if latest is not None and latest.incident == episode.id:
        return said(latest)
    if episode.state is not State.FIRING:
        return "not called: the data cannot be seen" if episode.state in {State.NODATA, State.ERROR} else ""
    if episode.columns and all(column.verdict.faulty for column in episode.columns):
        return "not called: the data is faulty, and a new model would learn the fault"
    if latest is not None and latest.under_way:
        return f"not called: {latest.id} is still under way ({latest.step})"
    weak = "" if overdue(evidence.age_ms, options) else _too_weak(change, evidence, options)
    return weak or _nothing_new(evidence, options, before) or _too_soon(episode.window.end_ms, options, before)


def overdue(age_ms: int, options: Retrain) -> str:
    """That a model of this age is to be retrained whatever its data do, in words; "" where it is not."""
    if not 0 < options.max_age < age_ms:
        return ""
    age, most = (f"{ms / DAY_MS:.1f} days" for ms in (age_ms, options.max_age))
    return f"max age: what the model has learnt is {age} old, wanted at most {most}"


def because(change: Change, evidence: Evidence, options: Retrain) -> str:
    """Why a trigger is made, once `consider` holds nothing against it: what the data do, or the model's age."""
    return overdue(evidence.age_ms, options) if _too_weak(change, evidence, options) else change.reason


def made(change: Change, body: RetrainBody, evidence: Evidence, options: Retrain, now_ms: int) -> Trigger:
    """A new trigger for this change."""
    loss = None if _too_weak(change, evidence, options) else evidence.loss
    step = {"auto": Step.CALLED, "dry_run": Step.DRY_RUN, "approve": Step.AWAITS_APPROVAL}[options.mode]
    at_ms = change.episode.window.end_ms
    history = (Past(step, now_ms, "driftd"),)
    return Trigger(body.trigger, change.episode.id, options.channel, at_ms, body, history, loss=loss)


def remembered(before: Retraining, trigger: Trigger, n_rows: int, n_labels: int = 0) -> Retraining:
    """What is remembered once a trigger was made, after so many rows and labels."""
    recent = tuple(at_ms for at_ms in before.made_ms if trigger.at_ms - at_ms < DAY_MS)
    return msgspec.structs.replace(
        before, latest=trigger, made_ms=(*recent, trigger.at_ms), n_rows=n_rows, n_labels=n_labels
    )


def called_back(trigger: Trigger, order: CallBack, options: Retrain, now_ms: int) -> tuple[Trigger | None, str]:
    """The trigger after a job spoke of itself, None when that changes nothing; and words for the job."""
    if trigger.step not in {Step.CALLED, Step.GIVEN_UP, Step.STARTED, Step.TIMED_OUT}:
        return None, f"{trigger.id} is {trigger.step}; nothing more is expected of the job"
    if order.status == "started":
        return trigger.stepped(Step.STARTED, now_ms, order.by, order.note), "noted: started"
    if order.status == "failed":
        return trigger.stepped(Step.FAILED, now_ms, order.by, order.note), "noted: failed"
    done = msgspec.structs.replace(trigger, version=order.version, reference=order.reference)
    done = done.stepped(Step.SUCCEEDED, now_ms, order.by, order.note)
    if order.reference is None or options.rotate == "approve":
        return done, "noted: succeeded"
    return done.stepped(Step.ROTATED, now_ms, "driftd", "as configured"), "noted: succeeded; its reference takes over"


def call_ended(trigger: Trigger, given_up: str, now_ms: int) -> Trigger | None:
    """The trigger after its call was given up, for that reason, or came through (""); None when that changes nothing.

    One that was given up may be sent again by hand; and a job that was reached though nobody knew it may call back.
    """
    if given_up and trigger.step is Step.CALLED:
        return trigger.stepped(Step.GIVEN_UP, now_ms, "driftd", given_up)
    if not given_up and trigger.step is Step.GIVEN_UP:
        return trigger.stepped(Step.CALLED, now_ms, "driftd", "after all")
    return None


def approved(trigger: Trigger, by: str, now_ms: int) -> tuple[Trigger | None, str]:
    """The trigger after somebody let it go on, None when it waits for nobody; and words."""
    if trigger.step is Step.AWAITS_APPROVAL:
        return trigger.stepped(Step.CALLED, now_ms, by), f"{trigger.channel} is called"
    if trigger.step is Step.SUCCEEDED and trigger.reference is not None:
        return trigger.stepped(Step.ROTATED, now_ms, by), f"{trigger.reference} takes over as reference"
    return None, f"{trigger.id} is {trigger.step} and waits for no approval"


def refused(trigger: Trigger, by: str, now_ms: int) -> tuple[Trigger | None, str]:
    """The trigger after somebody ended it, None when it waits for nobody; and words."""
    if trigger.approvable:
        return trigger.stepped(Step.REFUSED, now_ms, by), "refused"
    return None, f"{trigger.id} is {trigger.step} and waits for no approval"


def passed(
    trigger: Trigger, options: Retrain, drifts: bool, now_ms: int, loss: Loss | None = None, lag_ms: int = 0
) -> Trigger | None:
    """The trigger after time went by, None when that changes nothing.

    drifts: whether the model's data drift now. loss: since the new reference is in force, None without labels. lag_ms:
    how much later than predictions their labels may come; where the loss spoke for the trigger, they are waited for.
    """
    since_ms = now_ms - trigger.history[-1].at_ms
    if trigger.step is Step.AWAITS_APPROVAL and since_ms >= options.ttl:
        return trigger.stepped(Step.EXPIRED, now_ms, "driftd", "nobody approved it in time")
    waits = trigger.step in {Step.CALLED, Step.STARTED}
    if waits and options.callback_within and since_ms >= options.callback_within:
        return trigger.stepped(Step.TIMED_OUT, now_ms, "driftd", "the job never called back")
    if waits and not options.callback_within and since_ms >= options.ttl:
        return trigger.stepped(Step.SUCCEEDED, now_ms, "driftd", "no call-back is expected")
    wait_ms = lag_ms if trigger.loss is not None and loss is None else 0
    if trigger.step is Step.ROTATED and since_ms >= options.check_after + wait_ms:
        helped, words = _helped(trigger.loss, drifts, loss)
        return trigger.stepped(Step.EFFECTIVE if helped else Step.INEFFECTIVE, now_ms, "driftd", words)
    return None


def said(trigger: Trigger) -> str:
    """How a trigger stands, for the alert."""
    note = trigger.history[-1].note
    words = {
        Step.CALLED: f"called {trigger.channel}",
        Step.GIVEN_UP: f"the call to {trigger.channel} was given up: {note}",
        Step.DRY_RUN: f"dry run: would have called {trigger.channel}",
        Step.AWAITS_APPROVAL: f"{trigger.channel} waits for approval",
        Step.SUCCEEDED: "the job succeeded" + ("; its reference waits for approval" if trigger.reference else ""),
        Step.ROTATED: f"the job succeeded; {trigger.reference} is the reference now",
    }
    return words.get(trigger.step) or f"{trigger.channel} {trigger.step.replace('_', ' ')}" + (
        f": {note}" if note else ""
    )


def _helped(before: Loss | None, drifts: bool, now: Loss | None) -> tuple[bool, str]:
    """Whether more than half of the loss's rise is surely gone; without labels, whether drift is."""
    if before is None or now is None:
        return not drifts, "drift came back" if drifts else "drift is gone"
    helped = now.high < before.usual + (before.mean - before.usual) / 2
    return helped, f"the mean loss {'fell' if helped else 'did not fall'}: {before.mean:.3g} then, {now.mean:.3g} now"


def _too_weak(change: Change, evidence: Evidence, options: Retrain) -> str:
    """What the data lack to speak for a retraining, or ""."""
    loss = evidence.loss
    if not change.episode.columns:
        return "not called: no column drifts"
    if loss is not None and loss.low - loss.usual <= options.min_loss_rise:
        wanted = f"a rise of more than {options.min_loss_rise:g}" if options.min_loss_rise else "a real rise"
        return (
            f"not called: the mean loss is {loss.mean:.3g} ({loss.low:.3g} to {loss.high:.3g}), "
            f"the reference's {loss.usual:.3g}; wanted {wanted}"
        )
    due = evidence.toll.by(AHEAD_MS)
    if loss is not None and due < options.retrain_cost:
        return (
            f"not called: the loss has cost {evidence.toll.total:.3g} more than usual, {due:.3g} if it goes on for "
            f"14 days; a retraining costs {options.retrain_cost:g}"
        )
    if loss is None and evidence.predicts is False:
        return "not called: the model's own output does not drift"
    if evidence.effect < options.min_effect:
        return f"not called: the weighted effect is {evidence.effect:.3g}, wanted {options.min_effect:g}"
    return ""


def _nothing_new(evidence: Evidence, options: Retrain, before: Retraining) -> str | None:
    n_new = evidence.n_rows - before.n_rows
    if n_new < options.min_rows:
        return f"not called: {n_new:,} new rows to learn from, wanted {options.min_rows:,}"
    n_labels = evidence.toll.n_labels - before.n_labels
    if n_labels < options.min_labels:
        return f"not called: {n_labels:,} new labels to learn from, wanted {options.min_labels:,}"
    return None


def _too_soon(at_ms: int, options: Retrain, before: Retraining) -> str | None:
    if before.latest is None or NO_TIME in (at_ms, before.latest.at_ms):
        return None
    wait_ms = before.latest.at_ms + options.cooldown * 2**before.n_ineffective - at_ms
    if wait_ms > 0:
        return f"not called: the last trigger was too recent; the cool-down ends in {wait_ms / HOUR_MS:.1f} h"
    if sum(at_ms - made_ms < DAY_MS for made_ms in before.made_ms) >= options.max_per_day:
        return f"not called: there were {options.max_per_day} triggers within a day"
    return None
