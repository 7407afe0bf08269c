"""Housekeeping runs late rather than not at all, once for all that was missed, and never in each other's way."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from monitor import schedule
from monitor.schedule import Housekeeping, Job, _first_run

NOON_MS = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp() * 1000)
HOUR = 3_600_000


@contextmanager
def running(jobs: list[Job], ran: list[tuple[str, str]], last_ms: dict[str, int] | None = None) -> Iterator[None]:
    def note(name: str, outcome: str, _at_ms: int) -> None:
        ran.append((name, outcome))

    keeper = Housekeeping(jobs, last_ms or {}, note, int(time.time() * 1000))
    keeper.start()
    try:
        yield
    finally:
        keeper.stop()


def until(ran: list[tuple[str, str]], wanted: tuple[str, str]) -> None:
    deadline = time.monotonic() + 10
    while wanted not in ran:
        assert time.monotonic() < deadline, ran
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(schedule, "SOON_SECONDS", 0.05)


def test_a_job_runs_again_and_again_and_says_so():
    ran: list[tuple[str, str]] = []
    calls: list[int] = []
    with running([Job("often", lambda: calls.append(1), every_ms=50)], ran):
        until(ran, ("often", "ok"))
        time.sleep(0.3)
    assert len(calls) >= 3


def test_a_job_that_fails_or_hangs_is_told_and_holds_up_no_other(caplog: pytest.LogCaptureFixture):
    ran: list[tuple[str, str]] = []
    hang = threading.Event()
    jobs = [
        Job("fails", lambda: 1 / 0, every_ms=60),
        Job("hangs", hang.wait, every_ms=60),
        Job("works", lambda: None, every_ms=60),
    ]
    with running(jobs, ran):
        until(ran, ("fails", "failed"))
        until(ran, ("works", "ok"))
        until(ran, ("hangs", "still_running"))
        began = time.monotonic()
    assert time.monotonic() - began < 2
    hang.set()
    assert "division by zero" in caplog.text


def test_a_job_that_hangs_does_not_end_its_schedule():
    ran: list[tuple[str, str]] = []
    hang, begun = threading.Event(), []

    def work() -> None:
        begun.append(time.monotonic())
        hang.wait(10)

    with running([Job("hangs", work, every_ms=50, deadline_seconds=0.3)], ran):
        until(ran, ("hangs", "still_running"))
        deadline = time.monotonic() + 10
        while len(begun) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        hang.set()
        until(ran, ("hangs", "ok"))
    assert all(later - before > 0.25 for before, later in pairwise(begun[:3]))


def test_a_job_that_hangs_does_not_hold_up_the_end_of_the_process():
    program = """
import time
from monitor import schedule
schedule.SOON_SECONDS = 0
began = []
job = schedule.Job("hangs", lambda: (began.append(1), time.sleep(60)), every_ms=1000)
keeper = schedule.Housekeeping([job], {}, print, int(time.time() * 1000))
keeper.start()
while not began:
    time.sleep(0.01)
keeper.stop()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)


@pytest.mark.parametrize(
    ("job", "last_ms", "wanted_ms"),
    [
        (Job("j", print, every_ms=HOUR), 0, NOON_MS + 50),
        (Job("j", print, every_ms=HOUR), NOON_MS - HOUR // 2, NOON_MS + HOUR // 2),
        (Job("j", print, every_ms=HOUR), NOON_MS - 5 * HOUR, NOON_MS + 50),
        (Job("j", print, daily="13:00"), NOON_MS - 23 * HOUR, NOON_MS + HOUR),
        (Job("j", print, daily="11:00"), NOON_MS - HOUR, NOON_MS + 23 * HOUR),
        (Job("j", print, daily="11:00"), NOON_MS - 25 * HOUR, NOON_MS + 50),
        (Job("j", print, daily="11:00"), 0, NOON_MS + 23 * HOUR),
    ],
)
def test_what_fell_due_while_nobody_was_there_runs_soon(job: Job, last_ms: int, wanted_ms: int):
    assert _first_run(job, last_ms, NOON_MS).timestamp() * 1000 == pytest.approx(wanted_ms)
