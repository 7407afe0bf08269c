"""Where notices go. One file per kind of channel; importing this package imports every file beside it.

A channel file holds its options (a pydantic model: one field per key of `[[channel]]`, documented there), the layout
of the message, and the delivery. Defining a Channel with a `kind` registers it; nothing else changes.

A channel answers with a value: Sent, Retry (may work later) or Refused (will never work as it is). It never retries by
itself; that is the outbox's business.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

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


REGISTRY: Final[dict[str, type[Channel]]] = {}

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
