"""Receivers played by real HTTP servers on this machine, one file each: Slack and a retraining job, for the demo.

They keep every request, behave like the original as far as driftd can tell, and misbehave on order: each request takes
the next fault from a queue, in order of arrival. "Applied" below means that the request took effect although its
answer was lost or late, the case which a sender cannot tell from failure.
"""

from __future__ import annotations

import json
import ssl
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """One misbehaviour; made by the functions below."""

    kind: Literal["none", "status", "error", "hang", "drop", "redirect", "not_json"]
    status: int = 200
    retry_after: str | None = None
    seconds: float = 0.0
    words: str = ""


def well() -> Fault:
    """None: answer this request as usual, and keep the next fault for the next one."""
    return Fault("none")


def status(code: int, retry_after: float | str | None = None) -> Fault:
    """Answer with this HTTP status and, where given, a Retry-After header. Not applied."""
    return Fault("status", code, None if retry_after is None else str(retry_after))


def slack_error(code: str) -> Fault:
    """Answer 200 with Slack's {"ok": false, "error": code}. Not applied."""
    return Fault("error", words=code)


def hang(seconds: float) -> Fault:
    """Apply, and answer only after `seconds`, or when the stand-in is closed."""
    return Fault("hang", seconds=seconds)


def drop_after_receipt() -> Fault:
    """Apply, and close the connection without an answer."""
    return Fault("drop")


def redirect(location: str) -> Fault:
    """Answer 302 to `location`. Not applied."""
    return Fault("redirect", 302, words=location)


def not_json(words: str = "<html>welcome to the proxy</html>") -> Fault:
    """Answer 200 with these words, which are no JSON, or not the JSON that is wanted. Not applied."""
    return Fault("not_json", words=words)


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it arrived; header names in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    method: str = "POST"

    @property
    def query(self) -> dict[str, str]:
        """What stands after the "?"."""
        return dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        """The body as an HTML form."""
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))

    @property
    def json(self) -> Any:
        """The body as JSON; None when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Answer:
    """What to answer: JSON, or text as it is."""

    status: int
    body: Json | str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class _Server(ThreadingHTTPServer):
    # Joined on close, so that no socket outlives the stand-in.
    daemon_threads = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is what many tests are about; nothing to print."""


class StandIn(ABC):
    """A server on a free port of 127.0.0.1, from entering the context until leaving it.

    requests: everything received so far, also what was answered with a fault. tls: given, it speaks https.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Received] = []
        self._tls = tls
        self._faults: deque[Fault] = deque()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it listens, without a trailing slash."""
        if self._server is None:
            raise RuntimeError("the stand-in is not running; use it in a with statement")
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._server.server_address[1]}"

    def order(self, *faults: Fault) -> None:
        """Add faults for the coming requests, one each."""
        with self._lock:
            self._faults.extend(faults)

    def __enter__(self) -> Self:
        self._closing.clear()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name=type(self).__name__)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is None or self._thread is None:
            return
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server = self._thread = None

    @abstractmethod
    def _apply(self, request: Received) -> Answer:
        """Take effect and say what to answer; runs under the lock."""

    def _take(self, request: Received) -> tuple[Fault, Answer]:
        with self._lock:
            self.requests.append(request)
            fault = self._faults.popleft() if self._faults else well()
            if fault.kind in {"none", "hang", "drop"}:
                return fault, self._apply(request)
        if fault.kind == "not_json":
            return fault, Answer(200, fault.words)
        return fault, Answer(fault.status, {"ok": False, "error": fault.words or _slack_word(fault.status)})

    def _wait(self, seconds: float) -> None:
        self._closing.wait(seconds)


def _slack_word(code: int) -> str:
    return "ratelimited" if code == 429 else "service_unavailable"


def _handler(standin: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        # A connection that says nothing holds up closing for this long at most.
        timeout = 5.0

        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            fault, answer = standin._take(Received(self.path, headers, body, self.command))
            if fault.kind == "drop":
                return
            if fault.kind == "hang":
                standin._wait(fault.seconds)
            self._answer(fault, answer)

        def _answer(self, fault: Fault, answer: Answer) -> None:
            body = answer.body
            is_text = isinstance(body, str)
            self.send_response(answer.status)
            self.send_header("content-type", "text/html" if is_text else "application/json")
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if fault.retry_after is not None:
                self.send_header("retry-after", fault.retry_after)
            if fault.kind == "redirect":
                self.send_header("location", fault.words)
            self.end_headers()
            self.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class says so
            """Quiet."""

    return Handler
