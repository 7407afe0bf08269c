"""Argo Events' webhook event source, and a sensor that takes each trigger once."""

from __future__ import annotations

import ssl
from typing import Any

from monitor.demo.standins import Answer, Json, Received, StandIn
from tests.standins import Case, bearer


class ArgoStandIn(StandIn):
    """One endpoint. workflows: the body of every workflow that the sensor started, by its trigger."""

    def __init__(self, token: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.workflows: dict[str, Json] = {}
        self._token = token

    def _apply(self, request: Received) -> Answer:
        if request.path != "/retrain":
            return Answer(404, "404 page not found")
        if bearer(request) != self._token:
            return Answer(401, "Unauthorized")
        if len(request.body) > 1024 * 1024:
            return Answer(413, "Request Entity Too Large")
        body = request.json
        if not isinstance(body, dict):
            return Answer(400, "body is not JSON")
        self.workflows.setdefault(body["trigger"], body)
        return Answer(200, "success")


class ArgoCase(Case):
    kind = "argo"
    secrets = {"token": "argo-canary-0123"}
    reads_answers = False

    def receiver(self, tls: ssl.SSLContext | None) -> ArgoStandIn:
        return ArgoStandIn(self.secrets["token"], tls)

    def options(self, url: str) -> dict[str, Any]:
        return {"url": f"{url}/retrain", "token_file": "t"}

    def done(self) -> list[str]:
        return list(self.standin.workflows)
