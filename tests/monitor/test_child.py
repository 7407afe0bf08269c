"""Work in a process of its own: what comes back, what its limits stop, and that nothing is left of it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from monitor import child
from monitor.child import Limits, run
from monitor.errors import ChildFault

PYTHON = sys.executable


def n_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


AMPLE = Limits(seconds=20, n_bytes=2**30)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that stands for a module `work`, in the only folder where a child may leave something."""
    stand_in = tmp_path / "python"
    stand_in.write_text(f'#!/bin/sh\nshift\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    stand_in.chmod(0o755)
    monkeypatch.setattr(child.sys, "executable", str(stand_in))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "work.py"


def test_what_was_made_comes_back_whole_and_nothing_that_was_printed(work: Path):
    work.write_text("def in_child(given):\n    print('loading')\n    return given[::-1] * 1000\n")
    given = bytes(range(256)) * 4096
    assert run("work", given, AMPLE) == given[::-1] * 1000
    assert list((work.parent / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("limits", "code", "why"),
    [
        (Limits(1, 2**30), "while True: pass", r"could not be made within 1 s|took more than 2 s"),
        (Limits(1, 2**30), "import time; time.sleep(60)", "took more than 2 s"),
        (Limits(20, 2**29), "return bytes(2**29)", "MemoryError"),
        (Limits(20, 2**29), "import tempfile as t; f = t.TemporaryFile(); f.truncate(2**29 + 1)", "File too large"),
        (AMPLE, "raise OSError('no such thing')", "no such thing"),
        (AMPLE, "import os; os._exit(3)", "ended with 3"),
    ],
    ids=["work", "time", "memory", "files", "error", "silence"],
)
def test_what_goes_beyond_its_limits_or_fails_is_told_and_leaves_nothing(
    work: Path, limits: Limits, code: str, why: str
):
    work.write_text(f"def in_child(given):\n    {code}\n")
    threads, files = threading.active_count(), n_files()
    with pytest.raises(ChildFault, match=why):
        run("work", b"", limits)
    assert list((work.parent / "tmp").iterdir()) == []
    assert (threading.active_count(), n_files()) == (threads, files)


def test_where_no_process_can_be_started_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(child.sys, "executable", str(tmp_path / "none"))
    with pytest.raises(ChildFault, match="no process could be started"):
        run("work", b"", AMPLE)


def until_there(file: Path) -> int:
    """The number that is in a file, once it is there."""
    give_up_at = time.monotonic() + 60
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
    return int(file.read_text())


def is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


SLEEPER = """
import os, time, pathlib
def in_child(given):
    pathlib.Path(given.decode()).write_text(str(os.getpid()))
    time.sleep(600)
"""


def test_what_is_at_work_at_the_end_is_ended_and_whoever_waits_is_told(work: Path):
    work.write_text(SLEEPER)
    told: list[str] = []

    def wait_for_it() -> None:
        with pytest.raises(ChildFault) as fault:
            run("work", bytes(work.parent / "pid"), Limits(300, 2**30))
        told.append(str(fault.value))

    waiting = threading.Thread(target=wait_for_it)
    waiting.start()
    pid = until_there(work.parent / "pid")
    child.end_all()
    assert not is_alive(pid)
    waiting.join(30)
    assert "ended with -9" in told[0]
    child.end_all()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_nothing_outlives_a_service_that_was_killed(work: Path):
    work.write_text(SLEEPER)
    code = f"from monitor.child import *; run('work', {bytes(work.parent / 'pid')!r}, Limits(300, 2**30))"
    environment = os.environ | {"PYTHONPATH": str(Path(child.__file__).parents[1])}
    stand_in = f"import sys; sys.executable = {child.sys.executable!r}; {code}"
    service = subprocess.Popen([PYTHON, "-c", stand_in], env=environment)
    pid = until_there(work.parent / "pid")
    assert is_alive(pid)
    service.kill()
    service.wait()
    give_up_at = time.monotonic() + 30
    while is_alive(pid):
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
