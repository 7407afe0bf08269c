"""What people and machines are told: plain structures, the same for every channel.

A notice is one message queued for one channel. Its body is one of the structures below as JSON; each channel lays it
out in its own way. Nothing here depends on the wall clock, so a replay tells the same story in the same bytes.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """How bad; ordered info < warning < critical."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return list(Severity).index(self)


class Purpose(StrEnum):
    """Why a notice exists."""

    ALERT = "alert"
    RETRAIN = "retrain"
    DIGEST = "digest"


class ColumnChange(msgspec.Struct, frozen=True, kw_only=True):
    """One column of an incident.

    what: one sentence for people. effect: size of the change (see `measure`), with its 95 % interval where known.
    since_window, since: the first window of this episode in which the column drifted; `since` is RFC 3339 or None.
    """

    column: str
    segment: str
    what: str
    measure: str
    effect: float | None
    effect_low: float | None = None
    effect_high: float | None = None
    p_value: float | None = None
    since_window: int
    since: str | None = None


class WindowFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The window that caused a message. start and end are RFC 3339, None for windows counted in rows."""

    index: int
    start: str | None
    end: str | None
    n_rows: int


class RowRange(msgspec.Struct, frozen=True, kw_only=True):
    """Where a window's rows lie in the log, both offsets inclusive."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int


class AlertBody(msgspec.Struct, frozen=True, kw_only=True, tag_field="purpose", tag="alert"):
    """An incident opened, changed or was resolved.

    state: firing | resolved. change: opened | updated | resolved. columns: worst first; n_columns: columns watched.
    test: True when a person asked for it to try the channel.
    """

    incident: str
    model: str
    version: str | None
    segment: str
    state: str
    change: str
    severity: Severity
    title: str
    summary: str
    columns: tuple[ColumnChange, ...]
    n_columns: int
    window: WindowFacts
    since: str | None
    reference: str
    retraining: str | None = None
    test: bool = False


class RetrainBody(msgspec.Struct, frozen=True, kw_only=True, tag_field="purpose", tag="retrain"):
    """A call to a retraining job, with the evidence for it.

    trigger: the idempotency key, constant over every retry. rows: where the drifted rows lie.
    """

    trigger: str
    incident: str
    model: str
    version: str | None
    reason: str
    columns: tuple[ColumnChange, ...]
    window: WindowFacts
    since: str | None
    rows: tuple[RowRange, ...]
    reference: str
    config: str
    test: bool = False


Body = AlertBody | RetrainBody


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One message for one channel: a row of the outbox. `id` is its idempotency key and never changes."""

    id: str
    incident: str
    channel: str
    purpose: Purpose
    model: str
    window: int
    body: Body


def encode(body: Body) -> bytes:
    """The body as JSON, with keys in declaration order: equal bodies give equal bytes."""
    return msgspec.json.encode(body)


def decode(data: bytes) -> Body:
    """Read what `encode` wrote. msgspec.ValidationError when it is not a body."""
    body: Body = msgspec.json.decode(data, type=Body)
    return body
