"""Where notices go. One file per kind of channel; importing this package imports every file beside it.

A channel file holds its options (a pydantic model: one field per key of `[[channel]]`, documented there), the layout
of the message, and the delivery. Defining a Channel with a `kind` registers it; nothing else changes. Channels that
start retraining jobs build on `job.JobChannel`, others that speak HTTP on `http.HttpChannel`.

A channel answers with a value: Sent, Retry (may work later) or Refused (will never work as it is). It never retries by
itself; that is the outbox's business.
"""

from __future__ import annotations

import errno
import importlib
import pkgutil
import re
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import ClassVar, Final, TypeVar

import msgspec
from pydantic import BaseModel

from monitor.message import Notice, Purpose
from monitor.order import Answer as OrderAnswer
from monitor.order import Order


@dataclass(frozen=True, slots=True)
class Sent:
    """Delivered. receipt: what the receiver needs to find the message again (Slack: "channel/ts"), or what it calls the
    run that it started, or ""."""

    receipt: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not delivered, or not known to be. after_seconds: what the receiver asked for, None when it did not say.

    ambiguous: the receiver may have taken it all the same; only its answer is missing.
    """

    reason: str
    after_seconds: float | None = None
    ambiguous: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Will never be delivered as it is: a person must look. reason names no secret."""

    reason: str


Outcome = Sent | Retry | Refused


@dataclass(frozen=True, slots=True)
class Attempt:
    """What went before. number: of this attempt, from 1. queued_at: when the notice was made, in epoch seconds.

    parent: the receipt of the incident's first message in this channel, where there is one. ambiguous: an earlier
    attempt may have got through.
    """

    parent: str | None = None
    number: int = 1
    ambiguous: bool = False
    queued_at: float = 0.0


def addresses(host: str) -> Sequence[str]:
    """The IP addresses of a host, as the system resolves it; OSError when it does not."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError(errno.EINVAL, "no name that could be looked up") from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _no_picture(_: Notice) -> bytes | None:
    return None


def _no_link(_: Notice) -> str:
    return ""


def _no_report(_: Notice, __: Callable[[bytes], None]) -> None:
    return None


def _at_once(errand: Callable[[], object]) -> bool:
    errand()
    return True


@dataclass(frozen=True, slots=True)
class Tools:
    """What a channel works with beyond its options; the shell and tests give others.

    clock: epoch seconds. resolve: the addresses of a host. picture: a PNG that shows what a notice is about, None where
    there is none; called only by channels that can show one, and only when they do. link: where people read more of
    what a notice is about, "" where nowhere; report_link: where its report is, or will be, "" where nowhere. report:
    hands over that report, HTML, in some other thread once it is made; does nothing where none is made by itself.
    later: does what may follow a message, in some other thread, so that the next message does not wait for it; False
    where too much waits there, and it will not be done.
    """

    clock: Callable[[], float] = time.time
    resolve: Callable[[str], Sequence[str]] = addresses
    picture: Callable[[Notice], bytes | None] = _no_picture
    link: Callable[[Notice], str] = _no_link
    report_link: Callable[[Notice], str] = _no_link
    report: Callable[[Notice, Callable[[bytes], None]], None] = _no_report
    later: Callable[[Callable[[], object]], bool] = _at_once


TOOLS: Final = Tools()
Ask = Callable[[Order], "Future[OrderAnswer]"]
"""Hands an order to the service; its answer comes later."""


class Channel(ABC):
    """One configured destination.

    kind: the word in the configuration. Options: pydantic model of the keys that this kind adds to `name` and `kind`;
    a key `x_file` or `x_env` names a secret and arrives resolved in `secrets["x"]`, never in a value. purposes: of the
    notices that it takes; the others it refuses. pace: seconds to leave between two notices, as the receiver wants it.
    """

    kind: ClassVar[str]
    Options: ClassVar[type[BaseModel]]
    purposes: ClassVar[frozenset[Purpose]] = frozenset(Purpose)
    pace: float = 0.0

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "kind" in cls.__dict__:
            REGISTRY[cls.kind] = cls

    @abstractmethod
    def __init__(self, name: str, options: BaseModel, secrets: Mapping[str, str], tools: Tools = TOOLS) -> None:
        """Connects to nothing yet. ValueError, which quotes no secret, when a secret does not fit."""

    @abstractmethod
    def send(self, notice: Notice, attempt: Attempt) -> Outcome:
        """Deliver one notice."""

    def show(self, notice: Notice) -> str:
        """What would be sent, for a person who tries the channel. May hold secrets; the caller masks them."""
        return msgspec.json.format(msgspec.json.encode(notice.body), indent=2).decode()

    def rehearse(self, notice: Notice) -> Outcome | None:
        """Let the receiver check the notice without acting on it; None where it cannot do that."""
        return None

    def listen(self, ask: Ask) -> None:  # noqa: B027  # most channels hear nothing
        """Begin to hear what people do with messages there, until `close`."""

    def close(self) -> None:  # noqa: B027  # most channels hold nothing open
        """Let go of connections."""


class Secret(str):
    """A secret's text that does not show when the object that holds it is printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<secret>"


def word(secrets: Mapping[str, str], name: str) -> Secret:
    """The secret of that name. ValueError, which never quotes it, unless it is one word of printable ASCII."""
    text = secrets.get(name, "").strip()
    # Anything else would surface inside the error that an HTTP library raises about a header.
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError(f"{name}: wanted one word of printable ASCII; look into {name}_file or {name}_env")
    return Secret(text)


def exactly_one(secret: str, file: str | None, env: str | None) -> None:
    """ValueError unless exactly one of `<secret>_file` and `<secret>_env` is set."""
    if (file is None) == (env is None):
        found = "neither is" if file is None else "both are"
        raise ValueError(f"set exactly one of {secret}_file and {secret}_env; {found} set")


def password_of(user: str | None, file: str | None, env: str | None) -> None:
    """ValueError unless a user has exactly one of password_file and password_env, and nobody else has either."""
    if user is not None:
        exactly_one("password", file, env)
    elif file is not None or env is not None:
        raise ValueError("user: is required with a password")


Kind = TypeVar("Kind", bound=BaseModel)


def own(options: BaseModel, kind: type[Kind]) -> Kind:
    """The options as a channel's own kind of them; TypeError when they are another's."""
    if not isinstance(options, kind):
        raise TypeError(f"wanted {kind.__name__}, not {type(options).__name__}")
    return options


REGISTRY: Final[dict[str, type[Channel]]] = {}

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
