"""Slack and a retraining job, played by real HTTP servers on this machine: for the demo and for tests.

Both keep every request, behave like the original as far as driftd can tell, and misbehave on order: each request takes
the next fault from a queue, in order of arrival. "Applied" below means that the request took effect although its
answer was lost or late, the case which a sender cannot tell from failure.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import parse_qsl

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
    """Answer 200 with something that is no JSON. Not applied."""
    return Fault("not_json", words=words)


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it arrived; header names in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: Json


class _Server(ThreadingHTTPServer):
    # Joined on close, so that no socket outlives the stand-in.
    daemon_threads = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is what many tests are about; nothing to print."""


class StandIn(ABC):
    """A server on a free port of 127.0.0.1, from entering the context until leaving it.

    requests: everything received so far, also what was answered with a fault.
    """

    def __init__(self) -> None:
        self.requests: list[Received] = []
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
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def order(self, *faults: Fault) -> None:
        """Add faults for the coming requests, one each."""
        with self._lock:
            self._faults.extend(faults)

    def __enter__(self) -> Self:
        self._closing.clear()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
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
    def _apply(self, request: Received) -> _Answer:
        """Take effect and say what to answer; runs under the lock."""

    def _take(self, request: Received) -> tuple[Fault, _Answer]:
        with self._lock:
            self.requests.append(request)
            fault = self._faults.popleft() if self._faults else well()
            if fault.kind in {"none", "hang", "drop"}:
                return fault, self._apply(request)
        return fault, _Answer(fault.status, {"ok": False, "error": fault.words or _slack_word(fault.status)})

    def _wait(self, seconds: float) -> None:
        self._closing.wait(seconds)


def _slack_word(code: int) -> str:
    return "ratelimited" if code == 429 else "service_unavailable"


def _handler(standin: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        # A connection that says nothing holds up closing for this long at most.
        timeout = 5.0

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            request = Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            fault, answer = standin._take(request)
            if fault.kind == "drop":
                return
            if fault.kind == "hang":
                standin._wait(fault.seconds)
            self._answer(fault, answer)

        def do_GET(self) -> None:
            # Nobody should come here; a redirected POST would, as a GET.
            request = Received(self.path, {name.lower(): value for name, value in self.headers.items()}, b"")
            with standin._lock:
                standin.requests.append(request)
            self._answer(well(), _Answer(405, {"ok": False, "error": "method_not_supported"}))

        def _answer(self, fault: Fault, answer: _Answer) -> None:
            words = fault.words if fault.kind == "not_json" else json.dumps(answer.body)
            self.send_response(answer.status)
            self.send_header("content-type", "text/html" if fault.kind == "not_json" else "application/json")
            if fault.retry_after is not None:
                self.send_header("retry-after", fault.retry_after)
            if fault.kind == "redirect":
                self.send_header("location", fault.words)
            self.end_headers()
            self.wfile.write(words.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class says so
            """Quiet."""

    return Handler


@dataclass(slots=True)
class Message:
    """One message in the stand-in's channel. edits: what it said before, oldest first; replies: its thread."""

    channel: str
    ts: str
    text: str
    blocks: list[Json]
    metadata: Json
    edits: list[str] = field(default_factory=list)
    replies: list[Message] = field(default_factory=list)


class SlackStandIn(StandIn):
    """Slack's chat.postMessage, chat.update and auth.test under `api_url`, with its limits on text and blocks.

    messages: the channel's own messages by ts, oldest first. channels: names that exist; None lets every name exist.
    """

    def __init__(self, token: str, channels: tuple[str, ...] | None = None) -> None:
        super().__init__()
        self.messages: dict[str, Message] = {}
        self._token = token
        self._channels = channels
        self._ids: dict[str, str] = {}
        self._n_posted = 0

    @property
    def api_url(self) -> str:
        """What to configure as base_url."""
        return f"{self.url}/api/"

    def _apply(self, request: Received) -> _Answer:
        given = request.headers.get("authorization", "")
        if not given:
            return _no("not_authed")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            return _no("invalid_auth")
        methods: dict[str, Callable[[Json], _Answer]] = {
            "/api/chat.postMessage": self._post,
            "/api/chat.update": self._update,
            "/api/auth.test": lambda _: _yes(url=self.url, team="stand-in", user="driftd", team_id="T1", user_id="U1"),
        }
        method = methods.get(request.path)
        if method is None:
            return _no("unknown_method")
        form = _form(request)
        return _no("invalid_json") if form is None else method(form)

    def _post(self, form: Json) -> _Answer:
        channel = self._id(str(form.get("channel", "")))
        fault = "channel_not_found" if channel is None else _message_fault(form)
        if channel is None or fault:
            return _no(fault)
        thread = form.get("thread_ts")
        if thread is not None and thread not in self.messages:
            return _no("thread_not_found")
        self._n_posted += 1
        ts = f"1700000000.{self._n_posted:06d}"
        said = Message(channel, ts, form["text"], form.get("blocks") or [], form.get("metadata") or {})
        if thread is None:
            self.messages[ts] = said
        else:
            self.messages[thread].replies.append(said)
        return _yes(channel=channel, ts=ts, message={"text": said.text, "ts": ts})

    def _update(self, form: Json) -> _Answer:
        if form.get("channel") not in self._ids.values():
            return _no("channel_not_found")
        message = self.messages.get(str(form.get("ts")))
        if message is None:
            return _no("message_not_found")
        if fault := _message_fault(form):
            return _no(fault)
        message.edits.append(message.text)
        message.text = form["text"]
        # As with Slack: what is left out stays as it was.
        message.blocks = form.get("blocks", message.blocks)
        message.metadata = form.get("metadata", message.metadata)
        return _yes(channel=message.channel, ts=message.ts, text=message.text)

    def _id(self, name: str) -> str | None:
        if name in self._ids.values():
            return name
        if not name.lstrip("#") or (self._channels is not None and name not in self._channels):
            return None
        return self._ids.setdefault(name, f"C{len(self._ids) + 1:08d}")


def _yes(**facts: Any) -> _Answer:
    return _Answer(200, {"ok": True, **facts})


def _no(code: str) -> _Answer:
    return _Answer(200, {"ok": False, "error": code})


def _form(request: Received) -> Json | None:
    try:
        if request.headers.get("content-type", "").startswith("application/json"):
            form = json.loads(request.body)
        else:
            form = dict(parse_qsl(request.body.decode(), strict_parsing=bool(request.body)))
            for name in form.keys() & {"blocks", "metadata"}:
                form[name] = json.loads(form[name])
    except ValueError:
        return None
    return form if isinstance(form, dict) else None


# Slack's documented limits, in UTF-16 units; the sum over a message is not documented and was found by others.
_TEXT, _SUM, _BLOCKS, _FIELDS, _ELEMENTS = 40_000, 13_200, 50, 10, 10
_LONGEST: Final = {"header": 150, "section": 3000, "field": 2000, "context": 3000}


def _message_fault(form: Json) -> str:
    """Slack's error code for a message that it would not take, or ""."""
    words, layout = form.get("text"), form.get("blocks") or []
    if not isinstance(words, str) or not words.strip():
        return "no_text"
    if _units(words) > _TEXT:
        return "msg_too_long"
    if not isinstance(layout, list) or len(layout) > _BLOCKS or not all(_is_sound(block) for block in layout):
        return "invalid_blocks"
    lengths = (_units(part["text"]) for block in layout for _, part in _parts(block))
    return "msg_blocks_too_long" if sum(lengths) > _SUM else ""


def _is_sound(block: Any) -> bool:
    if not isinstance(block, dict) or block.get("type") not in {"header", "section", "context", "divider"}:
        return False
    parts = _parts(block)
    if len(block.get("fields", [])) > _FIELDS or len(block.get("elements", [])) > _ELEMENTS:
        return False
    if not parts and block["type"] != "divider":
        return False
    plain_only = block["type"] == "header"
    return all(_is_text(part, _LONGEST[place], plain_only) for place, part in parts)


def _parts(block: Json) -> list[tuple[str, Json]]:
    """The texts of a block, each with the place whose limit it has."""
    own = [(block["type"], block["text"])] if "text" in block else []
    fields = [("field", part) for part in block.get("fields", [])]
    return own + fields + [("context", part) for part in block.get("elements", [])]


def _is_text(part: Any, limit: int, plain_only: bool) -> bool:
    if not isinstance(part, dict) or part.get("type") not in (
        {"plain_text"} if plain_only else {"plain_text", "mrkdwn"}
    ):
        return False
    words = part.get("text")
    return isinstance(words, str) and words.strip() != "" and _units(words) <= limit


def _units(words: str) -> int:
    return len(words.encode("utf-16-le", "replace")) // 2


class WebhookStandIn(StandIn):
    """A retraining job behind a webhook: checks the signature, starts one run per webhook-id, answers 202.

    runs: run names by webhook-id. bodies: the body of the request that started each run.
    """

    def __init__(self, secret: str, clock: Callable[[], float] = time.time, tolerance: float = 300.0) -> None:
        super().__init__()
        self.runs: dict[str, str] = {}
        self.bodies: dict[str, Json] = {}
        self._key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
        self._clock = clock
        self._tolerance = tolerance

    def _apply(self, request: Received) -> _Answer:
        key = request.headers.get("webhook-id", "")
        fault = self._unsigned(key, request)
        if fault:
            return _Answer(401, {"error": fault})
        try:
            body = json.loads(request.body)
        except ValueError:
            return _Answer(400, {"error": "the body is not JSON"})
        repeated = key in self.runs
        if not repeated:
            self.runs[key] = f"run-{len(self.runs) + 1}"
            self.bodies[key] = body
        return _Answer(202, {"run": self.runs[key], "repeated": repeated})

    def _unsigned(self, key: str, request: Received) -> str:
        """Why the request is not to be believed, or ""."""
        sent_at = request.headers.get("webhook-timestamp", "")
        if not key or "." in key or not sent_at.isdecimal():
            return "webhook-id or webhook-timestamp is missing or malformed"
        if abs(self._clock() - int(sent_at)) > self._tolerance:
            return "webhook-timestamp is too old or too new"
        digest = hmac.new(self._key, b".".join([key.encode(), sent_at.encode(), request.body]), hashlib.sha256).digest()
        wanted = b"v1," + base64.b64encode(digest)
        given = request.headers.get("webhook-signature", "").split()
        return "" if any(hmac.compare_digest(wanted, mark.encode()) for mark in given) else "no signature fits"
