"""The service: one loop that polls, steps, commits and delivers.

The loop is the only writer. A commit that the disk does not take is kept and tried again, and nothing is polled
meanwhile; so a full disk costs time and nothing else. Whatever was polled but not committed when the process dies is
polled again.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Final

from monitor.batch import Moment, Partition
from monitor.channels import Outcome
from monitor.engine import Commit, Engine
from monitor.errors import SourceError, StoreFull
from monitor.outbox import PATIENCE, Courier, after
from monitor.sources import Source
from monitor.store import Due, Store

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.2
IN_FLIGHT_SECONDS: Final = 0.01
"""How long to poll while notices are on their way: what is sent and not written down is sent again after a crash."""
DRAIN_SECONDS: Final = 5.0
DUE_SECONDS: Final = 1.0
PAUSES: Final = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Seconds between tries after a fault of Kafka or the disk; the last one repeats."""


class Daemon:
    """One configuration at work.

    checkpoint_seconds: how often progress inside open windows is committed; a window that is complete is at once.
    idle_seconds: a partition that was read to its end and brought nothing for so long does not hold windows open.
    """

    def __init__(
        self,
        engine: Engine,
        source: Source,
        store: Store,
        courier: Courier,
        *,
        checkpoint_seconds: float,
        idle_seconds: float,
    ) -> None:
        self._engine = engine
        self._source = source
        self._store = store
        self._courier = courier
        self._checkpoint_seconds = checkpoint_seconds
        self._idle_seconds = idle_seconds
        self._unwritten: Commit | None = None
        self._answers: list[tuple[str, Outcome]] = []
        self._sent: dict[str, Due] = {}
        self._news: dict[Partition, float] = {}
        self._n_rows = 0
        self._n_faults = 0
        self._fault = ""
        self._next_try = self._next_commit = self._next_due = 0.0

    def run(self, wanted: Callable[[], bool], progress: Callable[[str], None]) -> None:
        """Work while it is wanted; then commit what there is and let messages in flight finish.

        progress: told, every time the loop comes round, how things stand.
        """
        self._source.seek(self._engine.positions())
        while wanted():
            self._turn()
            progress(self.status)
        self._drain()

    @property
    def status(self) -> str:
        """How things stand, in a few words."""
        words = f"{len(self._engine.lines)} models, {self._n_rows:,} records since the start"
        return f"{words}; {self._fault}" if self._fault else words

    def _turn(self) -> None:
        if time.monotonic() < self._next_try:
            time.sleep(POLL_SECONDS)
            return
        try:
            if self._unwritten is None:
                self._read()
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
        for at, _, offset in self._source.losses():
            self._engine.jump(at, offset)
        now = time.time()
        for records in found:
            self._news[records.partition] = time.monotonic()
            self._n_rows += int(records.offsets.size)
            self._engine.step(records, int(now * 1000))

    def _tick(self) -> None:
        moment = self._moment()
        if time.monotonic() >= self._next_commit or self._engine.ready(moment):
            self._unwritten = self._engine.tick(moment)
            self._next_commit = time.monotonic() + self._checkpoint_seconds

    def _moment(self) -> Moment:
        assigned, now = self._source.assigned(), time.monotonic()
        quiet_since = now - self._idle_seconds
        idle = (at for at in self._source.caught_up() if self._news.setdefault(at, now) <= quiet_since)
        return Moment(int(time.time() * 1000), assigned, frozenset(idle))

    def _write(self) -> None:
        if self._unwritten is not None:
            self._store.apply(self._unwritten)
            if any(part.found.notices for part in self._unwritten.models):
                self._next_due = 0.0
            self._unwritten = None

    def _deliver(self) -> None:
        self._settle()
        if time.monotonic() < self._next_due:
            return
        self._next_due = time.monotonic() + DUE_SECONDS
        for due in self._store.due(int(time.time() * 1000)):
            self._sent[due.notice.id] = due
            self._courier.submit(due.notice.id, due.notice, due.parent)

    def _settle(self) -> None:
        """Remember what came of notices that were sent."""
        self._answers += self._courier.results()
        if not self._answers:
            return
        now, fates = time.time(), []
        for identity, outcome in self._answers:
            due = self._sent[identity]
            expires_at = PATIENCE.expires_at(due.notice.purpose, due.queued_ms / 1000)
            jitter = random.random()  # noqa: S311  # spreads tries, hides nothing
            fates.append((identity, after(outcome, due.attempts + 1, now, jitter, expires_at)))
        self._store.settle(fates, int(now * 1000))
        for identity, fate in fates:
            settled = {"event": "notice.settled", "notice": identity, "fate": type(fate).__name__.lower()}
            log.info("notice %s: %s", identity, fate, extra=settled)
            del self._sent[identity]
        self._answers, self._next_due = [], 0.0

    def _drain(self) -> None:
        try:
            if self._unwritten is None:
                self._unwritten = self._engine.tick(self._moment())
            self._write()
            self._courier.close(DRAIN_SECONDS)
            self._settle()
        except StoreFull as fault:
            text = "%s; what was not written is read again at the next start"
            log.error(text, fault, extra={"event": "drain.failed"})
        finally:
            self._courier.close(0.0)
            self._source.close()
