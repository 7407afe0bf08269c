"""Who may look and who may change things.

One token, from the configuration, opens everything: as a bearer token for programs, or once at the login form, which
gives a session. A session is a signed cookie; nothing of it is remembered here, and a new token ends them all. Where
driftd listens on this machine alone, reading is open, unless the request came through a proxy or under a foreign name:
then others than this machine's own people ask.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

COOKIE: Final = "driftd_session"
SESSION_SECONDS: Final = 12 * 3600
MIN_TOKEN: Final = 16
FAILURES: Final = 10
"""Wrong tokens from one address within `SPELL_SECONDS`, after which it is not listened to until they are over."""
SPELL_SECONDS: Final = 60.0
N_ADDRESSES: Final = 1_000
_OWN_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip")


class Session(msgspec.Struct, frozen=True, array_like=True):
    """A person who has logged in. key: random, so that no two sessions share a form's mark."""

    name: str
    until: int
    key: str


class TooMany(Exception):
    """Too many wrong tokens came from there; try again in `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Gate:
    """Checks tokens, sessions and forms."""

    def __init__(self, token: str | None, *, local: bool, clock: Callable[[], float] = time.time) -> None:
        """local: whether driftd listens on this machine alone."""
        self._digest = None if token is None else hashlib.sha256(token.encode()).digest()
        self._key = hmac.new((token or secrets.token_hex()).encode(), b"driftd session", hashlib.sha256).digest()
        self._local = local
        self._clock = clock
        self._failures: dict[str, deque[float]] = {}

    @property
    def has_token(self) -> bool:
        """Whether anything can be changed at all."""
        return self._digest is not None

    def is_open(self, headers: Mapping[str, str]) -> bool:
        """Whether this request may read without a token. headers: names in lower case."""
        return self._local and host_of(headers) in _OWN_NAMES and not any(name in headers for name in _FORWARDED)

    def admits(self, token: str, address: str) -> bool:
        """Whether this is the token. TooMany where an address tries and tries."""
        recent = self._recent(address)
        if len(recent) >= FAILURES:
            raise TooMany(recent[0] + SPELL_SECONDS - self._clock())
        given = hashlib.sha256(token.encode()).digest()
        if self._digest is not None and hmac.compare_digest(given, self._digest):
            return True
        recent.append(self._clock())
        return False

    def bearer(self, headers: Mapping[str, str], address: str) -> bool | None:
        """Whether the request carries the token; None when it carries none at all."""
        kind, _, token = headers.get("authorization", "").partition(" ")
        return self.admits(token.strip(), address) if kind.lower() == "bearer" else None

    def opened(self, name: str) -> str:
        """A new session, as the value of its cookie."""
        session = Session(name, int(self._clock()) + SESSION_SECONDS, secrets.token_urlsafe(12))
        body = base64.urlsafe_b64encode(msgspec.json.encode(session)).decode()
        return f"{body}.{self._mark('session', body)}"

    def session(self, cookie: str | None) -> Session | None:
        """The session of a cookie; None when it is none of ours, or over."""
        body, _, mark = (cookie or "").partition(".")
        if not hmac.compare_digest(mark.encode(), self._mark("session", body).encode()):
            return None
        session = msgspec.json.decode(base64.urlsafe_b64decode(body), type=Session)
        return session if session.until > self._clock() else None

    def form_mark(self, session: Session) -> str:
        """What every form of this session carries, so that no other site can send it."""
        return self._mark("form", session.key)

    def is_own_form(self, session: Session, mark: str) -> bool:
        """Whether a form was made for this session."""
        return hmac.compare_digest(mark.encode(), self.form_mark(session).encode())

    def _mark(self, purpose: str, body: str) -> str:
        return hmac.new(self._key, f"{purpose}:{body}".encode(), hashlib.sha256).hexdigest()

    def _recent(self, address: str) -> deque[float]:
        """Times of the wrong tokens from an address within the last spell."""
        begin = self._clock() - SPELL_SECONDS
        if address not in self._failures and len(self._failures) >= N_ADDRESSES:
            self._failures = {known: times for known, times in self._failures.items() if times and times[-1] > begin}
            # A flood of addresses shares one count rather than all memory.
            address = "others" if len(self._failures) >= N_ADDRESSES else address
        times = self._failures.setdefault(address, deque(maxlen=FAILURES))
        while times and times[0] <= begin:
            times.popleft()
        return times


def host_of(headers: Mapping[str, str]) -> str:
    """The name under which the request asked for us, without the port."""
    host = headers.get("host", "")
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def is_same_site(headers: Mapping[str, str]) -> bool:
    """Whether a browser sent this from one of our own pages; true of what is no browser."""
    fetched = headers.get("sec-fetch-site")
    if fetched is not None:
        return fetched in {"same-origin", "none"}
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2] == headers.get("host", "")
