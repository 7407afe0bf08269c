"""Notices by e-mail: plain text and HTML, one thread per incident.

A notice has the same Message-ID in every attempt, and all messages of an incident refer to one that stands for it, by
which mail programs put them together. The server is called with the same care as any receiver: its address is judged,
its certificate checked. An alert waits for its picture, within bounds: it is drawn in good time or left out.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as POLICY
from email.utils import format_datetime
from html import escape
from typing import ClassVar, Final

import msgspec
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from monitor.channels import TOOLS, Attempt, Channel, Outcome, Tools, own, password_of, words
from monitor.channels.http import trust
from monitor.channels.mask import readable
from monitor.channels.smtp import PORTS, Delivery, Security, Server
from monitor.message import AlertBody, Body, Notice, RetrainBody

_LOGGER: Final = logging.getLogger("driftd.channel")
FRESH_SECONDS: Final = 20.0
"""Age from which on an alert goes without its picture: what drew slowly for the mails before has held it up enough."""
_ADDRESS: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")


class EmailOptions(BaseModel):
    """Keys of a `[[channel]]` of kind email."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    host: str = Field(min_length=1, max_length=253, description="The SMTP server.")
    port: int | None = Field(
        default=None, gt=0, lt=65536, description="Its port; by default 587 with starttls, 465 with tls, 25 with none."
    )
    security: Security = Field(
        default="starttls", description="How the connection is protected; none only with allow_plain."
    )
    sender: str = Field(description="Who writes: driftd@example.com.")
    to: tuple[str, ...] = Field(min_length=1, max_length=100, description="Who reads.")
    user: str | None = Field(default=None, min_length=1, description="User, where the server wants a login.")
    password_file: str | None = Field(default=None, description="File with the user's password.")
    password_env: str | None = Field(default=None, description="Environment variable with the user's password.")
    timeout: float = Field(default=20.0, gt=0, le=120, description="Seconds to wait for the server, at each step.")
    allow_plain: bool = Field(default=False, description="Allow security = none; anyone on the way can read it.")
    allow_private: bool = Field(default=False, description="Allow a server at a loopback or private address.")
    ca_file: str | None = Field(
        default=None, description="File with the certificates (PEM) to trust instead of the public authorities'."
    )

    @field_validator("sender", "to")
    @classmethod
    def _addresses(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for address in (value,) if isinstance(value, str) else value:
            if not _ADDRESS.fullmatch(address):
                raise ValueError("wanted a plain address, name@example.com")
        return value

    @model_validator(mode="after")
    def _check(self) -> EmailOptions:
        if self.security == "none" and not self.allow_plain:
            raise ValueError(
                "security = none can be read and changed on the way; set allow_plain = true if it is meant"
            )
        password_of(self.user, self.password_file, self.password_env)
        if self.user is not None and self.security == "none":
            raise ValueError("a password does not go over a connection with security = none")
        return self


class EmailChannel(Channel):
    """Sent, with the Message-ID, when the server took the message for at least one reader."""

    kind: ClassVar[str] = "email"
    Options: ClassVar[type[BaseModel]] = EmailOptions

    def __init__(self, name: str, options: BaseModel, secrets: Mapping[str, str], tools: Tools = TOOLS) -> None:
        self._name = name
        self._options = chosen = own(options, EmailOptions)
        self._tools = tools
        self._tls = trust(secrets.get("ca", ""))
        self._server = Server(
            host=chosen.host,
            port=chosen.port or PORTS[chosen.security],
            security=chosen.security,
            domain=chosen.sender.partition("@")[2],
            user=chosen.user,
            password=secrets.get("password", ""),
            timeout=chosen.timeout,
            allow_private=chosen.allow_private,
        )

    def send(self, notice: Notice, attempt: Attempt) -> Outcome:
        delivery = Delivery(self._server, self._tls, self._tools)
        return delivery.deliver(self._message(notice, attempt), self._options.sender, self._options.to)

    def show(self, notice: Notice) -> str:
        return self._message(notice, Attempt()).as_string()

    def _message(self, notice: Notice, attempt: Attempt) -> EmailMessage:
        body, options = notice.body, self._options
        message = EmailMessage(policy=POLICY)
        message["Subject"] = subject(body)
        message["From"] = Address(display_name="driftd", addr_spec=options.sender)
        message["To"] = [Address(addr_spec=address) for address in options.to]
        message["Date"] = format_datetime(datetime.fromtimestamp(self._tools.clock(), UTC))
        domain = options.sender.partition("@")[2]
        message["Message-ID"] = f"<{_digest(notice.id)}@{domain}>"
        message["References"] = f"<{_digest('incident ' + notice.incident)}@{domain}>"
        if attempt.parent:
            message["In-Reply-To"] = message["References"]
        message["Auto-Submitted"] = "auto-generated"
        link = self._tools.link(notice)
        message.set_content(text(body, link))
        png = self._picture(notice, attempt)
        page = EmailMessage(policy=POLICY)
        page.set_content(html(body, link, picture=png is not None), subtype="html")
        if png is not None:
            page.add_related(png, "image", "png", cid="<picture>", filename="drift.png")
        message.make_alternative()
        message.attach(page)
        if isinstance(body, RetrainBody):
            evidence = msgspec.json.format(msgspec.json.encode(body), indent=2)
            message.add_attachment(evidence, "application", "json", filename="evidence.json")
        return message

    def _picture(self, notice: Notice, attempt: Attempt) -> bytes | None:
        """What the alert is about, drawn while the mail waits: nothing can be added to it later."""
        is_fresh = self._tools.clock() - attempt.queued_at < FRESH_SECONDS
        if not (is_fresh and isinstance(notice.body, AlertBody) and notice.body.columns):
            return None
        try:
            return self._tools.picture(notice)
        except Exception:  # drawing is the shell's, and whatever goes wrong there must not hold up the alert
            missing = {"event": "email.no_picture", "channel": self._name, "incident": notice.incident}
            _LOGGER.exception("channel %s: no picture of %s", self._name, notice.incident, extra=missing)
            return None


def subject(body: Body) -> str:
    """The same for every message of an incident: some mail programs make threads of equal subjects."""
    if words.is_digest(body):
        return readable(words.headline(body))[:150]
    test = "TEST " if body.test else ""
    return readable(f"[driftd] {test}{body.model[:60]}: incident {body.incident[:80]}")


def text(body: Body, link: str = "") -> str:
    """The message as plain text."""
    columns = [
        f"{column.column}{f' in {place}' if (place := words.place(column)) else ''}: {column.what}\n"
        f"    {words.numbers(column)}"
        for column in body.columns
    ]
    return "\n".join(
        [words.headline(body), "", *words.story(body), "", *columns, "", *_facts(body), *([link] if link else [])]
    )


def html(body: Body, link: str = "", *, picture: bool = False) -> str:
    """The message as HTML, without anything that would have to be loaded."""
    head = "".join(f"<th align=left>{name}</th>" for name in ("column", "segment", "what changed", "how much"))
    rows = "".join(
        f"<tr valign=top><td><code>{escape(column.column)}</code></td><td>{escape(words.place(column))}</td>"
        f"<td>{escape(column.what)}</td><td>{escape(words.numbers(column))}</td></tr>"
        for column in body.columns
    )
    image = '<p><img src="cid:picture" alt="The worst columns, reference against current" width="700"></p>'
    parts = [
        f"<h3>{escape(words.headline(body))}</h3>",
        *(f"<p>{escape(line)}</p>" for line in words.story(body)),
        f"<table cellpadding=6><tr>{head}</tr>{rows}</table>" if rows else "",
        image if picture else "",
        f"<p><small>{'<br>'.join(map(escape, _facts(body)))}</small></p>",
        f'<p><a href="{escape(link)}">More about it</a></p>' if link else "",
    ]
    return f"<html><body>{''.join(parts)}</body></html>"


def _facts(body: Body) -> list[str]:
    if words.is_digest(body):
        return []
    facts = [words.window(body.window), f"Reference {words.reference(body)}", f"Incident {body.incident}"]
    if isinstance(body, RetrainBody):
        return [*facts, f"Rows: {words.rows(body)}", f"Trigger {body.trigger}"]
    facts += [f"Retraining: {body.retraining}"] if body.retraining else []
    return facts + ([f"Acknowledged by {body.acknowledged}"] if body.acknowledged else [])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
