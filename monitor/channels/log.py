"""Notices as lines of the daemon's own log: for trying out, and for a log collector that does the alerting."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import ClassVar, Final

import msgspec
from pydantic import BaseModel, ConfigDict

from monitor.channels import TOOLS, Attempt, Channel, Outcome, Sent, Tools
from monitor.message import AlertBody, Notice

_LOGGER: Final = logging.getLogger("driftd.channel")
# A notice is no chatter: it stays when the rest of the daemon is turned down to warnings.
_LOGGER.setLevel(logging.INFO)


class LogOptions(BaseModel):
    """A log channel has no options of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class LogChannel(Channel):
    """One record per notice to the logger `driftd.channel` at level INFO; the notice itself stands in its fields."""

    kind: ClassVar[str] = "log"
    Options: ClassVar[type[BaseModel]] = LogOptions

    def __init__(self, name: str, options: BaseModel, secrets: Mapping[str, str], tools: Tools = TOOLS) -> None:
        self._name = name

    def send(self, notice: Notice, attempt: Attempt) -> Outcome:
        told = {
            "event": "notice",
            "channel": self._name,
            "notice": notice.id,
            "incident": notice.incident,
            "purpose": str(notice.purpose),
            "model": notice.model,
            "window": notice.window,
            "follows": attempt.parent,
            "body": msgspec.to_builtins(notice.body),
        }
        text = notice.body.title if isinstance(notice.body, AlertBody) else notice.body.reason
        _LOGGER.info("%s: %s", notice.id, text, extra=told)
        return Sent()
