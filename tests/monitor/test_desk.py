"""An incident's whole life on a clock of our own: who is told what, when, and why not."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from detectors import Bins, Profile
from monitor.alert import State
from monitor.batch import Severity
from monitor.board import SPELL_MS, Board, Line
from monitor.check import Judged
from monitor.config import Config
from monitor.desk import Desk
from monitor.message import AlertBody, Notice, Subject
from monitor.notify import REPLACED
from monitor.order import Acknowledge, Approve, CallBack, ExpireSilence, Order, Refuse, Resolve, Silence, Snooze
from monitor.retrain import Retraining, Step, Trigger
from tests.monitor.test_alert import HOUR, judged

CONFIG = """
[[model]]
name = "m"
reference = "r"
window = "1h"
[[channel]]
name = "slack"
kind = "log"
[[channel]]
name = "job"
kind = "log"
[[retrain]]
model = "m"
channel = "job"
mode = "approve"
check_after = "2h"
"""


def configured(text: str = CONFIG) -> Config:
    return Config.model_validate(tomllib.loads(text))


class Story:
    """Windows and orders, hour by hour. said: what each channel got, as (hour, channel, change)."""

    def __init__(self, config: Config | None = None, board: Board | None = None) -> None:
        self.config = config or configured()
        self.board = board or Board(burst=20)
        model = self.config.model[0]
        self.desk = Desk(self.config, model, Subject(model.name, "3", 9, "ref", "cfg"), self.board, {})
        self.said: list[tuple[int, str, str]] = []
        self.why: list[tuple[int, str, str]] = []
        self.notices: list[Notice] = []

    def window(self, hour: int, *drifting: str, **changes: object) -> None:
        self.desk.close([judged(hour, *drifting, **changes)], hour * HOUR)
        self._collect(hour)

    def at(self, hour: int, order: Order | None = None) -> object:
        """Do what is ordered, and let the hour pass."""
        answer = None
        if order is not None:
            answer = self.board.act(order, hour * HOUR) or self.desk.act(order, hour * HOUR)
        self.desk.review(hour * HOUR)
        self._collect(hour)
        return answer

    def hear(self, hour: int, silent_since: int = 0, broken: str = "") -> None:
        self.desk.hear(silent_since * HOUR, broken, hour * HOUR)
        self._collect(hour)

    def restart(self) -> None:
        """A new process goes on from what was remembered."""
        state = msgspec.json.decode(msgspec.json.encode(self.desk.state), type=type(self.desk.state))
        board = Board(20, msgspec.json.decode(msgspec.json.encode(self.board.state), type=type(self.board.state)))
        fresh = type(self)(self.config, board)
        fresh.desk.state = state
        self.desk, self.board = fresh.desk, board

    def _collect(self, hour: int) -> None:
        out = self.desk.out
        self.why += [(hour, change.change, change.notice) for change in out.changes]
        self.notices += out.notices
        for notice in out.notices:
            word = notice.body.change if isinstance(notice.body, AlertBody) else "call"
            self.said.append((hour, notice.channel, word))
        self.desk.out = type(out)()

    @property
    def incident(self) -> str:
        assert self.desk.state.episode is not None
        return self.desk.state.episode.id


def test_an_incident_is_told_once_updated_and_resolved():
    story = Story()
    for hour, drifting in enumerate([(), ("a",), ("a",), ("a", "b"), (), ()]):
        story.window(hour, *drifting)
    assert story.said == [(1, "slack", "opened"), (3, "slack", "updated"), (5, "slack", "resolved")]
    assert story.why[0][2] == "first notification"
    assert len({notice.id for notice in story.notices}) == 3


def test_what_goes_on_is_repeated_after_a_day_unless_somebody_looks_after_it():
    story = Story(configured(CONFIG.replace('mode = "approve"', 'mode = "dry_run"')))
    story.window(1, "a")
    for hour in range(2, 30):
        story.window(hour, "a")
        story.at(hour)
    assert story.said == [(1, "slack", "opened"), (25, "slack", "repeated")]
    story.at(30, Acknowledge(incident=story.incident, by="ana"))
    for hour in range(31, 80):
        story.at(hour)
    assert story.said[2:] == [(30, "slack", "acknowledged")]


def test_an_acknowledged_incident_is_quiet_until_it_gets_graver():
    story = Story()
    story.window(1, "a")
    story.at(2, Acknowledge(incident=story.incident, by="ana"))
    story.window(3, "a", "b")
    assert story.why[-1] == (3, "updated", "acknowledged by ana")
    story.window(4, "a", severity=Severity.CRITICAL)
    assert story.said[-1] == (4, "slack", "updated")
    assert story.why[-1] == (4, "updated", "severity rose to critical")


def test_a_silence_holds_back_and_what_is_still_true_is_told_when_it_ends():
    story = Story()
    silence = Silence(by="ana", comment="known", ends_ms=5 * HOUR, model="m", column="a")
    assert story.at(0, silence).words == "s1"
    story.window(1, "a")
    assert story.said == []
    assert story.why == [(1, "opened", "silenced by ana: known (s1)")]
    story.at(4)
    assert story.said == []
    story.at(5)
    assert story.said == [(5, "slack", "opened")]


def test_a_silence_of_one_column_does_not_hide_another():
    story = Story()
    story.at(0, Silence(by="ana", comment="known", ends_ms=9 * HOUR, column="a"))
    story.window(1, "a")
    story.window(2, "a", "b")
    assert story.said == [(2, "slack", "updated")]


def test_an_incident_that_came_and_went_in_silence_is_never_resolved_aloud():
    story = Story()
    story.at(0, Silence(by="ana", comment="known", ends_ms=99 * HOUR))
    for hour, drifting in enumerate([("a",), (), ()], start=1):
        story.window(hour, *drifting)
    assert story.said == []
    assert story.why[-1] == (3, "resolved", "never told")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"by": " "}, "author"),
        ({"comment": ""}, "comment"),
        ({"ends_ms": 0}, "end in the future"),
        ({"ends_ms": 10**15}, "a year at most"),
    ],
)
def test_a_silence_needs_an_author_a_comment_and_an_end(changes: dict[str, object], words: str):
    order = msgspec.structs.replace(Silence(by="ana", comment="known", ends_ms=5 * HOUR), **changes)
    answer = Story().at(1, order)
    assert (answer.done, words in answer.words) == (False, True)


def test_a_silence_may_be_ended_before_its_time():
    story = Story()
    story.at(0, Silence(by="ana", comment="known", ends_ms=50 * HOUR))
    story.window(1, "a")
    story.at(2, ExpireSilence(silence="s1", by="bo"))
    assert story.said == [(2, "slack", "opened")]
    assert story.at(3, ExpireSilence(silence="s1", by="bo")).done is False


def test_a_snoozed_incident_is_told_again_when_the_snooze_ends():
    story = Story()
    story.window(1, "a")
    story.at(2, Snooze(incident=story.incident, by="ana", until_ms=6 * HOUR))
    story.window(3, "a", "b")
    story.at(5)
    assert [said for said in story.said if said[0] > 2] == []
    story.at(6)
    assert story.said[-1] == (6, "slack", "repeated")


def test_what_somebody_resolved_is_not_told_again_before_it_was_calm():
    story = Story()
    story.window(1, "a")
    story.at(2, Resolve(incident=story.incident, by="ana", note="new product"))
    story.window(3, "a")
    story.window(4, "a", "b")
    assert [said[2] for said in story.said] == ["opened", "resolved", "opened"]
    assert [column.verdict.column for column in story.desk.state.episode.columns] == ["b"]
    for hour in (5, 6):
        story.window(hour, calm=("a", "b"))
    story.window(7, "a")
    assert story.said[-1] == (7, "slack", "opened")


def test_a_silent_topic_outranks_drift_and_recovers():
    story = Story()
    story.window(1, "a")
    story.hear(3, silent_since=1)
    assert story.desk.state.episode.state is State.NODATA
    story.window(4, "a", "b")
    assert story.why[-1] == (4, "updated", "inhibited: the topic is silent")
    story.hear(5)
    assert story.desk.state.episode.state is State.FIRING
    assert [said[2] for said in story.said] == ["opened", "nodata", "recovered"]
    story.hear(9, silent_since=8)
    story.hear(10, silent_since=8)
    assert [said[2] for said in story.said][3:] == ["nodata"]


def test_silence_alone_is_an_incident_that_ends_when_something_comes():
    story = Story()
    story.hear(3, silent_since=1)
    story.hear(4)
    assert [said[2] for said in story.said] == ["opened", "resolved"]
    assert story.desk.state.episode is None


def test_unreadable_records_are_an_error_and_never_ok():
    story = Story()
    story.hear(3, broken="150 of 200 records cannot be read: 150 not_json")
    assert story.desk.state.episode.state is State.ERROR
    assert "150 of 200" in story.notices[0].body.summary
    story.window(4)
    story.window(5)
    story.window(6)
    assert story.desk.state.episode.state is State.ERROR
    story.hear(7)
    assert story.said[-1] == (7, "slack", "resolved")


def test_a_restart_tells_nothing_twice_and_lets_nothing_out_that_was_held():
    story = Story()
    story.at(0, Silence(by="ana", comment="known", ends_ms=9 * HOUR, column="a"))
    story.window(1, "a")
    story.hear(2, silent_since=1)
    before = list(story.said)
    for hour in (3, 4, 5):
        story.restart()
        story.window(hour, "a")
        story.hear(hour, silent_since=1)
        story.at(hour)
    assert story.said == before


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


def test_a_silent_topic_outranks_records_that_cannot_be_read():
    story = Story()
    story.hear(3, broken="150 of 200 records cannot be read: 150 not_json")
    story.hear(5, silent_since=3, broken="150 of 200 records cannot be read: 150 not_json")
    assert story.desk.state.episode.state is State.NODATA
    story.window(6, "a")
    assert story.why[-1] == (6, "updated", "inhibited: the topic is silent")
    story.hear(7, broken="150 of 200 records cannot be read: 150 not_json")
    story.window(8, "b")
    assert story.why[-1] == (8, "updated", "inhibited: records cannot be read")
    assert [said[2] for said in story.said] == ["opened", "nodata", "recovered"]


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


def test_a_storm_is_told_within_bounds_and_the_rest_in_a_digest():
    board, said, digests = Board(burst=5), [], []
    stories = [Story(configured(CONFIG.replace('"m"', f'"m{i}"')), board) for i in range(100)]
    for story in stories:
        story.window(1, "a")
        said += story.said
    digests += board.digests(HOUR)
    assert len(said) == 5
    assert [notice.purpose for notice in digests] == ["digest"]
    assert digests[0].body.title == "95 more incidents"
    assert board.digests(HOUR + 1) == []
    for story in stories:
        story.said.clear()
        for hour in (2, 3):
            story.window(hour)
    # Only what had a message of its own is resolved there.
    assert sum(len(story.said) for story in stories) == 5


def test_a_channel_has_room_again_after_a_while():
    board = Board(burst=1)

    def line(name: str) -> Line:
        return Line(name, Severity.WARNING, "drift in a")

    assert board.admits("slack", line("a"), 0)
    assert not board.admits("slack", line("b"), SPELL_MS - 1)
    assert board.admits("slack", line("c"), SPELL_MS)
    assert board.admits("mail", line("b"), 1)


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
