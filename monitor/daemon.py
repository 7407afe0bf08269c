"""The service: one loop that polls, steps, commits and delivers.

The loop is the only writer. A commit that the disk does not take is kept and tried again, and nothing is polled
meanwhile; so a full disk costs time and nothing else. Whatever was polled but not committed when the process dies is
polled again.
"""

from __future__ import annotations

import logging
import queue
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from monitor.batch import Moment, Partition, Records
from monitor.channels import Outcome
from monitor.engine import Commit, Engine
from monitor.errands import Errands
from monitor.errors import SourceError, StoreFull
from monitor.health import Health
from monitor.message import Purpose
from monitor.metrics import Metrics
from monitor.order import Answer, Drop, Order, Resend
from monitor.outbox import PATIENCE, TOO_LATE, Courier, Held, after
from monitor.reporter import Reporter
from monitor.retrain import Step
from monitor.sources import Source
from monitor.store import Due, Store

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.2
IN_FLIGHT_SECONDS: Final = 0.01
"""How long to poll while notices are on their way: what is sent and not written down is sent again after a crash."""
DRAIN_SECONDS: Final = 5.0
DUE_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 1.0
"""How much of a partition's quiet one turn of the loop can bear witness to."""
PAUSES: Final = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Seconds between tries after a fault of Kafka or the disk; the last one repeats."""


class Inbox:
    """Orders and chores on their way into the loop, from whichever thread they come. It outlives a reload."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[Order, Future[Answer]]] = queue.SimpleQueue()
        self.chores: queue.SimpleQueue[Callable[[Engine, Store], object]] = queue.SimpleQueue()

    def ask(self, order: Order) -> Future[Answer]:
        """Queue an order; its answer comes once what it changed is on the disk."""
        answer: Future[Answer] = Future()
        self._waiting.put((order, answer))
        return answer

    def take(self) -> list[tuple[Order, Future[Answer]]]:
        """What came since the last call, oldest first; never blocks."""
        taken = []
        while True:
            try:
                taken.append(self._waiting.get_nowait())
            except queue.Empty:
                return taken


@dataclass(frozen=True, slots=True)
class Outside:
    """What the loop shares with other threads; it outlives a reload."""

    inbox: Inbox = field(default_factory=Inbox)
    metrics: Metrics = field(default_factory=Metrics)
    health: Health = field(default_factory=Health)
    reporter: Reporter = field(default_factory=Reporter)
    pictures: Errands = field(default_factory=partial(Errands, "pictures"))


@dataclass(frozen=True, slots=True)
class Pace:
    """checkpoint_seconds: how often progress inside open windows is committed; a window that is complete is at once.
    checkpoint_records: after so many records it is committed sooner, so that no crash costs more than reading those.
    idle_seconds: a partition that was read to its end and brought nothing for so long does not hold windows open."""

    checkpoint_seconds: float = 5.0
    idle_seconds: float = 60.0
    checkpoint_records: int = 1_000_000


class Daemon:
    """One configuration at work."""

    def __init__(
        self, engine: Engine, source: Source, store: Store, courier: Courier, outside: Outside, pace: Pace
    ) -> None:
        self._engine = engine
        self._source = source
        self._store = store
        self._courier = courier
        self._outside = outside
        self._answered: list[tuple[Future[Answer], Answer]] = []
        self._outdated = False
        self._pace = pace
        self._unwritten: Commit | None = None
        self._answers: list[tuple[str, Outcome | Held]] = []
        self._sent: dict[str, Due] = {}
        self._stale: frozenset[str] = frozenset()
        self._logs: Mapping[str, str] = {}
        self._quiet: dict[Partition, float] = {}
        self._ahead: frozenset[Partition] = frozenset()
        self._looked = time.monotonic()
        self._n_rows = self._n_committed = 0
        self._n_faults = 0
        self._fault = ""
        self._next_try = self._next_commit = self._next_due = 0.0

    def run(self, wanted: Callable[[], bool], progress: Callable[[str], None]) -> None:
        """Work while it is wanted, and until a model has another reference; then commit what there is and let messages
        in flight finish.

        progress: told, every time the loop comes round, how things stand.
        """
        try:
            now = time.time()
            self._stale = frozenset(due.notice.id for due in self._store.due(int(now * 1000)) if _is_stale(due, now))
            self._source.seek(self._engine.positions())
            while wanted() and not self._outdated:
                self._turn()
                self._came_round()
                progress(self.status)
            self._drain()
        finally:
            self._courier.close(0.0)
            self._source.close()

    def clear_up(self) -> None:
        """Do what other threads have asked for while the loop came to its end."""
        try:
            self._housekeep()
        except StoreFull as fault:
            _left_undone(fault)

    @property
    def status(self) -> str:
        """How things stand, in a few words."""
        words = f"{len(self._engine.lines)} models, {self._n_rows:,} records since the start"
        return f"{words}; {self._fault}" if self._fault else words

    def _came_round(self) -> None:
        source = self._source
        lag = source.lag()
        self._outside.metrics.came_round(lag, source.connected)
        self._outside.health.came_round(len(source.assigned()), source.connected, sum(lag.values()), self._n_rows)

    def _turn(self) -> None:
        if time.monotonic() < self._next_try:
            time.sleep(POLL_SECONDS)
            return
        try:
            if self._unwritten is None:
                self._read()
                self._housekeep()
                self._tick()
            self._write()
            self._deliver()
        except (SourceError, StoreFull) as fault:
            pause = PAUSES[min(self._n_faults, len(PAUSES) - 1)]
            self._n_faults += 1
            self._next_try = time.monotonic() + pause
            self._fault = f"{fault}"
            paused = {"event": "loop.paused", "key": type(fault).__name__, "pause_seconds": pause}
            log.error("%s; trying again in %.0f s", fault, pause, extra=paused)
            return
        if self._fault:
            resumed = {"event": "loop.resumed", "n_tries": self._n_faults}
            log.warning("working again after %d tries", self._n_faults, extra=resumed)
        self._n_faults, self._fault = 0, ""

    def _read(self) -> None:
        found = self._source.poll(IN_FLIGHT_SECONDS if self._sent else POLL_SECONDS)
        now = time.time()
        if (logs := self._source.log_ids()) != self._logs:
            self._logs = dict(logs)
            if anew := self._engine.recognise(logs):
                self._begin_anew(anew, found)
                return
        taken = self._in_step(found)
        for i, records in enumerate(taken):
            self._quiet[records.partition] = 0.0
            try:
                self._engine.step(records, int(now * 1000))
            except SourceError:  # what decoding needs beside the records cannot be had just now; they are read again
                self._source.seek({rest.partition: rest.first_offset for rest in reversed(taken[i:])})
                raise
            self._n_rows += records.n_read
            self._outside.metrics.read(records)
        for at, wanted, offset in self._source.losses():  # what was read came before them
            self._engine.jump(at, offset)
            self._outside.metrics.jumped(at, offset - wanted)

    def _in_step(self, found: Sequence[Records]) -> Sequence[Records]:
        """What is taken now. Partitions that are ahead of others give the same again once these have caught up."""
        ahead = self._engine.ahead()
        if ahead and not self._ahead:
            text = "more windows are open than max_open_windows; %d partitions wait until the others have come as far"
            log.warning(text, len(ahead), extra={"event": "loop.partitions_wait", "n_partitions": len(ahead)})
        again = {each.partition: each.first_offset for each in reversed(found) if each.partition in ahead}
        if again:
            self._source.seek(again)
        if ahead != self._ahead:
            self._source.hold(ahead)
        self._ahead = ahead
        self._outside.metrics.waiting(len(ahead))
        return [records for records in found if records.partition not in ahead]

    def _begin_anew(self, topics: Sequence[str], found: Sequence[Records]) -> None:
        """Topics were deleted and made anew. What just came may be of either log: all of it is read again."""
        places = {at: 0 for at in self._source.assigned() if at.topic in topics}
        places |= {records.partition: records.first_offset for records in reversed(found)}
        places |= self._engine.positions()
        self._source.seek({at: 0 if at.topic in topics else offset for at, offset in places.items()})
        self._source.losses()
        for topic in topics:
            text = "topic %s was deleted and made anew; it is read from its beginning, and what it held unread is lost"
            log.warning(text, topic, extra={"event": "kafka.topic_made_anew", "topic": topic})
            self._outside.metrics.made_anew(topic)

    def _tick(self) -> None:
        moment = self._moment()
        for order, answer in self._outside.inbox.take():
            self._answered.append((answer, self._obey(order, moment.now_ms)))
        due = time.monotonic() >= self._next_commit or self._n_rows - self._n_committed >= self._pace.checkpoint_records
        if self._answered or due or self._engine.ready(moment):
            self._unwritten = self._engine.tick(moment)
            self._next_commit = time.monotonic() + self._pace.checkpoint_seconds
            self._n_committed = self._n_rows

    def _obey(self, order: Order, now_ms: int) -> Answer:
        if not isinstance(order, Resend | Drop):
            return self._engine.act(order, now_ms)
        if order.notice in self._sent:
            return Answer(False, f"{order.notice} is on its way at this moment; look again in a minute")
        self._next_due = 0.0
        return self._store.redirect(order, now_ms)

    def _moment(self) -> Moment:
        return Moment(int(time.time() * 1000), self._source.assigned(), self._idle())

    def _idle(self) -> frozenset[Partition]:
        """Partitions that brought nothing for `idle_seconds` during which they were known to be at their end.

        Labels hold no window open once they were read to their end, whatever their times. Time in which the loop did
        not come round (the process was stopped, the machine slept) is no sign of idleness.
        """
        now, caught_up = time.monotonic(), self._source.caught_up()
        step, self._looked = min(now - self._looked, LOOK_SECONDS), now
        for at in self._source.assigned():
            self._quiet[at] = self._quiet.get(at, 0.0) + step if at in caught_up else 0.0
        labels = self._engine.label_topics
        wanted = {at: 0.0 if at.topic in labels else self._pace.idle_seconds for at in caught_up}
        return frozenset(at for at, seconds in wanted.items() if self._quiet[at] >= seconds)

    def _housekeep(self) -> None:
        """Do what housekeeping asked of the only writer."""
        while not self._outside.inbox.chores.empty():
            self._outside.inbox.chores.get()(self._engine, self._store)

    def _write(self) -> None:
        if self._unwritten is not None:
            self._apply(self._unwritten)
            steps = (trigger.step for part in self._unwritten.models for trigger in part.out.triggers)
            self._outdated |= any(step is Step.ROTATED for step in steps)
            if self._unwritten.digests or any(part.out.notices for part in self._unwritten.models):
                self._next_due = 0.0
            self._unwritten = None
        answered, self._answered = self._answered, []
        for answer, words in answered:
            answer.set_result(words)

    def _apply(self, commit: Commit) -> None:
        began = time.monotonic()
        try:
            self._outside.metrics.forgotten(self._store.apply(commit))
        except StoreFull as fault:
            self._outside.metrics.not_written()
            self._outside.health.disk(str(fault))
            raise
        self._outside.metrics.committed(commit, time.monotonic() - began)
        for change in (change for part in commit.models for change in part.out.changes):
            if change.change == "opened" and change.episode.columns:
                self._outside.reporter.ask(change.episode.id)
        self._outside.health.disk()

    def _deliver(self) -> None:
        self._settle()
        if time.monotonic() < self._next_due:
            return
        self._next_due = time.monotonic() + DUE_SECONDS
        self._outside.metrics.outbox(self._store.facts(int(time.time() * 1000)), self._courier.failing)
        now = time.time()
        for trigger, given_up in self._store.ended_calls():
            self._engine.call_ended(trigger, given_up, int(now * 1000))
        found = {due.notice.id: due for due in self._store.due(int(now * 1000)) if due.notice.id not in self._sent}
        self._store.claim([identity for identity in found if identity not in self._stale])
        self._sent |= found
        for identity, due in found.items():
            if identity in self._stale:
                self._answers.append((identity, TOO_LATE))
                self._stale -= {identity}  # whoever sends it again means it
            else:
                self._courier.submit(due.notice, due.attempt)

    def _settle(self) -> None:
        """Remember what came of notices that were sent."""
        self._answers += self._courier.results()
        if not self._answers:
            return
        now, fates = time.time(), []
        for identity, outcome in self._answers:
            due = self._sent[identity]
            jitter = random.random()  # noqa: S311  # spreads tries, hides nothing
            fates.append((identity, after(outcome, due.attempt, now, jitter, _expires_at(due))))
        self._store.settle(fates, int(now * 1000))
        for identity, fate in fates:
            settled = {"event": "notice.settled", "notice": identity, "fate": type(fate).__name__.lower()}
            log.info("notice %s: %s", identity, fate.words, extra=settled)
            due = self._sent.pop(identity)
            self._outside.metrics.settled(due.notice.channel, fate, due.queued_ms)
        self._answers, self._next_due = [], 0.0

    def _drain(self) -> None:
        try:
            if self._unwritten is None:
                self._unwritten = self._engine.tick(self._moment())
            self._write()
            self._courier.close(DRAIN_SECONDS)
            self._settle()
        except StoreFull as fault:
            _left_undone(fault)


def _left_undone(fault: StoreFull) -> None:
    text = "%s; what was not written is read again at the next start"
    log.error(text, fault, extra={"event": "drain.failed"})


def _is_stale(due: Due, now: float) -> bool:
    """Whether it must not even be tried, since driftd was away for so long: a job that starts so late trains on the
    wrong rows. What people are told is still news. While driftd runs, a clock that jumps makes nothing stale."""
    return due.notice.purpose is Purpose.RETRAIN and _expires_at(due) <= now


def _expires_at(due: Due) -> float:
    return PATIENCE.expires_at(due.notice.purpose, due.queued_ms / 1000)
