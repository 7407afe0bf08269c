"""What a Type=notify service tells its manager, by datagrams to $NOTIFY_SOCKET; without one, nothing."""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import Final

log = logging.getLogger(__name__)

STATUS_SECONDS: Final = 1.0
"""How often at most a changed status is told; under load it changes with every poll."""

SEND_SECONDS: Final = 5.0
"""How long a manager that is busy is waited for."""


class Notifier:
    """Talks to systemd. The watchdog is fed by the loop's own progress, never from a thread beside it."""

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        wanted = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = int(os.environ.pop("WATCHDOG_USEC", "0") or 0) if wanted else 0
        self._every_seconds = usec / 2e6
        self._next_feed = self._next_status = 0.0
        self._status = self._note = ""

    def more_time(self, seconds: float, status: str) -> None:
        """A long step of the start begins; it may take so long."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}", "WATCHDOG=1", _told(status))

    def ready(self, status: str) -> None:
        """The start or a reload is over."""
        self._status, self._note = status, ""
        self._send("READY=1", _told(status))

    def reloading(self) -> None:
        """A reload begins."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def unchanged(self, note: str) -> None:
        """A reload is over and did nothing; the note stays in the status until another one does."""
        self._note = note
        self._send("READY=1")

    def stopping(self) -> None:
        """The service drains and ends."""
        self._send("STOPPING=1", _told("draining"))

    def progress(self, status: str) -> None:
        """The loop has come round: feed the watchdog when it is due, and tell the status when it is new."""
        now = time.monotonic()
        lines = []
        if self._every_seconds and now >= self._next_feed:
            self._next_feed = now + self._every_seconds
            lines.append("WATCHDOG=1")
        status = f"{status}; {self._note}" if self._note else status
        if status != self._status and now >= self._next_status:
            self._status, self._next_status = status, now + STATUS_SECONDS
            lines.append(_told(status))
        if lines:
            self._send(*lines)

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.settimeout(SEND_SECONDS)
                channel.connect(address)
                channel.sendall("\n".join(lines).encode(errors="replace"))
        except OSError as fault:
            log.warning("systemd cannot be told: %s", fault, extra={"event": "systemd.unreachable", "key": "send"})


def _told(status: str) -> str:
    """A line of its own, whatever is in a name or a fault."""
    return f"STATUS={' '.join(status.split())}"
