"""Notices as signed HTTP POSTs, after the Standard Webhooks specification: for retraining jobs and other machines.

Every attempt of one notice carries the same `webhook-id`, so a receiver that remembers ids runs a job once however
often the request arrives. The signature covers id, time of the attempt and the exact bytes of the body.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import ClassVar, Final
from urllib.parse import quote

from pydantic import BaseModel, Field, model_validator

from monitor.channels import TOOLS, Tools, exactly_one, own
from monitor.channels.evidence import fitted
from monitor.channels.http import HttpChannel, HttpOptions, Request
from monitor.message import Notice, encode

PREFIX: Final = "whsec_"
N_BYTES: Final = 20_000
"""What the specification advises not to exceed."""


class WebhookOptions(HttpOptions):
    """Keys of a `[[channel]]` of kind webhook."""

    url: str = Field(description="Where to POST. https, unless the host is this machine or allow_http is true.")
    secret_file: str | None = Field(
        default=None,
        description="File with the signing secret: whsec_ and base64, or plain text. Several, separated by white "
        "space, sign side by side while a secret is being replaced.",
    )
    secret_env: str | None = Field(default=None, description="Environment variable with the signing secret.")

    @model_validator(mode="after")
    def _check(self) -> WebhookOptions:
        exactly_one("secret", self.secret_file, self.secret_env)
        self.checked(url=self.url)
        return self


class WebhookChannel(HttpChannel):
    """POSTs the body of a notice as JSON. Sent on 2xx."""

    kind: ClassVar[str] = "webhook"
    Options: ClassVar[type[BaseModel]] = WebhookOptions

    def __init__(self, name: str, options: BaseModel, secrets: Mapping[str, str], tools: Tools = TOOLS) -> None:
        super().__init__(name, options, secrets, tools)
        self._url = own(options, WebhookOptions).url
        self._signer = Signer(secrets.get("secret", ""))

    def request(self, notice: Notice) -> Request:
        body = encode(fitted(notice.body, N_BYTES))
        marks = self._signer.signed(webhook_id(notice.id), int(self._clock()), body)
        return Request(self._url, body, {"content-type": "application/json"} | marks)


class Signer:
    """Signs with every key in a secret. ValueError, which never quotes it, when there is none or it is malformed."""

    def __init__(self, secret: str) -> None:
        self._keys = list(map(_key, secret.split()))
        if not self._keys:
            raise ValueError("secret: empty; put a signing secret into secret_file or secret_env")

    def __repr__(self) -> str:
        return "<secret>"

    def signed(self, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        """The three headers of Standard Webhooks; one signature per key."""
        content = f"{message_id}.{timestamp}.".encode() + body
        marks = (base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode() for key in self._keys)
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(f"v1,{mark}" for mark in marks),
        }


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text[len(PREFIX) :], validate=True) if text.startswith(PREFIX) else text.encode()
    except (binascii.Error, ValueError):
        raise ValueError(f"secret: what follows {PREFIX} is not base64") from None
    if not key:
        raise ValueError(f"secret: nothing follows {PREFIX}")
    return key


def webhook_id(notice_id: str) -> str:
    """A notice's id as it may stand in a header. Free of the ".", which separates the signed parts."""
    return quote(notice_id, safe="/:").replace(".", "%2E")
