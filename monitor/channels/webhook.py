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
TOLERANCE_SECONDS: Final = 300
_MAX_SIGNATURES: Final = 5


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
        self._keys = keys(secrets.get("secret", ""))

    def request(self, notice: Notice) -> Request:
        body = encode(fitted(notice.body, N_BYTES))
        marks = signed(self._keys, webhook_id(notice.id), int(self._clock()), body)
        return Request(self._url, body, {"content-type": "application/json"} | marks)


class Keys(tuple[bytes, ...]):
    """Signing keys, which do not show when what holds them is printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<secret>"


def keys(secret: str) -> Keys:
    """The signing keys in a secret. ValueError, which never quotes it, when there is none or it is malformed."""
    found = Keys(map(_key, secret.split()))
    if not found:
        raise ValueError("secret: empty; put a signing secret into secret_file or secret_env")
    return found


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


def signed(signing_keys: tuple[bytes, ...], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of Standard Webhooks; one signature per key."""
    content = f"{message_id}.{timestamp}.".encode() + body
    marks = (base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode() for key in signing_keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{mark}" for mark in marks),
    }


def mistrust(signing_keys: tuple[bytes, ...], headers: Mapping[str, str], body: bytes, now: float) -> str:
    """Why a request does not come from who has one of the keys, or ""; see `signed`. headers: names in lower case.

    A signature is good for five minutes, so that what was overheard cannot be sent again later.
    """
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    given = headers.get("webhook-signature", "").split()[:_MAX_SIGNATURES]
    if not message_id or not timestamp or not given:
        return "not signed: wanted the headers webhook-id, webhook-timestamp and webhook-signature"
    if not timestamp.isascii() or not timestamp.isdecimal() or len(timestamp) > 12:
        return "webhook-timestamp: wanted seconds since 1970"
    if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        return f"webhook-timestamp: more than {TOLERANCE_SECONDS} s from now; check the clocks"
    wanted = signed(signing_keys, message_id, int(timestamp), body)["webhook-signature"].split()
    pairs = [(one.encode(), other.encode()) for one in given for other in wanted]
    # Every pair is compared, so that time tells nothing of which one nearly matched.
    matches = sum(hmac.compare_digest(one, other) for one, other in pairs)
    return "" if matches else "webhook-signature: made with another secret, or of another body"


def misdirected(headers: Mapping[str, str], subject: str) -> str:
    """Why a signed request is not meant for this subject, or "": its id must be the subject, or begin with it and "/".

    The signature covers the id and the body, but not the address, to which anyone could send it. headers: names in
    lower case. subject: without "/".

    >>> misdirected({"webhook-id": "t-1/started"}, "t-1"), misdirected({"webhook-id": "t-1"}, "t-1")
    ('', '')
    >>> misdirected({"webhook-id": "t-12"}, "t-1")
    "webhook-id: found 't-12', wanted 't-1', or what begins with 't-1/'"
    """
    found = headers.get("webhook-id", "")
    if found.partition("/")[0] in {subject, webhook_id(subject)}:
        return ""
    return f"webhook-id: found {found[:100]!r}, wanted {subject!r}, or what begins with {subject + '/'!r}"
