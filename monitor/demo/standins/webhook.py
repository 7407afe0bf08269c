"""A retraining job behind a signed webhook."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
import time
from collections.abc import Callable

from monitor.demo.standins import Answer, Json, Received, StandIn


class WebhookStandIn(StandIn):
    """Checks the signature, starts one run per webhook-id, answers 202.

    runs: run names by webhook-id. bodies: the body of the request that started each run.
    """

    def __init__(
        self,
        secret: str,
        clock: Callable[[], float] = time.time,
        tolerance: float = 300.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(tls)
        self.runs: dict[str, str] = {}
        self.bodies: dict[str, Json] = {}
        self._key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
        self._clock = clock
        self._tolerance = tolerance

    def _apply(self, request: Received) -> Answer:
        if request.method != "POST":
            return Answer(405, {"error": "only POST is served"})
        key = request.headers.get("webhook-id", "")
        fault = self._unsigned(key, request)
        if fault:
            return Answer(401, {"error": fault})
        body = request.json
        if not isinstance(body, dict):
            return Answer(400, {"error": "the body is not JSON"})
        repeated = key in self.runs
        if not repeated:
            self.runs[key] = f"run-{len(self.runs) + 1}"
            self.bodies[key] = body
        return Answer(202, {"run": self.runs[key], "repeated": repeated})

    def _unsigned(self, key: str, request: Received) -> str:
        """Why the request is not to be believed, or ""."""
        sent_at = request.headers.get("webhook-timestamp", "")
        if not key or "." in key or not sent_at.isdecimal():
            return "webhook-id or webhook-timestamp is missing or malformed"
        if abs(self._clock() - int(sent_at)) > self._tolerance:
            return "webhook-timestamp is too old or too new"
        digest = hmac.new(self._key, b".".join([key.encode(), sent_at.encode(), request.body]), hashlib.sha256).digest()
        wanted = b"v1," + base64.b64encode(digest)
        given = request.headers.get("webhook-signature", "").split()
        return "" if any(hmac.compare_digest(wanted, mark.encode()) for mark in given) else "no signature fits"
