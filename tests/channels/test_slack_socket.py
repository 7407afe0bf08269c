"""Buttons in Slack, over a real WebSocket: who may click, what a click orders, and what the one who clicked is told."""

from __future__ import annotations

import base64
import hashlib
import json
import socketserver
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest

from monitor.channels.slack import SlackChannel, SlackOptions
from monitor.demo.standins import Answer, Json, Received
from monitor.demo.standins.slack import SlackStandIn
from monitor.order import Acknowledge, Approve, Order, Snooze
from monitor.order import Answer as OrderAnswer
from tests.waiting import until

TOKEN, APP_TOKEN = "xoxb-canary-1", "xapp-canary-2"


class _Socket(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


class SocketStandIn(SlackStandIn):
    """Slack with Socket Mode: envelopes go out by `click`; acknowledged: the ids of those that were confirmed."""

    def __init__(self) -> None:
        super().__init__(TOKEN)
        self.acknowledged: list[str] = []
        self.connected = threading.Event()
        self._connection: Any = None
        standin = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                standin.serve(self.request)

        self._sockets = _Socket(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._sockets.serve_forever, args=(0.02,), daemon=True).start()

    def __exit__(self, *error: Any) -> None:
        self._sockets.shutdown()
        self._sockets.server_close()
        super().__exit__(*error)

    def _other(self, path: str, request: Received) -> Answer:
        if path != "/api/apps.connections.open":
            return super()._other(path, request)
        if request.headers.get("authorization") != f"Bearer {APP_TOKEN}":
            return Answer(200, {"ok": False, "error": "invalid_auth"})
        return Answer(200, {"ok": True, "url": f"ws://127.0.0.1:{self._sockets.server_address[1]}/link"})

    def serve(self, connection: Any) -> None:
        """One connection: the handshake, then what the client confirms."""
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(4096)
        key = next(
            line.split(":")[1].strip() for line in head.decode().splitlines() if line.startswith("Sec-WebSocket-K")
        )
        mark = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
        answer = f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {mark}\r\n\r\n"
        connection.sendall(answer.encode())
        self._connection = connection
        self._say({"type": "hello"})
        self.connected.set()
        file = connection.makefile("rb")
        while head := file.read(2):
            length = head[1] & 127
            length = struct.unpack(">H", file.read(2))[0] if length == 126 else length
            mask, body = file.read(4), file.read(length)
            words = bytes(byte ^ mask[i % 4] for i, byte in enumerate(body))
            if head[0] & 15 == 1:
                self.acknowledged.append(json.loads(words)["envelope_id"])

    def _say(self, document: Json) -> None:
        body = json.dumps(document).encode()
        self._connection.sendall(b"\x81\x7e" + struct.pack(">H", len(body)) + body)

    def click(self, envelope: str, user: str, action: str, value: str) -> None:
        """Somebody clicks a button."""
        payload = {
            "type": "block_actions", "user": {"id": user, "username": "ada"}, "channel": {"id": "C00000001"},
            "actions": [{"action_id": action, "value": value}],
        }  # fmt: skip
        self._say({"type": "interactive", "envelope_id": envelope, "payload": payload})


@contextmanager
def listening(slack: SocketStandIn, heard: list[Order]) -> Iterator[None]:
    def ask(order: Order) -> Future[OrderAnswer]:
        heard.append(order)
        answer: Future[OrderAnswer] = Future()
        answer.set_result(OrderAnswer(True, f"done & <{type(order).__name__}>"))
        return answer

    options = SlackOptions(
        channel="#a", token_file="t", app_token_file="a", users=("U1",), base_url=slack.api_url, allow_private=True
    )
    channel = SlackChannel("ops", options, {"token": TOKEN, "app_token": APP_TOKEN})
    channel.listen(ask)
    try:
        assert slack.connected.wait(20)
        yield
    finally:
        channel.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_clicks_of_those_on_the_list_become_orders_and_others_are_refused() -> None:
    heard: list[Order] = []
    with SocketStandIn() as slack, listening(slack, heard):
        slack.click("e1", "U1", "acknowledge", "inc-1")
        slack.click("e2", "U2", "resolve", "inc-1")
        slack.click("e3", "U1", "approve", "trg-1")
        slack.click("e4", "U1", "snooze:4 h", "inc-1")
        slack.click("e5", "U1", "explode", "inc-1")
        until(lambda: len(slack.acknowledged) == 5 and len(slack.whispers) == 4)
    assert sorted(slack.acknowledged) == ["e1", "e2", "e3", "e4", "e5"]
    found = {type(order): order for order in heard}
    assert found[Acknowledge] == Acknowledge(incident="inc-1", by="ada")
    assert found[Approve] == Approve(trigger="trg-1", by="ada")
    assert isinstance(found[Snooze], Snooze)
    assert len(heard) == 3
    told = {user: {words for who, words in slack.whispers if who == user} for user in ("U1", "U2")}
    assert told["U2"] == {"You are not on the list of those who may do this."}
    assert "done &amp; &lt;Acknowledge&gt;" in told["U1"]
