"""Where notices go. One file per kind of channel; importing this package imports every file beside it.

A channel file holds its options (a pydantic model: one field per key of `[[channel]]`, documented there), the layout
of the message, and the delivery. Defining a Channel with a `kind` registers it; nothing else changes.

A channel answers with a value: Sent, Retry (may work later) or Refused (will never work as it is). It never retries by
itself; that is the outbox's business.
"""

from __future__ import annotations

import importlib
import ipaddress
import math
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import ClassVar, Final
from urllib.parse import urlsplit

from pydantic import BaseModel

from monitor.message import Notice


@dataclass(frozen=True, slots=True)
class Sent:
    """Delivered. receipt: what the receiver needs to find the message again (Slack: "channel/ts"), or ""."""

    receipt: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not delivered, or not known to be. after_seconds: what the receiver asked for, None when it did not say."""

    reason: str
    after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Will never be delivered as it is: a person must look. reason names no secret."""

    reason: str


Outcome = Sent | Retry | Refused


class Channel(ABC):
    """One configured destination.

    kind: the word in the configuration. Options: pydantic model of the keys that this kind adds to `name` and `kind`;
    a key `x_file` or `x_env` names a secret and arrives resolved in `secrets["x"]`, never in a value.
    """

    kind: ClassVar[str]
    Options: ClassVar[type[BaseModel]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "kind" in cls.__dict__:
            REGISTRY[cls.kind] = cls

    @abstractmethod
    def __init__(self, name: str, options: BaseModel, secrets: Mapping[str, str]) -> None: ...

    @abstractmethod
    def send(self, notice: Notice, parent: str | None) -> Outcome:
        """Deliver one notice. parent: the receipt of the incident's first message here, where there is one."""

    def close(self) -> None:  # noqa: B027  # most channels hold nothing open
        """Let go of connections."""


def exactly_one(secret: str, file: str | None, env: str | None) -> None:
    """ValueError unless exactly one of `<secret>_file` and `<secret>_env` is set."""
    if (file is None) == (env is None):
        found = "neither is" if file is None else "both are"
        raise ValueError(f"set exactly one of {secret}_file and {secret}_env; {found} set")


def checked_url(url: str, allow_http: bool) -> str:
    """The URL itself, or ValueError: https wanted; http only to this machine, or anywhere with `allow_http`."""
    parts = urlsplit(url)
    host = parts.hostname
    if parts.scheme not in {"http", "https"} or not host or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("not a URL of the form https://host/path")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL with user:password@ would show up in logs; leave that part out")
    if parts.scheme == "http" and not allow_http and not _is_loopback(host):
        raise ValueError(f"http to {host} can be read and changed on the way; use https or set allow_http = true")
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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


REGISTRY: Final[dict[str, type[Channel]]] = {}

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
