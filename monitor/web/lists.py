"""Lists: incidents, retraining, silences, the outbox, dead letters."""

from __future__ import annotations

import time
from typing import Final

from litestar import Response, get

from monitor.account import TriggerEntry
from monitor.message import rfc3339
from monitor.web.forms import field, form, spans, trigger_forms
from monitor.web.html import Html, Part, path, table, tag
from monitor.web.layout import badge, few, incident_link, link, model_link, moment, page, section
from monitor.web.site import Asked, Here

N_ROWS: Final = 200


@get("/incidents", sync_to_thread=True, include_in_schema=False)
def incidents(site: Here, request: Asked) -> Response[str]:
    """Incidents, open ones first."""
    with site.history() as history:
        found = sorted(history.incidents(everything=True, limit=N_ROWS), key=lambda one: one.state == "resolved")
    rows = [
        (incident_link(one.id), badge(one.state, f"{one.state}, {one.severity}"), model_link(one.model),
         few(one.columns), moment(one.opened), moment(one.changed))
        for one in found
    ]  # fmt: skip
    head = ("incident", "state", "model", "columns, the worst first", "opened", "changed")
    shown = table(head, rows, "Incidents") if rows else tag("p", "There has been none.")
    return page(request, "Incidents", tag("h1", "Incidents"), shown)


@get("/triggers", sync_to_thread=True, include_in_schema=False)
def triggers(site: Here, request: Asked) -> Response[str]:
    """Retraining triggers with their evidence."""
    with site.history() as history:
        found = history.triggers(limit=N_ROWS)
    shown = [_trigger(request, entry) for entry in found] or tag("p", "No retraining has been called for.")
    return page(request, "Retraining", tag("h1", "Retraining"), shown)


def _trigger(request: Asked, entry: TriggerEntry) -> Html:
    steps = [(p.step.replace("_", " "), moment(rfc3339(p.at_ms)), p.by, p.note) for p in entry.history]
    columns = [(one.column, one.segment, one.what) for one in entry.columns]
    return section(
        entry.id,
        tag("p", badge(entry.step, entry.step.replace("_", " ")), " for ", model_link(entry.model), " to ",
            entry.channel, f" (run {entry.run})" if entry.run else "", ", because of ", incident_link(entry.incident),
            ": ", entry.reason),
        trigger_forms(request, entry),
        table(("step", "when", "by", "note"), steps, f"Steps of {entry.id}"),
        tag("details", tag("summary", f"Evidence: {len(columns)} columns"),
            table(("column", "rows", "what changed"), columns, "Evidence")),
    )  # fmt: skip


@get("/silences", sync_to_thread=True, include_in_schema=False)
def silences(site: Here, request: Asked) -> Response[str]:
    """Silences in force, and a form for a new one."""
    with site.history() as history:
        found = history.silences(int(time.time() * 1000))
    rows: list[tuple[Part, ...]] = [
        (one.id, one.model, one.segment, one.column, one.severity, moment(rfc3339(one.ends_ms)), one.by, one.comment,
         form(request, "expire", "End now", {"silence": one.id}))
        for one in found
    ]  # fmt: skip
    head = ("silence", "model", "rows", "column", "severity", "until", "by", "why", "")
    wildcard = "Patterns as in file names: * stands for anything."
    new = form(
        request, "silence", "Silence", {}, field("model", "Model", "*"), field("segment", "Segment", "*"),
        field("column", "Column", "*"), field("comment", "Why", required=True), spans("For", "24"), lead=wildcard,
    )  # fmt: skip
    return page(
        request,
        "Silences",
        tag("h1", "Silences"),
        table(head, rows, "Silences") if rows else tag("p", "Nothing is silenced."),
        section("A new silence", new) if new else None,
    )


@get("/outbox", sync_to_thread=True, include_in_schema=False)
def outbox(site: Here, request: Asked) -> Response[str]:
    """What was to be delivered, and what became of it."""
    with site.history() as history:
        found = history.outbox(limit=N_ROWS)
    rows: list[tuple[Part, ...]] = [
        (one.id, badge(one.state), one.channel, one.purpose, str(one.attempts), moment(one.done or one.queued),
         incident_link(one.incident), one.reason,
         tag("div",
             form(request, "replay", "Try again", {"notice": one.id}) if one.state == "dead" else None,
             form(request, "drop", "Drop", {"notice": one.id}) if one.state in {"dead", "pending"} else None))
        for one in found
    ]  # fmt: skip
    head = ("notice", "state", "channel", "purpose", "attempts", "when", "incident", "reason", "")
    shown = table(head, rows, "Notices, the latest first") if rows else tag("p", "Nothing was to be sent.")
    return page(request, "Outbox", tag("h1", "Outbox"), shown)


@get("/dead-letters", sync_to_thread=True, include_in_schema=False)
def dead_letters(site: Here, request: Asked) -> Response[str]:
    """Records that became no row."""
    asked = request.query_params.get("before", "")
    before = int(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 16 else None
    with site.history() as history:
        found = history.dead_letters(limit=N_ROWS, before=before)
    rows = [
        (f"{one.topic}[{one.partition}] {one.offset:,}", model_link(one.model), one.kind, one.reason,
         tag("code", one.head), moment(one.seen))
        for one in found
    ]  # fmt: skip
    head = ("record", "model", "kind", "reason", "its beginning", "seen")
    older = link("Older ones", path("dead-letters", before=found[-1].n)) if len(found) == N_ROWS else None
    shown = table(head, rows, "Dead letters, the latest first") if rows else tag("p", "Every record could be read.")
    return page(request, "Dead letters", tag("h1", "Dead letters"), shown, older)


HANDLERS: Final = [incidents, triggers, silences, outbox, dead_letters]
