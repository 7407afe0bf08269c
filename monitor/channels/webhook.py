"""Notices as signed HTTP POSTs, after the Standard Webhooks specification: for retraining jobs and other machines.

Every attempt of one notice carries the same `webhook-id`, so a receiver that remembers ids runs a job once however
often the request arrives. The signature covers id, time of the attempt and the exact bytes of the body. Redirects are
not followed and proxies of the environment are not used: the configured URL is where the evidence goes, or nowhere.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Mapping
from typing import ClassVar, Final
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, Field, model_validator

from monitor.channels import Channel, Outcome, Refused, Retry, Sent, checked_url, exactly_one, seconds_asked
from monitor.message import Notice, encode

PREFIX: Final = "whsec_"
_LATER: Final = frozenset({408, 425, 429})
_ANSWER_BYTES: Final = 64 * 1024
TOLERANCE_SECONDS: Final = 300
_MAX_SIGNATURES: Final = 5
# httpx logs every URL in full and httpcore the headers of answers; some receivers take or return a token there.
for _library in ("httpx", "httpcore"):
    logging.getLogger(_library).setLevel(logging.WARNING)


class WebhookOptions(BaseModel):
    """Keys of a `[[channel]]` of kind webhook."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: str = Field(description="Where to POST. https, unless the host is this machine or allow_http is true.")
    secret_file: str | None = Field(
        default=None,
        description="File with the signing secret: whsec_ and base64, or plain text. Several, separated by white "
        "space, sign side by side while a secret is being replaced.",
    )
    secret_env: str | None = Field(default=None, description="Environment variable with the signing secret.")
    timeout: float = Field(default=15.0, gt=0, le=120, description="Seconds to wait for the receiver.")
    allow_http: bool = Field(default=False, description="Allow http to other machines; anyone on the way can read it.")

    @model_validator(mode="after")
    def _check(self) -> WebhookOptions:
        exactly_one("secret", self.secret_file, self.secret_env)
        try:
            checked_url(self.url, self.allow_http)
        except ValueError as error:
            raise ValueError(f"url: {error}") from None
        return self


class WebhookChannel(Channel):
    """POSTs the body of a notice as JSON. One call of `send` is one request.

    Sent on 2xx. Retry on 408, 425, 429, 5xx and when no answer came (the request may then have been received all the
    same). Refused on everything else: 410 as "gone", redirects because they are not followed.
    """

    kind: ClassVar[str] = "webhook"
    Options: ClassVar[type[BaseModel]] = WebhookOptions

    def __init__(
        self,
        name: str,  # noqa: ARG002  # contract
        options: BaseModel,
        secrets: Mapping[str, str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(options, WebhookOptions):
            raise TypeError(f"a webhook channel needs WebhookOptions, not {type(options).__name__}")
        self._url = options.url
        self._keys = keys(secrets.get("secret", ""))
        self._clock = clock
        # Notices are rare: a connection kept since the last one would mostly be dead by the next.
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=0)
        self._client = httpx.Client(timeout=options.timeout, limits=limits, follow_redirects=False, trust_env=False)

    def send(self, notice: Notice, parent: str | None) -> Outcome:  # noqa: ARG002  # a webhook has no threads
        body = encode(notice.body)
        now = self._clock()
        headers = {"content-type": "application/json", "user-agent": "driftd"} | signed(
            self._keys, webhook_id(notice.id), int(now), body
        )
        try:
            with self._client.stream("POST", self._url, content=body, headers=headers) as response:
                # Only the status counts; the rest is read so that the receiver can finish its answer in peace.
                with contextlib.suppress(httpx.HTTPError):
                    _skim(response)
                return _outcome(response, now)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Retry(f"no answer: {type(error).__name__}")

    def close(self) -> None:
        self._client.close()


def keys(secret: str) -> tuple[bytes, ...]:
    """The signing keys in a secret. ValueError, which never quotes it, when there is none or it is malformed."""
    found = []
    for word in secret.split():
        try:
            key = base64.b64decode(word[len(PREFIX) :], validate=True) if word.startswith(PREFIX) else word.encode()
        except (binascii.Error, ValueError):
            raise ValueError(f"secret: what follows {PREFIX} is not base64") from None
        if not key:
            raise ValueError(f"secret: nothing follows {PREFIX}")
        found.append(key)
    if not found:
        raise ValueError("secret: empty; put a signing secret into secret_file or secret_env")
    return tuple(found)


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


def _skim(response: httpx.Response) -> None:
    n_bytes = 0
    for chunk in response.iter_raw():
        n_bytes += len(chunk)
        if n_bytes > _ANSWER_BYTES:
            return


def _outcome(response: httpx.Response, now: float) -> Outcome:
    status = response.status_code
    if response.is_success:
        return Sent()
    if status in _LATER or status >= 500:
        return Retry(f"HTTP {status}", seconds_asked(response.headers.get("retry-after"), now))
    if status == 410:
        return Refused("gone")
    if response.is_redirect or 300 <= status < 400:
        return Refused(f"HTTP {status}: redirects are not followed; put the final address into url")
    return Refused(f"HTTP {status}")
