"""Reports that nobody has asked for yet: made when an incident opens, one after the other, beside the service's work.

A report is an extra: where one cannot be made that is said in the log, and everything else stands without it. What was
waiting when the process ended is not made later; the incident's page makes it when somebody asks.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from monitor.errands import Errands
from monitor.errors import DriftdError
from monitor.report import make

log = logging.getLogger(__name__)

N_REMEMBERED: Final = 100
PATIENCE_SECONDS: Final = 300.0
"""How long a report that somebody asked for may hold up the next one."""

Deliver = Callable[[bytes], None]


class Reporter:
    """Makes reports in a thread of its own. Any thread may ask; it outlives a reload."""

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._errands = Errands("reporter")
        self._made: deque[tuple[str, Path]] = deque(maxlen=N_REMEMBERED)

    def work_in(self, directory: Path | None) -> None:
        """Make reports of this state from now on; None: make none."""
        self._directory = directory

    def ask(self, incident: str, deliver: Deliver | None = None) -> None:
        """Have the report of an incident made, if it is not yet, and delivered; never blocks.

        deliver: called with the HTML in the reporter's thread.
        """
        directory = self._directory
        if directory is not None and not self._errands.put(partial(self._make, directory, incident, deliver)):
            skipped = {"event": "report.skipped", "incident": incident}
            log.warning("no report of %s: too many are to be made at this moment", incident, extra=skipped)

    def _make(self, directory: Path, incident: str, deliver: Deliver | None) -> None:
        missing = {"event": "report.not_made", "incident": incident}
        try:
            made = self._report(directory, incident)
            if deliver is not None:
                deliver(made.read_bytes())
        except (DriftdError, OSError) as fault:
            log.warning("no report of %s: %s", incident, fault, extra=missing)
        except Exception:  # whatever it is, it is told of this incident
            log.exception("no report of %s", incident, extra=missing)

    def _report(self, directory: Path, incident: str) -> Path:
        known = next((file for name, file in self._made if name == incident and file.exists()), None)
        if known is None:
            known = make(directory, incident, patience_seconds=PATIENCE_SECONDS)
            self._made.append((incident, known))
        return known
