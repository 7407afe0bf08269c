"""The webhook: Standard Webhooks' signatures, one key over all attempts, and what answers mean."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest

from monitor.channels import Attempt, Outcome, Refused, Retry, Sent, Tools
from monitor.channels.webhook import WebhookChannel, WebhookOptions, keys, signed, webhook_id
from monitor.demo.standins import Fault, drop_after_receipt, hang, not_json, redirect, status
from monitor.demo.standins.webhook import WebhookStandIn
from monitor.message import Notice, decode, encode
from tests.bodies import make_notice, make_retrain
from tests.ports import free_port

SECRET = "whsec_" + base64.b64encode(b"canary-key-of-the-webhook-0123").decode()


@pytest.fixture
def job() -> Iterator[WebhookStandIn]:
    with WebhookStandIn(SECRET) as standin:
        yield standin


def webhook_channel(url: str, secret: str = SECRET, tools: Tools | None = None, **options: Any) -> WebhookChannel:
    chosen = WebhookOptions(url=url, secret_file="secret", allow_private=True, **options)
    return WebhookChannel("jobs", chosen, {"secret": secret}, tools or Tools())


def webhook_send(job: WebhookStandIn, notice: Notice | None = None, **options: Any) -> Outcome:
    return webhook_channel(job.url, **options).send(notice or make_notice(make_retrain()), Attempt())


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
    tools = Tools(clock=lambda: 1_700_000_000.9)
    channel = webhook_channel(job.url, f"{SECRET}\n old-plain-secret", tools)
    assert channel.send(make_notice(), Attempt()) == Sent()
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
    channel = webhook_channel(job.url, tools=Tools(clock=lambda: now[0]))
    job.order(drop_after_receipt(), status(503))
    outcomes = []
    for _ in range(4):
        outcomes.append(type(channel.send(make_notice(make_retrain()), Attempt())))
        now[0] += 400.0
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
        (status(500), Retry("HTTP 500", ambiguous=True)),
        (status(503, 2.5), Retry("HTTP 503", 2.5)),
        (status(400), Refused("HTTP 400")),
        (status(401), Refused("HTTP 401: the credentials are not accepted")),
        (status(404), Refused("HTTP 404: there is nothing at this address, or the credentials do not show it")),
        (status(409), Refused("HTTP 409")),
        (status(410), Refused("gone")),
        (status(304), Refused("HTTP 304: redirects are not followed; put the final address into the configuration")),
        (drop_after_receipt(), Retry("no answer: RemoteProtocolError", ambiguous=True)),
    ],
)
def test_webhook_outcomes(job: WebhookStandIn, fault: Fault, wanted: Outcome) -> None:
    job.order(fault)
    assert webhook_send(job) == wanted
    assert len(job.requests) == 1


def test_webhook_retry_after_as_a_date(job: WebhookStandIn) -> None:
    now = 1_700_000_000.0
    job.order(status(503, formatdate(now + 90, usegmt=True)))
    channel = webhook_channel(job.url, tools=Tools(clock=lambda: now))
    assert channel.send(make_notice(), Attempt()) == Retry("HTTP 503", 90.0)


def test_webhook_follows_no_redirect(job: WebhookStandIn) -> None:
    with WebhookStandIn(SECRET) as elsewhere:
        job.order(redirect(elsewhere.url))
        outcome = webhook_send(job)
        assert isinstance(outcome, Refused)
        assert "HTTP 302" in outcome.reason
        assert elsewhere.requests == []


def test_webhook_that_hangs_or_is_not_there(job: WebhookStandIn) -> None:
    job.order(hang(30))
    assert webhook_send(job, timeout=0.2) == Retry("no answer: ReadTimeout", ambiguous=True)
    channel = webhook_channel(f"http://127.0.0.1:{free_port()}/")
    assert channel.send(make_notice(), Attempt()) == Retry("no connection: ConnectionRefusedError (Connection refused)")


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
