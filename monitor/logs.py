"""The daemon's log on stderr: one JSON object a line, after a priority for the journal; plain lines on a terminal.

A call names its event and whatever a machine may want to read with its own type:

    log.warning("topic %s does not exist", topic, extra={"event": "kafka.topic_missing", "topic": topic})

Events never change their names. A call that may repeat by itself says by `key` what repeats: the same event and key
come at most once a minute. Libraries name no event; theirs is "library", and what repeats is their message.
"""

from __future__ import annotations

import base64
import faulthandler
import json
import logging
import math
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, TextIO
from urllib.parse import quote, quote_plus

from monitor import secret

log = logging.getLogger(__name__)

REPEAT_SECONDS: Final = 60.0
REPEATS: Final = 1_000
"""How many events and keys are remembered; beyond that the oldest is forgotten, and may come again."""
LONGEST: Final = 8_000
"""Characters of a message and of a traceback; the journal would cut a line of 48 KiB in two."""
SHORTEST_SECRET: Final = 4
HIDDEN: Final = "<secret>"
RESERVED: Final = frozenset(
    {"time", "level", "logger", "message", "asctime", "suppressed", "exception", *vars(logging.makeLogRecord({}))}
)
"""Names that no call may use in `extra`."""
OWN: Final = RESERVED | {"event", "key"}

_PRIORITIES: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def to_stderr(stream: TextIO = sys.stderr, environment: Mapping[str, str] = os.environ) -> None:
    """Log there from now on, and the last words of a process that crashes, hangs or is at its end too."""
    handler = logging.StreamHandler(stream)
    handler.addFilter(Repeats())
    handler.setFormatter(Lines() if stream.isatty() else Objects(journal=_is_journal(stream, environment)))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("apscheduler").setLevel(logging.WARNING)  # else every job that is added is a line
    logging.captureWarnings(capture=True)
    sys.excepthook = _crashed
    threading.excepthook = _thread_crashed
    # The watchdog ends a process that hangs by SIGABRT: where each thread stood is then in the journal.
    faulthandler.enable(stream)


class Repeats(logging.Filter):
    """Lets an event pass once per interval and key, with the number of those that were held back before it."""

    def __init__(self, seconds: float = REPEAT_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, ...], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written; says how many like it were not."""
        key = _what_repeats(record)
        if key is None:
            return True
        with self._lock:
            now = self._clock()
            said_at, n_held = self._seen.get(key, (-math.inf, 0))
            if now - said_at < self._seconds:
                self._seen[key] = said_at, n_held + 1
                return False
            self._seen.pop(key, None)
            if len(self._seen) >= REPEATS:
                del self._seen[next(iter(self._seen))]
            self._seen[key] = now, 0
        if n_held:
            record.suppressed = n_held
        return True


class Objects(logging.Formatter):
    """One JSON object per record, in ASCII, so that nothing in a name can end the line."""

    def __init__(self, *, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry = {
            "time": when.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "library"),
            "logger": record.name,
            "message": scrub(record.getMessage())[:LONGEST],
            **{name: value for name, value in vars(record).items() if name not in OWN},
        }
        if n_held := getattr(record, "suppressed", 0):
            entry["suppressed"] = n_held
        if trace := _traceback(record):
            entry["exception"] = trace
        text = json.dumps(_typed(entry))
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{text}" if self._journal else text


class Lines(logging.Formatter):
    """For people; what follows the first line is indented, and nothing steers the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        text = scrub(record.getMessage())[:LONGEST]
        if n_held := getattr(record, "suppressed", 0):
            text += f" (and {n_held} like it since the last one)"
        if trace := _traceback(record):
            text += f"\n{trace}"
        shown = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
        return f"{self.formatTime(record, '%H:%M:%S')} {record.levelname:<8} {shown}".replace("\n", "\n  ")


def scrub(text: str) -> str:
    """The text without any secret that was ever read, in whatever way it is usually written."""
    known = secret.known()
    return _pattern(known).sub(HIDDEN, text) if known else text


@lru_cache(maxsize=1)
def _pattern(known: frozenset[str]) -> re.Pattern[str]:
    # The longest first: a secret may begin another.
    forms = sorted({form for value in known for form in _forms(value)}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, forms)) or r"(?!)")


def _forms(value: str) -> set[str]:
    """A secret, or each of several in one file: as it is, within JSON, in a URL, in base64."""
    whole = {part for part in (value, *value.split()) if len(part) >= SHORTEST_SECRET}
    forms = {form for part in whole for form in (part, repr(part)[1:-1], json.dumps(part)[1:-1])}
    forms |= {form for part in whole for form in (quote(part, safe=""), quote_plus(part))}
    return forms | {base64.b64encode(part.encode()).decode() for part in whole}


def _what_repeats(record: logging.LogRecord) -> tuple[str, ...] | None:
    if not hasattr(record, "event"):
        return record.name, record.levelname, str(record.msg)
    return (record.event, str(record.key)) if hasattr(record, "key") else None


def _traceback(record: logging.LogRecord) -> str:
    """The end of the traceback, which says most; "" when there is none."""
    if record.exc_info is None or record.exc_info[0] is None:
        return ""
    return scrub("".join(traceback.format_exception(*record.exc_info))).rstrip()[-LONGEST:]


def _typed(value: Any) -> Any:
    """What JSON can say of a value, without secrets; a name for what it has no type for."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {scrub(str(key)): _typed(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_typed(inner) for inner in value]
    return scrub(str(value))


def _is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether the stream is the one that systemd connected to the journal, as $JOURNAL_STREAM names it."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    told = {"event": "service.crashed"}
    log.critical("driftd ends by a fault of its own: %s", error, exc_info=(kind, error, trace), extra=told)


def _thread_crashed(found: threading.ExceptHookArgs) -> None:
    error = found.exc_value or found.exc_type()
    name = found.thread.name if found.thread else "unknown"
    told = {"event": "thread.crashed", "thread_name": name}
    log.error("the thread %s ended by a fault: %s", name, error, exc_info=error, extra=told)
