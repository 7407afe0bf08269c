"""A receiver of CloudEvents 1.0 in binary mode."""

from __future__ import annotations

import ssl
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from monitor.demo.standins import Answer, Json, Received, StandIn
from tests.standins import Case, bearer


class CloudEventsStandIn(StandIn):
    """events: data by source and id."""

    def __init__(self, token: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.events: dict[tuple[str, str], Json] = {}
        self._token = token

    def _apply(self, request: Received) -> Answer:
        if bearer(request) != self._token:
            return Answer(401)
        if fault := _fault(request):
            return Answer(400, {"error": fault})
        if len(request.body) > 64 * 1024:
            return Answer(413)
        key = (unquote(request.headers["ce-source"]), unquote(request.headers["ce-id"]))
        self.events.setdefault(key, request.json)
        return Answer(202)


def _fault(request: Received) -> str:
    headers = request.headers
    if headers.get("ce-specversion") != "1.0":
        return "ce-specversion"
    if not all(headers.get(f"ce-{name}") for name in ("id", "source", "type")):
        return "a required attribute is missing"
    attributes = {name: value for name, value in headers.items() if name.startswith("ce-")}
    if any(not name[3:].isalnum() or not text.isascii() or set(text) & {" ", '"'} for name, text in attributes.items()):
        return "an attribute is not named or escaped as the specification says"
    if "ce-datacontenttype" in headers or headers.get("content-type") != "application/json" or request.json is None:
        return "the data"
    try:
        datetime.fromisoformat(headers["ce-time"])
    except ValueError:
        return "ce-time"
    return ""


class CloudEventsCase(Case):
    kind = "cloudevents"
    secrets = {"token": "ce-canary-0123"}
    reads_answers = False

    def receiver(self, tls: ssl.SSLContext | None) -> CloudEventsStandIn:
        return CloudEventsStandIn(self.secrets["token"], tls)

    def options(self, url: str) -> dict[str, Any]:
        return {"url": url, "token_file": "t"}

    def done(self) -> list[str]:
        return [identity for _, identity in self.standin.events]
