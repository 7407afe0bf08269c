"""Microsoft Teams: notices as Adaptive Cards to the webhook of a workflow. Its URL is the secret.

Teams knows neither threads nor edits here, so every change is a card of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec
from pydantic import BaseModel, Field, model_validator

from monitor.channels import TOOLS, Outcome, Refused, Retry, Sent, Tools, exactly_one, own, words
from monitor.channels.http import Answer, HttpChannel, HttpOptions, Request, failed, secret_url
from monitor.channels.mask import printable
from monitor.message import AlertBody, Body, Notice

N_CHARACTERS: Final = 13_500
"""Teams takes 28 KB, and some of its doors count two bytes a character."""
_COLOURS: Final = {"info": "accent", "warning": "warning", "critical": "attention"}

Element = dict[str, Any]


class TeamsOptions(HttpOptions):
    """Keys of a `[[channel]]` of kind teams."""

    url_file: str | None = Field(
        default=None, description='File with the URL of the workflow "when a Teams webhook request is received".'
    )
    url_env: str | None = Field(default=None, description="Environment variable with that URL.")

    @model_validator(mode="after")
    def _check(self) -> TeamsOptions:
        exactly_one("url", self.url_file, self.url_env)
        return self


class TeamsChannel(HttpChannel):
    """Sent on 2xx whose body holds no complaint: old webhooks say "1" or, in words, what Teams answered to them."""

    kind: ClassVar[str] = "teams"
    Options: ClassVar[type[BaseModel]] = TeamsOptions

    def __init__(self, name: str, options: BaseModel, secrets: Mapping[str, str], tools: Tools = TOOLS) -> None:
        super().__init__(name, options, secrets, tools)
        self._url = secret_url(secrets, "url", own(options, TeamsOptions))
        self._link = tools.link

    def request(self, notice: Notice) -> Request:
        link = self._link(notice)
        return Request(self._url, message(notice.body, link), {"content-type": "application/json; charset=utf-8"})

    def outcome(self, answer: Answer) -> Outcome:
        fault = failed(answer, self._clock())
        if fault is not None or answer.status == 202 or answer.body.strip() in {b"", b"1"}:
            return fault or Sent()
        if b"HTTP error 429" in answer.body:
            return Retry("HTTP 200 with Teams' 429: too many messages")
        if b"HTTP error 413" in answer.body:
            return Refused("HTTP 200 with Teams' 413: the message is too long")
        return Retry(f"HTTP {answer.status} with a complaint in place of Teams' answer", ambiguous=True)


def message(body: Body, link: str = "") -> bytes:
    """The card and its wrapper as JSON, within Teams' limit for any body."""
    for n_columns in (words.N_COLUMNS, 4, 2, 1, 0):
        attachment = {
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": None,
            "content": card(body, link, n_columns),
        }
        encoded = msgspec.json.encode({"type": "message", "attachments": [attachment]})
        if len(encoded.decode()) <= N_CHARACTERS:
            break
    return encoded


def card(body: Body, link: str = "", n_columns: int = words.N_COLUMNS) -> Element:
    """The Adaptive Card. Text stands in runs, which know no markup, so that no name can make a link."""
    colour = _COLOURS[body.severity] if isinstance(body, AlertBody) else "accent"
    colour = "good" if isinstance(body, AlertBody) and body.state == "resolved" else colour
    told = words.story(body)[:25]
    more = len(body.columns) - n_columns
    facts = [] if len(told) > 1 else [words.window(body.window), f"Reference {words.reference(body)}"]
    if isinstance(body, AlertBody):
        facts += [f"Retraining: {body.retraining}"] if body.retraining else []
        facts += [f"Acknowledged by {body.acknowledged}"] if body.acknowledged else []
    else:
        facts += [f"Rows: {words.rows(body)}", f"Trigger {body.trigger}"]
    elements = [
        _block([_run(words.headline(body), 140, weight="bolder", size="large", color=colour)]),
        *(_block([_run(line, 1500 if len(told) == 1 else 200)]) for line in told),
        *(
            _block([
                _run(column.column, 80, weight="bolder", fontType="monospace"),
                _run(f"  {words.place(column)} {column.what}", 350),
                _run(f"  {words.numbers(column)}", 200, isSubtle=True),
            ])
            for column in body.columns[:n_columns]
        ),
        *([_block([_run(f"+{more} more", 40, isSubtle=True)])] if more > 0 else []),
        _block([_run(" · ".join([*facts, f"Incident {body.incident}"]), 900, isSubtle=True, size="small")]),
    ]  # fmt: skip
    found: Element = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": elements,
    }
    return found | ({"actions": [{"type": "Action.OpenUrl", "title": "More about it", "url": link}]} if link else {})


def _block(runs: list[Element]) -> Element:
    return {"type": "RichTextBlock", "inlines": runs}


def _run(text: str, limit: int, **style: str | bool) -> Element:
    seen = printable(text)
    return {"type": "TextRun", "text": (seen if len(seen) <= limit else seen[: limit - 1] + "…") or "–", **style}
