"""A sign of life to somebody who notices when it stops: what is dead, or cut off, says nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from monitor.channels import TOOLS, Refused, Retry, Tools
from monitor.channels.http import Http, HttpOptions, Request, failed, secret_url
from monitor.config import Heartbeat as Table
from monitor.errors import HeartbeatFault

TIMEOUT_SECONDS: Final = 15.0


class Heartbeat:
    """Where it goes, and how often."""

    def __init__(self, table: Table, secrets: Mapping[str, str], tools: Tools = TOOLS) -> None:
        """ValueError, which quotes no secret, when its address will never be called."""
        options = HttpOptions(timeout=TIMEOUT_SECONDS, allow_http=table.allow_http, allow_private=table.allow_private)
        self._url = secret_url(secrets, "url", options)
        self._http = Http(options, secrets, tools)
        self._clock = tools.clock
        self.every_ms = table.every

    def beat(self) -> None:
        """Give one. HeartbeatFault when it was not taken."""
        answer = self._http.ask(Request(self._url))
        outcome = answer if isinstance(answer, Retry | Refused) else failed(answer, self._clock())
        if outcome is not None:
            raise HeartbeatFault(f"the heartbeat was not taken: {outcome.reason}")
