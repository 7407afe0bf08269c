"""What Slack and the retraining job got, against what is due to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from faults.judge import Ruling, Story
from monitor.channels.slack import reply, text
from monitor.demo.standins import Received
from monitor.demo.standins.slack import SlackStandIn
from monitor.demo.standins.webhook import WebhookStandIn
from monitor.message import AlertBody

TOKEN, SECRET = "xoxb-canary-77aa", "whsec_c2lnbmluZy1rZXktY2FuYXJ5"


class Slack(SlackStandIn):
    """Counts what took effect, also where the answer got lost."""

    def __init__(self) -> None:
        super().__init__(TOKEN)
        self.applied: list[Received] = []

    def forgive(self) -> None:
        """Take back the faults that were ordered and have not come yet."""
        with self._lock:
            self._faults.clear()

    def _apply(self, request: Received) -> Any:
        self.applied.append(request)
        return super()._apply(request)


class Job(WebhookStandIn):
    """Counts what took effect, by webhook-id."""

    def __init__(self) -> None:
        super().__init__(SECRET, tolerance=float("inf"))
        self.applied: Counter[str] = Counter()

    def _apply(self, request: Received) -> Any:
        self.applied[request.headers.get("webhook-id", "")] += 1
        return super()._apply(request)


@dataclass(frozen=True, slots=True)
class Receivers:
    """Both, as they are once everything was sent."""

    slack: Slack
    job: Job

    def compare(self, wanted: Story, sent: Mapping[str, Any], ruling: Ruling, *, given_up: bool) -> None:
        """Whether they got what is due. sent: the body of every notice by its id, in order."""
        alerts = [identity for identity, (channel, *_) in wanted.notices.items() if channel == "alerts"]
        calls = [identity for identity, (channel, *_) in wanted.notices.items() if channel == "job"]
        got = Counter(self.job.applied)
        for identity in calls:
            if not given_up and not got[identity]:
                ruling.wrong.append(f"the job never heard of {identity}")
            ruling.repeated += max(0, got.pop(identity, 0) - 1)
        if got:
            ruling.wrong.append(f"calls that nobody ordered: {dict(got)}")
        self._messages([sent[identity] for identity in alerts if identity in sent], ruling)

    def _messages(self, bodies: Sequence[Any], ruling: Ruling) -> None:
        """One message per incident, which says what was told last, and a reply for every later change."""
        told: dict[str, list[AlertBody]] = {}
        for body in bodies:
            told.setdefault(body["incident"], []).append(msgspec.convert(body, AlertBody))
        posted: dict[str, list[Any]] = {}
        for message in self.slack.messages.values():
            posted.setdefault(message.metadata["event_payload"]["incident"], []).append(message)
        for incident, changes in told.items():
            messages = posted.pop(incident, [])
            if not messages:
                ruling.wrong.append(f"Slack never heard of {incident}")
                continue
            ruling.repeated += len(messages) - 1
            if messages[-1].text not in (text(changes[-1]), text(changes[-1], repeats=True)):
                ruling.wrong.append(f"Slack shows {messages[-1].text!r} of {incident}, not {text(changes[-1])!r}")
            replies = Counter(said.text for message in messages for said in message.replies)
            for change in changes[1:]:
                said = [words for words in (reply(change), reply(change, repeats=True)) if replies[words] > 0]
                if not said:
                    ruling.wrong.append(f"Slack has no reply {reply(change)!r}")
                    continue
                replies[said[0]] -= 1
            ruling.repeated += sum(max(0, n) for n in replies.values())
        if posted:
            ruling.wrong.append(f"messages about incidents that never were: {sorted(posted)}")
