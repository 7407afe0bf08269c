"""Whether the service lives, and whether it can do its work: what `/healthz` and `/readyz` answer.

A Slack or a CI that is away does not make the service unready; messages wait. Written by the loop, read by other
threads: every field is replaced whole.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

import msgspec

STUCK_SECONDS: Final = 60.0
FLOW_SECONDS: Final = 60.0


class Checks(msgspec.Struct, frozen=True):
    """ok: whether all is well; checks: each one by name, "ok" or what is wrong."""

    ok: bool
    checks: dict[str, str]


class Flow(NamedTuple):
    """How reading goes. n_unread: records that are known to be there; per_second: read, over the last minute."""

    n_unread: int
    per_second: float


class Health:
    """The loop's last word on itself."""

    def __init__(self) -> None:
        self._progress = time.monotonic()
        self._kafka = "no partition was assigned yet"
        self._disk = "ok"
        self._configuration = "ok"
        self._n_unread = 0
        self._read: tuple[tuple[float, int], ...] = ((self._progress, 0),)

    def came_round(self, n_assigned: int, connected: bool, n_unread: int = 0, n_read: int = 0) -> None:
        """The loop made progress. n_unread: records that are known to be there; n_read: since the loop began."""
        self._progress = now = time.monotonic()
        self._n_unread = n_unread
        if n_read < self._read[-1][1]:  # another configuration's loop
            self._read = ((now, n_read),)
        elif now - self._read[-1][0] >= 1.0:
            self._read = (*(at for at in self._read if now - at[0] <= FLOW_SECONDS), (now, n_read))
        if not connected:
            self._kafka = "not connected"
        else:
            self._kafka = "ok" if n_assigned else "no partition was assigned yet"

    def stood_by(self) -> None:
        """Another daemon of the group works; this one is ready to."""
        self._progress = time.monotonic()
        self._kafka = "ok"

    def disk(self, fault: str = "") -> None:
        """Whether the disk takes what is written."""
        self._disk = fault or "ok"

    def configuration(self, fault: str = "") -> None:
        """Whether the last reload was taken; a refused one leaves the service ready, with the old one in force."""
        self._configuration = f"the last reload was refused: {fault}" if fault else "ok"

    def flow(self) -> Flow:
        """How reading goes."""
        read = self._read
        seconds = read[-1][0] - read[0][0]
        return Flow(self._n_unread, (read[-1][1] - read[0][1]) / seconds if seconds else 0.0)

    def alive(self) -> Checks:
        """Whether the process does anything at all."""
        return _all(loop=self._loop())

    def ready(self) -> Checks:
        """Whether records are read, judged and remembered."""
        checks = _all(loop=self._loop(), kafka=self._kafka, disk=self._disk)
        return msgspec.structs.replace(checks, checks={**checks.checks, "configuration": self._configuration})

    def _loop(self) -> str:
        seconds = time.monotonic() - self._progress
        return "ok" if seconds < STUCK_SECONDS else f"the loop has made no progress for {seconds:.0f} s"


def _all(**checks: str) -> Checks:
    return Checks(all(words == "ok" for words in checks.values()), checks)
