"""Prometheus Alertmanager: an incident as an alert of its v2 API, firing until it is resolved.

Alertmanager forgets alerts that are not sent again; `hold` is how long it keeps one. A change of severity is a change
of labels, which Alertmanager takes for another alert: every call therefore ends the alerts of the other severities.
Instances that form a cluster each want every alert; give each a channel of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import ClassVar, Final

import msgspec
from pydantic import BaseModel, Field, field_validator, model_validator

from detectors.season import DAY_MS
from monitor.batch import Severity
from monitor.channels import TOOLS, Secret, Tools, own, password_of, word, words
from monitor.channels.http import HttpChannel, HttpOptions, Request, basic
from monitor.channels.mask import readable
from monitor.config import DurationMs
from monitor.message import AlertBody, Body, Notice, Purpose

_OWN: Final = frozenset({"alertname", "model", "incident", "severity", "test"})
_TEST_SECONDS: Final = 300.0


class AlertmanagerOptions(HttpOptions):
    """Keys of a `[[channel]]` of kind alertmanager."""

    url: str = Field(description="Where Alertmanager is, without /api.")
    alertname: str = Field(default="ModelDrift", min_length=1, description="The alert's name, for its routes.")
    labels: Mapping[str, str] = Field(
        default_factory=dict, description='Labels of your own, such as {team = "ml"}; names as Prometheus has them.'
    )
    hold: DurationMs = Field(
        default=7 * DAY_MS, gt=0, description="How long an alert lasts that is neither sent again nor resolved."
    )
    user: str | None = Field(default=None, min_length=1, pattern=r"^[^:]+$", description="User, where one is wanted.")
    password_file: str | None = Field(default=None, description="File with the user's password.")
    password_env: str | None = Field(default=None, description="Environment variable with the user's password.")

    @field_validator("labels")
    @classmethod
    def _names(cls, labels: Mapping[str, str]) -> Mapping[str, str]:
        for name in labels:
            if name in _OWN:
                raise ValueError(f"the label {name} is driftd's own")
            if not name.isascii() or not name.isidentifier() or name.startswith("__"):
                raise ValueError(f"{name!r} is not a name of a label: letters, digits and _ are wanted")
        return labels

    @model_validator(mode="after")
    def _check(self) -> AlertmanagerOptions:
        self.checked(url=self.url)
        password_of(self.user, self.password_file, self.password_env)
        return self


class AlertmanagerChannel(HttpChannel):
    """Labels: alertname, model, incident, severity and those of the options. Sent on 200."""

    kind: ClassVar[str] = "alertmanager"
    Options: ClassVar[type[BaseModel]] = AlertmanagerOptions
    purposes: ClassVar[frozenset[Purpose]] = frozenset({Purpose.ALERT})

    def __init__(self, name: str, options: BaseModel, secrets: Mapping[str, str], tools: Tools = TOOLS) -> None:
        super().__init__(name, options, secrets, tools)
        self._options = own(options, AlertmanagerOptions)
        self._password = word(secrets, "password") if self._options.user is not None else Secret()
        self._link = tools.link

    def request(self, notice: Notice) -> Request:
        body = notice.body
        severity = body.severity if isinstance(body, AlertBody) else Severity.WARNING
        is_over = isinstance(body, AlertBody) and body.state == "resolved"
        now = self._clock()
        hold = _TEST_SECONDS if body.test else self._options.hold / 1000
        facts = {"annotations": _annotations(body), "generatorURL": self._link(notice)}
        starts_at = _started(body, now)
        facts |= {"startsAt": starts_at} if starts_at else {}
        alerts = [
            {
                "labels": self._labels(notice, other),
                "endsAt": _time(now + hold if other is severity and not is_over else now),
                **facts,
            }
            for other in Severity
        ]
        headers = {"content-type": "application/json"}
        if self._options.user is not None:
            headers["authorization"] = basic(self._options.user, self._password)
        return Request(f"{self._options.url.rstrip('/')}/api/v2/alerts", msgspec.json.encode(alerts), headers)

    def _labels(self, notice: Notice, severity: Severity) -> dict[str, str]:
        labels = {
            "alertname": self._options.alertname,
            "model": notice.model,
            "incident": notice.incident,
            "severity": str(severity),
        }
        return {**self._options.labels, **labels, **({"test": "true"} if notice.body.test else {})}


def _annotations(body: Body) -> dict[str, str]:
    columns = "\n".join(f"{column.column}: {column.what} ({words.numbers(column)})" for column in body.columns[:20])
    found = {
        "summary": readable(words.headline(body)),
        "description": f"{words.about(body)}\n{columns}"[:8000],
        "window": words.window(body.window),
        "reference": words.reference(body),
        "version": body.version or "",
        "segment": body.segment if isinstance(body, AlertBody) else "",
        "retraining": (body.retraining or "") if isinstance(body, AlertBody) else "",
    }
    return {name: text for name, text in found.items() if text}


def _started(body: Body, now: float) -> str:
    """Since when it drifts, where that is a time before now; "" lets Alertmanager take its own."""
    try:
        since = datetime.fromisoformat(body.since or "")
    except ValueError:
        return ""
    return _time(since.timestamp()) if since.tzinfo is not None and since.timestamp() < now else ""


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
