"""The service in a process of its own that comes to harm at a named point.

Run as `python child.py PLAN COMMAND...`; the plan is JSON, see `Plan`. The product knows nothing of this: functions are
wrapped from outside before the command starts. Before anything happens it is written to the plan's file of hits, so
that a test can tell a fault that happened from one that did not.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Harm:
    """What happens: at the call number `nth` of `point`, and at every later one if `always`.

    point: "module:function" or "module:Class.method". when: before the call, or after one that gave something. deed:
    kill, stop, sleep or raise (an OSError). seconds: of sleep.
    """

    point: str
    when: str = "after"
    nth: int = 1
    deed: str = "kill"
    seconds: float = 0.0
    always: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """hits: file to which everything that happened is written. clock: file with the seconds by which the wall clock is
    wrong, read at every look at it. recheck_seconds: how often new partitions are looked for."""

    hits: str
    harms: tuple[Harm, ...] = ()
    clock: str = ""
    recheck_seconds: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        given = json.loads(text)
        return cls(**{**given, "harms": tuple(Harm(**harm) for harm in given["harms"])})


def main() -> None:
    """Wrap what the plan names, then run the command."""
    plan, command = Plan.from_json(sys.argv[1]), sys.argv[2:]
    hits = os.open(plan.hits, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for harm in plan.harms:
        _wrap(harm, hits)
    if plan.clock:
        _mislead(Path(plan.clock))
    kafka = importlib.import_module("monitor.sources.kafka")
    pace = kafka.Pace(recheck_seconds=plan.recheck_seconds, connect_seconds=2.0, stall_seconds=10.0)
    kafka.KafkaSource.__init__.__kwdefaults__["pace"] = pace
    cli = importlib.import_module("monitor.cli")
    sys.argv = ["driftd", *command]
    cli.main()


def _wrap(harm: Harm, hits: int) -> None:
    module, _, path = harm.point.partition(":")
    *outer, name = path.split(".")
    owner: Any = functools.reduce(getattr, outer, importlib.import_module(module))
    inner = getattr(owner, name)
    lock, calls = threading.Lock(), [0]

    def come_to_harm() -> None:
        with lock:
            calls[0] += 1
            mine = calls[0] == harm.nth or (harm.always and calls[0] > harm.nth)
        if mine:
            os.write(hits, f"{harm.point} {harm.deed}\n".encode())
            _deeds(harm)[harm.deed]()

    @functools.wraps(inner)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if harm.when == "before":
            come_to_harm()
        result = inner(*args, **kwargs)
        if harm.when == "after" and result not in ([], ()):  # a look at which nothing came does not count
            come_to_harm()
        return result

    setattr(owner, name, wrapped)


def _deeds(harm: Harm) -> dict[str, Callable[[], None]]:
    def fail() -> None:
        raise OSError(5, "Input/output error")

    return {
        "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
        "sleep": lambda: time.sleep(harm.seconds),
        "raise": fail,
    }


def _mislead(file: Path) -> None:
    right = time.time

    def wrong() -> float:
        return right() + float(file.read_text() or 0)

    time.time = wrong


if __name__ == "__main__":
    main()
