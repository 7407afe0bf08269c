"""The JSON API: all that the page shows, and all that people may do, for programs."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated, Final

import msgspec
from litestar import Response, Router, get, post
from litestar.exceptions import (
    NotAuthorizedException,
    NotFoundException,
    PermissionDeniedException,
    ServiceUnavailableException,
    TooManyRequestsException,
)
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody, PathParameter, QueryParameter

from detectors.season import HOUR_MS
from monitor.account import (
    ClosedWindow,
    ColumnHistory,
    DeadLetter,
    Delivery,
    Explanation,
    Incident,
    Status,
    TriggerEntry,
)
from monitor.channels.webhook import misdirected, mistrust
from monitor.decision import Verdict
from monitor.order import (
    Acknowledge,
    Answer,
    Approve,
    CallBack,
    Drop,
    ExpireSilence,
    Order,
    Refuse,
    Resend,
    Resolve,
    Silence,
    Snooze,
)
from monitor.web.site import Asked, Here, Site, has_token, may_change, may_read, unauthorized
from monitor.window import WHOLE

_VISIBLE: Final = r"[^\x00-\x20\x7f-\xa0]"
"""Something that is neither a space nor a control character, said so that every dialect understands it alike."""
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=80, pattern=_VISIBLE)]
Words = Annotated[str, msgspec.Meta(max_length=2_000)]
Pattern = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Hours = Annotated[float, msgspec.Meta(gt=0, le=366 * 24)]
Limit = Annotated[int, QueryParameter(ge=1, le=1_000, description="At most so many.")]
Segment = Annotated[str, QueryParameter(description='"all", or a segment such as "region=EU".')]
Number = Annotated[int, PathParameter(ge=-(2**53), le=2**53, description="Of the window, in its segment.")]
Before = Annotated[
    int | None, QueryParameter(ge=-(2**53), le=2**53, description="Only what lies before this number: the next page.")
]
OnlyState = Annotated[str | None, QueryParameter(name="state", description="pending, sent, dead or dropped.")]
Resolved = Annotated[bool, QueryParameter(description="Resolved ones too.")]

_REFUSALS: Final = [NotAuthorizedException, TooManyRequestsException, ServiceUnavailableException]

reading = partial(get, sync_to_thread=True, raises=[*_REFUSALS, NotFoundException])
changing = partial(
    post,
    status_code=200,
    guards=[may_change],
    raises=[*_REFUSALS, PermissionDeniedException],
    responses={409: ResponseSpec(Answer, description="Nothing was changed; the words say why.")},
    security=[{"token": []}],
)


class By(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who asks for it."""

    by: Name


class Pause(By, frozen=True, forbid_unknown_fields=True):
    """For how long from now."""

    hours: Hours


class Closing(By, frozen=True, forbid_unknown_fields=True):
    """Why it is over."""

    note: Words = ""


class Hush(By, frozen=True, forbid_unknown_fields=True):
    """What is to be silent, as patterns as in file names, for how long, and why."""

    comment: Annotated[str, msgspec.Meta(min_length=1, max_length=2_000, pattern=_VISIBLE)]
    hours: Hours
    model: Pattern = "*"
    segment: Pattern = "*"
    column: Pattern = "*"
    severity: Pattern = "*"


class Letter(By, frozen=True, forbid_unknown_fields=True):
    """One notice, by its id."""

    notice: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class JobReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a retraining job says of itself. status: started | succeeded | failed.

    version, reference: of the new model; reference is the directory of its sealed reference data, below the
    configuration's.
    """

    status: Annotated[str, msgspec.Meta(pattern="^(started|succeeded|failed)$")]
    version: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] | None = None
    reference: Annotated[str, msgspec.Meta(min_length=1, max_length=500)] | None = None
    note: Words = ""


STRICT: Final = frozenset(kind.__name__ for kind in (By, Pause, Closing, Hush, Letter, JobReport))
"""Bodies that may hold nothing else; the description has to be told so."""


class WindowPage(msgspec.Struct, frozen=True):
    """Windows in their order. before: where the page of earlier ones ends, None when there are none."""

    windows: tuple[ClosedWindow, ...]
    before: int | None


class LetterPage(msgspec.Struct, frozen=True):
    """Dead letters, the latest first. before: as in WindowPage."""

    letters: tuple[DeadLetter, ...]
    before: int | None


@reading("/status")
def status(site: Here) -> Status:
    """How the service and each model stand."""
    with site.history() as history:
        return history.status()


@reading("/models")
def models(site: Here) -> list[str]:
    """Names of the models."""
    with site.history() as history:
        return list(history.models())


@reading("/models/{model:str}/segments")
def segments(site: Here, model: FromPath[str]) -> list[str]:
    """A model's segments, the whole first."""
    with site.history() as history:
        return list(history.segments(model))


@reading("/models/{model:str}/windows")
def windows(
    site: Here, model: FromPath[str], segment: Segment = WHOLE, limit: Limit = 100, before: Before = None
) -> WindowPage:
    """Windows that have closed."""
    with site.history() as history:
        found = history.windows(model, segment, limit, before)
    return WindowPage(found, found[0].index if len(found) == limit else None)


@reading("/models/{model:str}/windows/{number:int}/verdicts")
def verdicts(site: Here, model: FromPath[str], number: Number, segment: Segment = WHOLE) -> list[Verdict]:
    """What was said of each column in one window."""
    with site.history() as history:
        found = history.verdicts(model, segment, number)
    if not found:
        raise NotFoundException(f"no window {number} of {model} ({segment}) is kept")
    return list(found)


@reading("/models/{model:str}/history")
def column(
    site: Here, model: FromPath[str], column: FromQuery[str], segment: Segment = WHOLE, limit: Limit = 1_000
) -> ColumnHistory:
    """One column over all windows."""
    with site.history() as history:
        return history.column(model, column, segment, limit)


@reading("/incidents")
def incidents(
    site: Here, model: FromQuery[str | None] = None, resolved: Resolved = False, limit: Limit = 100
) -> list[Incident]:
    """Incidents that are not resolved, or all; the latest first."""
    with site.history() as history:
        return list(history.incidents(everything=resolved, limit=limit, model=model))


@reading("/incidents/{incident:str}")
def one_incident(site: Here, incident: FromPath[str]) -> Explanation:
    """Everything about one incident; a beginning of its id is enough."""
    with site.history() as history:
        return history.explain(incident)


@reading("/triggers")
def triggers(site: Here, limit: Limit = 100) -> list[TriggerEntry]:
    """Retraining triggers with their evidence, the latest first."""
    with site.history() as history:
        return list(history.triggers(limit=limit))


@reading("/triggers/{trigger:str}")
def one_trigger(site: Here, trigger: FromPath[str]) -> TriggerEntry:
    """One retraining trigger."""
    with site.history() as history:
        return _the_trigger(history.triggers(trigger), trigger)


@reading("/outbox")
def outbox(site: Here, only: OnlyState = None, limit: Limit = 100) -> list[Delivery]:
    """What was to be delivered, and what became of it; the latest first."""
    with site.history() as history:
        return list(history.outbox(only, limit))


@reading("/silences")
def silences(site: Here) -> list[Silence]:
    """Silences that have not ended."""
    with site.history() as history:
        return list(history.silences(_now_ms()))


@reading("/dead-letters")
def dead_letters(
    site: Here, model: FromQuery[str | None] = None, limit: Limit = 100, before: Before = None
) -> LetterPage:
    """Records that became no row."""
    with site.history() as history:
        found = history.dead_letters(model, limit, before)
    return LetterPage(found, found[-1].n if len(found) == limit else None)


@changing("/incidents/{incident:str}/acknowledge")
async def acknowledge(site: Here, incident: FromPath[str], data: JSONBody[By]) -> Response[Answer]:
    """Somebody looks after it: no repeats, and only what is graver is told."""
    return await _ordered(site, Acknowledge(incident=incident, by=data.by))


@changing("/incidents/{incident:str}/snooze")
async def snooze(site: Here, incident: FromPath[str], data: JSONBody[Pause]) -> Response[Answer]:
    """Tell nothing of it for a while."""
    return await _ordered(site, Snooze(incident=incident, by=data.by, until_ms=_later_ms(data.hours)))


@changing("/incidents/{incident:str}/resolve")
async def resolve(site: Here, incident: FromPath[str], data: JSONBody[Closing]) -> Response[Answer]:
    """It is over; its columns are told of again once they were calm in between."""
    return await _ordered(site, Resolve(incident=incident, by=data.by, note=data.note))


@changing("/silences")
async def silence(site: Here, data: JSONBody[Hush]) -> Response[Answer]:
    """Tell nothing of what matches, for a time. The words of the answer are the silence's id."""
    order = Silence(
        by=data.by, comment=data.comment, ends_ms=_later_ms(data.hours), model=data.model, segment=data.segment,
        column=data.column, severity=data.severity,
    )  # fmt: skip
    return await _ordered(site, order)


@changing("/silences/{silence:str}/expire")
async def expire(site: Here, silence: FromPath[str], data: JSONBody[By]) -> Response[Answer]:
    """End a silence now."""
    return await _ordered(site, ExpireSilence(silence=silence, by=data.by))


@changing("/triggers/{trigger:str}/approve")
async def approve(site: Here, trigger: FromPath[str], data: JSONBody[By]) -> Response[Answer]:
    """Let a trigger that waits go on."""
    return await _ordered(site, Approve(trigger=trigger, by=data.by))


@changing("/triggers/{trigger:str}/refuse")
async def refuse(site: Here, trigger: FromPath[str], data: JSONBody[By]) -> Response[Answer]:
    """End a trigger that waits."""
    return await _ordered(site, Refuse(trigger=trigger, by=data.by))


@changing("/outbox/replay")
async def replay(site: Here, data: JSONBody[Letter]) -> Response[Answer]:
    """Try a notice again that was given up."""
    return await _ordered(site, Resend(notice=data.notice, by=data.by))


@changing("/outbox/drop")
async def drop(site: Here, data: JSONBody[Letter]) -> Response[Answer]:
    """Never send a notice that waits or was given up."""
    return await _ordered(site, Drop(notice=data.notice, by=data.by))


@changing("/triggers/{trigger:str}", guards=[], raises=[*_REFUSALS, NotFoundException])
async def call_back(site: Here, request: Asked, trigger: FromPath[str], data: JSONBody[JobReport]) -> Response[Answer]:
    """A retraining job reports: signed as the Standard Webhooks say with the `callback_secret` of its [[retrain]] (else
    the secret of its webhook) under a `webhook-id` that is the trigger's id or begins with it and a slash, or with the
    token as a bearer."""
    with site.history() as history:
        entries = history.triggers(trigger)
    if not has_token(request):
        keys = site.job_keys.get((entries[0].model, entries[0].channel), ()) if entries else ()
        fault = mistrust(keys, request.headers, await request.body(), time.time())
        fault = fault or misdirected(request.headers, trigger)
        if fault or not keys:
            raise unauthorized(fault or "no secret is known for this trigger; send the token of [http] as a bearer")
    entry = _the_trigger(entries, trigger)
    unfit = site.unfit(data.reference) if data.reference is not None else ""
    if unfit:
        return Response(Answer(False, f"reference: {unfit}"), status_code=409)
    order = CallBack(
        trigger=entry.id, status=data.status, version=data.version, reference=data.reference, note=data.note
    )
    return await _ordered(site, order)


ROUTER: Final = Router(
    "/api",
    route_handlers=[
        Router(
            "/",
            guards=[may_read],
            route_handlers=[
                status, models, segments, windows, verdicts, column, incidents, one_incident, triggers, one_trigger,
                outbox, silences, dead_letters,
            ],
        ),
        acknowledge, snooze, resolve, silence, expire, approve, refuse, replay, drop, call_back,
    ],
)  # fmt: skip


async def _ordered(site: Site, order: Order) -> Response[Answer]:
    answer = await site.ordered(order)
    return Response(answer, status_code=200 if answer.done else 409)


def _the_trigger(found: tuple[TriggerEntry, ...], name: str) -> TriggerEntry:
    if not found:
        raise NotFoundException(f"there is no trigger {name}")
    return found[0]


def _now_ms() -> int:
    return int(time.time() * 1000)


def _later_ms(hours: float) -> int:
    return _now_ms() + int(hours * HOUR_MS)
