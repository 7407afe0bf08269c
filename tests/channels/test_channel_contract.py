"""What every kind of channel promises, shown on a receiver that checks what it gets and misbehaves on order."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from monitor.channels import REGISTRY, Attempt, Channel, Outcome, Refused, Retry, Sent, Tools
from monitor.channels.mask import masked
from monitor.demo.standins import Fault, hang, not_json, redirect, status
from monitor.logs import Objects
from monitor.message import Notice, Purpose, RowRange, WindowFacts
from tests.bodies import make_columns, make_notice
from tests.standins import CANARY, CASES, Case
from tests.standins.certificate import authority, server_context

RECEIVED = sorted(REGISTRY.keys() - {"log"})
HTTP = sorted(kind for kind, case in CASES.items() if case.is_http)
METADATA = "http://169.254.169.254/latest/meta-data/"


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    with CASES[request.param]() as entered:
        yield entered


def every(kinds: Sequence[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", kinds, indirect=True)


def notice_for(case: Case, purpose: Purpose | None = None, **changes: Any) -> Notice:
    purpose = purpose or case.purpose
    return make_notice(case.body(purpose, **changes), purpose=purpose)


def attempts(channel: Channel, notice: Notice, n: int) -> list[Outcome]:
    """So many attempts as the outbox makes them: each knows whether one before it may have got through."""
    found: list[Outcome] = []
    for number in range(1, n + 1):
        doubtful = any(isinstance(outcome, Retry) and outcome.ambiguous for outcome in found)
        found.append(channel.send(notice, Attempt(number=number, ambiguous=doubtful, queued_at=time.time())))
    return found


def test_every_kind_has_a_case() -> None:
    assert CASES.keys() == REGISTRY.keys()


@pytest.mark.parametrize("kind", sorted(REGISTRY))
def test_every_option_is_described(kind: str) -> None:
    for name, field in REGISTRY[kind].Options.model_fields.items():
        assert field.description, f"{kind}.{name}"


@every(sorted(REGISTRY))
def test_every_purpose_is_delivered_or_refused_without_a_word_to_the_receiver(case: Case) -> None:
    channel = case.open()
    for purpose in Purpose:
        outcome = channel.send(notice_for(case, purpose), Attempt())
        if purpose in channel.purposes:
            assert isinstance(outcome, Sent)
        else:
            assert isinstance(outcome, Refused)
            assert case.kind in outcome.reason
    channel.close()
    channel.close()


@every(RECEIVED)
def test_what_was_sent_has_taken_effect(case: Case) -> None:
    assert isinstance(case.open().send(notice_for(case), Attempt()), Sent)
    assert len(case.done()) == 1
    assert case.n_received == case.n_requests


@every(RECEIVED)
def test_what_may_pass_is_tried_again_and_what_stays_is_not(case: Case) -> None:
    passing, lasting = case.passing(), case.lasting()
    case.order(passing[0], lasting[0])
    first, second, third = attempts(case.open(), notice_for(case), 3)
    assert isinstance(first, Retry)
    assert passing[1] in first.reason
    assert not first.ambiguous
    assert isinstance(second, Refused)
    assert lasting[1] in second.reason
    assert isinstance(third, Sent)
    assert len(case.done()) == 1


@every(HTTP)
def test_a_receiver_that_wants_a_pause_names_it(case: Case) -> None:
    case.order(status(429, 30))
    outcome = case.open().send(notice_for(case), Attempt())
    assert isinstance(outcome, Retry)
    assert (outcome.after_seconds, outcome.ambiguous) == (30.0, False)
    assert case.done() == []


@every(HTTP)
@pytest.mark.parametrize("code", [500, 502, 504])
def test_a_receiver_in_trouble_is_asked_again(case: Case, code: int) -> None:
    case.order(status(code))
    assert [type(outcome) for outcome in attempts(case.open(), notice_for(case), 2)] == [Retry, Sent]


@every(RECEIVED)
def test_a_lost_answer_is_no_second_message_where_the_receiver_can_tell(case: Case) -> None:
    case.order(case.lost())
    first, second = attempts(case.open(), notice_for(case), 2)
    assert isinstance(first, Retry)
    assert first.ambiguous
    assert isinstance(second, Sent)
    assert len(case.done()) == (1 if case.is_idempotent else 2)
    assert len(set(case.done())) == 1, "the key is the same in every attempt"


@every(RECEIVED)
def test_a_receiver_that_says_nothing_is_not_waited_for(case: Case) -> None:
    case.order(case.stuck())
    began = time.monotonic()
    first, second = attempts(case.open(timeout=0.5), notice_for(case), 2)
    assert time.monotonic() - began < 10
    assert isinstance(first, Retry)
    assert first.ambiguous
    assert isinstance(second, Sent)
    assert len(set(case.done())) == 1


@every(sorted(kind for kind, case in CASES.items() if case.is_http and case.reads_answers))
@pytest.mark.parametrize(
    "words", ["<html>welcome to the proxy</html>", "[]", "null", '{"error": "no"}', '{"id": []}', "[" * 200_000]
)
def test_an_answer_of_200_that_is_not_the_receivers_own_is_no_success(case: Case, words: str) -> None:
    case.order(*[not_json(words)] * case.n_requests)
    assert not isinstance(case.open().send(notice_for(case), Attempt()), Sent)
    assert case.done() == []


@every(HTTP)
def test_redirects_are_not_followed(case: Case) -> None:
    called: list[str] = []
    case.order(redirect(METADATA))
    outcome = case.open(Tools(resolve=lambda host: called.append(host) or [])).send(notice_for(case), Attempt())
    assert isinstance(outcome, Refused | Retry)
    assert called == []
    assert case.n_received == case.n_requests
    assert case.done() == []


@every(RECEIVED)
@pytest.mark.parametrize(
    "found", [["169.254.169.254"], ["93.184.215.14", "169.254.169.254"], ["::ffff:169.254.169.254"], ["fe80::1%eth0"]]
)
def test_a_name_that_leads_to_metadata_is_not_called(case: Case, found: list[str]) -> None:
    outcome = elsewhere(case, Tools(resolve=lambda host: found)).send(notice_for(case), Attempt())
    assert isinstance(outcome, Refused)
    assert "never called" in outcome.reason


@every(RECEIVED)
def test_a_private_address_is_called_only_where_that_is_meant(case: Case) -> None:
    channel = elsewhere(case, Tools(resolve=lambda host: ["10.0.0.7"]), allow_private=False)
    outcome = channel.send(notice_for(case), Attempt())
    assert isinstance(outcome, Refused)
    assert "allow_private" in outcome.reason


@every(RECEIVED)
def test_the_address_that_was_judged_is_the_one_that_is_called(case: Case) -> None:
    asked: list[str] = []

    def resolve(host: str) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) <= case.n_requests else ["169.254.169.254"]

    url = case.standin.url.replace("127.0.0.1", "receiver.example")
    more = {"allow_http": True} if case.is_http else {}
    assert isinstance(case.open(Tools(resolve=resolve), url, **more).send(notice_for(case), Attempt()), Sent)
    assert len(asked) == case.n_requests


@pytest.mark.parametrize("kind", HTTP)
def test_a_certificate_is_checked(kind: str) -> None:
    with CASES[kind](server_context()) as case:
        notice = notice_for(case)
        distrusted = case.open().send(notice, Attempt())
        assert isinstance(distrusted, Retry)
        assert "certificate is not trusted" in distrusted.reason
        other_name = case.standin.url.replace("127.0.0.1", "other.example")
        misnamed = case.open(Tools(resolve=lambda host: ["127.0.0.1"]), other_name, ca_file=authority())
        assert isinstance(misnamed.send(notice, Attempt()), Retry)
        assert case.n_received == 0
        assert isinstance(case.open(ca_file=authority()).send(notice, Attempt()), Sent)
        assert len(case.done()) == 1


@every(RECEIVED)
def test_the_largest_evidence_is_taken(case: Case) -> None:
    wild = '"\\&<>%\x00\u202eä𝄞' * 300
    columns = tuple(
        type(column)(**{name: getattr(column, name) for name in column.__struct_fields__} | {"what": wild})
        for column in make_columns(400)
    )
    rows = tuple(RowRange(topic="t" * 200, partition=i, first_offset=2**61, last_offset=2**62) for i in range(2000))
    window = WindowFacts(index=2**60, start=None, end=None, n_rows=2**60)
    for purpose in REGISTRY[case.kind].purposes:
        more = {"reason": wild * 3, "rows": rows} if purpose is Purpose.RETRAIN else {"summary": wild * 3}
        notice = notice_for(case, purpose, columns=columns, window=window, version="v" * 200, **more)
        assert isinstance(case.open().send(notice, Attempt()), Sent), purpose
    assert case.n_received <= len(REGISTRY[case.kind].purposes) * case.n_requests


def elsewhere(case: Case, tools: Tools, **more: Any) -> Channel:
    """A channel to a name that is the tools' to resolve."""
    url = case.standin.url.replace("127.0.0.1", "receiver.example").replace("http:", "https:")
    return case.open(tools, url, **more)


def faults_of(case: Case) -> list[Fault]:
    """Everything that a receiver may do wrong, and say while it does."""
    told = [not_json(f'{{"error": "{secret}", "detail": "{secret}"}}') for secret in case.secrets.values()]
    https = [redirect(f"https://elsewhere.example/?token={secret}") for secret in case.secrets.values()]
    wrong = [status(code) for code in (400, 401, 403, 404, 410, 413, 429, 500, 503)]
    return [*told, *https, *wrong, hang(5), case.lost()] if case.is_http else [case.passing()[0], case.lost()]


@every(RECEIVED)
def test_no_secret_is_seen_anywhere(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    channel, seen = case.open(timeout=0.5), []
    seen.append(repr(channel.__dict__))
    for fault in [*faults_of(case), None]:
        if fault is not None:
            case.order(fault)
        seen.append(repr(attempts(channel, notice_for(case), 1)))
    for notice in (notice_for(case, purpose) for purpose in channel.purposes):
        seen.append(masked(channel.show(notice), case.secrets_at(case.standin.url)))
        channel.rehearse(notice)
    seen += [Objects(journal=False).format(record) for record in caplog.records]
    for text in seen:
        assert CANARY not in text


@every(RECEIVED)
@pytest.mark.parametrize("damage", ["{}\nsecond line", "{} with words", "{}ä", ""])
def test_a_secret_that_does_not_fit_is_told_without_being_shown(case: Case, damage: str) -> None:
    cls = REGISTRY[case.kind]
    options = cls.Options(allow_private=True, **case.options(case.standin.url))
    for name, secret in case.secrets_at(case.standin.url).items():
        given = case.secrets_at(case.standin.url) | {name: damage.format(secret)}
        words = complaint(cls, options, given)
        assert CANARY not in words
        assert not words or name in words


def complaint(cls: type[Channel], options: BaseModel, secrets: Mapping[str, str]) -> str:
    """What a channel says of its secrets when it is made, "" when it takes them."""
    try:
        cls("ops", options, secrets).close()
    except ValueError as error:
        return str(error)
    return ""


@every(HTTP)
def test_urls_that_would_leak_or_reach_too_far_are_refused_at_the_start(case: Case) -> None:
    bad = ["http://receiver.example", METADATA, "ftp://receiver.example", "https://user:canary@receiver.example", "x"]
    for url in bad:
        with pytest.raises((ValueError, ssl.SSLError)) as caught:
            case.open(None, url, allow_http=False)
        assert CANARY not in str(caught.value).replace(case.kind, "")
