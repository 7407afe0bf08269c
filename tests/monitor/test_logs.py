"""The log as machines and people read it: one object a line, typed, without secrets, and no flood of repeats."""

from __future__ import annotations

import base64
import json
import logging
import math
import os
import pty
import runpy
import subprocess
import sys
import tokenize
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor import logs
from monitor.secret import secrets

ROOT = Path(__file__).parents[2]
EVENTS = runpy.run_path(str(ROOT / "docs" / "events.py"))

log = logging.getLogger("tests.logs")


def record(message: str = "said", *arguments: object, level: int = logging.INFO, **extra: Any) -> logging.LogRecord:
    return log.makeRecord(log.name, level, __file__, 1, message, arguments, None, extra=extra)


def entry(found: logging.LogRecord) -> dict[str, Any]:
    line = logs.Objects(journal=False).format(found)
    assert len(line.splitlines()) == 1
    assert line.isascii()
    return json.loads(line)


# The calls


def test_every_call_names_its_event_and_uses_no_reserved_key():
    calls = EVENTS["calls"]()
    assert len(calls) > 20
    n_seen = 0
    for file in (ROOT / "monitor").rglob("*.py"):
        with tokenize.open(file) as text:
            words = [token.string for token in tokenize.generate_tokens(text.readline)]
        n_seen += sum(
            name in ("log", "_LOGGER") and (dot, bracket) == (".", "(") and level in EVENTS["LEVELS"]
            for name, dot, level, bracket in zip(words, words[1:], words[2:], words[3:], strict=False)
        )
    assert len(calls) == n_seen, "docs/events.py does not see every call"
    for call in calls:
        assert call.event, f"{call.place}: give the call extra={{'event': '<stable name>', ...}}"
        assert call.text, f"{call.place}: the message must be a literal"
        assert not call.fields & logs.RESERVED, f"{call.place}: {call.fields & logs.RESERVED} cannot be keys of its own"


def test_the_page_lists_every_event_as_it_is():
    page = (ROOT / "docs" / "operate.md").read_text()
    assert page == EVENTS["page"](), "run python docs/events.py"


# One line


def test_a_line_has_the_time_the_event_and_typed_keys():
    found = entry(
        record(
            "%d rows of %s", 3, "credit", event="rows.read", n_rows=3, share=0.5, none=None, at=Path("/x"), l=(1, "b")
        )
    )
    assert found.pop("time").endswith("Z")
    assert found == {
        "level": "info", "event": "rows.read", "logger": "tests.logs", "message": "3 rows of credit",
        "n_rows": 3, "share": 0.5, "none": None, "at": "/x", "l": [1, "b"],
    }  # fmt: skip
    assert entry(record("of a library"))["event"] == "library"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)


@given(st.text(), VALUES)
def test_whatever_is_said_is_one_line_of_json(message: str, value: Any):
    found = entry(record("%s", message, event="any", value=value))
    assert found["message"] == message[: logs.LONGEST]
    if isinstance(value, float):
        assert found["value"] == value or (found["value"] is None and not math.isfinite(value))


def test_a_traceback_stands_in_the_line_and_its_end_is_kept():
    try:
        raise ValueError("x" * 20_000 + "the end")
    except ValueError:
        found = log.makeRecord(log.name, logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    trace = entry(found)["exception"]
    assert trace.endswith("the end")
    assert len(trace) == logs.LONGEST


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2)],
)
def test_the_journal_gets_a_priority(level: int, priority: int):
    line = logs.Objects(journal=True).format(record(level=level))
    assert line.startswith(f"<{priority}>{{")
    assert json.loads(line[3:])["level"] == logging.getLevelName(level).lower()


def test_a_terminal_gets_lines_that_cannot_steer_it():
    line = logs.Lines().format(record("topic \x1b[2J\r\x07 is\nmissing", level=logging.WARNING))
    assert line.split(" ", 1)[1] == "WARNING  topic \\x1b[2J\\r\\x07 is\n  missing"


# Where it goes


def first_words(output: int, environment: dict[str, str]) -> None:
    program = (
        "import logging; from monitor import logs; logs.to_stderr();"
        "logging.getLogger('x').error('words', extra={'event': 'tried'})"
    )
    subprocess.run([sys.executable, "-c", program], stderr=output, env=os.environ | environment, check=True, cwd=ROOT)


def test_a_file_gets_objects_the_journal_priorities_and_a_terminal_lines(tmp_path: Path):
    with (tmp_path / "log").open("wb") as file:
        stream = os.fstat(file.fileno())
        first_words(file.fileno(), {"JOURNAL_STREAM": "1:2"})
        first_words(file.fileno(), {"JOURNAL_STREAM": f"{stream.st_dev}:{stream.st_ino}"})
    other, journal = (tmp_path / "log").read_text().splitlines()
    assert json.loads(other)["event"] == "tried"
    assert journal.startswith("<3>{")
    ours, theirs = pty.openpty()
    first_words(theirs, {})
    assert os.read(ours, 1000).decode().strip().endswith("ERROR    words")
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize(
    ("fault", "event", "words"),
    [
        ("raise RuntimeError('unforeseen')", "service.crashed", "RuntimeError: unforeseen"),
        (
            "t = threading.Thread(target=lambda: 1 / 0, name='worker'); t.start(); t.join()",
            "thread.crashed",
            "division",
        ),
        ("warnings.warn('old way')", "library", "old way"),
    ],
)
def test_faults_nobody_caught_are_lines_too(fault: str, event: str, words: str):
    program = f"import threading, warnings; from monitor import logs; logs.to_stderr(); {fault}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    (line,) = done.stderr.splitlines()
    found = json.loads(line)
    assert found["event"] == event
    assert words in found.get("exception", found["message"])


def test_a_process_that_is_aborted_says_where_it_stood():
    program = "import os; from monitor import logs; logs.to_stderr()\ndef hung(): os.abort()\nhung()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == -6
    assert "in hung" in done.stderr


# Repeats


def test_an_event_and_key_come_once_per_interval_with_the_number_of_those_left_out():
    now = [0.0]
    repeats = logs.Repeats(60, lambda: now[0])
    passed = []
    for second in range(0, 200, 10):
        now[0] = second
        found = record("try %d", second, event="loop.paused", key="StoreFull")
        if repeats.filter(found):
            passed.append((second, getattr(found, "suppressed", 0)))
    assert passed == [(0, 0), (60, 5), (120, 5), (180, 5)]
    assert repeats.filter(record(event="loop.paused", key="SourceError"))
    assert all(repeats.filter(record(event="service.running")) for _ in range(3)), "what has no key is always said"


def test_libraries_repeat_by_their_message_and_memory_is_bounded():
    repeats = logs.Repeats(60, lambda: 0.0)
    assert [repeats.filter(record("retry %d", i)) for i in range(3)] == [True, False, False]
    assert repeats.filter(record("retry %d", 3, level=logging.ERROR)), "another level is another matter"
    for i in range(2 * logs.REPEATS):
        repeats.filter(record(event="e", key=i))
    assert len(repeats._seen) == logs.REPEATS


def test_the_number_left_out_is_in_the_line():
    assert entry(record(event="e", suppressed=4))["suppressed"] == 4
    assert (
        logs.Lines().format(record("said", event="e", suppressed=4)).endswith("said (and 4 like it since the last one)")
    )


# Secrets

CANARY = 'canary/5f"1e=äß'


@pytest.fixture
def canary(tmp_path: Path) -> str:
    (tmp_path / "token").write_text(CANARY)
    (tmp_path / "two").write_text("whsec_older\nwhsec_newer\n")
    assert secrets({"token_file": "token", "secret_file": "two"}, tmp_path, "channel[0]")["token"] == CANARY
    return CANARY


@pytest.mark.parametrize(
    "written",
    [CANARY, quote(CANARY, safe=""), json.dumps(CANARY), repr(CANARY), base64.b64encode(CANARY.encode()).decode()],
)
def test_no_form_of_a_secret_that_was_read_is_written(canary: str, written: str):
    try:
        raise ValueError(f"refused {written}")
    except ValueError:
        trace = sys.exc_info()
    found = log.makeRecord(
        f"logger.{written}",
        logging.ERROR,
        __file__,
        1,
        "said %s",
        (written,),
        trace,
        extra={"event": "e", "x": [written]},
    )
    for formatter in (logs.Objects(journal=True), logs.Lines()):
        line = formatter.format(found)
        assert line.count(logs.HIDDEN) >= 2
        for form in (written, json.dumps(written)[1:-1], CANARY, "canary"):
            assert form not in line


def test_each_of_several_secrets_in_a_file_is_hidden(canary: str):
    assert logs.scrub("signed with whsec_newer, not whsec_older") == f"signed with {logs.HIDDEN}, not {logs.HIDDEN}"
