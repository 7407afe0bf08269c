"""Work in a process of its own: what comes back, what its limits stop, and that nothing is left of it."""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path

import pytest

from monitor import child
from monitor.child import Limits, run
from monitor.errors import ChildFault


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
