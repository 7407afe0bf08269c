"""An incident's whole life on a clock of our own: who is told what, when, and why not."""

from __future__ import annotations

import msgspec
import pytest

from monitor.alert import State
from monitor.batch import Severity
from monitor.board import SPELL_MS, Board, Line
from monitor.order import Acknowledge, ExpireSilence, Resolve, Silence, Snooze
from tests.monitor.story import CONFIG, Story, configured
from tests.monitor.test_alert import HOUR


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
