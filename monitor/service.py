"""The running service: one configuration after another at work, until a stop is wanted; it may have to take turns."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from monitor import child
from monitor.assembly import Prepared, assemble, estate, letterbox, prepare
from monitor.chores import housekeeping
from monitor.config import Config
from monitor.configfile import without_effect
from monitor.daemon import Outside
from monitor.database import Turn, identity
from monitor.errors import ConfigError, DriftdError, Problem, StoreDamaged, StoreFenced, StoreLocked
from monitor.order import Answer
from monitor.page import Page
from monitor.sources.group import Member
from monitor.store import Store
from monitor.systemd import Notifier
from monitor.tune import settle

log = logging.getLogger(__name__)

STEP_SECONDS: Final = 300.0
"""How long one step of the start may take; large states are read and checked as a whole."""
STAND_BY_SECONDS: Final = 0.2
FENCED_SECONDS: Final = 2.0
"""How long a member that was refused keeps off the state; the group will tell it why."""


class Control:
    """Stop and reload, by signals. A new configuration that is wrong is told and changes nothing."""

    def __init__(self, read: Callable[[], Prepared], notifier: Notifier, outside: Outside) -> None:
        self._read = read
        self._notifier = notifier
        self._outside = outside
        self._stop, self._reload = threading.Event(), threading.Event()
        self.page = Page(outside, self._reload.set)
        self.prepared = read()
        self.page.listen(self.prepared.config)

    def install(self) -> None:
        """SIGTERM and SIGINT stop, SIGHUP reloads."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        signal.signal(signal.SIGHUP, lambda *_: self._reload.set())

    def show(self) -> None:
        """Let the page answer by the configuration in force."""
        now = self.prepared
        self.page.show(now.config, now.folder, now.directory, now.door)

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def wanted(self) -> bool:
        """Whether the present daemon is to go on; False once there is a new configuration or none is wanted."""
        if self.stopping:
            self._notifier.stopping()
            return False
        if not self._reload.is_set():
            return True
        self._reload.clear()
        self._notifier.reloading()
        try:
            fresh = self._read()
            if fresh.directory != self.prepared.directory:
                raise ConfigError(str(fresh.folder), [Problem("state.directory", "cannot change while driftd runs")])
            if (Membership.of(fresh) is None) != (Membership.of(self.prepared) is None):
                raise ConfigError(str(fresh.folder), [Problem("kafka.mode", "cannot change while driftd runs")])
            self.page.listen(fresh.config)
        except DriftdError as fault:
            text = "the configuration was not reloaded, the old one stays in force: %s"
            log.error(text, fault, extra={"event": "reload.failed"})
            self._outside.metrics.refused()
            self._outside.health.configuration(str(fault))
            self._notifier.unchanged("the last reload failed, the old configuration is in force")
            return True
        self.prepared = fresh
        self._outside.health.configuration()
        return False


def serve(file: Path, read: Callable[[Path], Config]) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reads the configuration again."""
    settle()
    notifier, outside = Notifier(), Outside()
    notifier.more_time(STEP_SECONDS, "opening the references")
    control = Control(lambda: prepare(file, read(file)), notifier, outside)
    control.install()
    try:
        while not control.stopping:
            membership = Membership.of(control.prepared)
            if membership is None:
                _go_on(control, Shift(control), outside, notifier)
            else:
                _take_turns(control, membership, outside, notifier)
        log.info("driftd has stopped", extra={"event": "service.stopped"})
    finally:
        control.page.close()


@dataclass(frozen=True)
class Membership:
    """What a place in the group of daemons that take turns on one state depends on."""

    group: str
    instance: str
    topics: Sequence[str]
    options: Mapping[str, object]

    @classmethod
    def of(cls, prepared: Prepared) -> Membership | None:
        """None for a daemon that has its state to itself."""
        kafka = prepared.config.kafka
        if kafka is None or kafka.mode != "group":
            return None
        topics = sorted({topic for model in prepared.config.model for topic in model.all_topics})
        return cls(kafka.group, kafka.instance, topics, prepared.kafka)

    def begin(self, directory: Path, rebalanced: Callable[[], None]) -> Member:
        """Join the group. rebalanced: see `Member`."""
        return Member(self.topics, self.options, self.group, identity(directory), self.instance, rebalanced)


class Shift:
    """A stretch of work on the state. member, turn: None for a daemon that has it to itself."""

    def __init__(self, control: Control, member: Member | None = None, turn: Turn | None = None) -> None:
        self._control = control
        self._member = member
        self._membership = Membership.of(control.prepared)
        self.turn = turn

    def wanted(self) -> bool:
        """Whether the present configuration is to go on."""
        return self._control.wanted() and self._has_turn()

    def lasts(self) -> bool:
        """Whether there is to be more work, perhaps with another configuration."""
        return not self._control.stopping and self._has_turn()

    def _has_turn(self) -> bool:
        if self._member is None:
            return True
        return self._member.turn() is not None and Membership.of(self._control.prepared) == self._membership


def _go_on(control: Control, shift: Shift, outside: Outside, notifier: Notifier) -> None:
    """Work on the state, one configuration after the other."""
    notifier.more_time(STEP_SECONDS, "opening the state")
    store = Store(control.prepared.directory, shift.turn)
    if store.database.recovered_from is not None:
        outside.metrics.recovered()
    try:
        while shift.lasts():
            notifier.more_time(STEP_SECONDS, "going on from the state")
            try:
                _work(control, shift, store, outside, notifier)
            except StoreDamaged as fault:
                if store.database.recovered_from is not None:  # once may be an accident
                    raise
                store.recover(fault)
                outside.metrics.recovered()
    finally:
        child.end_all()  # they read the state
        store.close()


def _take_turns(control: Control, membership: Membership, outside: Outside, notifier: Notifier) -> None:
    """Stand by until it is this daemon's turn, work while it lasts, and stand by again."""
    member = membership.begin(control.prepared.directory, outside.metrics.rebalanced)
    try:
        while not control.stopping and Membership.of(control.prepared) == membership:
            if (turn := _stand_by(control, member, outside, notifier)) is None:
                continue
            log.warning("it is this daemon's turn", extra={"event": "group.turn", "generation": turn.generation})
            try:
                _go_on(control, Shift(control, member, turn), outside, notifier)
            except (StoreFenced, StoreLocked) as fault:
                log.warning("%s; standing by", fault, extra={"event": "group.fenced"})
                time.sleep(FENCED_SECONDS)
    finally:
        member.close()


def _stand_by(control: Control, member: Member, outside: Outside, notifier: Notifier) -> Turn | None:
    """Wait for this daemon's turn; None when it is to stop, or has another configuration."""
    words = "standing by: another daemon of the group works, or Kafka is not there yet"
    control.show()
    notifier.ready(words)
    log.info(words, extra={"event": "group.standing_by"})
    while control.wanted():
        if (generation := member.turn()) is not None:
            return Turn(generation, member.holder)
        for _, answer in outside.inbox.take():
            answer.set_result(Answer(False, "this daemon stands by; ask the one of its group that works"))
        outside.metrics.came_round({}, member.connected)
        outside.health.stood_by()
        notifier.progress(words)
        time.sleep(STAND_BY_SECONDS)
    return None


def _work(control: Control, shift: Shift, store: Store, outside: Outside, notifier: Notifier) -> None:
    """One configuration at work, until a stop or another one is wanted."""
    daemon = assemble(control.prepared, store, outside)
    jobs = housekeeping(estate(control.prepared, store), store, outside)
    jobs.start()
    letters = letterbox(control.prepared, outside)
    try:
        control.show()
        notifier.ready(daemon.status)
        for problem in without_effect(control.prepared.config):
            log.warning("%s", problem, extra={"event": "service.key_without_effect"})
        log.info("driftd is running: %s", daemon.status, extra={"event": "service.running"})
        daemon.run(shift.wanted, notifier.progress)
        if letters is not None:
            letters.close()
            daemon.clear_up()  # what Kafka has taken meanwhile is marked, and does not come again
    finally:
        jobs.stop()
        if letters is not None:
            letters.close()
