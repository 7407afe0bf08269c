"""What people, and retraining jobs, ask of the service: values, the same from Slack, the page, the API and the CLI."""

from __future__ import annotations

import msgspec


class Acknowledge(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Somebody looks after the incident: no repeats, and only what is graver is told."""

    incident: str
    by: str


class Snooze(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Nothing is told of the incident until then, epoch milliseconds."""

    incident: str
    by: str
    until_ms: int


class Resolve(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The incident is over: what drifts now is the new normal, or known. Its columns are told again once they were
    calm in between."""

    incident: str
    by: str
    note: str = ""


class Approve(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Let a trigger that waits for approval go: call the job, or go over to the new reference."""

    trigger: str
    by: str


class Refuse(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """End a trigger that waits for approval."""

    trigger: str
    by: str


class Silence(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Tell nothing of what matches, for a time. model, segment, column, severity: patterns as in file names.

    id: given when it is made. ends_ms: epoch milliseconds; there is no silence without an end.
    """

    by: str
    comment: str
    ends_ms: int
    starts_ms: int = 0
    model: str = "*"
    segment: str = "*"
    column: str = "*"
    severity: str = "*"
    id: str = ""


class ExpireSilence(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """End a silence now."""

    silence: str
    by: str


class CallBack(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What a retraining job says of itself. status: started | succeeded | failed.

    version, reference: of the new model, once it succeeded; reference is a sealed one's directory.
    """

    trigger: str
    status: str
    by: str = "job"
    version: str | None = None
    reference: str | None = None
    note: str = ""


class Resend(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Try a notice again that was given up."""

    notice: str
    by: str


class Drop(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Never send a notice that waits, or was given up."""

    notice: str
    by: str


Order = Acknowledge | Snooze | Resolve | Approve | Refuse | Silence | ExpireSilence | CallBack | Resend | Drop


def about(order: Order) -> str:
    """What an order is about.

    >>> about(Resolve(incident="credit-5", by="ann", note=""))
    'incident credit-5'
    """
    if isinstance(order, Silence):
        return f"silence {order.id}"
    for what in ("incident", "trigger", "silence", "notice"):
        if hasattr(order, what):
            return f"{what} {getattr(order, what)}"
    raise TypeError(f"found {type(order).__name__}, wanted an order")


class Answer(msgspec.Struct, frozen=True):
    """What came of an order. done: whether anything was changed; words: what, or why not."""

    done: bool
    words: str
