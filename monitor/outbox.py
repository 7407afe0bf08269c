"""Delivery without hurry and without loss: when to try again, and threads that try.

The rows of the outbox live in the database and belong to the caller. `after` is the whole policy, a pure function of
what happened and when. `Courier` does the waiting for slow receivers: it takes notices, sends them in a thread per
channel, and hands back what came of each. A notice that was taken and not answered before a crash is sent again after
it, with the same id, and the channel is told that it may repeat. A target that fails again and again is left alone for
a while; what waits for it meanwhile counts as not tried.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from monitor.channels import Attempt, Channel, Outcome, Refused, Retry, Sent
from monitor.message import Notice, Purpose

_LOGGER: Final = logging.getLogger("driftd.outbox")


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient to be; all in seconds.

    first, cap: upper bounds of the first pause and of any pause, doubling between. alert_horizon, retrain_horizon: how
    long a notice is worth sending; shorter for retraining, since a job started days late trains on the wrong rows.
    """

    first: float = 1.0
    cap: float = 600.0
    alert_horizon: float = 72 * 3600.0
    retrain_horizon: float = 24 * 3600.0

    def expires_at(self, purpose: Purpose, queued_at: float) -> float:
        """The time from which on a notice is no longer sent."""
        return queued_at + (self.retrain_horizon if purpose is Purpose.RETRAIN else self.alert_horizon)


@dataclass(frozen=True, slots=True)
class Delivered:
    """Done; `receipt` as in `Sent`."""

    receipt: str

    @property
    def words(self) -> str:
        return f"delivered, receipt {self.receipt}" if self.receipt else "delivered"


@dataclass(frozen=True, slots=True)
class Pending:
    """To be tried again, not before `next_attempt_at`; `reason` says why it did not work.

    ambiguous: some attempt may have got through. tried: False when this was none.
    """

    next_attempt_at: float
    reason: str
    ambiguous: bool = False
    tried: bool = True

    @property
    def words(self) -> str:
        return f"{'to be tried again' if self.tried else 'waits'}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Dead:
    """Given up: "expired", with the last failure in `detail`, or the receiver's refusal. ambiguous: as in `Pending`."""

    reason: str
    detail: str = ""
    ambiguous: bool = False

    @property
    def words(self) -> str:
        return f"given up, {self.reason}{f': {self.detail}' if self.detail else ''}"


Fate = Delivered | Pending | Dead

PATIENCE: Final = Policy()


@dataclass(frozen=True, slots=True)
class Held:
    """Not tried: the channel is left alone for so many seconds more."""

    reason: str
    seconds: float


TOO_LATE: Final = Held("not sent: nobody was there to send it in time", 0.0)
_STOPPED: Final = Held("not tried: the service stopped before its turn", 0.0)


def after(
    outcome: Outcome | Held, attempt: Attempt, now: float, jitter: float, expires_at: float, policy: Policy = PATIENCE
) -> Fate:
    """What becomes of a notice after this attempt.

    The pause is jitter * min(cap, first * 2^(number - 1)), jitter uniform in [0, 1), so that notices which failed
    together do not come back together; what the receiver asked for is its floor. A next attempt at or after
    `expires_at` will not be made: the notice is dead now, not then.

    >>> after(Retry("HTTP 503"), Attempt(number=4), now=100.0, jitter=0.5, expires_at=1e6)
    Pending(next_attempt_at=104.0, reason='HTTP 503', ambiguous=False, tried=True)
    >>> after(Retry("HTTP 429", after_seconds=30.0), Attempt(), now=100.0, jitter=0.5, expires_at=1e6).next_attempt_at
    130.0
    """
    if attempt.number < 1 or not 0.0 <= jitter < 1.0:
        raise ValueError(f"attempt {attempt.number} must be at least 1 and jitter {jitter} in [0, 1)")
    if isinstance(outcome, Sent):
        return Delivered(outcome.receipt)
    if isinstance(outcome, Refused):
        return Dead(outcome.reason, ambiguous=attempt.ambiguous)
    ambiguous, tried = attempt.ambiguous, False
    if isinstance(outcome, Held):
        pause = outcome.seconds
    else:
        pause = jitter * min(policy.cap, policy.first * 2.0 ** min(attempt.number - 1, 60))
        pause = max(pause, outcome.after_seconds or 0.0)
        ambiguous, tried = ambiguous or outcome.ambiguous, True
    if now + pause >= expires_at:
        return Dead("expired", outcome.reason, ambiguous)
    return Pending(now + pause, outcome.reason, ambiguous, tried)


@dataclass(frozen=True, slots=True)
class Breaker:
    """Keeps off a target that fails, so that it can recover, and off one that asks for a pause.

    After `limit` failures in a row it is left alone for `first` seconds, doubling up to `cap`; then one notice goes
    there to try, and how that ends decides. n_failures: in a row; until: when the pause ends, on a monotonic clock.
    """

    n_failures: int = 0
    until: float = 0.0

    limit: ClassVar[int] = 5
    first: ClassVar[float] = 30.0
    cap: ClassVar[float] = 600.0

    @property
    def is_open(self) -> bool:
        """Whether the target counts as failing."""
        return self.n_failures >= self.limit

    def held(self, now: float) -> Held | None:
        """What a notice gets instead of an attempt at this time; None when it may be tried."""
        if now >= self.until:
            return None
        why = f"{self.n_failures} failures in a row" if self.is_open else "the receiver asked for a pause"
        return Held(f"held back: {why}", self.until - now)

    def noted(self, outcome: Outcome, now: float) -> Breaker:
        """The breaker after an attempt."""
        if not isinstance(outcome, Retry):
            return Breaker()
        n_failures = self.n_failures + 1
        pause = min(outcome.after_seconds or 0.0, self.cap)
        if n_failures >= self.limit:
            pause = max(pause, min(self.cap, self.first * 2.0 ** min(n_failures - self.limit, 60)))
        return Breaker(n_failures, now + pause)


@dataclass(frozen=True, slots=True)
class _Task:
    notice: Notice
    attempt: Attempt


class Courier:
    """Sends notices in one thread per channel: one at a time there, in the order in which they were submitted, and no
    faster than the channel's own pace.

    Every notice that is submitted comes back once from `results`; as held when the courier is closed before its turn.
    The channels are the courier's from here on, and are closed with it. clock: monotonic seconds.
    """

    def __init__(self, channels: Mapping[str, Channel], clock: Callable[[], float] = time.monotonic) -> None:
        self._queues: dict[str, queue.SimpleQueue[_Task | None]] = {name: queue.SimpleQueue() for name in channels}
        self._results: queue.SimpleQueue[tuple[str, Outcome | Held]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._here: set[str] = set()
        self._breakers = dict.fromkeys(channels, Breaker())
        self._clock = clock
        self._closing = threading.Event()
        # daemon: a receiver that never answers must not keep the process alive.
        self._threads = [
            threading.Thread(target=self._work, args=(name, channel), name=f"channel-{name}", daemon=True)
            for name, channel in channels.items()
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, notice: Notice, attempt: Attempt) -> None:
        """Queue a notice for its channel; never blocks. A notice that is still here is not queued a second time.

        RuntimeError after `close`.
        """
        with self._lock:
            if self._closing.is_set():
                raise RuntimeError("the courier is closed and takes no more notices")
            if notice.id in self._here:
                return
            self._here.add(notice.id)
            tasks = self._queues.get(notice.channel)
            if tasks is not None:
                tasks.put(_Task(notice, attempt))
                return
        self._results.put((notice.id, Refused(f"no channel named {notice.channel!r} is configured")))

    def results(self) -> list[tuple[str, Outcome | Held]]:
        """What came of notices since the last call, oldest first; never blocks."""
        drained = []
        while True:
            try:
                drained.append(self._results.get_nowait())
            except queue.Empty:
                break
        with self._lock:
            self._here.difference_update(notice_id for notice_id, _ in drained)
        return drained

    @property
    def failing(self) -> Mapping[str, bool]:
        """Of each channel, whether its target has failed so often that it is left alone."""
        return {name: breaker.is_open for name, breaker in list(self._breakers.items())}

    def close(self, timeout: float) -> bool:
        """Let notices in flight finish, for at most `timeout` seconds in all, and leave the rest unsent.

        True when every thread ended. `results` still gives what finished and what was left; what is in flight even then
        has none.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            self._closing.set()
        for tasks in self._queues.values():
            self._leave(tasks)
            tasks.put(None)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self, name: str, channel: Channel) -> None:
        tasks, free_at = self._queues[name], 0.0
        while (task := tasks.get()) is not None:
            if self._closing.wait(max(0.0, free_at - time.monotonic())):
                self._results.put((task.notice.id, _STOPPED))
                break
            held = self._breakers[name].held(self._clock())
            self._results.put((task.notice.id, held or self._try(name, channel, task)))
            free_at = free_at if held else time.monotonic() + channel.pace
        try:
            channel.close()
        except Exception:  # the thread ends here in any case
            closing = {"event": "channel.not_closed", "channel": name}
            _LOGGER.exception("channel %s could not be closed", name, extra=closing)

    def _leave(self, tasks: queue.SimpleQueue[_Task | None]) -> None:
        """Hand back what waits in a queue."""
        with contextlib.suppress(queue.Empty):
            while (task := tasks.get_nowait()) is not None:
                self._results.put((task.notice.id, _STOPPED))

    def _try(self, name: str, channel: Channel, task: _Task) -> Outcome:
        outcome = _attempt(channel, task)
        before = self._breakers[name]
        self._breakers[name] = now = before.noted(outcome, self._clock())
        if now.is_open and not before.is_open:
            resting = {"event": "channel.resting", "channel": name, "failures": now.n_failures}
            _LOGGER.warning("channel %s failed %d times in a row, rests", name, now.n_failures, extra=resting)
        elif before.is_open and not now.is_open:
            _LOGGER.warning("channel %s works again", name, extra={"event": "channel.back", "channel": name})
        return outcome


def _attempt(channel: Channel, task: _Task) -> Outcome:
    try:
        return channel.send(task.notice, task.attempt)
    except Exception as error:  # a channel's defect must not silence the ones after it
        failed = {"event": "channel.failed", "key": task.notice.channel, "channel": task.notice.channel}
        _LOGGER.exception("channel %s failed on notice %s", task.notice.channel, task.notice.id, extra=failed)
        return Retry(type(error).__name__, ambiguous=True)
