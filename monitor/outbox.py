"""Delivery without hurry and without loss: when to try again, and threads that try.

The rows of the outbox live in the database and belong to the caller. `after` is the whole policy, a pure function of
what happened and when. `Courier` does the waiting for slow receivers: it takes notices, sends them in a thread per
channel, and hands back what came of each. A notice that was taken and not answered before a crash is sent again after
it, with the same id; receivers can tell.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from monitor.channels import Channel, Outcome, Refused, Retry, Sent
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


@dataclass(frozen=True, slots=True)
class Pending:
    """To be tried again, not before `next_attempt_at`; `reason` says why it did not work."""

    next_attempt_at: float
    reason: str


@dataclass(frozen=True, slots=True)
class Dead:
    """Given up: "expired", with the last failure in `detail`, or the receiver's refusal."""

    reason: str
    detail: str = ""


Fate = Delivered | Pending | Dead

PATIENCE: Final = Policy()


def after(
    outcome: Outcome, attempt: int, now: float, jitter: float, expires_at: float, policy: Policy = PATIENCE
) -> Fate:
    """What becomes of a notice after its attempt number `attempt`, counted from 1.

    The pause is jitter * min(cap, first * 2^(attempt - 1)), jitter uniform in [0, 1), so that notices which failed
    together do not come back together; what the receiver asked for is its floor. A next attempt at or after
    `expires_at` will not be made: the notice is dead now, not then.

    >>> after(Retry("HTTP 503"), attempt=4, now=100.0, jitter=0.5, expires_at=1e6)
    Pending(next_attempt_at=104.0, reason='HTTP 503')
    >>> after(Retry("HTTP 429", after_seconds=30.0), attempt=1, now=100.0, jitter=0.5, expires_at=1e6)
    Pending(next_attempt_at=130.0, reason='HTTP 429')
    """
    if attempt < 1 or not 0.0 <= jitter < 1.0:
        raise ValueError(f"attempt {attempt} must be at least 1 and jitter {jitter} in [0, 1)")
    if isinstance(outcome, Sent):
        return Delivered(outcome.receipt)
    if isinstance(outcome, Refused):
        return Dead(outcome.reason)
    pause = jitter * min(policy.cap, policy.first * 2.0 ** min(attempt - 1, 60))
    next_attempt_at = now + max(pause, outcome.after_seconds or 0.0)
    if next_attempt_at >= expires_at:
        return Dead("expired", outcome.reason)
    return Pending(next_attempt_at, outcome.reason)


@dataclass(frozen=True, slots=True)
class _Task:
    notice_id: str
    notice: Notice
    parent: str | None


class Courier:
    """Sends notices in one thread per channel: one at a time there, in the order in which they were submitted.

    Every notice that is submitted comes back once from `results`, unless the courier is closed before its turn. The
    channels are the courier's from here on, and are closed with it.
    """

    def __init__(self, channels: Mapping[str, Channel]) -> None:
        self._queues: dict[str, queue.SimpleQueue[_Task | None]] = {name: queue.SimpleQueue() for name in channels}
        self._results: queue.SimpleQueue[tuple[str, Outcome]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._here: set[str] = set()
        self._closing = threading.Event()
        # daemon: a receiver that never answers must not keep the process alive.
        self._threads = [
            threading.Thread(target=self._work, args=(name, channel), name=f"channel-{name}", daemon=True)
            for name, channel in channels.items()
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, notice_id: str, notice: Notice, parent: str | None) -> None:
        """Queue a notice for its channel; never blocks. A notice that is still here is not queued a second time.

        parent: as in `Channel.send`, as known now. RuntimeError after `close`.
        """
        with self._lock:
            if self._closing.is_set():
                raise RuntimeError("the courier is closed and takes no more notices")
            if notice_id in self._here:
                return
            self._here.add(notice_id)
            tasks = self._queues.get(notice.channel)
            if tasks is not None:
                tasks.put(_Task(notice_id, notice, parent))
                return
        self._results.put((notice_id, Refused(f"no channel named {notice.channel!r} is configured")))

    def results(self) -> list[tuple[str, Outcome]]:
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

    def close(self, timeout: float) -> bool:
        """Let notices in flight finish, for at most `timeout` seconds in all, and leave the rest unsent.

        True when every thread ended. `results` still gives what finished.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            self._closing.set()
        for tasks in self._queues.values():
            tasks.put(None)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self, name: str, channel: Channel) -> None:
        tasks = self._queues[name]
        while (task := tasks.get()) is not None and not self._closing.is_set():
            self._results.put((task.notice_id, _attempt(channel, task)))
        try:
            channel.close()
        except Exception:  # the thread ends here in any case
            closing = {"event": "channel.not_closed", "channel": name}
            _LOGGER.exception("channel %s could not be closed", name, extra=closing)


def _attempt(channel: Channel, task: _Task) -> Outcome:
    try:
        return channel.send(task.notice, task.parent)
    except Exception as error:  # a channel's defect must not silence the ones after it
        failed = {"event": "channel.failed", "key": task.notice.channel, "channel": task.notice.channel}
        _LOGGER.exception("channel %s failed on notice %s", task.notice.channel, task.notice_id, extra=failed)
        return Retry(type(error).__name__)
