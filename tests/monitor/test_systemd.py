"""What is told to systemd, as datagrams on a real socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor import systemd
from monitor.systemd import Notifier


class Manager:
    """The other end of $NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self) -> list[dict[str, str]]:
        found = []
        while True:
            try:
                found.append(dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines()))
            except BlockingIOError:
                return found


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    yield made
    made.socket.close()


def test_a_life(manager: Manager):
    notifier = Notifier()
    notifier.more_time(2.5, "opening the state")
    notifier.ready("3 models")
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    notifier.unchanged("the last reload failed")
    notifier.progress("3 models")
    notifier.stopping()
    opening, ready, reloading, unchanged, progress, stopping = manager.heard()
    assert opening == {"EXTEND_TIMEOUT_USEC": "2500000", "WATCHDOG": "1", "STATUS": "opening the state"}
    assert ready == {"READY": "1", "STATUS": "3 models"}
    assert before <= int(reloading.pop("MONOTONIC_USEC")) <= time.monotonic_ns() // 1000
    assert reloading == {"RELOADING": "1"}
    assert unchanged == {"READY": "1"}
    assert progress == {"STATUS": "3 models; the last reload failed"}
    assert stopping == {"STOPPING": "1", "STATUS": "draining"}


def test_a_reload_that_works_takes_the_note_away(manager: Manager):
    notifier = Notifier()
    notifier.unchanged("the last reload failed")
    notifier.ready("4 models")
    manager.heard()
    notifier.progress("4 models")
    assert manager.heard() == []


def test_the_watchdog_is_fed_twice_per_interval_and_a_status_told_once_a_second(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    notifier = Notifier()
    now, heard = [1000.0], []
    monkeypatch.setattr(systemd.time, "monotonic", lambda: now[0])
    for step in range(200):
        now[0] = 1000.0 + step * 0.1
        notifier.progress(f"{step} records")
        heard += manager.heard()
    assert sum("WATCHDOG" in lines for lines in heard) == 4
    assert sum("STATUS" in lines for lines in heard) == 20
    assert "WATCHDOG_USEC" not in os.environ, "children must not feed it"


def test_a_watchdog_of_another_process_is_not_fed(manager: Manager, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WATCHDOG_USEC", "1000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    Notifier().progress("")
    assert manager.heard() == []


def test_no_name_can_say_more_than_a_status(manager: Manager):
    Notifier().ready("a\nSTOPPING=1\nb")
    assert manager.heard() == [{"READY": "1", "STATUS": "a STOPPING=1 b"}]


def test_an_abstract_socket(monkeypatch: pytest.MonkeyPatch):
    name = f"driftd-test-{os.getpid()}"
    manager = Manager(f"\0{name}")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    Notifier().ready("up")
    assert manager.heard() == [{"READY": "1", "STATUS": "up"}]
    manager.socket.close()


def test_a_manager_that_does_not_listen_is_not_waited_for_for_ever(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(systemd, "SEND_SECONDS", 0.05)
    notifier = Notifier()
    while not caplog.records:
        notifier.ready("up")
    assert [record.event for record in caplog.records] == ["systemd.unreachable"]


def test_nobody_to_tell_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready("up")
    assert caplog.records == []
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    Notifier().ready("up")
    assert [record.event for record in caplog.records] == ["systemd.unreachable"]
