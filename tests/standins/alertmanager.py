"""Alertmanager's v2 API, as far as alerts go; the real one is in test_alertmanager.py."""

from __future__ import annotations

import re
import ssl
import time
from base64 import b64encode
from datetime import datetime
from typing import Any

from monitor.demo.standins import Answer, Json, Received, StandIn
from tests.standins import Case


class AlertmanagerStandIn(StandIn):
    """alerts: the latest form of each, by its labels."""

    def __init__(self, user: str, password: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.alerts: dict[frozenset[tuple[str, str]], Json] = {}
        self._login = "Basic " + b64encode(f"{user}:{password}".encode()).decode()

    def firing(self) -> list[Json]:
        """The alerts that have not ended."""
        return [alert for alert in self.alerts.values() if _at(alert["endsAt"]) > time.time() + 1]

    def _apply(self, request: Received) -> Answer:
        if request.headers.get("authorization") != self._login:
            return Answer(401, "Unauthorized")
        if request.path != "/api/v2/alerts":
            return Answer(404, {"code": 404, "message": "path was not found"})
        alerts = request.json
        if not isinstance(alerts, list) or not all(map(_is_sound, alerts)):
            return Answer(400, '"an alert is not as the API has it"')
        for alert in alerts:
            self.alerts[frozenset(alert["labels"].items())] = alert
        return Answer(200)


def _is_sound(alert: Any) -> bool:
    if alert.keys() - {"labels", "annotations", "startsAt", "endsAt", "generatorURL"} or not alert["labels"]:
        return False
    names = [*alert["labels"], *alert["annotations"]]
    texts = [*alert["labels"].values(), *alert["annotations"].values()]
    starts_at = alert.get("startsAt", alert["endsAt"])
    return (
        all(re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) for name in names)
        and all(isinstance(text, str) and text for text in texts)
        and _at(starts_at) <= _at(alert["endsAt"])
    )


def _at(time_: str) -> float:
    return datetime.fromisoformat(time_).timestamp()


class AlertmanagerCase(Case):
    kind = "alertmanager"
    secrets = {"password": "am-canary-0123"}
    reads_answers = False

    def receiver(self, tls: ssl.SSLContext | None) -> AlertmanagerStandIn:
        return AlertmanagerStandIn("driftd", self.secrets["password"], tls)

    def options(self, url: str) -> dict[str, Any]:
        return {"url": url, "user": "driftd", "password_file": "p"}

    def done(self) -> list[str]:
        return sorted({alert["labels"]["incident"] for alert in self.standin.firing()})
