"""The overview: how each model stands at a glance, and what is unknown and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from litestar import Response, get

from monitor.account import Incident, ModelStatus, Status
from monitor.decision import Outcome
from monitor.history import History
from monitor.web import charts
from monitor.web.heat import heat_map
from monitor.web.html import Html, Part, table, tag
from monitor.web.layout import badge, column_link, facts, few, incident_link, link, model_link, moment, page, section
from monitor.web.site import Asked, Here, Site
from monitor.window import WHOLE

N_STRIP: Final = 60
N_MAPS: Final = 3
N_WINDOWS: Final = 240
"""Of a heat map here; a model's own page has all of them."""
N_UNKNOWN: Final = 20


@get("/", sync_to_thread=True, include_in_schema=False)
def overview(site: Here, request: Asked) -> Response[str]:
    """How everything stands."""
    with site.history() as history:
        status, incidents = history.status(), history.incidents()
        rows = [_row(history, model) for model in sorted(status.models, key=_urgency)]
        shown = _with_maps(status, incidents)
        maps = [_map(history, model) for model in shown]
        unknown = _unknown(history, status.models)
    return page(
        request,
        "Overview",
        tag("h1", "Overview"),
        _summary(site, status, incidents),
        section("Open incidents", _incidents(incidents)) if incidents else None,
        section(
            "Models", table(("model", "state", "windows, oldest to latest", "last window", "rows"), rows, "Models")
        ),
        maps,
        section("Budget of false alarms", budget) if (budget := _budget(status.models)) else None,
        section("Unknown", unknown) if unknown else None,
        section("Ingest", _ingest(site, status)),
    )


def state_of(model: ModelStatus) -> str:
    """firing | unknown | ok: how a model stands."""
    if model.incident is not None:
        return "firing"
    outcomes = model.last_window.outcomes if model.last_window else {}
    return "ok" if outcomes.get(Outcome.OK) else "unknown"


def _urgency(model: ModelStatus) -> tuple[int, str]:
    return ("firing", "unknown", "ok").index(state_of(model)), model.model


def _summary(site: Site, status: Status, incidents: Sequence[Incident]) -> Html:
    checks = site.service.ready()
    faults = [f"{name}: {words}" for name, words in checks.checks.items() if words != "ok"]
    drifting = sum(state_of(model) == "firing" for model in status.models)
    service = badge("ok", "running and ready") if not faults else badge("error", "; ".join(faults))
    return facts(
        ("models", str(len(status.models))),
        ("with an incident", str(drifting)),
        ("open incidents", str(len(incidents))),
        ("service", service),
    )


def _row(history: History, model: ModelStatus) -> tuple[Part, ...]:
    last = model.last_window
    state = badge(state_of(model), model.severity if model.incident else None)
    said: Part = "none yet"
    if last:
        counted = ", ".join(f"{n} {outcome}" for outcome, n in last.outcomes.items())
        said = [moment(last.start), f" · {last.n_rows:,} rows · {counted}"]
    return (
        model_link(model.model),
        [state, " ", incident_link(model.incident)] if model.incident else state,
        charts.strip(history.outcomes(model.model, N_STRIP)),
        said,
        f"{model.counts.rows:,}",
    )


def _incidents(incidents: Sequence[Incident]) -> Html:
    rows = [
        (incident_link(one.id), badge(one.state, f"{one.state}, {one.severity}"), model_link(one.model),
         few(one.columns), moment(one.opened))
        for one in incidents
    ]  # fmt: skip
    return table(("incident", "state", "model", "columns, the worst first", "opened"), rows, "Open incidents")


def _with_maps(status: Status, incidents: Sequence[Incident]) -> list[str]:
    """Models whose heat map is on this page: those with an incident; where there are few models, all."""
    names = [model.model for model in status.models]
    if len(names) <= N_MAPS:
        return names
    return list(dict.fromkeys(one.model for one in incidents if one.model in names))[:N_MAPS]


def _map(history: History, model: str) -> Html:
    glances = history.glances(model, WHOLE, N_WINDOWS)
    return section(
        f"{model}: columns over time",
        heat_map(model, glances, n_columns=12),
        tag("p", link(f"All columns and windows of {model}", f"/models/{model}"), class_="more"),
    )


def _unknown(history: History, models: Sequence[ModelStatus]) -> Html | None:
    """Columns of last windows of which nothing can be said, and why."""
    rows: list[tuple[Part, ...]] = []
    n_all = 0
    for model in models:
        last = model.last_window
        if last is None or not last.outcomes.get(Outcome.UNKNOWN):
            continue
        n_all += last.outcomes[Outcome.UNKNOWN]
        if len(rows) < N_UNKNOWN:
            rows += [
                (column_link(model.model, verdict.column), model_link(model.model), verdict.reason)
                for verdict in history.verdicts(model.model, WHOLE, last.index)
                if verdict.outcome is Outcome.UNKNOWN
            ]
    if not rows:
        return None
    more = tag("p", f"and {n_all - N_UNKNOWN} more") if n_all > N_UNKNOWN else None
    shown = table(("column", "model", "why"), rows[:N_UNKNOWN], "Columns of which nothing can be said")
    return tag("div", shown, more)


def _budget(models: Sequence[ModelStatus]) -> Html | None:
    """What was expected by chance beside what came, of each model that works under the budget."""
    rows: list[tuple[Part, ...]] = []
    for model in models:
        if not (books := list(model.budget.values())):
            continue
        off = sorted({column for book in books for column in book.off})
        rows.append(
            (
                model_link(model.model),
                f"{max(book.n_windows for book in books):,}",
                f"{sum(book.expected for book in books):.2g}",
                str(sum(book.pages for book in books)),
                str(len({column for book in books for column in book.calibrating})),
                few(off) or "none",
            )
        )
    if not rows:
        return None
    book = next(book for model in models for book in model.budget.values())
    head = ("model", "windows", "expected by chance, at most", "paged", "columns calibrating", "columns off paging")
    allowed = f"{book.false_alarms:g} a {book.per}, over everything together"
    return tag("div", facts(("allowed", allowed)), table(head, rows, "Pages expected by chance, and pages that came"))


def _ingest(site: Site, status: Status) -> Html:
    rows = [
        (
            model_link(model.model),
            f"{model.counts.rows:,}",
            f"{model.n_waiting:,}",
            ", ".join(f"{n:,} {kind}" for kind, n in model.counts.rejected.items()) or "0",
            f"{model.counts.late:,}",
            f"{model.counts.dropped:,}",
            f"{model.counts.lost:,}",
            _labels(model),
        )
        for model in status.models
    ]
    head = ("model", "rows", "in open windows", "rejected", "late", "too late", "lost", "labels")
    flow = site.service.flow()
    letters = ", ".join(f"{n} {state}" for state, n in status.outbox.items()) or "none"
    return tag(
        "div",
        facts(
            ("records a second", f"{flow.per_second:,.0f}"),
            ("records unread", f"{flow.n_unread:,}"),
            ("notices", letters),
        ),
        table(head, rows, "Rows and records by model"),
    )


def _labels(model: ModelStatus) -> str:
    """How many rows have their label: of all predictions where labels come later, else of the last window."""
    if model.coverage is not None:
        return f"{model.coverage:.1%} of {model.labelled.predictions:,} predictions"
    return "none" if model.with_label is None else f"{model.with_label:.1%} of the last window's rows"
