from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import httpx
import pytest

from monitor.demo.standins import (
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

TOKEN = "xoxb-test"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def call(slack: SlackStandIn, method: str, token: str | None = TOKEN, **form: object) -> httpx.Response:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return httpx.post(slack.api_url + method, json=form, headers=headers, trust_env=False)


def says(slack: SlackStandIn, **form: object) -> str:
    answer = call(slack, "chat.postMessage", channel="#a", **form).json()
    return "ok" if answer["ok"] else answer["error"]


def section(words: str) -> dict[str, object]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": words}}


def header(words: str, kind: str = "plain_text") -> dict[str, object]:
    return {"type": "header", "text": {"type": kind, "text": words}}


def context(*words: str) -> dict[str, object]:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": word} for word in words]}


def fields(*words: str) -> dict[str, object]:
    return {"type": "section", "fields": [{"type": "mrkdwn", "text": word} for word in words]}


def test_slack_knows_its_token() -> None:
    with SlackStandIn(TOKEN) as slack:
        assert call(slack, "auth.test").json()["ok"] is True
        assert call(slack, "auth.test", token="wrong").json() == {"ok": False, "error": "invalid_auth"}
        assert call(slack, "auth.test", token=None).json() == {"ok": False, "error": "not_authed"}
        assert call(slack, "chat.delete").json() == {"ok": False, "error": "unknown_method"}
        assert len(slack.requests) == 4


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ({"text": "a", "blocks": [section("x")] * 50}, "ok"),
        ({"text": "a", "blocks": [section("x")] * 51}, "invalid_blocks"),
        ({"text": "a", "blocks": [header("x" * 150)]}, "ok"),
        ({"text": "a", "blocks": [header("x" * 151)]}, "invalid_blocks"),
        ({"text": "a", "blocks": [header("x", "mrkdwn")]}, "invalid_blocks"),
        ({"text": "a", "blocks": [section("x" * 3000)]}, "ok"),
        ({"text": "a", "blocks": [section("x" * 3001)]}, "invalid_blocks"),
        ({"text": "a", "blocks": [section("𝄞" * 1501)]}, "invalid_blocks"),
        ({"text": "a", "blocks": [section("")]}, "invalid_blocks"),
        ({"text": "a", "blocks": [{"type": "section"}]}, "invalid_blocks"),
        ({"text": "a", "blocks": [{"type": "poem"}]}, "invalid_blocks"),
        ({"text": "a", "blocks": [fields(*["x" * 2000] * 2)]}, "ok"),
        ({"text": "a", "blocks": [fields("x" * 2001)]}, "invalid_blocks"),
        ({"text": "a", "blocks": [fields(*"x" * 11)]}, "invalid_blocks"),
        ({"text": "a", "blocks": [context(*"x" * 11)]}, "invalid_blocks"),
        ({"text": "a", "blocks": [section("x" * 2900)] * 5}, "msg_blocks_too_long"),
        ({"blocks": [section("x")]}, "no_text"),
        ({"text": "  "}, "no_text"),
        ({"text": "x" * 40_001}, "msg_too_long"),
        ({"text": "a", "thread_ts": "1.1"}, "thread_not_found"),
    ],
)
def test_slack_enforces_its_limits(form: dict[str, object], wanted: str) -> None:
    with SlackStandIn(TOKEN) as slack:
        assert says(slack, **form) == wanted


def test_slack_keeps_messages_edits_and_threads() -> None:
    with SlackStandIn(TOKEN, channels=("#a",)) as slack:
        posted = call(slack, "chat.postMessage", channel="#a", text="one", blocks=[section("x")]).json()
        ts, channel = posted["ts"], posted["channel"]
        call(slack, "chat.postMessage", channel=channel, text="reply", thread_ts=ts)
        call(slack, "chat.update", channel=channel, ts=ts, text="two")
        message = slack.messages[ts]
        assert (message.text, message.edits, [reply.text for reply in message.replies]) == ("two", ["one"], ["reply"])
        assert message.blocks == [section("x")]
        call(slack, "chat.update", channel=channel, ts=ts, text="three", blocks=[])
        assert message.blocks == []
        assert call(slack, "chat.update", channel="#a", ts=ts, text="x").json()["error"] == "channel_not_found"
        assert call(slack, "chat.update", channel=channel, ts="9.9", text="x").json()["error"] == "message_not_found"
        assert call(slack, "chat.postMessage", channel="#b", text="x").json()["error"] == "channel_not_found"


def test_slack_reads_forms_and_refuses_nonsense() -> None:
    with SlackStandIn(TOKEN) as slack:
        url, headers = slack.api_url + "chat.postMessage", {"authorization": f"Bearer {TOKEN}"}
        form = {"channel": "#a", "text": "hello", "blocks": json.dumps([section("x")])}
        assert httpx.post(url, data=form, headers=headers, trust_env=False).json()["ok"] is True
        bad = httpx.post(url, content=b"{", headers={**headers, "content-type": "application/json"}, trust_env=False)
        assert bad.json()["error"] == "invalid_json"


def test_faults_come_in_order_and_then_all_is_well() -> None:
    with SlackStandIn(TOKEN) as slack:
        slack.order(status(429, 7), well(), status(500), redirect("http://127.0.0.1:9/"), not_json("hm"))
        slack.order(slack_error("is_archived"))
        limited = call(slack, "chat.postMessage", channel="#a", text="x")
        assert (limited.status_code, limited.headers["retry-after"], limited.json()["error"]) == (
            429,
            "7",
            "ratelimited",
        )
        assert call(slack, "chat.postMessage", channel="#a", text="x").json()["ok"] is True
        assert call(slack, "chat.postMessage", channel="#a", text="x").status_code == 500
        away = call(slack, "chat.postMessage", channel="#a", text="x")
        assert (away.status_code, away.headers["location"]) == (302, "http://127.0.0.1:9/")
        assert call(slack, "chat.postMessage", channel="#a", text="x").text == "hm"
        assert call(slack, "chat.postMessage", channel="#a", text="x").json()["error"] == "is_archived"
        assert len(slack.messages) == 1
        assert call(slack, "chat.postMessage", channel="#a", text="x").json()["ok"] is True


def test_drop_and_hang_take_effect() -> None:
    with SlackStandIn(TOKEN) as slack:
        slack.order(drop_after_receipt(), hang(0.2))
        with pytest.raises(httpx.RemoteProtocolError):
            call(slack, "chat.postMessage", channel="#a", text="dropped")
        start = time.monotonic()
        assert call(slack, "chat.postMessage", channel="#a", text="late").json()["ok"] is True
        assert time.monotonic() - start >= 0.2
        assert [message.text for message in slack.messages.values()] == ["dropped", "late"]


def test_closing_ends_a_hang() -> None:
    start = time.monotonic()
    with SlackStandIn(TOKEN) as slack:
        slack.order(hang(60))
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(slack.api_url + "auth.test", timeout=0.2, trust_env=False)
    assert time.monotonic() - start < 5


def test_a_stand_in_has_no_address_before_it_runs() -> None:
    with pytest.raises(RuntimeError, match="with statement"):
        _ = SlackStandIn(TOKEN).url


def signature(key: bytes, message_id: str, at: int, body: bytes) -> dict[str, str]:
    digest = hmac.new(key, f"{message_id}.{at}.".encode() + body, hashlib.sha256).digest()
    mark = "v1," + base64.b64encode(digest).decode()
    return {"webhook-id": message_id, "webhook-timestamp": str(at), "webhook-signature": mark}


def test_webhook_believes_the_published_example() -> None:
    with WebhookStandIn(SECRET, clock=lambda: 1614265330.0) as job:
        headers = {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        }
        answer = httpx.post(job.url, content=b'{"test": 2432232314}', headers=headers, trust_env=False)
        assert (answer.status_code, answer.json()) == (202, {"run": "run-1", "repeated": False})
        again = httpx.post(job.url, content=b'{"test": 2432232314}', headers=headers, trust_env=False)
        assert again.json() == {"run": "run-1", "repeated": True}
        assert httpx.post(job.url, content=b'{"test": 1}', headers=headers, trust_env=False).status_code == 401
        assert list(job.runs.values()) == ["run-1"]
        assert len(job.requests) == 3


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"webhook-id": ""}, "malformed"),
        ({"webhook-id": "a.b"}, "malformed"),
        ({"webhook-timestamp": "soon"}, "malformed"),
        ({"webhook-timestamp": "1000"}, "too old"),
        ({"webhook-signature": "v1,AAAA v0,BBBB"}, "no signature fits"),
        ({"webhook-signature": ""}, "no signature fits"),
    ],
)
def test_webhook_doubts_everything_else(changes: dict[str, str], word: str) -> None:
    with WebhookStandIn("plain secret", clock=lambda: 5000.0) as job:
        headers = signature(b"plain secret", "m1", 5000, b"{}")
        assert httpx.post(job.url, content=b"{}", headers=headers, trust_env=False).status_code == 202
        answer = httpx.post(job.url, content=b"{}", headers={**headers, **changes}, trust_env=False)
        assert answer.status_code == 401
        assert word in answer.json()["error"]


def test_webhook_wants_json() -> None:
    with WebhookStandIn("plain") as job:
        headers = signature(b"plain", "m1", int(time.time()), b"x")
        assert httpx.post(job.url, content=b"x", headers=headers, trust_env=False).status_code == 400
        assert job.runs == {}


def test_only_post_is_served() -> None:
    with WebhookStandIn("plain") as job:
        assert httpx.get(job.url, trust_env=False).status_code == 405
