"""PagerDuty: incidents as events of the Events API v2; the incident's id is the dedup_key, so repeats page nobody."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec
from pydantic import BaseModel, Field, model_validator

from monitor.channels import TOOLS, Outcome, Refused, Retry, Sent, Tools, exactly_one, own, word, words
from monitor.channels.evidence import fitted
from monitor.channels.http import Answer, HttpChannel, HttpOptions, Request, failed
from monitor.channels.mask import readable
from monitor.message import AlertBody, Notice, Purpose

SUMMARY: Final = 1024
KEY: Final = 255
N_BYTES: Final = 60_000


class PagerDutyOptions(HttpOptions):
    """Keys of a `[[channel]]` of kind pagerduty."""

    routing_key_file: str | None = Field(
        default=None, description="File with the integration key of a service (Events API v2)."
    )
    routing_key_env: str | None = Field(default=None, description="Environment variable with the integration key.")
    url: str = Field(
        default="https://events.pagerduty.com",
        description="Where the API is; https://events.eu.pagerduty.com in the EU.",
    )

    @model_validator(mode="after")
    def _check(self) -> PagerDutyOptions:
        exactly_one("routing_key", self.routing_key_file, self.routing_key_env)
        self.checked(url=self.url)
        return self


class PagerDutyChannel(HttpChannel):
    """Opened and updated incidents trigger, acknowledged ones acknowledge, resolved ones resolve. Sent with the
    dedup_key on 202."""

    kind: ClassVar[str] = "pagerduty"
    Options: ClassVar[type[BaseModel]] = PagerDutyOptions
    purposes: ClassVar[frozenset[Purpose]] = frozenset({Purpose.ALERT})

    def __init__(self, name: str, options: BaseModel, secrets: Mapping[str, str], tools: Tools = TOOLS) -> None:
        super().__init__(name, options, secrets, tools)
        self._url = f"{own(options, PagerDutyOptions).url.rstrip('/')}/v2/enqueue"
        self._key = word(secrets, "routing_key")
        self._link = tools.link

    def request(self, notice: Notice) -> Request:
        body = notice.body
        event: dict[str, Any] = {"routing_key": str(self._key), "dedup_key": dedup_key(notice.incident)}
        if isinstance(body, AlertBody) and body.state == "resolved":
            event["event_action"] = "resolve"
        elif isinstance(body, AlertBody) and body.change == "acknowledged":
            event["event_action"] = "acknowledge"
        else:
            link = self._link(notice)
            event |= {"event_action": "trigger", "client": "driftd", "payload": _payload(notice)}
            event |= {"client_url": link, "links": [{"href": link, "text": "More about it"}]} if link else {}
        return Request(self._url, msgspec.json.encode(event), {"content-type": "application/json"})

    def outcome(self, answer: Answer) -> Outcome:
        if answer.status == 400:
            errors = answer.json().get("errors") if isinstance(answer.json(), dict) else None
            first = errors[0] if isinstance(errors, list) and errors else "invalid event"
            return Refused(f"HTTP 400: {readable(first)}")
        fault = failed(answer, self._clock())
        if fault is not None:
            return fault
        if answer.text("status") != "success":
            return Retry(f"HTTP {answer.status} without PagerDuty's success", ambiguous=True)
        return Sent(answer.text("dedup_key"))


def dedup_key(incident: str) -> str:
    """An incident's id within PagerDuty's limit."""
    if len(incident) <= KEY:
        return incident
    return f"{incident[: KEY - 17]}-{hashlib.sha256(incident.encode()).hexdigest()[:16]}"


def _payload(notice: Notice) -> dict[str, Any]:
    body = notice.body
    severity = body.severity if isinstance(body, AlertBody) else "warning"
    details = msgspec.to_builtins(fitted(body, N_BYTES))
    return {
        "summary": readable(f"{words.headline(body)}: {words.about(body)}")[:SUMMARY],
        "source": body.model,
        "severity": str(severity),
        "component": body.segment if isinstance(body, AlertBody) else "",
        "group": body.model,
        "class": "drift",
        "custom_details": details,
    }
