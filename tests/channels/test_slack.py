"""Slack: what is posted, edited and said in threads, what its answers mean, and that nothing is said twice."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from monitor.channels import Attempt, Outcome, Refused, Retry, Sent, Tools
from monitor.channels.slack import SlackChannel, SlackOptions
from monitor.channels.slack_layout import blocks, text
from monitor.demo.standins import (
    Fault,
    drop_after_receipt,
    hang,
    not_json,
    redirect,
    slack_error,
    status,
    well,
)
from monitor.demo.standins.slack import SlackStandIn
from monitor.demo.standins.webhook import WebhookStandIn
from monitor.message import Notice
from tests.bodies import make_alert, make_column, make_notice, make_retrain
from tests.ports import free_port

TOKEN = "xoxb-canary-9f2b61c4"
NOW = 1_700_000_000.0


@pytest.fixture
def slack() -> Iterator[SlackStandIn]:
    with SlackStandIn(TOKEN, clock=lambda: NOW) as standin:
        yield standin


def slack_channel(url: str, token: str = TOKEN, tools: Tools | None = None, **options: Any) -> SlackChannel:
    options = {"channel": "#ml-alerts", "token_file": "token", "base_url": url, "allow_private": True} | options
    return SlackChannel("ops", SlackOptions(**options), {"token": token}, tools or Tools())


def slack_send(slack: SlackStandIn, notice: Notice | None = None, parent: str | None = None, **options: Any) -> Outcome:
    return slack_channel(slack.api_url, **options).send(notice or make_notice(), Attempt(parent))


def receipt(outcome: Outcome) -> str:
    assert isinstance(outcome, Sent), outcome
    return outcome.receipt


def test_slack_posts_the_first_message(slack: SlackStandIn) -> None:
    assert receipt(slack_send(slack)) == "C00000001/1700000000.000001"
    message = slack.messages["1700000000.000001"]
    assert message.text == text(make_alert())
    assert message.blocks == blocks(make_alert())
    assert message.metadata == {
        "event_type": "driftd_incident",
        "event_payload": {"incident": "inc-7f3a", "notice": "ntc-1"},
    }


def test_slack_edits_in_place_and_replies_in_the_thread(slack: SlackStandIn) -> None:
    parent = receipt(slack_send(slack))
    later = make_alert(state="resolved", change="resolved", summary="Back to normal.")
    assert slack_send(slack, make_notice(later, id="ntc-2"), parent) == Sent(parent)
    (message,) = slack.messages.values()
    assert message.edits == [text(make_alert())]
    assert message.text == text(later)
    assert message.blocks == blocks(later)
    assert message.metadata["event_payload"]["notice"] == "ntc-2"
    assert [said.text for said in message.replies] == ["Resolved in window 12, warning: Back to normal."]


def test_slack_never_overwrites_an_alert_with_a_call_for_retraining(slack: SlackStandIn) -> None:
    parent = receipt(slack_send(slack))
    assert slack_send(slack, make_notice(make_retrain(), id="ntc-2"), parent) == Sent(parent)
    (message,) = slack.messages.values()
    assert message.edits == []
    assert [said.text for said in message.replies] == [text(make_retrain())]


def test_slack_posts_anew_when_the_message_is_gone(slack: SlackStandIn) -> None:
    parent = receipt(slack_send(slack))
    slack.messages.clear()
    assert receipt(slack_send(slack, parent=parent)) == "C00000001/1700000000.000002"
    slack.order(slack_error("cant_update_message"))
    assert receipt(slack_send(slack, parent="C00000001/1700000000.000002")) == "C00000001/1700000000.000003"


def test_slack_retries_an_edit_whose_reply_failed(slack: SlackStandIn) -> None:
    parent = receipt(slack_send(slack))
    slack.order(well(), status(503))
    assert slack_send(slack, parent=parent) == Retry("service_unavailable")
    assert slack_send(slack, parent=parent) == Sent(parent)
    (message,) = slack.messages.values()
    assert len(message.replies) == 1


GARBLED = Retry("HTTP 200 without an error code of Slack", ambiguous=True)
SLACK_FAULTS: list[tuple[Fault, Outcome]] = [
    (status(429, 7), Retry("ratelimited", 7.0)),
    (status(429), Retry("ratelimited")),
    (status(500), Retry("service_unavailable")),
    (status(503, 12), Retry("service_unavailable", 12.0)),
    (redirect("http://127.0.0.1:9/"), Retry("HTTP 302 without an error code of Slack")),
    (not_json(), GARBLED),
    (not_json("[1]"), GARBLED),
    (not_json("{oops"), GARBLED),
    (not_json('{"ok": false}'), GARBLED),
    (not_json(json.dumps({"ok": False, "error": f"No {TOKEN}"})), GARBLED),
    (drop_after_receipt(), Retry("no answer: RemoteProtocolError", ambiguous=True)),
    *((slack_error(code), Retry(code)) for code in ("ratelimited", "rate_limited", "service_unavailable")),
    *((slack_error(code), Retry(code)) for code in ("request_timeout", "team_added_to_org", "org_login_required")),
    *((slack_error(code), Retry(code, ambiguous=True)) for code in ("internal_error", "fatal_error")),
    (slack_error("a_code_from_next_year"), Retry("a_code_from_next_year")),
]


@pytest.mark.parametrize(("fault", "wanted"), SLACK_FAULTS, ids=lambda value: getattr(value, "kind", ""))
def test_slack_faults_that_may_pass(slack: SlackStandIn, fault: Fault, wanted: Retry) -> None:
    slack.order(fault)
    assert slack_send(slack) == wanted
    assert len(slack.requests) == 1


@pytest.mark.parametrize(
    "code",
    [
        "invalid_auth",
        "not_authed",
        "token_revoked",
        "account_inactive",
        "missing_scope",
        "no_permission",
        "channel_not_found",
        "not_in_channel",
        "is_archived",
        "restricted_action",
        "restricted_action_read_only_channel",
        "ekm_access_denied",
    ],
)
def test_slack_faults_that_a_person_must_mend(slack: SlackStandIn, code: str) -> None:
    slack.order(slack_error(code))
    outcome = slack_send(slack)
    assert isinstance(outcome, Refused)
    assert outcome.reason.startswith(f"{code}: ")
    assert len(slack.requests) == 1


PAYLOAD_CODES = ["invalid_blocks", "msg_blocks_too_long", "msg_too_long", "no_text", "invalid_arguments"]


@pytest.mark.parametrize("code", PAYLOAD_CODES)
def test_slack_says_it_once_more_in_plain_text(slack: SlackStandIn, code: str) -> None:
    slack.order(slack_error(code))
    assert isinstance(slack_send(slack), Sent)
    (message,) = slack.messages.values()
    assert (message.text, message.blocks) == (text(make_alert()), [])
    assert len(slack.requests) == 2

    slack.order(slack_error(code), slack_error(code))
    assert slack_send(slack) == Refused(f"{code}: refused even as plain text")
    assert len(slack.requests) == 4


def test_slack_plain_text_takes_the_old_layout_away(slack: SlackStandIn) -> None:
    parent = receipt(slack_send(slack))
    slack.order(slack_error("invalid_blocks"))
    assert slack_send(slack, parent=parent) == Sent(parent)
    (message,) = slack.messages.values()
    assert message.blocks == []


def test_slack_drop_after_receipt_is_one_request_per_attempt(
    slack: SlackStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    slack.order(drop_after_receipt())
    assert slack_send(slack) == Retry("no answer: RemoteProtocolError", ambiguous=True)
    assert len(slack.requests) == 1
    assert isinstance(slack_send(slack), Sent)
    assert len(slack.requests) == 2
    assert caplog.records == []


def test_slack_that_hangs_or_is_not_there(slack: SlackStandIn) -> None:
    slack.order(hang(30))
    outcome = slack_send(slack, timeout=0.2)
    assert isinstance(outcome, Retry)
    assert "Timeout" in outcome.reason
    refused = slack_channel(f"http://127.0.0.1:{free_port()}/api/").send(make_notice(), Attempt())
    assert refused == Retry("no connection: ConnectionRefusedError (Connection refused)")


def test_slack_takes_the_token_nowhere_else(slack: SlackStandIn) -> None:
    with WebhookStandIn("whsec_c2VjcmV0") as elsewhere:
        slack.order(redirect(elsewhere.url))
        assert slack_send(slack) == Retry("HTTP 302 without an error code of Slack")
        assert elsewhere.requests == []


@pytest.mark.parametrize("token", ["", "  ", "xoxb-a b", "xoxb-a\nb", "xoxb-ä"])
def test_slack_wants_one_clean_token(token: str) -> None:
    with pytest.raises(ValueError, match=r"^token: wanted one word") as caught:
        slack_channel("https://slack.com/api/", token=token)
    assert "xoxb-a" not in str(caught.value)


def test_slack_token_may_end_in_a_newline(slack: SlackStandIn) -> None:
    assert isinstance(slack_channel(slack.api_url, token=TOKEN + "\n").send(make_notice(), Attempt()), Sent)


def test_the_longest_body_is_taken_as_it_is(slack: SlackStandIn) -> None:
    huge = "&𝄞" * 5000
    column = make_column(huge, segment=huge, what=huge, measure=huge, since=huge)
    body = make_alert(model=huge, title=huge, summary=huge, columns=(column,) * 60, retraining=huge, incident=huge)
    assert isinstance(slack_send(slack, make_notice(body)), Sent)
    assert len(slack.requests) == 1
    assert len(slack.messages) == 1


def doubtful(channel: SlackChannel, notice: Notice, parent: str | None = None) -> Outcome:
    """An attempt after one that may have got through."""
    return channel.send(notice, Attempt(parent, 2, ambiguous=True, queued_at=NOW - 60))


def test_slack_asks_its_history_before_it_says_anything_again(slack: SlackStandIn) -> None:
    channel = slack_channel(slack.api_url)
    slack.order(drop_after_receipt())
    assert isinstance(channel.send(make_notice(), Attempt()), Retry)
    for i in range(40):  # other incidents meanwhile, more than a page
        assert isinstance(slack_send(slack, make_notice(make_alert(incident=f"o{i}"), id=f"o{i}")), Sent)
    parent = receipt(doubtful(channel, make_notice()))
    assert parent == "C00000001/1700000000.000001"
    assert len(slack.messages) == 41
    later = make_notice(make_alert(change="updated", summary="More."), id="ntc-2")
    slack.order(well(), drop_after_receipt())
    assert isinstance(channel.send(later, Attempt(parent)), Retry)
    assert doubtful(channel, later, parent) == Sent(parent)
    assert len(slack.messages["1700000000.000001"].replies) == 1


def test_slack_says_what_an_edit_alone_has_not_said(slack: SlackStandIn) -> None:
    """The edit got through and its reply did not: the message then carries the notice's id, the thread does not."""
    channel = slack_channel(slack.api_url)
    parent = receipt(channel.send(make_notice(), Attempt()))
    later = make_notice(make_alert(change="updated", summary="More."), id="ntc-2")
    slack.order(well(), status(503))
    assert isinstance(channel.send(later, Attempt(parent)), Retry)
    assert doubtful(channel, later, parent) == Sent(parent)
    assert len(slack.messages["1700000000.000001"].replies) == 1


@pytest.mark.parametrize(("policy", "n_messages"), [("retry", 2), ("drop", 1)])
def test_slack_without_the_right_to_read_history_does_as_it_was_told(policy: str, n_messages: int) -> None:
    with SlackStandIn(TOKEN, scopes=frozenset({"chat:write"}), clock=lambda: NOW) as slack:
        channel = slack_channel(slack.api_url, on_ambiguous=policy)
        slack.order(drop_after_receipt())
        channel.send(make_notice(), Attempt())
        outcome = doubtful(channel, make_notice())
        assert isinstance(outcome, Sent if policy == "retry" else Refused)
        assert len(slack.messages) == n_messages
        assert sum("may repeat" in message.text for message in slack.messages.values()) == n_messages - 1


def test_slack_shows_a_picture_in_the_thread_and_stands_without_one(slack: SlackStandIn) -> None:
    tools = Tools(picture=lambda notice: b"\x89PNG of " + notice.id.encode())
    sent = receipt(slack_channel(slack.api_url, tools=tools).send(make_notice(), Attempt()))
    (upload,) = slack.uploads.values()
    assert upload.content == b"\x89PNG of ntc-1"
    assert f"{upload.channel}/{upload.thread}" == sent

    def broken(notice: Notice) -> bytes:
        raise RuntimeError("no fonts")

    for n, other in enumerate((Tools(picture=broken), Tools(picture=lambda notice: None))):
        notice = make_notice(make_alert(incident=f"i{n}"), id=f"n{n}")
        assert isinstance(slack_channel(slack.api_url, tools=other).send(notice, Attempt()), Sent)
    slack.order(well(), slack_error("missing_scope"))
    notice = make_notice(make_alert(incident="i9"), id="n9")
    assert isinstance(slack_channel(slack.api_url, tools=tools).send(notice, Attempt()), Sent)
    assert len(slack.uploads) == 1
    assert len(slack.messages) == 4


def test_slack_adds_the_report_to_the_thread_once_it_is_made(slack: SlackStandIn) -> None:
    waiting: list[tuple[Notice, Callable[[bytes], None]]] = []
    link = "https://driftd.example/incidents/inc-7f3a/report"
    tools = Tools(report=lambda *asked: waiting.append(asked), report_link=lambda _: link)
    sent = receipt(slack_channel(slack.api_url, tools=tools).send(make_notice(), Attempt()))
    assert slack.uploads == {}
    assert link in json.dumps(next(iter(slack.messages.values())).blocks)
    ((_, deliver),) = waiting
    deliver(b"<html>rows</html>")
    (upload,) = slack.uploads.values()
    assert (upload.name, upload.content) == ("inc-7f3a.html", b"<html>rows</html>")
    assert f"{upload.channel}/{upload.thread}" == sent
    slack_channel(slack.api_url, tools=tools).send(make_notice(id="ntc-2"), Attempt(sent))
    slack_channel(slack.api_url, tools=tools, report=False).send(make_notice(id="ntc-3"), Attempt())
    assert len(waiting) == 1


def test_a_report_that_slack_refuses_is_said_and_no_more(slack: SlackStandIn, caplog: pytest.LogCaptureFixture) -> None:
    tools = Tools(report=lambda _, deliver: deliver(b"<html>"))
    slack.order(well(), slack_error("missing_scope"))
    assert isinstance(slack_channel(slack.api_url, tools=tools).send(make_notice(), Attempt()), Sent)
    assert slack.uploads == {}
    assert [record.event for record in caplog.records if hasattr(record, "event")] == ["slack.not_uploaded"]
