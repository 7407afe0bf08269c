"""The demo's retraining job in the contract."""

from __future__ import annotations

import base64
import ssl
from typing import Any

from monitor.demo.standins.webhook import WebhookStandIn
from tests.standins import Case


class WebhookCase(Case):
    kind = "webhook"
    secrets = {"secret": "whsec_" + base64.b64encode(b"canary-key-of-the-webhook-0123").decode()}
    reads_answers = False

    def receiver(self, tls: ssl.SSLContext | None) -> WebhookStandIn:
        return WebhookStandIn(self.secrets["secret"], tls=tls)

    def options(self, url: str) -> dict[str, Any]:
        return {"url": url, "secret_file": "s"}

    def done(self) -> list[str]:
        return list(self.standin.runs)
