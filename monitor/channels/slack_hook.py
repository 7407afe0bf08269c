"""Slack through an incoming webhook: no token, and so no edits, threads, pictures or buttons; one message a change."""

from __future__ import annotations

from typing import Final

import msgspec

from monitor.channels import Attempt, Outcome, Refused, Retry, Secret, Sent
from monitor.channels.http import Answer, Http, Request, failed
from monitor.channels.slack_layout import blocks, text
from monitor.message import Notice

_FOR_PEOPLE: Final = {
    "no_service": "the webhook was removed or switched off",
    "no_team": "the workspace is gone",
    "invalid_token": "the webhook's URL is not valid",
    "action_prohibited": "an administrator restricted posting there",
    "channel_not_found": "the channel is gone",
    "channel_is_archived": "the channel is archived",
    "posting_to_general_channel_denied": "the webhook's owner may not post there",
}
_PAYLOAD: Final = frozenset({"invalid_payload", "invalid_blocks", "no_text", "too_many_attachments", "msg_too_long"})


class IncomingWebhook:
    """One webhook. Its URL is the secret."""

    def __init__(self, url: Secret, http: Http) -> None:
        self._url = url
        self._http = http

    def request(self, notice: Notice, links: tuple[str, str], *, repeats: bool = False, plain: bool = False) -> Request:
        """The message as a request. links: where people read more, and where the report is. plain: without layout."""
        words = text(notice.body, repeats=repeats)
        layout = {} if plain else {"blocks": blocks(notice.body, links[0], report=links[1], repeats=repeats)}
        return Request(self._url, msgspec.json.encode({"text": words, **layout}), {"content-type": "application/json"})

    def send(self, notice: Notice, attempt: Attempt, links: tuple[str, str], now: float) -> Outcome:
        """Post a notice; where its layout is refused, the same words as plain text."""
        answer = self._http.ask(self.request(notice, links, repeats=attempt.ambiguous))
        if isinstance(answer, Answer) and answer.status == 400 and _code(answer) in _PAYLOAD:
            answer = self._http.ask(self.request(notice, links, repeats=attempt.ambiguous, plain=True))
        return _judged(answer, now) if isinstance(answer, Answer) else answer


def _judged(answer: Answer, now: float) -> Outcome:
    code = _code(answer)
    if code in _FOR_PEOPLE:
        return Refused(f"{code}: {_FOR_PEOPLE[code]}")
    fault = failed(answer, now)
    if fault is not None:
        return fault
    if answer.body.strip() != b"ok":
        return Retry(f"HTTP {answer.status} without Slack's ok", ambiguous=True)
    return Sent()


def _code(answer: Answer) -> str:
    words = answer.body[:100].decode("ascii", "replace").strip()
    return words if words.replace("_", "").isalnum() else ""
