"""Handing one e-mail to a server, and what its answers mean."""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Final, Literal

from monitor.channels import Outcome, Refused, Retry, Sent, Tools
from monitor.channels.address import forbidden, reach
from monitor.channels.http import cause_of

PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}
Security = Literal["starttls", "tls", "none"]
Step = Literal["connection", "greeting", "encryption", "login", "sender", "recipient", "message"]
_HINTS: Final = {535: ": the login is not accepted", 550: ": no such reader", 552: ": the message is too long"}


@dataclass(frozen=True, slots=True)
class Server:
    """Where mail is handed over. domain: by which the sender's machine names itself."""

    host: str
    port: int
    security: Security
    domain: str
    user: str | None
    password: str = field(repr=False)
    timeout: float
    allow_private: bool


class Delivery:
    """One message on its way. step: how far it came; only from "message" on may it have been taken."""

    def __init__(self, server: Server, tls: ssl.SSLContext, tools: Tools) -> None:
        self._server = server
        self._tls = tls
        self._resolve = tools.resolve
        self.step: Step = "connection"

    def deliver(self, message: EmailMessage, sender: str, readers: tuple[str, ...]) -> Outcome:
        """Sent, with the Message-ID, when the server takes it for at least one reader."""
        host = self._server.host
        try:
            found = [host] if reach(host) else self._resolve(host)
            if why := forbidden(host, found, self._server.allow_private):
                return Refused(why)
            smtp = self._connected(list(found))
        except (smtplib.SMTPException, OSError) as error:
            return self._failed(error)
        try:
            return self._hand_over(smtp, message, sender, readers)
        except (smtplib.SMTPException, OSError) as error:
            return self._failed(error)
        finally:
            # Whatever a server says to a good-bye changes nothing about what it took.
            with contextlib.suppress(smtplib.SMTPException, OSError):
                smtp.quit()
            smtp.close()

    def _connected(self, addresses: list[str]) -> smtplib.SMTP:
        server = self._server
        smtp = _Smtp(local_hostname=server.domain, timeout=server.timeout)
        smtp.judged = addresses
        smtp.wrapper = self._tls if server.security == "tls" else None
        # The name by which the certificate is checked; smtplib takes it from its constructor, which would connect.
        smtp._host = server.host  # type: ignore[attr-defined]  # smtplib's own, which its types leave out
        reply = smtp.connect(server.host, server.port)
        if reply[0] != 220:
            smtp.close()
            raise smtplib.SMTPResponseException(*reply)
        return smtp

    def _hand_over(self, smtp: smtplib.SMTP, message: EmailMessage, sender: str, readers: tuple[str, ...]) -> Outcome:
        self.step = "greeting"
        _positive(smtp.ehlo())
        if self._server.security == "starttls":
            self.step = "encryption"
            _positive(smtp.starttls(context=self._tls))
            _positive(smtp.ehlo())
        if self._server.user is not None:
            self.step = "login"
            smtp.login(self._server.user, self._server.password)
        self.step = "sender"
        _positive(smtp.mail(sender))
        self.step = "recipient"
        refused = [code for code in (smtp.rcpt(reader)[0] for reader in readers) if code not in {250, 251}]
        if len(refused) == len(readers):
            return self._judged(min(refused))
        self.step = "message"
        _positive(smtp.data(message.as_bytes()))
        return Sent(str(message["Message-ID"]))

    def _failed(self, error: Exception) -> Outcome:
        if isinstance(error, smtplib.SMTPResponseException):
            return self._judged(error.smtp_code)
        if isinstance(error, smtplib.SMTPNotSupportedError):
            return Refused(f"the server offers no {self.step}")
        return Retry(f"at the {self.step}: {cause_of(error)}", ambiguous=self.step == "message")

    def _judged(self, code: int) -> Outcome:
        """What a server's no means: its 4xx pass, its 5xx do not. Its words may hold anything and are not repeated."""
        reason = f"SMTP {code} at the {self.step}{_HINTS.get(code, '')}"
        return Refused(reason) if 500 <= code < 600 else Retry(reason)


class _Smtp(smtplib.SMTP):
    """Connects to addresses that were judged, whatever the name means by now. wrapper: encrypts from the first byte."""

    judged: list[str]
    wrapper: ssl.SSLContext | None

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        fault: OSError = OSError(f"{host} has no address")
        for address in self.judged:
            try:
                plain = socket.create_connection((address, port), timeout)
            except OSError as error:
                fault = error
                continue
            return plain if self.wrapper is None else self.wrapper.wrap_socket(plain, server_hostname=host)
        raise fault


def _positive(reply: tuple[int, bytes]) -> None:
    if not 200 <= reply[0] < 300:
        raise smtplib.SMTPResponseException(*reply)
