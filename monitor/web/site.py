"""What every handler works with: the state directory, the gate, and the service behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.exceptions import (
    HTTPException,
    NotAuthorizedException,
    PermissionDeniedException,
    ServiceUnavailableException,
    TooManyRequestsException,
)
from litestar.handlers import BaseRouteHandler

from monitor.health import Checks, Flow
from monitor.history import History
from monitor.order import Answer, Order
from monitor.web.gate import COOKIE, Gate, Session, TooMany

JobKeys = Mapping[tuple[str, str], tuple[bytes, ...]]

ANSWER_SECONDS: Final = 15.0
"""How long an order may take until it is on the disk."""
Connection = ASGIConnection[Any, Any, Any, Any]
Asked = Request[Any, Any, Any]


@dataclass(frozen=True, slots=True)
class Service:
    """What the running service can be asked. ask: for a change; it is done once it is on the disk."""

    ask: Callable[[Order], Future[Answer]]
    alive: Callable[[], Checks]
    ready: Callable[[], Checks]
    metrics: Callable[[], bytes]
    flow: Callable[[], Flow]
    reload: Callable[[], None]


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """One configuration's page.

    job_keys: with which a retraining job signs its call-back, by model and channel. unfit: why a directory cannot
    become a model's reference, "" if it can. public_url: under which people reach the page, "" for the address it
    listens on.
    """

    directory: Path
    gate: Gate
    service: Service
    job_keys: JobKeys = field(default_factory=dict)
    unfit: Callable[[str], str] = lambda _: "no reference is taken from call-backs here"
    public_url: str = ""

    @contextmanager
    def history(self) -> Iterator[History]:
        """What driftd remembers, for this thread."""
        history = History(self.directory)
        try:
            yield history
        finally:
            history.close()

    async def ordered(self, order: Order) -> Answer:
        """What came of an order."""
        future = asyncio.wrap_future(self.service.ask(order))
        try:
            return await asyncio.wait_for(asyncio.shield(future), ANSWER_SECONDS)
        except TimeoutError:
            raise ServiceUnavailableException(
                "driftd took the order and has not written it down yet; look again before you repeat it"
            ) from None


Here = NamedDependency[Site]
"""A handler's parameter of this type is the site that it serves."""


def site_of(connection: Connection) -> Site:
    """The site that a request came to."""
    return cast("Site", connection.app.state.site)


def session_of(connection: Connection) -> Session | None:
    """Who has logged in, if anybody."""
    return site_of(connection).gate.session(connection.cookies.get(COOKIE))


def address_of(connection: Connection) -> str:
    """Where a request comes from."""
    return connection.client.host if connection.client else ""


def may_read(connection: Connection, _: BaseRouteHandler) -> None:
    """A guard: the token, a session, or a place where reading is open."""
    if not is_reader(connection):
        raise unauthorized("send the token of [http] as a bearer token, or log in")


def may_change(connection: Connection, _: BaseRouteHandler) -> None:
    """A guard of the API: the token, and nothing a browser sends by itself."""
    if not site_of(connection).gate.has_token:
        raise PermissionDeniedException(
            "nothing can be changed here: the configuration has no token; set token_file or token_env under [http]"
        )
    if not has_token(connection):
        raise unauthorized("send the token of [http] as a bearer token")


def is_reader(connection: Connection) -> bool:
    """Whether the request may read. TooManyRequests where wrong tokens come and come."""
    gate = site_of(connection).gate
    return gate.is_open(connection.headers) or session_of(connection) is not None or has_token(connection)


def has_token(connection: Connection) -> bool:
    """Whether the request carries the token as a bearer."""
    try:
        return bool(site_of(connection).gate.bearer(connection.headers, address_of(connection)))
    except TooMany as fault:
        raise too_many(fault) from None


def too_many(fault: TooMany) -> HTTPException:
    """The answer to a flood of wrong tokens."""
    wait = str(max(1, round(fault.seconds)))
    return TooManyRequestsException(f"too many wrong tokens; try again in {wait} s", headers={"retry-after": wait})


def unauthorized(words: str) -> HTTPException:
    """The answer to a request without the token."""
    return NotAuthorizedException(words, headers={"www-authenticate": "Bearer"})
