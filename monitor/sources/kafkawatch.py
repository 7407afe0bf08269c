"""What is watched while Kafka is read: whether it answers, and whether partitions that have records move."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

from monitor.batch import Partition

_LOGGER: Final = logging.getLogger("driftd.source")
REPEAT_SECONDS: Final = 300.0
POLLS_BETWEEN_CHECKS: Final = 5


class Reporter:
    """Says of each trouble with Kafka that it is there: at once, then every five minutes, and when Kafka is back."""

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._away_since: float | None = None
        self._said: dict[str, float] = {}

    def away(self, fault: Exception | None) -> float:
        """Kafka does not answer, `fault` being why if that is known; for how many seconds now."""
        if self._away_since is None:
            self._away_since = time.monotonic()
        reason = "the connection is gone" if fault is None else str(fault)  # a logged fault would keep its sockets
        if self.is_due("away"):
            text = "Kafka at %s does not answer (%s); waiting for it"
            _LOGGER.warning(text, self._servers, reason, extra={"event": "kafka.away", "servers": self._servers})
        return time.monotonic() - self._away_since

    def back(self) -> None:
        """Kafka answers; said only after it was away."""
        if self._away_since is None:
            return
        seconds = time.monotonic() - self._away_since
        back = {"event": "kafka.back", "servers": self._servers, "seconds": seconds}
        _LOGGER.warning("Kafka at %s is back after %.0f s", self._servers, seconds, extra=back)
        self._away_since = None
        self._said.pop("away", None)

    def is_due(self, trouble: str) -> bool:
        """Whether this trouble is to be said now; then it counts as said."""
        now = time.monotonic()
        if now - self._said.get(trouble, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return False
        self._said[trouble] = now
        return True


class LogIds:
    """Which log is behind each topic's name. One that was left for another never comes back: a broker that still tells
    of it is behind the times."""

    def __init__(self) -> None:
        self._left: set[str] = set()
        self.known: dict[str, str] = {}

    def note(self, logs: Mapping[str, str]) -> None:
        """What was learnt: by topic, the id of its log, "" for nothing."""
        for topic, log in logs.items():
            before = self.known.get(topic, "")
            if log and log != before and log not in self._left:
                self._left.add(before)
                self.known[topic] = log


class StallGuard:
    """Finds partitions that have records, are polled, and do not move: the marks of a client that is stuck.

    A partition is stuck when records beyond its position were known at one check and it has not moved by the next,
    `seconds` later. That must be longer than a reconnect and a fetch may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._positions: dict[Partition, int | None] = {}
        self._behind: set[Partition] = set()
        self._polls = 0
        self._next_check = -math.inf

    def polled(self) -> None:
        self._polls += 1

    def check(
        self,
        now: float,
        positions: Mapping[Partition, int | None],
        ask_ends: Callable[[Collection[Partition]], Mapping[Partition, int]],
    ) -> set[Partition]:
        """The stuck ones; none while too little time or too few polls lie behind. ask_ends: where the logs end now."""
        if now < self._next_check or self._polls < POLLS_BETWEEN_CHECKS:
            return set()
        standing = positions.items() & self._positions.items()
        ends = ask_ends([partition for partition, _ in standing]) if standing else {}
        behind = {partition for partition, position in standing if ends[partition] > (position or 0)}
        stuck = behind & self._behind
        self._positions, self._behind = dict(positions), behind
        self._next_check, self._polls = now + self._seconds, 0
        return stuck
