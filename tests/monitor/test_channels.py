from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import socket
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from monitor.channels import REGISTRY, Outcome, Refused, Retry, Sent, checked_url, seconds_asked
from monitor.channels.slack import SlackChannel, SlackOptions, blocks, escape, reply, text
from monitor.channels.webhook import WebhookChannel, WebhookOptions, keys, signed, webhook_id
from monitor.demo.standins import (
    Fault,
    SlackStandIn,
    WebhookStandIn,
    drop_after_receipt,
    hang,
    not_json,
    redirect,
    slack_error,
    status,
    well,
)
from monitor.logs import Objects
from monitor.message import Body, Notice, RowRange, Severity, WindowFacts, decode, encode
from tests.monitor.bodies import make_alert, make_column, make_columns, make_notice, make_retrain

TOKEN = "xoxb-canary-9f2b61c4"
SECRET = "whsec_" + base64.b64encode(b"canary-key-of-the-webhook-0123").decode()


@pytest.fixture
def slack() -> Iterator[SlackStandIn]:
    with SlackStandIn(TOKEN) as standin:
        yield standin


@pytest.fixture
def job() -> Iterator[WebhookStandIn]:
    with WebhookStandIn(SECRET) as standin:
        yield standin


def slack_channel(url: str, token: str = TOKEN, **options: Any) -> SlackChannel:
    chosen = SlackOptions(channel="#ml-alerts", token_file="token", base_url=url, **options)
    return SlackChannel("ops", chosen, {"token": token})


def webhook_channel(url: str, secret: str = SECRET, **options: Any) -> WebhookChannel:
    return WebhookChannel("jobs", WebhookOptions(url=url, secret_file="secret", **options), {"secret": secret})


def slack_send(slack: SlackStandIn, notice: Notice | None = None, parent: str | None = None, **options: Any) -> Outcome:
    return slack_channel(slack.api_url, **options).send(notice or make_notice(), parent)


def webhook_send(job: WebhookStandIn, notice: Notice | None = None, **options: Any) -> Outcome:
    channel = webhook_channel(job.url, **options)
    try:
        return channel.send(notice or make_notice(make_retrain()), None)
    finally:
        channel.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def receipt(outcome: Outcome) -> str:
    assert isinstance(outcome, Sent), outcome
    return outcome.receipt


# The contract, for every kind


OPTIONS: dict[str, dict[str, Any]] = {
    "slack": {"channel": "#ml-alerts", "token_env": "T"},
    "webhook": {"secret_env": "S"},
    "log": {},
}


def test_the_kinds() -> None:
    assert set(REGISTRY) == {"slack", "webhook", "log"}


@pytest.mark.parametrize("kind", sorted(REGISTRY))
def test_every_option_is_described_and_the_model_is_strict(kind: str) -> None:
    model = REGISTRY[kind].Options
    assert model.model_config["extra"] == "forbid"
    assert model.model_config["frozen"] is True
    for name, field in model.model_fields.items():
        assert field.description, f"{kind}.{name}"


@pytest.mark.parametrize("kind", sorted(REGISTRY))
@pytest.mark.parametrize("body", [make_alert(), make_retrain()], ids=["alert", "retrain"])
def test_every_kind_sends_every_body(kind: str, body: Body, slack: SlackStandIn, job: WebhookStandIn) -> None:
    where = {"slack": {"base_url": slack.api_url}, "webhook": {"url": job.url}}.get(kind, {})
    cls = REGISTRY[kind]
    channel = cls("ops", cls.Options(**OPTIONS[kind], **where), {"token": TOKEN, "secret": SECRET})
    try:
        assert isinstance(channel.send(make_notice(body), None), Sent)
        assert isinstance(channel.send(make_notice(body, id="ntc-2"), "C00000001/1700000000.000001"), Sent)
    finally:
        channel.close()


@pytest.mark.parametrize(
    ("kind", "options", "word"),
    [
        ("slack", {"channel": "#a"}, "exactly one of token_file and token_env; neither"),
        ("slack", {"channel": "#a", "token_file": "f", "token_env": "E"}, "both are set"),
        ("slack", {"channel": "#a", "token_file": "f", "base_url": "http://slack.example/api/"}, "base_url: http to"),
        ("slack", {"token_file": "f"}, "channel"),
        ("webhook", {"url": "https://x.example/"}, "exactly one of secret_file and secret_env; neither"),
        ("webhook", {"url": "http://x.example/", "secret_file": "f"}, "allow_http = true"),
        ("webhook", {"url": "http://10.0.0.7/", "secret_file": "f"}, "allow_http = true"),
        ("webhook", {"url": "ftp://x.example/", "secret_file": "f"}, "https://host/path"),
        ("webhook", {"url": "https://", "secret_file": "f"}, "https://host/path"),
        ("webhook", {"url": "https://user:pw@x.example/", "secret_file": "f"}, "user:password"),
        ("webhook", {"url": "https://x.example/", "secret_file": "f", "timeout": 0}, "timeout"),
        ("log", {"level": "x"}, "level"),
    ],
)
def test_bad_options_say_what_is_wanted(kind: str, options: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        REGISTRY[kind].Options(**options)


def test_a_secret_written_into_the_options_is_not_repeated() -> None:
    with pytest.raises(ValidationError) as caught:
        SlackOptions(channel="#a", token=TOKEN)  # type: ignore[call-arg]
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8/x", "http://localhost/", "http://[::1]:9/", "https://a.example"])
def test_urls_that_are_fine(url: str) -> None:
    assert checked_url(url, allow_http=False) == url


def test_allow_http() -> None:
    assert checked_url("http://trainer.internal/run", allow_http=True) == "http://trainer.internal/run"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("30", 30.0),
        (" 1.5 ", 1.5),
        ("-3", 0.0),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 37.0),
        ("Sun, 06 Nov 1994 08:48:00 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:49:37", 37.0),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(header: str | None, seconds: float | None) -> None:
    assert seconds_asked(header, 784111740.0) == seconds


# Slack: delivery


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


SLACK_FAULTS: list[tuple[Fault, Outcome]] = [
    (status(429, 7), Retry("ratelimited", 7.0)),
    (status(429), Retry("ratelimited")),
    (status(500), Retry("service_unavailable")),
    (status(503, 12), Retry("service_unavailable", 12.0)),
    (redirect("http://127.0.0.1:9/"), Retry("HTTP 302 without an error code of Slack")),
    (not_json(), Retry("HTTP 200 without an error code of Slack")),
    (not_json("[1]"), Retry("HTTP 200 without an error code of Slack")),
    (not_json("{oops"), Retry("HTTP 200 without an error code of Slack")),
    (not_json('{"ok": false}'), Retry("HTTP 200 without an error code of Slack")),
    (not_json(json.dumps({"ok": False, "error": f"No {TOKEN}"})), Retry("HTTP 200 without an error code of Slack")),
    (drop_after_receipt(), Retry("no answer from Slack: RemoteDisconnected")),
    *((slack_error(code), Retry(code)) for code in ("ratelimited", "rate_limited", "service_unavailable")),
    *((slack_error(code), Retry(code)) for code in ("request_timeout", "team_added_to_org", "org_login_required")),
    *((slack_error(code), Retry(code)) for code in ("internal_error", "fatal_error", "a_code_from_next_year")),
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
    assert slack_send(slack) == Retry("no answer from Slack: RemoteDisconnected")
    assert len(slack.requests) == 1
    assert isinstance(slack_send(slack), Sent)
    assert len(slack.requests) == 2
    assert caplog.records == []


def test_slack_that_hangs_or_is_not_there(slack: SlackStandIn) -> None:
    slack.order(hang(30))
    outcome = slack_send(slack, timeout=0.2)
    assert isinstance(outcome, Retry)
    assert "Timeout" in outcome.reason
    refused = slack_channel(f"http://127.0.0.1:{free_port()}/api/").send(make_notice(), None)
    assert refused == Retry("no answer from Slack: ConnectionRefusedError (Connection refused)")


def test_slack_takes_the_token_nowhere_else(slack: SlackStandIn) -> None:
    with WebhookStandIn(SECRET) as elsewhere:
        slack.order(redirect(elsewhere.url))
        assert isinstance(slack_send(slack), Retry)
        assert elsewhere.requests == []


def test_proxies_of_the_environment_are_ignored(
    slack: SlackStandIn, job: WebhookStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert isinstance(slack_send(slack), Sent)
    assert isinstance(webhook_send(job), Sent)


@pytest.mark.parametrize("token", ["", "  ", "xoxb-a b", "xoxb-a\nb", "xoxb-ä"])
def test_slack_wants_one_clean_token(token: str) -> None:
    with pytest.raises(ValueError, match=r"^token: wanted one word") as caught:
        slack_channel("https://slack.com/api/", token=token)
    assert "xoxb-a" not in str(caught.value)


def test_slack_token_may_end_in_a_newline(slack: SlackStandIn) -> None:
    assert isinstance(slack_channel(slack.api_url, token=TOKEN + "\n").send(make_notice(), None), Sent)


# Slack: layout


def every_text(layout: list[dict[str, Any]]) -> list[str]:
    parts = [block["text"] for block in layout if "text" in block]
    parts += [part for block in layout for part in block.get("fields", []) + block.get("elements", [])]
    return [part["text"] for part in parts]


def test_layout_of_an_alert() -> None:
    layout = blocks(make_alert(retraining="called for, run follows"))
    words = every_text(layout)
    assert [block["type"] for block in layout] == ["header", "section", "section", "section", "context", "context"]
    assert words[0] == "🟠 fraud v3 · warning · firing"
    assert words[1] == "*2 of 30 columns drifted*\namount and country moved away from the reference."
    assert words[2] == (
        "`amount`  values moved up by about one standard deviation\n"
        "psi 0.432 (95 % 0.4 to 0.47) · p 1.2e-09 · since window 9 (2026-03-01T07:00:00Z)"
    )
    assert words[-4:] == [
        "Retraining: called for, run follows",
        "Window 12, 2026-03-01T10:00:00Z to 2026-03-01T11:00:00Z, 12,345 rows",
        "Reference `0123456789ab`",
        "Incident `inc-7f3a`",
    ]


def test_layout_of_a_call_for_retraining() -> None:
    words = every_text(blocks(make_retrain()))
    assert words[0] == "🔁 fraud v3 · retraining called for"
    assert "Rows: predictions/0 100–12444" in words
    assert "Trigger `trg-19`" in words


def test_layout_says_what_is_a_test_and_what_is_over() -> None:
    over = make_alert(state="resolved", severity=Severity.CRITICAL, test=True, segment="eu", version=None)
    assert every_text(blocks(over))[0] == "✅ TEST · fraud · eu · critical · resolved"


@pytest.mark.parametrize("n", [9, 51, 500])
@pytest.mark.parametrize("make", [make_alert, make_retrain])
def test_layout_shows_eight_columns_and_counts_the_rest(slack: SlackStandIn, n: int, make: Any) -> None:
    body = make(columns=make_columns(n))
    words = every_text(blocks(body))
    assert sum(word.startswith("`column_") for word in words) == 8
    assert f"+{n - 8} more" in words
    assert text(body).endswith(f" +{n - 8} more")
    assert isinstance(slack_send(slack, make_notice(body)), Sent)
    assert len(slack.requests) == 1


def test_layout_of_nothing_unusual() -> None:
    bare = WindowFacts(index=0, start=None, end=None, n_rows=0)
    lean = make_column("", effect=None, effect_low=None, p_value=None, since=None, what="")
    words = every_text(blocks(make_alert(columns=(lean,), window=bare, summary="", title="", version=None)))
    assert all(word.strip() for word in words)
    assert "Window 0, 0 rows" in words
    assert text(make_alert(columns=(), summary="", title=""))


def test_names_cannot_mark_up_or_mention() -> None:
    evil = "<script>`&</script> <!channel>\u202e\n*x*"
    body = make_alert(
        model=evil,
        title=evil,
        summary=evil,
        incident=evil,
        reference=evil,
        retraining=evil,
        columns=(make_column(evil, segment=evil, what=evil, measure=evil, since=evil),),
        window=WindowFacts(index=1, start=evil, end=evil, n_rows=1),
    )
    rows = (RowRange(topic=evil, partition=0, first_offset=0, last_offset=1),)
    other = make_retrain(model=evil, reason=evil, trigger=evil, rows=rows)
    for words in [*every_text(blocks(body)), *every_text(blocks(other)), text(body), text(other), reply(body)]:
        assert "<" not in words
        assert ">" not in words
        assert "\u202e" not in words
        assert "&" not in words.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
    assert escape("a<b & c>\t\n d") == "a&lt;b &amp; c&gt; d"
    for part in [part for block in blocks(body) for part in [*block.get("elements", []), block.get("text", {})]]:
        assert part.get("verbatim", True) is True


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(
    ["<script>alert(1)</script>", "&" * 4000, "𝄞" * 3000, "x" * 50_000, "`" * 500, "&amp;" * 1000]
)
COLUMNS = st.builds(make_column, NAMES, segment=NAMES, what=NAMES, measure=NAMES, since=st.none() | NAMES)
WINDOWS = st.builds(
    WindowFacts, index=st.integers(0, 2**60), start=st.none() | NAMES, end=NAMES, n_rows=st.integers(0, 2**60)
)
ALERTS = st.builds(
    make_alert,
    incident=NAMES,
    model=NAMES,
    version=st.none() | NAMES,
    segment=NAMES,
    title=NAMES,
    summary=NAMES,
    columns=st.lists(COLUMNS, max_size=12).map(tuple),
    window=WINDOWS,
    reference=NAMES,
    retraining=st.none() | NAMES,
    severity=st.sampled_from(Severity),
)
ROWS = st.builds(RowRange, topic=NAMES, partition=st.just(0), first_offset=st.just(2**62), last_offset=st.just(2**62))
RETRAINS = st.builds(
    make_retrain,
    trigger=NAMES,
    model=NAMES,
    reason=NAMES,
    columns=st.lists(COLUMNS, max_size=12).map(tuple),
    rows=st.lists(ROWS, max_size=8).map(tuple),
    window=WINDOWS,
)


def units(words: str) -> int:
    return len(words.encode("utf-16-le")) // 2


@settings(derandomize=True, max_examples=60, deadline=None)
@given(body=ALERTS | RETRAINS)
def test_every_body_keeps_within_the_limits(body: Body) -> None:
    layout = blocks(body)
    assert len(layout) <= 50
    longest = {"header": 150, "section": 3000, "context": 2000}
    for block in layout:
        assert len(block.get("elements", [])) <= 10
        for words in every_text([block]):
            assert 0 < units(words) <= longest[block["type"]]
            assert words.strip()
            assert "&" not in words.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
    assert 0 < units(text(body)) < 1000
    assert 0 < units(reply(body)) <= 1000
    assert sum(map(units, every_text(layout))) + units(text(body)) < 13_000


def test_the_longest_body_is_taken_as_it_is(slack: SlackStandIn) -> None:
    huge = "&𝄞" * 5000
    column = make_column(huge, segment=huge, what=huge, measure=huge, since=huge)
    body = make_alert(model=huge, title=huge, summary=huge, columns=(column,) * 60, retraining=huge, incident=huge)
    assert isinstance(slack_send(slack, make_notice(body)), Sent)
    assert len(slack.requests) == 1
    assert len(slack.messages) == 1


# Webhook


def test_webhook_sends_exactly_the_encoded_body(job: WebhookStandIn) -> None:
    notice = make_notice(make_retrain())
    assert webhook_send(job, notice) == Sent()
    (request,) = job.requests
    assert request.body == encode(notice.body)
    assert decode(request.body) == notice.body
    assert request.headers["content-type"] == "application/json"
    assert job.runs == {"ntc-1": "run-1"}


def test_webhook_signature_recomputed(job: WebhookStandIn) -> None:
    job._clock = lambda: 1_700_000_000.0
    options = WebhookOptions(url=job.url, secret_env="S")
    channel = WebhookChannel("jobs", options, {"secret": f"{SECRET}\n old-plain-secret"}, clock=lambda: 1_700_000_000.9)
    assert channel.send(make_notice(), None) == Sent()
    channel.close()
    (request,) = job.requests
    content = b"ntc-1.1700000000." + request.body
    wanted = [
        "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        for key in (b"canary-key-of-the-webhook-0123", b"old-plain-secret")
    ]
    assert request.headers["webhook-timestamp"] == "1700000000"
    assert request.headers["webhook-signature"].split(" ") == wanted


def test_webhook_signature_of_the_published_example() -> None:
    headers = signed(
        keys("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_webhook_retries_with_one_key_and_starts_one_run(job: WebhookStandIn) -> None:
    now = [1000.0]
    job._clock = lambda: now[0]
    options = WebhookOptions(url=job.url, secret_file="s")
    channel = WebhookChannel("jobs", options, {"secret": SECRET}, clock=lambda: now[0])
    job.order(drop_after_receipt(), status(503))
    outcomes = []
    for _ in range(4):
        outcomes.append(type(channel.send(make_notice(make_retrain()), None)))
        now[0] += 400.0
    channel.close()
    assert outcomes == [Retry, Retry, Sent, Sent]
    assert len(job.requests) == 4
    assert {request.headers["webhook-id"] for request in job.requests} == {"ntc-1"}
    assert [request.headers["webhook-timestamp"] for request in job.requests] == ["1000", "1400", "1800", "2200"]
    assert len({request.headers["webhook-signature"] for request in job.requests}) == 4
    assert job.runs == {"ntc-1": "run-1"}


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        (status(200), Sent()),
        (status(204), Sent()),
        (not_json(), Sent()),
        (status(429, 30), Retry("HTTP 429", 30.0)),
        (status(429), Retry("HTTP 429")),
        (status(408), Retry("HTTP 408")),
        (status(425), Retry("HTTP 425")),
        (status(500), Retry("HTTP 500")),
        (status(503, 2.5), Retry("HTTP 503", 2.5)),
        (status(400), Refused("HTTP 400")),
        (status(401), Refused("HTTP 401")),
        (status(404), Refused("HTTP 404")),
        (status(409), Refused("HTTP 409")),
        (status(410), Refused("gone")),
        (status(304), Refused("HTTP 304: redirects are not followed; put the final address into url")),
        (drop_after_receipt(), Retry("no answer: RemoteProtocolError")),
    ],
)
def test_webhook_outcomes(job: WebhookStandIn, fault: Fault, wanted: Outcome) -> None:
    job.order(fault)
    assert webhook_send(job) == wanted
    assert len(job.requests) == 1


def test_webhook_retry_after_as_a_date(job: WebhookStandIn) -> None:
    now = 1_700_000_000.0
    job.order(status(503, formatdate(now + 90, usegmt=True)))
    options = WebhookOptions(url=job.url, secret_file="s")
    channel = WebhookChannel("jobs", options, {"secret": SECRET}, clock=lambda: now)
    assert channel.send(make_notice(), None) == Retry("HTTP 503", 90.0)
    channel.close()


def test_webhook_follows_no_redirect(job: WebhookStandIn) -> None:
    with WebhookStandIn(SECRET) as elsewhere:
        job.order(redirect(elsewhere.url))
        outcome = webhook_send(job)
        assert isinstance(outcome, Refused)
        assert "HTTP 302" in outcome.reason
        assert elsewhere.requests == []


def test_webhook_that_hangs_or_is_not_there(job: WebhookStandIn) -> None:
    job.order(hang(30))
    assert webhook_send(job, timeout=0.2) == Retry("no answer: ReadTimeout")
    channel = webhook_channel(f"http://127.0.0.1:{free_port()}/")
    assert channel.send(make_notice(), None) == Retry("no answer: ConnectError")
    channel.close()


@pytest.mark.parametrize("notice_id", ["a.b", "a%2Eb", "ä ö", "x\r\ny: z", "driftd/fraud:12", ""])
def test_webhook_ids_fit_a_header_and_stay_apart(notice_id: str) -> None:
    safe = webhook_id(notice_id)
    assert "." not in safe
    assert safe.isascii()
    assert safe.isprintable()
    assert safe == notice_id or webhook_id(safe) != safe


@pytest.mark.parametrize("secret", ["", "  \n", "whsec_", "whsec_canary!", f"{SECRET} whsec_canary"])
def test_webhook_secrets_that_cannot_sign(secret: str) -> None:
    with pytest.raises(ValueError, match=r"^secret: ") as caught:
        keys(secret)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


# Log


def test_log_writes_the_notice_as_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    channel = REGISTRY["log"]("console", REGISTRY["log"].Options(), {})
    body = make_alert(summary="two\nlines\u2028and more")
    assert channel.send(make_notice(body), "C1/2") == Sent()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("driftd.channel", logging.INFO)
    assert record.getMessage() == f"ntc-1: {body.title}"
    line = Objects(journal=False).format(record)
    assert len(line.splitlines()) == 1
    told = json.loads(line)
    assert told["event"] == "notice"
    assert (told["channel"], told["notice"], told["purpose"], told["follows"]) == ("console", "ntc-1", "alert", "C1/2")
    assert decode(json.dumps(told["body"]).encode()) == body


# Secrets


def test_no_secret_shows_anywhere(
    slack: SlackStandIn, job: WebhookStandIn, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    faults = [status(429, 1), status(500), not_json(TOKEN), drop_after_receipt(), slack_error("invalid_auth"), well()]
    faults += [not_json(json.dumps({"ok": False, "error": TOKEN})), hang(5), redirect(f"http://127.0.0.1:9/{TOKEN}")]
    chat = slack_channel(slack.api_url, timeout=0.2)
    hook = webhook_channel(f"{job.url}/run?token={TOKEN}", timeout=0.2)
    shown: list[object] = [chat, hook, vars(chat), vars(chat._client).keys(), chat._client]
    for fault in faults:
        slack.order(fault)
        job.order(fault)
        shown += [chat.send(make_notice(), None), hook.send(make_notice(), None)]
    hook.close()
    chat.close()
    for channel in (chat, slack_channel(slack.api_url, token="xoxb-canary-wrong")):
        shown.append(channel.send(make_notice(), None))
    out, err = capfd.readouterr()
    everything = "\n".join([*map(repr, shown), caplog.text, out, err])
    assert "Refused" in everything
    assert "canary" not in everything
    assert SECRET.removeprefix("whsec_") not in everything
