"""HTTP for every channel that speaks it, with the care that a request to a configured address needs.

https unless `allow_http`; the server's certificate is checked. The host is resolved once, its addresses are judged, and
the connection goes to one that was judged, so that a name cannot change its meaning in between: link-local and cloud
metadata addresses are never called, loopback and private ones only with `allow_private`. Redirects are not followed,
proxies and logins of the environment not used, answers read up to a bound, and a request takes `timeout` in all.
"""

from __future__ import annotations

import json
import logging
import math
import ssl
import time
from abc import abstractmethod
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, Final

import certifi
import httpcore
from pydantic import BaseModel, ConfigDict, Field

from monitor.channels import TOOLS, Attempt, Channel, Outcome, Refused, Retry, Secret, Sent, Tools, own, word
from monitor.channels.address import checked_url, forbidden, reach
from monitor.channels.mask import forms, readable
from monitor.message import Notice

ANSWER_BYTES: Final = 2 * 1024 * 1024
"""Some receivers repeat the whole evidence, escaped."""
_LATER: Final = frozenset({408, 425, 429})
_SURE: Final = frozenset({408, 425, 429, 503})
"""Answers other than 2xx which say that nothing was done; after another 5xx something may have been."""
_WORDS: Final = {
    401: "the credentials are not accepted",
    403: "the credentials do not allow it",
    404: "there is nothing at this address, or the credentials do not show it",
    413: "the message is too long",
}
# These would log every URL in full and the headers of answers; some receivers take or return a token there.
logging.getLogger("httpcore").setLevel(logging.WARNING)


class HttpOptions(BaseModel):
    """Keys that every channel over HTTP has."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    timeout: float = Field(default=15.0, gt=0, le=120, description="Seconds to wait for the receiver.")
    allow_http: bool = Field(default=False, description="Allow http to other machines; anyone on the way can read it.")
    allow_private: bool = Field(
        default=False, description="Allow loopback and private addresses, for receivers inside your own network."
    )
    ca_file: str | None = Field(
        default=None, description="File with the certificates (PEM) to trust instead of the public authorities'."
    )

    def checked(self, **urls: str) -> None:
        """ValueError, with the key before it, for a URL that will never be called."""
        for key, url in urls.items():
            try:
                checked_url(url, self.allow_http, self.allow_private)
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None


def secret_url(secrets: Mapping[str, str], name: str, options: HttpOptions) -> Secret:
    """The URL that is the secret of that name. ValueError, which never quotes it, when it may not be called."""
    url = word(secrets, name)
    try:
        checked_url(url, options.allow_http, options.allow_private)
    except ValueError:
        wanted = "wanted https://host/path, or set allow_http or allow_private"
        raise ValueError(f"{name}: what {name}_file or {name}_env holds will not be called; {wanted}") from None
    return url


def basic(user: str, password: str) -> str:
    """The header `authorization` of a user with a password."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


@dataclass(frozen=True, slots=True)
class Request:
    """One request. url, headers and body may hold secrets."""

    url: str = field(repr=False)
    body: bytes = field(repr=False, default=b"")
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of any status. headers: names in lower case; body: at most what the client reads."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """The body as JSON; None when it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    def text(self, key: str) -> str:
        """A text or number in the body, when that is a JSON object; "" when it is not there, or not printable."""
        document = self.json()
        value = document.get(key) if isinstance(document, dict) else None
        return readable(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


class Http:
    """Sends requests, one connection each. It holds nothing open, and any thread may use it."""

    def __init__(self, options: HttpOptions, secrets: Mapping[str, str], tools: Tools = TOOLS) -> None:
        self._options = options
        self._authorities = secrets.get("ca", "")
        # Short words would be found where they are none.
        self._hidden = [form.encode() for secret in secrets.values() for form in forms(secret) if len(form) >= 8]
        self._tools = tools
        if self._authorities:
            _ = self.tls  # a file without certificates is to be known now

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """How servers prove who they are. ValueError when ca_file holds no certificates."""
        return trust(self._authorities)

    def ask(self, request: Request) -> Answer | Retry | Refused:
        """The answer, whatever its status; else what went wrong, as a channel's outcome."""
        try:
            checked_url(request.url, self._options.allow_http, self._options.allow_private)
        except ValueError as error:
            return Refused(str(error))
        line = _Line(self._tools, self._options)
        headers = {"user-agent": "driftd", "accept": "application/json", **request.headers}
        tls = self.tls if request.url.startswith("https:") else None
        limits = dict.fromkeys(("connect", "read", "write", "pool"), self._options.timeout)
        try:
            with (
                httpcore.ConnectionPool(ssl_context=tls, network_backend=line, max_keepalive_connections=0) as pool,
                pool.stream(
                    request.method, request.url, headers=list(headers.items()), content=request.body,
                    extensions={"timeout": limits},
                ) as response,
            ):  # fmt: skip
                named = {
                    name.decode("ascii").lower(): self._cleaned(value).decode("latin-1")
                    for name, value in response.headers
                }
                body = self._cleaned(_bounded(response.iter_stream(), ANSWER_BYTES))
                return Answer(response.status, named, body)
        except _ForbiddenError as error:
            return Refused(str(error))
        except (OSError, *_FAULTS) as error:
            return Retry(f"no {'answer' if line.wrote else 'connection'}: {cause_of(error)}", ambiguous=line.wrote)

    def _cleaned(self, answer: bytes) -> bytes:
        """What a receiver says, without a secret that it may repeat."""
        for secret in self._hidden:
            answer = answer.replace(secret, b"<secret>")
        return answer


def trust(authorities: str) -> ssl.SSLContext:
    """How servers prove who they are: by these certificates, or by the public authorities'. ValueError for none."""
    if not authorities:
        context = ssl.create_default_context()
        context.load_verify_locations(certifi.where())
        return context
    try:
        # Bundles name authorities in remarks, in any language.
        return ssl.create_default_context(cadata=authorities.encode("ascii", "ignore").decode())
    except ssl.SSLError:
        raise ValueError("ca_file: wanted certificates in PEM format, found none that can be read") from None


_FAULTS: Final = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
)


def _bounded(chunks: Iterable[bytes], limit: int) -> bytes:
    """The body, or its beginning. What comes after an answer's status changes nothing about what was done."""
    found = bytearray()
    try:
        for chunk in chunks:
            found += chunk
            if len(found) >= limit:
                break
    except (OSError, *_FAULTS):
        pass
    return bytes(found[:limit])


class _ForbiddenError(Exception):
    """A host has an address that is not called."""


class _Line(httpcore.NetworkBackend):
    """Connects to judged addresses alone and keeps one deadline. wrote: whether anything of a request went out."""

    def __init__(self, tools: Tools, options: HttpOptions) -> None:
        self._resolve = tools.resolve
        self._allow_private = options.allow_private
        self._deadline = time.monotonic() + options.timeout
        self._plain = httpcore.SyncBackend()
        self.wrote = False

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        found = [host] if reach(host) else self._resolve(host)
        if why := forbidden(host, found, self._allow_private):
            raise _ForbiddenError(why)
        fault: Exception = OSError(f"{host} has no address")
        for address in found:
            try:
                stream = self._plain.connect_tcp(address, port, self.left(), local_address, socket_options)
                return _Stream(stream, self)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                fault = error
        raise fault

    def left(self) -> float:
        """Seconds until the deadline; a timeout of httpcore when it has passed."""
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise httpcore.ReadTimeout("the time for the whole request is over")
        return seconds


class _Stream(httpcore.NetworkStream):
    """A stream that minds its line's deadline."""

    def __init__(self, stream: httpcore.NetworkStream, line: _Line) -> None:
        self._stream = stream
        self._line = line

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._line.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._line.wrote = self._line.wrote or bool(buffer)
        self._stream.write(buffer, self._line.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, self._line.left()), self._line)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def cause_of(error: BaseException) -> str:
    """What went wrong, in words that cannot quote a request: the class, and what the system or TLS says of it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate is not trusted: {cause.verify_message.rstrip('.')}"
        if isinstance(cause, OSError) and cause.strerror and not isinstance(cause, ssl.SSLError):
            return f"{type(cause).__name__} ({cause.strerror})"
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def failed(answer: Answer, now: float) -> Retry | Refused | None:
    """What an answer other than 2xx means, None for 2xx: later on 408, 425, 429 and 5xx; refused on everything else."""
    status = answer.status
    if 200 <= status < 300:
        return None
    if status in _LATER or status >= 500:
        return Retry(f"HTTP {status}", seconds_asked(answer.headers.get("retry-after"), now), status not in _SURE)
    if status == 410:
        return Refused("gone")
    if 300 <= status < 400:
        return Refused(f"HTTP {status}: redirects are not followed; put the final address into the configuration")
    return Refused(f"HTTP {status}: {_WORDS[status]}" if status in _WORDS else f"HTTP {status}")


def seconds_asked(retry_after: str | None, now: float) -> float | None:
    """Read a Retry-After header, in seconds or as an HTTP date, as seconds from `now`; None when absent or nonsense."""
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            at = parsedate_to_datetime(retry_after)
            seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


class HttpChannel(Channel):
    """A channel for which every notice is one request."""

    def __init__(self, name: str, options: BaseModel, secrets: Mapping[str, str], tools: Tools = TOOLS) -> None:
        self._http = Http(own(options, HttpOptions), secrets, tools)
        self._clock = tools.clock

    @abstractmethod
    def request(self, notice: Notice) -> Request:
        """What to send."""

    def outcome(self, answer: Answer) -> Outcome:
        """What the answer means."""
        return failed(answer, self._clock()) or Sent()

    def send(self, notice: Notice, attempt: Attempt) -> Outcome:
        if notice.purpose not in self.purposes:
            return Refused(f"a {self.kind} channel takes no {notice.purpose} notices")
        return self._deliver(notice)

    def _deliver(self, notice: Notice) -> Outcome:
        answer = self._http.ask(self.request(notice))
        return self.outcome(answer) if isinstance(answer, Answer) else answer

    def show(self, notice: Notice) -> str:
        return shown(self.request(notice))


def shown(request: Request) -> str:
    """A request for people to read."""
    lines = [f"{request.method} {request.url}", *(f"{name}: {value}" for name, value in request.headers.items())]
    return "\n".join([*lines, "", request.body.decode("utf-8", "replace")])
