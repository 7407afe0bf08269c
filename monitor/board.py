"""What all models share when people are told: the silences, and how much each channel has been told of lately."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from detectors.season import DAY_MS
from monitor.batch import Severity
from monitor.message import Notice, Purpose, digest_body, notice
from monitor.order import Answer, ExpireSilence, Order, Silence

SPELL_MS: Final = 600_000
"""How long a channel's burst is, and how often it gets a digest at most."""
LONGEST_MS: Final = 366 * DAY_MS


class Line(msgspec.Struct, frozen=True):
    """One incident in a digest."""

    incident: str
    severity: Severity
    words: str


class BoardState(msgspec.Struct, frozen=True):
    """recent: by channel the times of messages about new incidents; overflow: by channel what waits for a digest;
    digested_ms: by channel the time of the last digest."""

    silences: tuple[Silence, ...] = ()
    n_silences: int = 0
    recent: dict[str, tuple[int, ...]] = {}
    overflow: dict[str, tuple[Line, ...]] = {}
    digested_ms: dict[str, int] = {}


class Board:
    """burst: new incidents that a channel is told of one by one within ten minutes; the rest wait for a digest."""

    def __init__(self, burst: int, state: BoardState | None = None) -> None:
        self._burst = burst
        self.state = state or BoardState()

    @property
    def silences(self) -> Sequence[Silence]:
        return self.state.silences

    def admits(self, channel: str, line: Line, now_ms: int) -> bool:
        """Whether a new incident may have a message of its own in this channel now; else it waits for a digest."""
        recent = tuple(at_ms for at_ms in self.state.recent.get(channel, ()) if now_ms - at_ms < SPELL_MS)
        if len(recent) < self._burst:
            self._set(recent={**self.state.recent, channel: (*recent, now_ms)})
            return True
        waiting = self.state.overflow.get(channel, ())
        if line.incident not in {known.incident for known in waiting}:
            self._set(overflow={**self.state.overflow, channel: (*waiting, line)})
        return False

    def digests(self, now_ms: int) -> list[Notice]:
        """What overflowed, in one message per channel, at most every ten minutes."""
        found = []
        for channel, lines in self.state.overflow.items():
            if lines and now_ms - self.state.digested_ms.get(channel, 0) >= SPELL_MS:
                title = f"{len(lines)} more incidents"
                found.append(digest(channel, title, lines, now_ms))
                self._set(
                    overflow={**self.state.overflow, channel: ()},
                    digested_ms={**self.state.digested_ms, channel: now_ms},
                )
        return found

    def act(self, order: Order, now_ms: int) -> Answer | None:
        """Make or end a silence; None when the order is about something else."""
        if isinstance(order, ExpireSilence):
            running = {silence.id for silence in self.state.silences if silence.ends_ms > now_ms}
            if order.silence not in running:
                return Answer(False, f"no silence {order.silence} is in force")
            ended = (
                msgspec.structs.replace(silence, ends_ms=now_ms) if silence.id == order.silence else silence
                for silence in self.state.silences
            )
            self._set(silences=tuple(ended))
            return Answer(True, f"{order.silence} has ended")
        if not isinstance(order, Silence):
            return None
        fault = _fault(order, now_ms)
        if fault:
            return Answer(False, fault)
        number = self.state.n_silences + 1
        made = msgspec.structs.replace(order, id=f"s{number}", starts_ms=order.starts_ms or now_ms)
        kept = tuple(silence for silence in self.state.silences if now_ms - silence.ends_ms < LONGEST_MS)
        self._set(silences=(*kept, made), n_silences=number)
        return Answer(True, made.id)

    def _set(self, **changes: object) -> None:
        self.state = msgspec.structs.replace(self.state, **changes)


def digest(channel: str, title: str, lines: Sequence[Line], now_ms: int) -> Notice:
    """Incidents as one message, the gravest first."""
    ordered = sorted(lines, key=lambda line: (-line.severity.rank, line.incident))
    severity = ordered[0].severity if ordered else Severity.INFO
    identity = f"digest-{channel}-{now_ms}"
    body = digest_body(identity, title, [f"{line.incident}: {line.words}" for line in ordered], severity)
    return notice(identity, channel, Purpose.DIGEST, body)


def _fault(silence: Silence, now_ms: int) -> str:
    """Why there may be no such silence, or ""."""
    if not silence.by.strip() or not silence.comment.strip():
        return "a silence needs an author and a comment"
    if silence.ends_ms <= max(now_ms, silence.starts_ms):
        return "a silence must end in the future, and after it starts"
    if silence.ends_ms - now_ms > LONGEST_MS:
        return "a silence may last a year at most"
    return ""
