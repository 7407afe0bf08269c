"""An SMTP server: takes mail over STARTTLS or TLS, wants a login, and refuses or vanishes on order."""

from __future__ import annotations

import base64
import email
import socket
import socketserver
import ssl
import threading
from collections import deque
from email.message import EmailMessage
from email.policy import default
from types import TracebackType
from typing import Any, Self

from monitor.demo.standins import Fault
from tests.standins import Case
from tests.standins.certificate import authority, server_context


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = False
    allow_reuse_address = True

    def __init__(self, standin: SmtpStandIn) -> None:
        self.standin = standin
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up, or did not trust the certificate."""


class SmtpStandIn:
    """One server on 127.0.0.1. mails: what was taken; sessions: how many connections there were.

    Faults: status(code) answers the next message (DATA) with that code; drop_after_receipt and hang take it first.
    """

    def __init__(self, user: str, password: str, security: str, tls: ssl.SSLContext) -> None:
        self.mails: list[EmailMessage] = []
        self.requests: list[str] = []
        self.refused: dict[str, int] = {}
        self.login = (user, password)
        self.security = security
        self.tls = tls
        self._faults: deque[Fault] = deque()
        self._closing = threading.Event()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def order(self, *faults: Fault) -> None:
        """Add faults for the coming messages, one each."""
        self._faults.extend(faults)

    def __enter__(self) -> Self:
        self._closing.clear()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def next_fault(self) -> Fault:
        """What happens to the message that comes now."""
        return self._faults.popleft() if self._faults else Fault("none")

    def wait(self, seconds: float) -> None:
        """So long, or until the end."""
        self._closing.wait(seconds)


class _Handler(socketserver.BaseRequestHandler):
    """One connection: a command a line, until it ends."""

    def handle(self) -> None:
        self.standin: SmtpStandIn = self.server.standin  # type: ignore[attr-defined]
        self.standin.requests.append("connected")
        self.socket: socket.socket = self.request
        self.socket.settimeout(5)
        if self.standin.security == "tls":
            self.socket = self.standin.tls.wrap_socket(self.socket, server_side=True)
        self.file = self.socket.makefile("rb")
        self.safe, self.known = self.standin.security != "starttls", self.standin.security == "none"
        try:
            self.say("220 stand-in")
            while self.answer(self.file.readline(2000).decode().rstrip("\r\n")):
                pass
        finally:
            self.file.close()
            self.socket.close()

    def say(self, line: str) -> bool:
        self.socket.sendall(f"{line}\r\n".encode())
        return True

    def answer(self, line: str) -> bool:
        verb = line.upper().partition(" ")[0]
        if verb in {"EHLO", "RSET", "NOOP", "QUIT"}:
            return self.on_talk(verb)
        if verb == "STARTTLS" and not self.safe:
            self.say("220 go on")
            self.file.close()
            self.socket = self.standin.tls.wrap_socket(self.socket, server_side=True)
            self.file, self.safe = self.socket.makefile("rb"), True
            return True
        if not line:
            return False
        return self.on_mail(verb, line) if self.safe else self.say("530 Must issue a STARTTLS command first")

    def on_talk(self, verb: str) -> bool:
        if verb != "EHLO":
            self.say("221 bye" if verb == "QUIT" else "250 fine")
            return verb != "QUIT"
        for word in ("stand-in", *([] if self.safe else ["STARTTLS"]), "AUTH PLAIN LOGIN", "SMTPUTF8"):
            self.say(f"250-{word}")
        return self.say("250 8BITMIME")

    def on_mail(self, verb: str, line: str) -> bool:
        if verb == "AUTH":
            given = base64.b64decode(line.rsplit(maxsplit=1)[-1]).decode().split("\0")
            self.known = (given[-2], given[-1]) == self.standin.login
            return self.say("235 welcome" if self.known else f"535 {given[-1]} is not the password")
        if not self.known:
            return self.say("530 5.7.0 Authentication required")
        if verb == "MAIL":
            return self.say("250 fine")
        if verb == "RCPT":
            reader = line.partition("<")[2].partition(">")[0]
            return self.say(f"{self.standin.refused.get(reader, 250)} {reader}")
        return self.take() if verb == "DATA" else self.say("502 not known")

    def take(self) -> bool:
        self.say("354 go on")
        lines = []
        while (line := self.file.readline(100_000)) not in {b".\r\n", b""}:
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        fault = self.standin.next_fault()
        if fault.kind == "status":
            return self.say(f"{fault.status} no")
        self.standin.mails.append(email.message_from_bytes(b"".join(lines), policy=default))  # type: ignore[arg-type]
        if fault.kind == "drop":
            return False
        if fault.kind == "hang":
            self.standin.wait(fault.seconds)
        return self.say("250 taken")


class EmailCase(Case):
    kind = "email"
    secrets = {"password": "smtp-canary-01"}
    is_http = False

    def receiver(self, tls: ssl.SSLContext | None) -> SmtpStandIn:
        return SmtpStandIn("driftd", self.secrets["password"], "starttls", tls or server_context())

    def options(self, url: str) -> dict[str, Any]:
        host, _, port = url.partition(":")
        return {
            "host": host, "port": int(port), "sender": "driftd@example.org", "to": ["ada@example.org"],
            "user": "driftd", "password_file": "p", "ca_file": authority(),
        }  # fmt: skip

    def secrets_at(self, url: str) -> dict[str, str]:
        return {**self.secrets, "ca": authority()}

    def done(self) -> list[str]:
        return list(dict.fromkeys(mail["Message-ID"] for mail in self.standin.mails))

    def passing(self) -> tuple[Fault, str]:
        return Fault("status", 451), "451"

    def lasting(self) -> tuple[Fault, str]:
        return Fault("status", 554), "554"
