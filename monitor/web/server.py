"""One listening socket, and the thread that answers on it."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import uvicorn

from monitor.config import address

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

READERS: Final = 4
"""Threads that read the database for pages."""
CONNECTIONS: Final = 100
STOP_SECONDS: Final = 3.0

logging.getLogger("uvicorn").setLevel(logging.WARNING)


class Server:
    """The socket is bound when it is made, and answers once it is started.

    application: what answers; it may be exchanged at any time, requests under way stay with the old one.
    """

    def __init__(self, listen: str) -> None:
        """OSError when the address cannot be had, ValueError when it is none."""
        self.listen = listen
        self.application: Application | None = None
        self._socket = _bound(*address(listen))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Event | None = None
        config = uvicorn.Config(
            self._answer, interface="asgi3", loop="asyncio", http="h11", ws="none", lifespan="off", log_config=None,
            access_log=False, server_header=False, proxy_headers=False, limit_concurrency=CONNECTIONS,
            timeout_keep_alive=5, timeout_graceful_shutdown=1, h11_max_incomplete_event_size=16_384,
        )  # fmt: skip
        self._uvicorn = uvicorn.Server(config)
        # daemon: a page that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name="page", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    def show(self, application: Any) -> None:
        """Answer with this ASGI application from now on."""
        self.application = application

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        """Answer."""
        self._thread.start()

    def stop(self) -> None:
        """End streams, let requests under way finish for a second, and let go of the socket."""
        self._uvicorn.should_exit = True
        if self._thread.is_alive():
            if self._loop is not None and self._closing is not None:
                self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join(STOP_SECONDS)
        self._socket.close()

    def _work(self) -> None:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            loop.set_default_executor(ThreadPoolExecutor(READERS, "page-reader"))
            self._closing, self._loop = asyncio.Event(), loop
            try:
                runner.run(self._uvicorn.serve(sockets=[self._socket]))
            except Exception:  # the service goes on without its page
                log.exception("the page has ended", extra={"event": "page.ended"})

    async def _answer(self, scope: Any, receive: Receive, send: Send) -> None:
        if self.application is None or self._closing is None:
            raise RuntimeError("the server was started without an application")
        closing = self._closing
        waiting: asyncio.Future[Message] | None = None

        async def received() -> Message:
            nonlocal waiting
            waiting = waiting or asyncio.ensure_future(receive())
            ended = asyncio.ensure_future(closing.wait())
            both: set[asyncio.Future[Any]] = {waiting, ended}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            if not waiting.done():
                return {"type": "http.disconnect"}
            message, waiting = waiting.result(), None
            return message

        try:
            await self.application(scope, received, send)
        finally:
            if waiting is not None:
                waiting.cancel()


def is_local(listen: str) -> bool:
    """Whether only this machine reaches the address."""
    host, _ = address(listen)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except UnicodeError as error:
        raise OSError(f"{host} is no name of a host") from error
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening
