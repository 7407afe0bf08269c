"""What a Type=notify service tells its manager, by datagrams to $NOTIFY_SOCKET; without one, nothing."""

from __future__ import annotations

import os
import socket
import time


class Notifier:
    """Talks to systemd. The watchdog is fed by the loop's own progress, never from a thread beside it."""

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        wanted = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = int(os.environ.pop("WATCHDOG_USEC", "0") or 0) if wanted else 0
        self._every_seconds = usec / 2e6
        self._next_feed = 0.0
        self._status = ""

    def ready(self, status: str) -> None:
        """Start-up or a reload is over."""
        self._status = status
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """A reload begins."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The service drains and ends."""
        self._send("STOPPING=1\nSTATUS=draining")

    def progress(self, status: str) -> None:
        """The loop has come round: feed the watchdog when it is due, and tell the status when it is new."""
        now = time.monotonic()
        lines = []
        if self._every_seconds and now >= self._next_feed:
            self._next_feed = now + self._every_seconds
            lines.append("WATCHDOG=1")
        if status != self._status:
            self._status = status
            lines.append(f"STATUS={status}")
        if lines:
            self._send("\n".join(lines))

    def more_time(self, seconds: float) -> None:
        """A long step begins; it may take so long."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}\nWATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.connect(address)
            channel.sendall(message.encode())
