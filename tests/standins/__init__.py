"""How the contract of channels meets each kind: a stand-in that plays the receiver, and a channel that points to it.

A file here holds one receiver, which checks what it gets against what the original publishes, and at its end the case
that registers it. A kind without a case fails the contract.
"""

from __future__ import annotations

import importlib
import pkgutil
import ssl
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Any, ClassVar, Final, Self

from monitor.channels import REGISTRY, Channel, Tools
from monitor.demo.standins import Answer, Fault, Received, drop_after_receipt, hang, status
from monitor.message import Body, Purpose
from tests.bodies import make_alert, make_retrain

CANARY: Final = "canary"
LOCAL: Final = {"allow_private": True}


class Case(ABC):
    """One kind of channel and its receiver, from entering the context until leaving it.

    secrets: what the channel is given; each holds the word "canary". is_idempotent: whether a repeat changes nothing.
    reads_answers: whether an answer of 200 alone does not convince it. n_requests: of one delivery.
    """

    kind: ClassVar[str]
    secrets: ClassVar[Mapping[str, str]] = {}
    is_idempotent: ClassVar[bool] = True
    reads_answers: ClassVar[bool] = True
    is_http: ClassVar[bool] = True
    n_requests: ClassVar[int] = 1

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "kind" in cls.__dict__:
            CASES[cls.kind] = cls

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.standin: Any = self.receiver(tls)

    def __enter__(self) -> Self:
        self.standin.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.standin.__exit__(kind, error, trace)

    @abstractmethod
    def receiver(self, tls: ssl.SSLContext | None) -> Any:
        """The stand-in."""

    @abstractmethod
    def options(self, url: str) -> dict[str, Any]:
        """Options of a channel that calls this URL."""

    @abstractmethod
    def done(self) -> list[str]:
        """What took effect, by the idempotency key that it came with; a repeat that did nothing is not in it."""

    def secrets_at(self, url: str) -> dict[str, str]:
        """The secrets of a channel that calls this URL."""
        return dict(self.secrets)

    def open(self, tools: Tools | None = None, url: str | None = None, **more: Any) -> Channel:
        """A channel to the stand-in, or to another URL. more: options besides those of the case."""
        cls = REGISTRY[self.kind]
        at = url or self.standin.url
        secrets = self.secrets_at(at)
        secrets |= {"ca": more["ca_file"]} if "ca_file" in more else {}
        return cls("ops", cls.Options(**{**LOCAL, **self.options(at), **more}), secrets, tools or Tools())

    def body(self, purpose: Purpose, **changes: Any) -> Body:
        """A body of this purpose."""
        if purpose is Purpose.RETRAIN:
            return make_retrain(**changes)
        return make_alert(**({"change": "digest"} if purpose is Purpose.DIGEST else {}), **changes)

    @property
    def purpose(self) -> Purpose:
        """One that the kind takes."""
        return next(purpose for purpose in Purpose if purpose in REGISTRY[self.kind].purposes)

    @property
    def n_received(self) -> int:
        """How often something was asked of the stand-in."""
        return len(self.standin.requests)

    def order(self, *faults: Fault) -> None:
        """Misbehave in the coming deliveries."""
        self.standin.order(*faults)

    def passing(self) -> tuple[Fault, str]:
        """A fault that may pass, and a word of its reason."""
        return status(503, 7), "503"

    def lasting(self) -> tuple[Fault, str]:
        """A fault that a person has to mend."""
        return status(401), "401"

    def lost(self) -> Fault:
        """The request takes effect, its answer is lost."""
        return drop_after_receipt()

    def stuck(self) -> Fault:
        """The request takes effect, and no answer comes."""
        return hang(30)


def problem(code: int, words: str) -> Answer:
    """A refusal as most APIs have it."""
    return Answer(code, {"message": words})


def bearer(request: Received) -> str:
    """The token of a request, "" where there is none."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token if kind == "Bearer" else ""


def is_text(value: object, longest: int) -> bool:
    """Whether this is text of a length that is taken."""
    return isinstance(value, str) and 0 < len(value) <= longest


CASES: Final[dict[str, type[Case]]] = {}

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
