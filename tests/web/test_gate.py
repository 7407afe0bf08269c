"""Who may look and who may change things."""

from __future__ import annotations

import pytest

from monitor.web.gate import FAILURES, N_ADDRESSES, SESSION_SECONDS, SPELL_SECONDS, Gate, TooMany, host_of, is_same_site

TOKEN = "a-token-of-thirty-two-characters"


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock) -> Gate:
    return Gate(TOKEN, local=True, clock=clock)


@pytest.mark.parametrize(
    ("headers", "is_open"),
    [
        ({"host": "127.0.0.1:8787"}, True),
        ({"host": "localhost"}, True),
        ({"host": "[::1]:8787"}, True),
        ({"host": "evil.example:8787"}, False),  # a name that was made to lead here: DNS rebinding
        ({"host": "127.0.0.1.evil.example"}, False),
        ({}, False),
        ({"host": "localhost", "x-forwarded-for": "203.0.113.9"}, False),
        ({"host": "localhost", "forwarded": "for=203.0.113.9"}, False),
    ],
)
def test_reading_is_open_to_this_machine_alone(gate: Gate, headers: dict[str, str], is_open: bool):
    assert gate.is_open(headers) is is_open
    assert Gate(TOKEN, local=False).is_open(headers) is False


def test_the_token_and_nothing_like_it(gate: Gate):
    assert gate.bearer({"authorization": f"Bearer {TOKEN}"}, "a") is True
    for wrong in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer", "Bearer ", f"Bearer {TOKEN.upper()}"):
        assert gate.bearer({"authorization": wrong}, "b") is False
    assert gate.bearer({"authorization": f"Basic {TOKEN}"}, "a") is None
    assert gate.bearer({}, "a") is None


def test_without_a_token_nothing_is_admitted(clock: Clock):
    gate = Gate(None, local=True, clock=clock)
    assert not gate.has_token
    assert not any(gate.admits(word, "a") for word in ("", "None", "null"))


def test_wrong_tokens_are_counted_by_address_for_a_spell(gate: Gate, clock: Clock):
    for _ in range(FAILURES):
        assert gate.admits("wrong", "a") is False
    with pytest.raises(TooMany):  # even with the right one, or guessing would go on
        gate.admits(TOKEN, "a")
    assert gate.admits(TOKEN, "b") is True
    clock.now += SPELL_SECONDS
    assert gate.admits(TOKEN, "a") is True


def test_a_flood_of_addresses_takes_bounded_memory_and_is_stopped(gate: Gate):
    stopped = 0
    for i in range(3 * N_ADDRESSES):
        try:
            gate.admits("wrong", f"10.0.{i // 256}.{i % 256}")
        except TooMany:
            stopped += 1
    assert len(gate._failures) <= N_ADDRESSES + 1
    assert stopped > N_ADDRESSES


def test_a_session_lasts_until_its_end_and_no_other_token_accepts_it(gate: Gate, clock: Clock):
    cookie = gate.opened('ana "the" <b>')
    session = gate.session(cookie)
    assert session is not None
    assert session.name == 'ana "the" <b>'
    assert Gate(TOKEN, local=False, clock=clock).session(cookie) == session  # after a reload
    assert Gate(TOKEN + "2", local=True, clock=clock).session(cookie) is None
    clock.now += SESSION_SECONDS
    assert gate.session(cookie) is None


def test_a_changed_cookie_is_none_of_ours(gate: Gate):
    body, _, mark = gate.opened("ana").partition(".")
    forged = [None, "", ".", body, f"{body}.", f".{mark}", f"{body}.{mark[:-1]}", f"{body}x.{mark}", "ä.ö"]
    assert [gate.session(cookie) for cookie in forged] == [None] * len(forged)


def test_a_form_belongs_to_its_session(gate: Gate):
    one, other = (gate.session(gate.opened(name)) for name in ("ana", "ana"))
    assert one is not None
    assert other is not None
    assert gate.is_own_form(one, gate.form_mark(one))
    assert not gate.is_own_form(one, gate.form_mark(other))
    assert not gate.is_own_form(one, "")


@pytest.mark.parametrize(
    ("headers", "same"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"origin": "http://localhost:1", "host": "localhost:1"}, True),
        ({"origin": "http://evil.example", "host": "localhost:1"}, False),
        ({"origin": "null", "host": "localhost:1"}, False),
        ({"host": "localhost:1"}, True),
    ],
)
def test_forms_of_other_sites_are_known(headers: dict[str, str], same: bool):
    assert is_same_site(headers) is same


def test_hosts():
    assert [host_of({"host": host}) for host in ("a:1", "a", "[::1]:5", "[::1]", "")] == ["a", "a", "::1", "::1", ""]
