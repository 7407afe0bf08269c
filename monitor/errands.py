"""Work that nobody waits for: pictures and reports that follow their message.

It is an extra. What is waiting when the process ends is not done later, and what would wait too long is not begun.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

N_WAITING: Final = 20
"""Errands that may wait; in a storm the others are left."""

Errand = Callable[[], object]


class Errands:
    """Does one after the other, in a thread of its own, in the order in which they were put. Any thread may put."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._waiting: queue.Queue[Errand] = queue.Queue(N_WAITING)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def put(self, errand: Errand) -> bool:
        """Have it done; never blocks. False where too many wait: then it will not be."""
        with self._lock:
            if self._thread is None:
                # daemon: what is being done must not keep the process alive.
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
        try:
            self._waiting.put_nowait(errand)
        except queue.Full:
            return False
        return True

    def _work(self) -> None:
        while True:
            errand = self._waiting.get()
            try:
                errand()
            except Exception:  # the next one may be done all the same
                log.exception("an errand of %s failed", self._name, extra={"event": "errand.failed"})
