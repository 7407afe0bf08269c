"""The whole line on one machine, on a real prediction log: a broker, a producer, stand-ins, and driftd itself.

The daemon is a process of its own, `driftd run` on a configuration like any other; the demo only plays the world around
it and watches its database, as `driftd status` does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from monitor.account import Status
from monitor.demo.screen import Screen
from monitor.demo.world import Producer, World
from monitor.errors import DriftdError
from monitor.history import History

DEADLINE_SECONDS: Final = 240.0
LOOK_SECONDS: Final = 0.25


class DemoFault(DriftdError):
    """The demo did not come to its end."""


class Summary(msgspec.Struct, frozen=True):
    """What the demo did. verdicts: how many of each; peak_rss_mb: of the daemon's process."""

    windows: int
    rows: int
    verdicts: dict[str, int]
    incidents: tuple[str, ...]
    columns: tuple[str, ...]
    deliveries: dict[str, int]
    retraining_runs: int
    peak_rss_mb: float
    config: str
    state: str


@dataclass(frozen=True, slots=True)
class Options:
    """seconds: how long the log takes to be produced. keep: go on until interrupted."""

    seconds: float = 40.0
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Watch:
    """How the demo is watched."""

    options: Options
    screen: Screen


def run(options: Options, screen: Screen) -> Summary:
    """Play the demo. DemoFault says what went wrong and where the daemon's log is."""
    home = Path(tempfile.mkdtemp(prefix="driftd-demo-"))
    with ExitStack() as stack:
        world = stack.enter_context(World(home))
        screen.say(f"sealing the reference: {world.seal()}")
        daemon = _start(world, stack)
        producer = stack.enter_context(Producer(world, options.seconds, forever=options.keep))
        history = _opened(world, daemon, screen)
        screen.say(f"configuration: {world.config_file}")
        screen.say(f"its page: http://127.0.0.1:{world.port}/  (to change things, log in with {world.token})")
        summary = _watch(world, daemon, producer, history, Watch(options, screen))
        _stop(daemon)
    return summary


def _start(world: World, stack: ExitStack) -> subprocess.Popen[bytes]:
    log = stack.enter_context(world.log_file.open("wb"))
    command = [sys.executable, "-m", "monitor", "run", "--config", str(world.config_file)]
    daemon = subprocess.Popen(command, stderr=log, stdout=log, env=os.environ | world.secrets, start_new_session=True)  # noqa: S603  # ourselves
    stack.callback(_stop, daemon)
    return daemon


def _opened(world: World, daemon: subprocess.Popen[bytes], screen: Screen) -> History:
    screen.say("starting driftd run")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        _alive(world, daemon)
        try:
            return History(world.state)
        except DriftdError:
            time.sleep(LOOK_SECONDS)
    raise DemoFault(f"the daemon did not start within 30 s; its log is {world.log_file}")


def _watch(
    world: World, daemon: subprocess.Popen[bytes], producer: Producer, history: History, watch: Watch
) -> Summary:
    deadline = time.monotonic() + watch.options.seconds + DEADLINE_SECONDS
    status = history.status()
    with watch.screen.live(), suppress(KeyboardInterrupt) if watch.options.keep else nullcontext():
        while not _done(world, producer, status):
            _alive(world, daemon)
            if time.monotonic() > deadline and not watch.options.keep:
                raise DemoFault(f"the demo did not come to its end in time; the daemon's log is {world.log_file}")
            time.sleep(LOOK_SECONDS)
            status = history.status()
            watch.screen.show(producer.n_sent, producer.n_rows, status, history.windows(world.model))
            watch.screen.messages(list(world.slack.messages.values()), world.ci.bodies)
    return _summary(world, daemon, history, status)


def _done(world: World, producer: Producer, status: Status) -> bool:
    """Whether everything produced is counted, the drift is told, and nothing waits to be delivered."""
    read = sum(model.counts.rows for model in status.models)
    told = bool(world.slack.messages) and bool(world.ci.runs)
    return producer.is_done and read >= producer.n_rows and told and not status.outbox.get("pending")


def _alive(world: World, daemon: subprocess.Popen[bytes]) -> None:
    if daemon.poll() is not None:
        tail = world.log_file.read_text(errors="replace")[-2000:]
        raise DemoFault(f"the daemon ended with {daemon.returncode}:\n{tail}")


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    if daemon.poll() is None:
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(15)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _summary(world: World, daemon: subprocess.Popen[bytes], history: History, status: Status) -> Summary:
    windows = history.windows(world.model)
    verdicts: dict[str, int] = {}
    for window in windows:
        for outcome, n in window.outcomes.items():
            verdicts[outcome] = verdicts.get(outcome, 0) + n
    incidents = history.incidents(everything=True)
    return Summary(
        windows=len(windows), rows=sum(model.counts.rows for model in status.models), verdicts=verdicts,
        incidents=tuple(incident.id for incident in incidents),
        columns=tuple(sorted({column for incident in incidents for column in incident.columns})),
        deliveries=status.outbox, retraining_runs=len(world.ci.runs), peak_rss_mb=_peak_rss_mb(daemon.pid),
        config=str(world.config_file), state=str(world.state),
    )  # fmt: skip


def _peak_rss_mb(pid: int) -> float:
    """The largest memory a process ever held, in MB; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)
