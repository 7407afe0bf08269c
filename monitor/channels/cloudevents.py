"""Notices as CloudEvents over HTTP in binary mode, for Knative, event meshes and brokers.

Source and id together are an event's identity; both stay the same in every attempt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import ClassVar, Final

from pydantic import BaseModel, Field, model_validator

from monitor.channels import TOOLS, Tools, own, word
from monitor.channels.evidence import fitted
from monitor.channels.http import HttpChannel, HttpOptions, Request
from monitor.message import Notice, encode

N_BYTES: Final = 60_000
"""Events of up to 64 KiB are taken everywhere."""


class CloudEventsOptions(HttpOptions):
    """Keys of a `[[channel]]` of kind cloudevents."""

    url: str = Field(description="Where to POST events.")
    source: str = Field(default="driftd", min_length=1, max_length=200, description="Source of the events, a URI.")
    token_file: str | None = Field(default=None, description="File with a bearer token, where one is wanted.")
    token_env: str | None = Field(default=None, description="Environment variable with the bearer token.")

    @model_validator(mode="after")
    def _check(self) -> CloudEventsOptions:
        if self.token_file is not None and self.token_env is not None:
            raise ValueError("set at most one of token_file and token_env; both are set")
        self.checked(url=self.url)
        return self


class CloudEventsChannel(HttpChannel):
    """An event's type is io.driftd.alert, io.driftd.retrain or io.driftd.digest, its subject the model. Sent on 2xx."""

    kind: ClassVar[str] = "cloudevents"
    Options: ClassVar[type[BaseModel]] = CloudEventsOptions

    def __init__(self, name: str, options: BaseModel, secrets: Mapping[str, str], tools: Tools = TOOLS) -> None:
        super().__init__(name, options, secrets, tools)
        self._options = own(options, CloudEventsOptions)
        self._token = word(secrets, "token") if "token" in secrets else None

    def request(self, notice: Notice) -> Request:
        at = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        headers = {
            "ce-specversion": "1.0",
            "ce-id": attribute(notice.id),
            "ce-source": attribute(self._options.source),
            "ce-type": f"io.driftd.{notice.purpose}",
            "ce-subject": attribute(notice.model),
            "ce-time": at,
            "content-type": "application/json",
        }
        headers |= {} if self._token is None else {"authorization": f"Bearer {self._token}"}
        return Request(self._options.url, encode(fitted(notice.body, N_BYTES)), headers)


def attribute(text: str) -> str:
    """An attribute as it stands in a header: what is not printable ASCII, and blank, quote and percent, as escapes.

    >>> attribute('modèle "a" 5%')
    'mod%C3%A8le%20%22a%22%205%25'
    """
    return re.sub(r'[^!-~]|["%]', _escape, text) or "%20"


def _escape(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "replace"))
