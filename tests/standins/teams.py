"""A Teams workflow's webhook: takes Adaptive Cards of up to 28 KB."""

from __future__ import annotations

import ssl
from typing import Any

from monitor.demo.standins import Answer, Json, Received, StandIn
from tests.standins import Case

_LIMIT = 28 * 1024


class TeamsStandIn(StandIn):
    """cards: all that were posted, in order."""

    def __init__(self, signature: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.cards: list[Json] = []
        self._signature = signature

    def _apply(self, request: Received) -> Answer:
        if request.query.get("sig") != self._signature:
            return Answer(401, {"error": {"code": "DirectApiAuthorizationRequired"}})
        document = request.json
        if 2 * len(request.body.decode()) > _LIMIT:
            return Answer(413)
        if not isinstance(document, dict) or document.get("type") != "message" or len(document["attachments"]) != 1:
            return Answer(400, {"error": {"code": "TriggerInputSchemaMismatch"}})
        attachment = document["attachments"][0]
        card = attachment.get("content")
        if attachment.get("contentType") != "application/vnd.microsoft.card.adaptive" or not _is_card(card):
            return Answer(400, {"error": {"code": "BadRequest"}})
        self.cards.append(card)
        return Answer(202)


def _is_card(card: Any) -> bool:
    return (
        isinstance(card, dict)
        and card.get("type") == "AdaptiveCard"
        and card.get("version") in {"1.2", "1.3", "1.4", "1.5"}
        and bool(card.get("body"))
        and all(map(_is_block, card["body"]))
    )


def _is_block(block: Any) -> bool:
    runs = block.get("inlines", [])
    return (
        block.get("type") == "RichTextBlock"
        and bool(runs)
        and all(run.get("type") == "TextRun" and isinstance(run.get("text"), str) and run["text"] for run in runs)
    )


class TeamsCase(Case):
    kind = "teams"
    secrets = {"url": "https://canary.example/workflows/1?sig=canary-signature-01"}
    is_idempotent = False

    def receiver(self, tls: ssl.SSLContext | None) -> TeamsStandIn:
        return TeamsStandIn("canary-signature-01", tls)

    def options(self, url: str) -> dict[str, Any]:
        return {"url_file": "u", "allow_http": True}

    def secrets_at(self, url: str) -> dict[str, str]:
        return {"url": f"{url}/workflows/1?sig=canary-signature-01"}

    def done(self) -> list[str]:
        said = [card["body"][-1]["inlines"][0]["text"] for card in self.standin.cards]
        return [text.rpartition("Incident ")[2] for text in said]
