"""Commands that act, on a service as it runs: what a person types is in force, and what cannot be done says why."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from monitor.cli import app
from monitor.cli.act import NotDone
from monitor.demo.standins import status
from tests.monitor.command import driftd
from tests.waiting import until
from tests.web.world import World


def configured(world: World) -> Path:
    """The service's configuration with the address that it really listens on."""
    file = world.home / "as-it-runs.toml"
    file.write_text(world.config_file.read_text().replace("127.0.0.1:0", world.url.removeprefix("http://")))
    return file


def told(world: World, *words: str) -> Any:
    """What a command prints with --json; it must have worked."""
    result = CliRunner().invoke(app, [*words, "--config", str(configured(world)), "--json"], catch_exceptions=False)
    assert result.exit_code in {0, 1}, result.output
    return json.loads(result.stdout)


def test_an_incident_is_acknowledged_snoozed_and_resolved(fresh: World):
    incident = fresh.incident()
    assert told(fresh, "ack", incident[:-1])["done"]
    assert told(fresh, "snooze", incident, "--for", "2h", "--by", "ana")["done"]
    assert told(fresh, "resolve", incident, "--by", "bo", "--note", "known")["done"]
    with fresh.history() as history:
        found = history.explain(incident)
    assert found.changes[-1].episode.acknowledged.by == getpass.getuser()
    assert [change.change for change in found.changes][-3:] == ["acknowledged", "snoozed", "resolved"]
    assert "known" in found.changes[-1].reason
    again = told(fresh, "ack", incident)
    assert again == {"done": False, "words": f"there is no incident {incident}, or it is over"}
    shown = CliRunner().invoke(app, ["explain", incident, "--config", str(configured(fresh))], catch_exceptions=False)
    assert f"acknowledged by {getpass.getuser()} at " in shown.stdout


def test_what_the_service_refuses_is_told_with_its_place(fresh: World):
    with pytest.raises(NotDone, match=r"HTTP 400\): by: "):
        told(fresh, "ack", fresh.incident(), "--by", "")


def test_silences_are_made_listed_and_ended(fresh: World):
    made = told(fresh, "silence", "add", "--model", "odd*", "--for", "1h30m", "--comment", "a test", "--by", "ana")
    assert made == {"done": True, "words": "s1"}
    (one,) = told(fresh, "silence", "list")
    assert (one["model"], one["column"], one["by"], one["comment"]) == ("odd*", "*", "ana", "a test")
    assert abs(one["ends_ms"] - one["starts_ms"] - 5_400_000) < 60_000
    assert told(fresh, "silence", "expire", "s1")["done"]
    assert told(fresh, "silence", "list") == []
    assert told(fresh, "silence", "expire", "s1")["done"] is False


def test_a_retraining_is_approved_or_refused(fresh: World):
    (trigger,) = told(fresh, "triggers")
    assert trigger["step"] == "awaits_approval"
    assert told(fresh, "approve", trigger["id"])["done"]
    until(lambda: trigger["id"] in fresh.hook.runs)
    assert told(fresh, "refuse", trigger["id"])["done"] is False
    assert told(fresh, "triggers")[0]["step"] == "called"


def test_a_call_that_was_given_up_is_told_and_made_again_where_somebody_asks(fresh: World):
    fresh.hook.order(status(410), status(410))  # for the alert and for the call, whichever comes first
    (trigger,) = told(fresh, "triggers")
    assert told(fresh, "approve", trigger["id"])["done"]
    until(lambda: told(fresh, "triggers")[0]["step"] == "given_up")
    assert told(fresh, "outbox", "replay", trigger["id"])["done"]
    until(lambda: told(fresh, "triggers")[0]["step"] == "called")
    assert [past["step"] for past in told(fresh, "triggers")[0]["history"]][-2:] == ["given_up", "called"]


def test_a_notice_that_was_given_up_is_tried_again_or_dropped(fresh: World):
    fresh.hook.order(status(400), status(400))
    told(fresh, "ack", fresh.incident())
    dead = until(lambda: told(fresh, "outbox", "list", "--state", "dead"))[0]
    assert told(fresh, "outbox", "replay", dead["id"])["done"]
    dead = until(lambda: told(fresh, "outbox", "list", "--state", "dead"))[0]
    assert told(fresh, "outbox", "drop", dead["id"])["done"]
    assert told(fresh, "outbox", "list", "--state", "dropped")[0]["id"] == dead["id"]


@pytest.mark.parametrize("words", [("triggers",), ("silence", "list"), ("outbox", "list")])
def test_what_there_is_is_shown_to_people(world: World, words: tuple[str, ...]):
    result = CliRunner().invoke(app, [*words, "--config", str(configured(world))], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout.strip()


def test_what_cannot_be_done_fails_and_says_why(world: World):
    file = configured(world)
    for change, words in (
        (world.url.removeprefix("http://"), "127.0.0.1:1"),
        ('token_file = "token"', ""),
        ('token_file = "token"', 'token_env = "DRIFTD_TEST_WRONG"'),
    ):
        wrong = file.with_name("wrong.toml")
        wrong.write_text(file.read_text().replace(change, words))
        result = CliRunner().invoke(
            app, ["ack", world.incident(), "--config", str(wrong)], env={"DRIFTD_TEST_WRONG": "x" * 20}
        )
        assert result.exit_code == 1
        assert any(word in str(result.exception) for word in ("is it running?", "token_file", "HTTP 401"))
    done = driftd("ack", "none", "--config", file)
    assert (done.returncode, "there is no incident none" in done.stderr) == (1, True)
    done = driftd("snooze", "none", "--config", file, "--for", "soon")
    assert (done.returncode, "wanted a duration" in done.stderr.replace("\n", " ")) == (2, True)
