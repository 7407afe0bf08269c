"""The demo's Slack in the contract: through the Web API, with a history that may be read."""

from __future__ import annotations

import ssl
from typing import Any

from monitor.demo.standins import slack_error, status
from monitor.demo.standins.slack import SlackStandIn
from tests.standins import Case


class SlackCase(Case):
    kind = "slack"
    secrets = {"token": "xoxb-canary-9f2b61c4"}

    def receiver(self, tls: ssl.SSLContext | None) -> SlackStandIn:
        return SlackStandIn(self.secrets["token"], tls=tls)

    def options(self, url: str) -> dict[str, Any]:
        return {"channel": "#ml-alerts", "token_file": "t", "base_url": f"{url}/api/"}

    def done(self) -> list[str]:
        return [message.metadata["event_payload"]["incident"] for message in self.standin.messages.values()]

    def passing(self) -> Any:
        return status(503, 7), "service_unavailable"

    def lasting(self) -> Any:
        return slack_error("is_archived"), "archived"
