"""The way to Slack as a whole: a storm that keeps the pace, and kills that make nothing be said twice or not at all."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from monitor import errands
from monitor.alert import State
from monitor.batch import Records, Severity
from monitor.board import Board, Line
from monitor.channels import Attempt, Channel, Outcome, Retry, Sent, Tools
from monitor.channels.slack_layout import reply, text
from monitor.daemon import Daemon, Outside, Pace
from monitor.demo.standins import Answer, Received, status
from monitor.demo.standins.slack import SlackStandIn
from monitor.engine import Engine
from monitor.message import Notice, Purpose
from monitor.outbox import Courier, Held
from monitor.store import Store
from tests.bodies import make_alert, make_notice, make_retrain
from tests.monitor.delivery import child, deliver, is_empty, slack_of
from tests.monitor.stand_in import Silent
from tests.monitor.test_store import commit
from tests.waiting import until

TOKEN = "xoxb-canary-77"
N_KILLS = 50


class Clocked(SlackStandIn):
    """Remembers when messages came, and takes its time over each request."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(TOKEN)
        self.posted_at: list[float] = []
        self._seconds = seconds

    def _apply(self, request: Received) -> Answer:
        if request.path == "/api/chat.postMessage":
            self.posted_at.append(time.monotonic())
        time.sleep(self._seconds)
        return super()._apply(request)


def changes(incident: str, n: int) -> list[Notice]:
    """An incident that opens, changes, and ends."""
    found = []
    for i in range(n):
        change = "opened" if i == 0 else "resolved" if i == n - 1 else "updated"
        state = State.RESOLVED if change == "resolved" else State.FIRING
        body = make_alert(incident=incident, model=incident, change=change, state=state, summary=f"step {i}.")
        found.append(make_notice(body, id=f"{incident}/{i}", channel="ops"))
    return found


def test_a_storm_keeps_the_pace_loses_nothing_and_keeps_the_order(tmp_path: Path) -> None:
    """100 models drift at once: 20 are told one by one, the rest in one message; each incident's changes in order."""
    board, pace = Board(burst=20), 0.03
    names = [f"m{i:03d}" for i in range(100)]
    told = [name for name in names if board.admits("ops", Line(name, Severity.WARNING, f"{name} drifts"), 1_000_000)]
    digests = board.digests(1_000_000)
    assert (len(told), len(digests)) == (20, 1)
    notices = [notice for step in zip(*(changes(name, 4) for name in told), strict=True) for notice in step]
    store = Store(tmp_path / "state")
    with Clocked() as slack:
        store.apply(commit(1, notices + digests))
        slack.order(status(429, 0.2))
        deliver(store, {"ops": slack_of(slack.api_url, TOKEN, pace=pace)}, lambda: is_empty(store))
    store.close()
    assert len(slack.messages) == 21
    shown = {message.metadata["event_payload"]["incident"]: message for message in slack.messages.values()}
    for name in told:
        bodies = [notice.body for notice in changes(name, 4)]
        assert shown[name].text == text(bodies[-1])
        assert [said.text for said in shown[name].replies] == [reply(body) for body in bodies[1:]]
    overflow = shown[digests[0].incident].blocks[1]["text"]["text"]
    assert "+55 more" in overflow
    assert all(name in msgspec.json.encode(digests[0].body).decode() for name in set(names) - set(told))
    gaps = [later - before for before, later in zip(slack.posted_at, slack.posted_at[1:], strict=False)]
    assert min(gaps) > pace * 0.9


def test_fifty_kills_make_slack_hear_everything_once(tmp_path: Path) -> None:
    directory, rng, kills = tmp_path / "state", random.Random(5), 0
    store = Store(directory)
    incidents = ["a", "b", "c"]
    store.apply(commit(1, [notice for name in incidents for notice in changes(name, 45)]))
    store.close()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.monitor.delivery"])
    with Clocked(0.004) as slack:
        for _ in range(N_KILLS):
            process = context.Process(target=child, args=(directory, slack.api_url, TOKEN))
            process.start()
            before = len(slack.requests)
            while len(slack.requests) == before and process.is_alive():
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.03))
            process.kill()
            process.join()
            kills += process.exitcode == -9
            process.close()
            time.sleep(0.05)  # what was sent before the kill arrives
        store = Store(directory)
        deliver(store, {"ops": slack_of(slack.api_url, TOKEN)}, lambda: is_empty(store))
        store.close()
    assert kills >= N_KILLS * 0.9
    shown = {message.metadata["event_payload"]["incident"]: message for message in slack.messages.values()}
    assert len(slack.messages) == len(shown) == len(incidents)
    for name in incidents:
        bodies = [notice.body for notice in changes(name, 45)]
        assert shown[name].text == text(bodies[-1])
        assert [said.text for said in shown[name].replies] == [reply(body) for body in bodies[1:]]


def test_a_picture_follows_its_message_and_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(errands, "N_WAITING", 2)
    gate, drawing = threading.Event(), threading.Event()

    def drawn(notice: Notice) -> bytes:
        drawing.set()
        assert gate.wait(60)
        return notice.id.encode()

    names = ["a", "b", "c", "d"]
    with SlackStandIn(TOKEN) as slack:
        tools = Tools(picture=drawn, later=errands.Errands("pictures").put)
        courier = Courier({"ops": slack_of(slack.api_url, TOKEN, tools)})
        courier.submit(changes("a", 1)[0], Attempt())
        assert drawing.wait(60)
        for name in names[1:]:
            courier.submit(changes(name, 1)[0], Attempt())
        outcomes = dict(_all_results(courier, 4))
        assert all(isinstance(outcome, Sent) for outcome in outcomes.values())
        assert (len(slack.messages), len(slack.uploads)) == (4, 0)
        gate.set()
        until(lambda: sum(bool(upload.channel) for upload in slack.uploads.values()) == 3)
        courier.close(10)
        shown = {upload.content.decode(): f"{upload.channel}/{upload.thread}" for upload in slack.uploads.values()}
    wanted = {f"{name}/0": outcomes[f"{name}/0"] for name in names[:3]}
    assert {notice: Sent(place) for notice, place in shown.items()} == wanted
    assert list(shown) == list(wanted)
    assert [record.incident for record in caplog.records if record.event == "picture.skipped"] == ["d"]


def _all_results(courier: Courier, n: int) -> list[tuple[str, Outcome | Held]]:
    found: list[tuple[str, Outcome | Held]] = []

    def are_there() -> bool:
        found.extend(courier.results())
        return len(found) >= n

    until(are_there)
    return found


def test_what_is_too_old_after_a_long_absence_is_not_sent(tmp_path: Path) -> None:
    """driftd was down for days: a job that starts now would train on the wrong rows, an alert is still news."""
    now_ms, ops = int(time.time() * 1000), Gated()
    ops.gate.set()
    job = make_notice(make_retrain(), id="job", channel="ops", incident="x", purpose=Purpose.RETRAIN)
    directory = tmp_path / "state"
    store = Store(directory)
    store.apply(commit(1, [job, changes("a", 1)[0]], now_ms=now_ms - 5 * 24 * 3_600_000))
    daemon = Daemon(Engine([]), Nothing(), store, Courier({"ops": ops}), Outside(), Pace())
    daemon.run(lambda: not is_empty(store), lambda _: None)
    assert ops.names == ["a/0"]
    rows = store.database.rows("SELECT id, state, reason LIKE 'expired: not sent%' FROM outbox ORDER BY id")
    store.close()
    assert rows == [("a/0", "sent", 0), ("job", "dead", 1)]


class Nothing(Silent):
    """A source that holds no records."""

    def poll(self, timeout_seconds: float) -> Sequence[Records]:
        time.sleep(0.005)
        return []


class Gated(Channel):
    """Holds what it was given until it may go on."""

    def __init__(self) -> None:
        self.begun, self.gate = threading.Event(), threading.Event()
        self.names: list[str] = []

    def send(self, notice: Notice, attempt: Attempt) -> Outcome:
        self.begun.set()
        self.names.append(notice.id)
        return Sent("c/1") if self.gate.wait(30) else Retry("x")


@pytest.mark.parametrize("answers", [True, False])
def test_a_stop_leaves_doubt_only_about_what_was_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    """Four incidents wait behind one that is being sent; after the stop nothing says that they may repeat."""
    monkeypatch.setattr("monitor.daemon.DRAIN_SECONDS", 10.0 if answers else 0.1)
    store, ops = Store(tmp_path / "state"), Gated()
    store.apply(commit(1, [changes(name, 1)[0] for name in "abcde"], now_ms=int(time.time() * 1000)))
    daemon = Daemon(Engine([]), Nothing(), store, Courier({"ops": ops}), Outside(), Pace())

    def wanted() -> bool:
        if ops.begun.is_set() and answers:
            ops.gate.set()
        return not ops.begun.is_set()

    daemon.run(wanted, lambda _: None)
    ops.gate.set()
    waiting = {due.notice.incident: (due.attempts, due.doubtful) for due in store.due(int(time.time() * 1000) + 1)}
    store.close()
    expected = dict.fromkeys("bcde", (0, False))
    assert waiting == (expected if answers else {"a": (0, True)} | expected)
