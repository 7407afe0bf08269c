from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.channels import Attempt, Channel, Outcome, Refused, Retry, Sent
from monitor.message import Notice, Purpose
from monitor.outbox import Breaker, Courier, Dead, Delivered, Held, Pending, Policy, after
from tests.bodies import make_notice, make_retrain

HOUR = 3600.0
LATE = 1e12


def test_sent_and_refused_are_final() -> None:
    assert after(Sent("C1/2.3"), Attempt(), 0.0, 0.5, LATE) == Delivered("C1/2.3")
    assert after(Sent(), Attempt(number=9), LATE + 1, 0.5, LATE) == Delivered("")
    assert after(Refused("gone"), Attempt(), 0.0, 0.5, LATE) == Dead("gone")


@pytest.mark.parametrize(("attempt", "bound"), [(1, 1), (2, 2), (5, 16), (10, 512), (11, 600), (5000, 600)])
def test_pauses_double_up_to_a_cap_and_are_spread(attempt: int, bound: float) -> None:
    for jitter in (0.0, 0.25, 0.999):
        assert after(Retry("x"), Attempt(number=attempt), 50.0, jitter, LATE) == Pending(50.0 + jitter * bound, "x")


def test_what_the_receiver_asks_for_is_a_floor() -> None:
    assert after(Retry("429", 30.0), Attempt(number=1), 0.0, 0.9, LATE) == Pending(30.0, "429")
    assert after(Retry("429", 30.0), Attempt(number=8), 0.0, 0.5, LATE) == Pending(64.0, "429")
    assert after(Retry("429", 5000.0), Attempt(number=20), 0.0, 0.5, LATE) == Pending(5000.0, "429")


def test_horizons() -> None:
    policy = Policy()
    assert policy.expires_at(Purpose.RETRAIN, 100.0) == 100.0 + 24 * HOUR
    assert policy.expires_at(Purpose.ALERT, 100.0) == policy.expires_at(Purpose.DIGEST, 100.0) == 100.0 + 72 * HOUR


def test_expired() -> None:
    assert after(Retry("HTTP 503"), Attempt(number=3), 99.0, 0.0, 100.0) == Pending(99.0, "HTTP 503")
    assert after(Retry("HTTP 503"), Attempt(number=3), 100.0, 0.0, 100.0) == Dead("expired", "HTTP 503")
    assert after(Retry("HTTP 429", 60.0), Attempt(), 99.0, 0.0, 100.0) == Dead("expired", "HTTP 429")


@pytest.mark.parametrize(("attempt", "jitter"), [(0, 0.5), (1, 1.0), (1, -0.1), (1, float("nan"))])
def test_nonsense_is_refused(attempt: int, jitter: float) -> None:
    with pytest.raises(ValueError, match="attempt"):
        after(Retry("x"), Attempt(number=attempt), 0.0, jitter, LATE)


def test_doubt_stays_until_it_is_settled() -> None:
    """Once an attempt may have got through, no clean failure after it takes that back."""
    first = after(Retry("timeout", ambiguous=True), Attempt(), 0.0, 0.5, LATE)
    assert isinstance(first, Pending)
    assert first.ambiguous
    later = after(Retry("HTTP 429"), Attempt(number=2, ambiguous=True), 0.0, 0.5, LATE)
    assert isinstance(later, Pending)
    assert later.ambiguous
    assert after(Retry("HTTP 429"), Attempt(), 0.0, 0.5, LATE) == Pending(0.5, "HTTP 429")
    assert after(Retry("x"), Attempt(ambiguous=True), 9.0, 0.5, 9.0) == Dead("expired", "x", ambiguous=True)
    assert after(Refused("x"), Attempt(ambiguous=True), 0.0, 0.5, LATE) == Dead("x", ambiguous=True)


def test_what_was_held_back_was_not_tried() -> None:
    held = Held("held back: 5 failures in a row", 12.0)
    assert after(held, Attempt(number=3), 100.0, 0.9, LATE) == Pending(112.0, held.reason, tried=False)
    assert after(held, Attempt(ambiguous=True), 100.0, 0.9, LATE) == Pending(112.0, held.reason, True, False)
    assert after(held, Attempt(), 100.0, 0.9, 112.0) == Dead("expired", held.reason)


def test_a_breaker_opens_after_five_failures_in_a_row_and_lets_one_through_at_a_time() -> None:
    breaker = Breaker()
    for n in range(5):
        assert breaker.held(n) is None
        assert not breaker.is_open
        breaker = breaker.noted(Retry("HTTP 503"), n)
    assert breaker.is_open
    assert breaker.held(4.0) == Held("held back: 5 failures in a row", 30.0)
    assert breaker.held(34.0) is None
    again = breaker.noted(Retry("HTTP 503"), 34.0)
    assert (again.held(34.0), again.held(94.0)) == (Held("held back: 6 failures in a row", 60.0), None)
    for outcome in (Sent(), Refused("HTTP 400")):
        assert breaker.noted(outcome, 34.0) == Breaker()


def test_a_breaker_pauses_for_as_long_as_it_is_asked_to_but_no_longer_than_its_cap() -> None:
    assert Breaker().noted(Retry("HTTP 429", 7.0), 100.0).held(101.0) == Held(
        "held back: the receiver asked for a pause", 6.0
    )
    assert Breaker().noted(Retry("HTTP 429", 1e9), 0.0).held(599.0) is not None
    assert Breaker().noted(Retry("HTTP 429", 1e9), 0.0).held(600.0) is None


@settings(derandomize=True, max_examples=100)
@given(
    outcomes=st.lists(
        st.sampled_from([Sent(), Refused("x"), Retry("x"), Retry("x", 5.0), Retry("x", 1e7)]), max_size=30
    )
)
def test_a_breaker_is_open_exactly_after_five_failures_in_a_row(outcomes: list[Outcome]) -> None:
    breaker, now = Breaker(), 0.0
    for n, outcome in enumerate(outcomes):
        breaker = breaker.noted(outcome, now)
        last = [isinstance(before, Retry) for before in outcomes[max(0, n - 4) : n + 1]]
        assert breaker.is_open == (len(last) == 5 and all(last))
        held = breaker.held(now)
        assert held is None or 0 < held.seconds <= 600.0
        now += held.seconds if held else 0.0
        assert breaker.held(now) is None


@settings(derandomize=True, max_examples=100)
@given(
    attempt=st.integers(1, 10_000),
    now=st.floats(0, 1e10),
    jitter=st.floats(0, 1, exclude_max=True),
    asked=st.none() | st.floats(0, 1e6),
    left=st.floats(-10, 1e6),
)
def test_the_next_attempt_lies_between_now_and_the_end(
    attempt: int, now: float, jitter: float, asked: float | None, left: float
) -> None:
    fate = after(Retry("x", asked), Attempt(number=attempt), now, jitter, now + left)
    if isinstance(fate, Pending):
        assert now + (asked or 0.0) <= fate.next_attempt_at < now + left
        assert fate.next_attempt_at <= now + max(600.0, asked or 0.0)
    else:
        assert fate == Dead("expired", "x")


class Scripted(Channel):
    """Does what `act` says; remembers what it sent and how many sends ran at once."""

    def __init__(self, act: Callable[[Notice], Outcome] = lambda notice: Sent()) -> None:
        self.act = act
        self.sent: list[tuple[str, str | None]] = []
        self.n_at_once = self.most_at_once = 0
        self.closed = threading.Event()

    def send(self, notice: Notice, attempt: Attempt) -> Outcome:
        self.n_at_once += 1
        self.most_at_once = max(self.most_at_once, self.n_at_once)
        self.sent.append((notice.id, attempt.parent))
        try:
            return self.act(notice)
        finally:
            self.n_at_once -= 1

    def close(self) -> None:
        self.closed.set()


def drain(courier: Courier, n: int) -> list[tuple[str, Outcome | Held]]:
    found: list[tuple[str, Outcome | Held]] = []
    deadline = time.monotonic() + 10
    while len(found) < n and time.monotonic() < deadline:
        found += courier.results()
        time.sleep(0.002)
    assert len(found) == n
    return found


def as_channels(**channels: Scripted) -> Mapping[str, Channel]:
    return cast(Mapping[str, Channel], channels)


def test_order_is_kept_and_one_is_in_flight_per_channel() -> None:
    ops = Scripted(lambda notice: (time.sleep(0.001), Sent(notice.id))[1])
    courier = Courier(as_channels(ops=ops))
    names = [f"n{i}" for i in range(50)]
    for name in names:
        courier.submit(make_notice(id=name), Attempt(f"parent-{name}"))
    assert drain(courier, 50) == [(name, Sent(name)) for name in names]
    assert ops.sent == [(name, f"parent-{name}") for name in names]
    assert ops.most_at_once == 1
    assert courier.close(5)
    assert ops.closed.is_set()


def test_a_slow_channel_holds_up_neither_the_caller_nor_the_others() -> None:
    gate = threading.Event()
    slow, fast = Scripted(lambda notice: Sent("slow") if gate.wait(10) else Retry("x")), Scripted()
    courier = Courier(as_channels(slow=slow, fast=fast))
    start = time.monotonic()
    courier.submit(make_notice(id="a", channel="slow"), Attempt())
    for i in range(5):
        courier.submit(make_notice(id=f"b{i}", channel="fast"), Attempt())
    assert [name for name, _ in drain(courier, 5)] == ["b0", "b1", "b2", "b3", "b4"]
    assert time.monotonic() - start < 5
    gate.set()
    assert drain(courier, 1) == [("a", Sent("slow"))]
    assert courier.close(5)


def test_a_defect_is_logged_and_becomes_a_retry(caplog: pytest.LogCaptureFixture) -> None:
    def act(notice: Notice) -> Outcome:
        if notice.id == "bad":
            raise KeyError("boom")
        return Sent()

    courier = Courier(as_channels(ops=Scripted(act)))
    with caplog.at_level(logging.ERROR, "driftd.outbox"):
        courier.submit(make_notice(id="bad"), Attempt())
        courier.submit(make_notice(id="good"), Attempt())
        assert drain(courier, 2) == [("bad", Retry("KeyError", ambiguous=True)), ("good", Sent())]
    assert courier.close(5)
    assert "channel ops failed on notice bad" in caplog.text
    assert "Traceback" in caplog.text


def test_an_unknown_channel_is_refused() -> None:
    courier = Courier({})
    courier.submit(make_notice(make_retrain(), id="n1", channel="nowhere"), Attempt())
    assert courier.results() == [("n1", Refused("no channel named 'nowhere' is configured"))]
    assert courier.results() == []
    assert courier.close(1)


def test_a_notice_is_here_once_until_its_result_is_taken() -> None:
    gate = threading.Event()
    ops = Scripted(lambda notice: Sent() if gate.wait(10) else Retry("x"))
    courier = Courier(as_channels(ops=ops))
    for _ in range(3):
        courier.submit(make_notice(id="n1"), Attempt())
    gate.set()
    assert drain(courier, 1) == [("n1", Sent())]
    courier.submit(make_notice(id="n1"), Attempt())
    assert drain(courier, 1) == [("n1", Sent())]
    assert len(ops.sent) == 2
    assert courier.close(5)


def test_closing_finishes_what_is_in_flight_and_hands_back_the_rest() -> None:
    started = threading.Event()

    def act(notice: Notice) -> Outcome:
        started.set()
        time.sleep(0.1)
        return Sent(notice.id)

    ops = Scripted(act)
    courier = Courier(as_channels(ops=ops))
    for name in ("n1", "n2", "n3"):
        courier.submit(make_notice(id=name), Attempt())
    assert started.wait(5)
    assert courier.close(5)
    came = dict(courier.results())
    assert came.pop("n1") == Sent("n1")
    assert came.keys() == {"n2", "n3"}
    for outcome in came.values():
        for doubt in (False, True):
            fate = after(outcome, Attempt(ambiguous=doubt), 100.0, 0.5, 1e6)
            assert isinstance(fate, Pending)
            assert (fate.next_attempt_at, fate.ambiguous, fate.tried) == (100.0, doubt, False)
    assert [name for name, _ in ops.sent] == ["n1"]
    with pytest.raises(RuntimeError, match="closed"):
        courier.submit(make_notice(id="n1"), Attempt())
    assert courier.close(1)


def test_closing_gives_up_on_a_channel_that_hangs() -> None:
    gate, started = threading.Event(), threading.Event()

    def act(notice: Notice) -> Outcome:
        started.set()
        return Sent() if gate.wait(10) else Retry("x")

    courier = Courier(as_channels(ops=Scripted(act), calm=Scripted()))
    courier.submit(make_notice(id="n1"), Attempt())
    assert started.wait(5)
    start = time.monotonic()
    assert not courier.close(0.1)
    assert time.monotonic() - start < 2
    gate.set()
    assert courier.close(5)


def test_a_channel_that_cannot_be_closed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(Scripted):
        def close(self) -> None:
            raise OSError("stuck")

    courier = Courier(as_channels(ops=Stuck()))
    assert courier.close(5)
    assert "channel ops could not be closed" in caplog.text


def test_a_target_that_fails_is_left_alone_and_then_tried_with_one_notice(caplog: pytest.LogCaptureFixture) -> None:
    now, works = [0.0], [False]
    ops = Scripted(lambda notice: Sent() if works[0] else Retry("HTTP 503"))
    calm = Scripted()
    courier = Courier(as_channels(ops=ops, calm=calm), clock=lambda: now[0])

    def results(n: int) -> list[type]:
        for i in range(n):
            courier.submit(make_notice(id=f"n{i}", channel="ops"), Attempt())
        return [type(outcome) for _, outcome in drain(courier, n)]

    assert results(8) == [Retry] * 5 + [Held] * 3
    assert courier.failing == {"ops": True, "calm": False}
    courier.submit(make_notice(id="c", channel="calm"), Attempt())
    assert drain(courier, 1) == [("c", Sent())]
    now[0] = 30.0
    assert results(3) == [Retry, Held, Held]
    now[0], works[0] = 90.0, True
    assert results(3) == [Sent] * 3
    assert courier.failing == {"ops": False, "calm": False}
    assert len(ops.sent) == 9
    assert "failed 5 times in a row" in caplog.text
    assert "works again" in caplog.text
    assert courier.close(5)
