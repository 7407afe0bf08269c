"""Reports that are made by themselves: once each, one after the other, and never in anybody's way."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Any

import pytest

from monitor import reporter
from monitor.errands import N_WAITING
from monitor.errors import ReportFault
from monitor.reporter import Reporter


class Maker:
    """Stands in for the child process. gate: what it waits for; made: what it was asked to make."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gate = threading.Event()
        self.gate.set()
        self.made: list[str] = []

    def __call__(self, directory: Path, incident: str, **_: Any) -> Path:
        assert self.gate.wait(60)
        self.made.append(incident)
        if incident == "bad":
            raise ReportFault("no window of it is kept")
        file = self.folder / f"{incident}.html"
        file.write_text(f"{incident} of {directory.name}")
        return file


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    made = Maker(tmp_path)
    monkeypatch.setattr(reporter, "make", made)
    return made


def test_a_report_is_made_once_and_given_to_everybody_who_asked(maker: Maker, tmp_path: Path) -> None:
    works, got = Reporter(), queue.SimpleQueue[bytes]()
    works.work_in(tmp_path / "state")
    works.ask("one")
    works.ask("one", got.put)
    works.ask("bad", got.put)
    works.ask("one", got.put)
    works.ask("two", got.put)
    assert [got.get(timeout=60) for _ in range(3)] == [b"one of state", b"one of state", b"two of state"]
    assert maker.made == ["one", "bad", "two"]
    (tmp_path / "one.html").unlink()
    works.ask("one", got.put)
    assert got.get(timeout=60) == b"one of state"


def test_what_goes_wrong_is_said_and_the_next_report_is_made(
    maker: Maker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: bytes) -> None:
        raise RuntimeError("the receiver is broken")

    works, got = Reporter(), queue.SimpleQueue[bytes]()
    works.work_in(tmp_path)
    works.ask("bad", got.put)
    works.ask("one", broken)
    works.ask("two", got.put)
    assert got.get(timeout=60).startswith(b"two")
    assert [(record.event, record.incident) for record in caplog.records] == [
        ("report.not_made", "bad"),
        ("report.not_made", "one"),
    ]


def test_in_a_storm_some_are_left_and_nobody_waits(
    maker: Maker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    maker.gate.clear()
    works, got = Reporter(), queue.SimpleQueue[bytes]()
    works.work_in(tmp_path)
    for number in range(3 * N_WAITING):
        works.ask(f"i{number}", got.put)
    n_skipped = sum(record.event == "report.skipped" for record in caplog.records)
    assert n_skipped in {2 * N_WAITING, 2 * N_WAITING - 1}
    maker.gate.set()
    assert len({got.get(timeout=60) for _ in range(3 * N_WAITING - n_skipped)}) == 3 * N_WAITING - n_skipped


def test_nothing_is_made_where_that_is_not_wanted(maker: Maker, tmp_path: Path) -> None:
    works, n_threads = Reporter(), threading.active_count()
    works.ask("one")
    works.work_in(tmp_path)
    works.work_in(None)
    works.ask("one")
    assert (maker.made, threading.active_count()) == ([], n_threads)
