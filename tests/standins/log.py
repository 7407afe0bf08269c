"""The log has no receiver, and so no faults."""

from __future__ import annotations

import ssl
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from monitor.channels import REGISTRY, Channel, Tools
from tests.standins import Case


class LogCase(Case):
    kind = "log"
    is_http = False
    reads_answers = False

    def receiver(self, tls: ssl.SSLContext | None) -> AbstractContextManager[None]:
        return nullcontext()

    def options(self, url: str) -> dict[str, Any]:
        return {}

    def open(self, tools: Tools | None = None, url: str | None = None, **more: Any) -> Channel:
        return REGISTRY["log"]("ops", REGISTRY["log"].Options(), {}, tools or Tools())

    def done(self) -> list[str]:
        return []
