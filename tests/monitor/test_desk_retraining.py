"""An incident and the retraining that it asks for: called, waited for, taken over, and whether it helped."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from detectors import Bins, Profile
from monitor.batch import Severity
from monitor.check import Judged
from monitor.config import Config
from monitor.notify import REPLACED
from monitor.order import Acknowledge, Approve, CallBack, Refuse, Resolve, Silence
from monitor.retrain import Retraining, Step, Trigger
from tests.monitor.story import CONFIG, Story, configured
from tests.monitor.test_alert import HOUR, judged


def test_the_retraining_loop_closes():
    story = Story()
    story.window(1, "a")
    assert [said[2] for said in story.said] == ["opened"]
    trigger = f"{story.incident}-retrain"
    assert "waits for approval" in story.notices[0].body.retraining
    assert story.notices[0].body.approvable == trigger
    assert story.at(2, Approve(trigger=trigger, by="ana")).done
    assert story.notices[-1].body.approvable is None
    assert (2, "job", "call") in story.said
    call = next(notice for notice in story.notices if notice.channel == "job")
    assert call.id == call.body.trigger == trigger
    story.at(3, CallBack(trigger=trigger, status="succeeded", version="4", reference="references/v4"))
    assert story.notices[-1].body.approvable == trigger
    assert story.at(4, Approve(trigger=trigger, by="ana")).done
    assert (story.desk.state.reference, story.desk.state.version) == ("references/v4", "4")
    assert story.desk.state.episode is None
    story.at(6)
    assert story.desk.state.retraining.latest.step == "effective"
    assert story.at(7, Approve(trigger=trigger, by="ana")).done is False


def test_the_old_models_alarms_are_held_while_its_successor_waits_and_told_if_that_is_refused():
    story = Story()
    story.window(1, "a")
    trigger = f"{story.incident}-retrain"
    story.at(2, Approve(trigger=trigger, by="ana"))
    story.at(3, CallBack(trigger=trigger, status="succeeded", version="4", reference="references/v4"))
    before = list(story.said)
    story.window(4, "a", "b")
    story.restart()
    story.at(4)
    assert (story.said, story.why[-1]) == (before, (4, "updated", REPLACED))
    story.window(5, "a", severity=Severity.CRITICAL)
    story.window(6, "c", faulty=True, severity=Severity.CRITICAL)
    story.hear(7, silent_since=6)
    assert [said[2] for said in story.said[len(before) :]] == ["updated", "updated", "nodata"]
    story.hear(8)
    story.window(9, "d", severity=Severity.CRITICAL)
    story.at(10, Refuse(trigger=trigger, by="ana"))
    assert [said for said in story.said if said[0] > 8] == [(9, "slack", "updated"), (10, "slack", "retraining")]


def test_what_opened_while_a_successor_waited_is_told_once_it_is_refused():
    story = Story()
    story.window(1, "a")
    trigger = f"{story.incident}-retrain"
    story.at(2, Approve(trigger=trigger, by="ana"))
    story.at(3, CallBack(trigger=trigger, status="succeeded", version="4", reference="references/v4"))
    for hour in (4, 5):
        story.window(hour)
    story.window(6, "b")
    story.at(7)
    assert story.said[-1] == (5, "slack", "resolved")
    assert story.why[-1] == (6, "opened", REPLACED)
    story.at(8, Refuse(trigger=trigger, by="ana"))
    assert story.said[-1] == (8, "slack", "opened")


def test_drift_that_comes_back_after_a_retraining_pages_and_doubles_the_cool_down():
    story = Story(configured(CONFIG.replace('mode = "approve"', 'mode = "auto"\nrotate = "auto"')))
    story.window(1, "a")
    trigger = f"{story.incident}-retrain"
    story.at(2, CallBack(trigger=trigger, status="succeeded", version="4", reference="references/v4"))
    story.window(3, "a")
    story.at(4)
    assert story.desk.state.retraining.n_ineffective == 1
    assert story.said[-1] == (4, "slack", "retraining")
    assert story.notices[-1].body.severity is Severity.CRITICAL
    assert story.notices[-1].body.version == "4"


ERRORS = Bins.of({"score": np.linspace(0, 1, 50), "loss": np.linspace(0.0, 0.2, 50)}, {}, {"loss": "score"})


def labelled(hour: int, mean: float, n: int = 200, bins: Bins = ERRORS, drifting: tuple[str, ...] = ()) -> Judged:
    """A window of rows of which n have a label and lie 0.01 around this mean loss."""
    loss = np.concatenate((mean + np.tile([0.01, -0.01], n // 2), np.full(50, np.nan)))
    rows = np.array([np.full(loss.size, 0.5), loss])
    profile = Profile.of(bins, rows, bins.cells(rows, np.empty((0, loss.size), np.uint8)))
    said = judged(hour, *drifting)
    tally = replace(said.window.tally, profile=profile)
    return replace(said, window=replace(said.window, tally=tally))


class LossStory(Story):
    def loses(self, hour: int, mean: float, *drifting: str, **changes: object) -> None:
        self.desk.close([labelled(hour, mean, drifting=drifting, **changes)], hour * HOUR)
        self._collect(hour)

    @property
    def trigger(self) -> Trigger:
        latest = self.desk.state.retraining.latest
        assert latest is not None
        return latest

    def retrained(self, hour: int, mean: float) -> None:
        """Drift and a loss of 0.18 call the job; its model comes an hour later, and its first labels tell this mean."""
        self.loses(hour, 0.18, "x")
        self.at(hour, Approve(trigger=self.trigger.id, by="ana"))
        self.at(hour, CallBack(trigger=self.trigger.id, by="job", status="succeeded", reference="r2"))
        self.at(hour + 1, Approve(trigger=self.trigger.id, by="ana"))
        assert self.desk.state.loss is None
        self.loses(hour + 1, mean, n=20)
        self.restart()
        self.loses(hour + 2, mean, n=20)
        self.at(hour + 3)


def test_a_loss_that_did_not_rise_calls_nobody_though_the_data_drift():
    story = LossStory()
    story.loses(1, 0.1, "x")
    assert story.desk.state.retraining.latest is None
    assert "the mean loss is 0.1" in str([notice.body for notice in story.notices])


def test_too_few_labels_tell_nothing():
    story = LossStory()
    story.loses(1, 0.1, "x", n=20)
    assert story.trigger.loss is None


@pytest.mark.parametrize(("mean", "step"), [(0.11, Step.EFFECTIVE), (0.17, Step.INEFFECTIVE)])
def test_a_retraining_helped_if_the_loss_of_all_windows_since_fell(mean: float, step: Step):
    story = LossStory()
    story.retrained(1, mean)
    assert story.trigger.loss is not None
    assert story.trigger.loss.mean == pytest.approx(0.18, abs=1e-3)
    assert story.desk.state.loss.n == 40
    assert story.trigger.step is step
    assert "mean loss" in story.trigger.history[-1].note


def test_losses_by_the_old_reference_are_forgotten_once_the_new_one_judges():
    story = LossStory()
    story.retrained(1, 0.11)
    story.desk.state = msgspec.structs.replace(
        story.desk.state, retraining=Retraining(story.trigger.stepped(Step.ROTATED, 4 * HOUR, "ana"))
    )
    story.loses(4, 0.3, bins=Bins.of({"score": np.arange(3.0), "loss": np.arange(3.0)}, {}, {"loss": "score"}))
    assert story.desk.state.loss.usual == 1.0
    assert story.desk.state.loss.n == 200


def test_a_job_is_called_within_an_incident_as_soon_as_the_loss_has_cost_enough():
    story = LossStory(configured(CONFIG.replace('"approve"', '"auto"\nretrain_cost = 7500')))
    for hour in range(1, 5):  # 250 rows an hour that each lose 0.08 too much: 20 an hour, and 6,720 in 14 days
        story.loses(hour, 0.18 if hour < 4 else 0.2, "x")
    assert story.desk.state.toll.total == pytest.approx(3 * 20 + 25, rel=0.01)
    assert story.said == [(1, "slack", "opened"), (4, "job", "call"), (4, "slack", "retraining")]
    assert "a retraining costs 7500" in str(story.notices[0].body)
    assert story.trigger.step is Step.CALLED


def test_what_waits_for_the_cool_down_is_called_when_it_ends_even_if_somebody_acknowledged():
    story = Story(configured(CONFIG.replace('"approve"', '"auto"\ncooldown = "5h"\nmax_per_day = 9')))
    for hour, drifting in enumerate([("a",), (), (), ("a",), ("a",), ("a",), (), ("a",)]):
        story.window(hour, *drifting)
        if hour == 0:
            story.at(0, CallBack(trigger=f"{story.incident}-retrain", by="job", status="failed"))
        if hour == 3:
            story.at(hour, Acknowledge(incident=story.incident, by="ana"))
    calls = [hour for hour, channel, _ in story.said if channel == "job"]
    assert calls == [0, 5]


def yearly(mode: str = "auto") -> Config:
    return configured(CONFIG.replace('"approve"', f'"{mode}"\nmax_age = "20h"\ncooldown = "10h"\nrotate = "auto"'))


def calls(story: Story) -> list[int]:
    return [hour for hour, channel, _ in story.said if channel == "job"]


def test_a_model_that_becomes_too_old_is_retrained_once_over_restarts_and_is_young_again():
    story = Story(yearly())
    for hour in range(24):
        story.window(hour)
        story.restart()
    assert story.said == [(20, "job", "call"), (20, "slack", "opened")]
    call = next(notice.body for notice in story.notices if notice.channel == "job")
    assert (call.columns, call.reason[:8], call.incident) == ((), "max age:", story.incident)
    assert story.notices[1].body.severity is Severity.INFO
    assert "called job" in story.notices[1].body.retraining
    story.at(24, CallBack(trigger=call.trigger, status="succeeded", reference="r2"))
    assert story.said[-2:] == [(24, "slack", "retraining"), (24, "slack", "resolved")]
    for hour in range(24, 45):
        story.window(hour)
    assert calls(story) == [20, 41]  # what it learnt last is that of its first trigger's window, which ended at 21


@pytest.mark.parametrize("mode", ["approve", "dry_run"])
def test_age_is_decided_in_the_mode_that_drift_is(mode: str):
    story = Story(yearly(mode))
    for hour in range(22):
        story.window(hour)
    assert calls(story) == []
    if mode == "dry_run":
        assert story.desk.state.episode is None
        assert story.said[-1] == (21, "slack", "resolved")
        return
    assert "waits for approval" in story.notices[-1].body.retraining
    story.at(23, Approve(trigger=f"{story.incident}-retrain", by="ana"))
    assert calls(story) == [23]


def test_a_retraining_for_age_that_failed_ends_its_incident_and_is_tried_again_after_the_cool_down():
    story = Story(yearly())
    for hour in range(31):
        story.window(hour)
        if hour == 20:
            story.at(hour, CallBack(trigger=f"{story.incident}-retrain", status="failed"))
    assert calls(story) == [20, 30]
    assert (21, "slack", "resolved") in story.said


def test_age_waits_for_data_that_can_be_seen_and_are_sound():
    story = Story(yearly())
    for hour in range(20):
        story.window(hour)
    story.hear(20, silent_since=19)
    story.window(20)
    story.hear(21)
    story.window(21, "a", faulty=True)
    story.at(21, Resolve(incident=story.incident, by="ana"))
    story.window(22, "a", faulty=True)
    story.window(23, calm=())
    assert calls(story) == []
    story.window(24)
    assert calls(story) == [24]


def test_drift_that_joins_an_old_model_outlives_its_retraining():
    story = Story(yearly())
    for hour in range(21):
        story.window(hour)
    trigger = f"{story.incident}-retrain"
    story.window(21, "a")
    assert story.said[-1] == (21, "slack", "updated")
    for hour in (22, 23, 24):
        story.window(hour)
    story.at(24, CallBack(trigger=trigger, status="failed"))
    story.window(25, "a")
    story.window(26)
    assert [said for said in story.said if said[0] > 24] == [(25, "slack", "recovered")]
    story.window(27)
    assert story.said[-1] == (27, "slack", "resolved")


def test_a_silence_of_everything_holds_an_old_model_back_too():
    story = Story(yearly())
    story.at(0, Silence(by="ana", comment="known", ends_ms=99 * HOUR))
    for hour in range(22):
        story.window(hour)
    assert story.said == [(20, "job", "call")]


def test_a_new_model_is_charged_only_for_its_own_losses():
    story = LossStory()
    story.retrained(1, 0.17)
    assert story.desk.state.toll.total == pytest.approx(0.07 * (70 + 70), rel=0.05)


def test_people_hear_of_a_call_that_was_given_up_once_and_of_no_success():
    story = Story(configured(CONFIG.replace('"approve"', '"auto"\ncallback_within = "0s"')))
    story.window(1, "a")
    trigger = f"{story.incident}-retrain"
    for hour in range(2, 6):
        story.desk.call_ended(trigger, "HTTP 410", hour * HOUR)
        story.at(hour)
        story.restart()
    assert story.said == [(1, "job", "call"), (1, "slack", "opened"), (2, "slack", "retraining")]
    assert story.notices[-1].body.retraining == "the call to job was given up: HTTP 410"
    story.desk.call_ended(trigger, "", 60 * HOUR)
    story.at(61)
    history = story.desk.state.retraining.latest.history
    assert [past.step for past in history] == [Step.CALLED, Step.GIVEN_UP, Step.CALLED]
    assert [channel for _, channel, _ in story.said].count("job") == 1
