"""PagerDuty's Events API v2, with its limits."""

from __future__ import annotations

import ssl
from typing import Any

from monitor.demo.standins import Answer, Json, Received, StandIn, status
from tests.standins import Case, is_text

_PAYLOAD = {"summary", "source", "severity", "timestamp", "component", "group", "class", "custom_details"}
_EVENT = {"routing_key", "event_action", "dedup_key", "payload", "client", "client_url", "links", "images"}


class PagerDutyStandIn(StandIn):
    """One service. incidents: the state of each by its dedup_key; events: all that were taken, in order."""

    def __init__(self, routing_key: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.incidents: dict[str, str] = {}
        self.events: list[Json] = []
        self._key = routing_key

    def _apply(self, request: Received) -> Answer:
        if request.path != "/v2/enqueue":
            return Answer(404)
        event = request.json
        fault = _fault(event, self._key) if isinstance(event, dict) else "is not JSON"
        if fault or len(request.body) > 512 * 1024:
            errors = [fault or "Event size is larger than 512 KB"]
            return Answer(400, {"status": "invalid event", "message": "Event object is invalid", "errors": errors})
        key, action = event["dedup_key"], event["event_action"]
        state = self.incidents.get(key)
        if action == "trigger":
            self.incidents[key] = "acknowledged" if state == "acknowledged" else "triggered"
        elif state not in {None, "resolved"}:
            self.incidents[key] = f"{action}d"
        self.events.append(event)
        return Answer(202, {"status": "success", "message": "Event processed", "dedup_key": key})


def _fault(event: Json, routing_key: str) -> str:
    if event.get("routing_key") != routing_key:
        return "Length of 'routing_key' is incorrect (should be 32 characters)"
    if event.get("event_action") not in {"trigger", "acknowledge", "resolve"} or event.keys() - _EVENT:
        return "'event_action' is missing or blank"
    if not is_text(event.get("dedup_key"), 255):
        return "'dedup_key' is too long"
    payload = event.get("payload")
    if event["event_action"] != "trigger":
        return ""
    if not isinstance(payload, dict) or payload.keys() - _PAYLOAD:
        return "'payload' is missing or blank"
    if not is_text(payload.get("summary"), 1024) or not is_text(payload.get("source"), 1024):
        return "'payload.summary' is missing or blank"
    if payload.get("severity") not in {"critical", "error", "warning", "info"}:
        return "'payload.severity' is invalid (must be one of the following: 'critical', 'warning', 'error' or 'info')"
    return ""


class PagerDutyCase(Case):
    kind = "pagerduty"
    secrets = {"routing_key": "canary0123456789canary0123456789"}

    def receiver(self, tls: ssl.SSLContext | None) -> PagerDutyStandIn:
        return PagerDutyStandIn(self.secrets["routing_key"], tls)

    def options(self, url: str) -> dict[str, Any]:
        return {"url": url, "routing_key_file": "k"}

    def done(self) -> list[str]:
        return list(self.standin.incidents)

    def lasting(self) -> Any:
        return status(400), "400"
