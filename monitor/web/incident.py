"""An incident's story on one screen: what changed, since when and by how much, who was told, and what can be done."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Final

from litestar import Response, get
from litestar.params import FromPath

from monitor import describe
from monitor.account import ClosedWindow, ColumnPoint, Explanation, TriggerEntry
from monitor.alert import Drifting, Episode, names
from monitor.batch import NO_TIME
from monitor.decision import Outcome, Verdict
from monitor.glance import Glance
from monitor.history import Compared, History, point
from monitor.message import rfc3339
from monitor.outline import outline
from monitor.web import charts
from monitor.web.forms import incident_forms, trigger_forms
from monitor.web.html import Html, Part, table, tag
from monitor.web.layout import badge, column_link, facts, link, model_link, moment, page, section
from monitor.web.report import report_part
from monitor.web.site import Asked, Here
from monitor.window import WHOLE

N_COLUMNS: Final = 6
"""Columns that are drawn; the others are in the table."""
N_WINDOWS: Final = 240
N_BEFORE: Final = 30
"""Windows before the drift that are drawn with it."""


@get("/incidents/{identity:str}", sync_to_thread=True, include_in_schema=False)
def incident(site: Here, request: Asked, identity: FromPath[str]) -> Response[str]:
    """One incident; its address never changes."""
    with site.history() as history:
        found = history.explain(identity)
        columns = found.changes[-1].episode.columns
        seen = _Seen(history, found.incident.model)
        drawn = [_column(seen, drifting) for drifting in columns[:N_COLUMNS]]
        triggers = history.triggers(incident=found.incident.id)
    episode, one = found.changes[-1].episode, found.incident
    rest = tag("p", f"{len(columns) - N_COLUMNS} more columns are in the table.") if len(columns) > N_COLUMNS else None
    tale = tag(
        "div",
        section("What changed", _changed(one.model, columns), id_="columns") if columns else None,
        drawn,
        rest,
        section("Quality of the data", _quality(columns)),
    )
    last = found.changes[-1]
    side = tag(
        "aside",
        section("What to do", incident_forms(request, found), id_="do"),
        section("Retraining", [_trigger(request, entry) for entry in triggers]) if triggers else None,
        section("What happened", _story(found)),
        section("Who was told", _deliveries(found)),
        section("Evidently", report_part(request, found)) if columns else None,
        aria_label="What was done and can be done",
    )
    return page(
        request,
        one.id,
        tag("p", link("Incidents", "/incidents"), " / ", model_link(one.model), class_="path"),
        tag("h1", one.id, " ", badge(one.state, f"{one.state}, {one.severity}")),
        tag("p", f"{_headline(episode)}. The last change: {last.change}, {last.reason}.", class_="lead"),
        _times(found, episode),
        tag("p", link("What to do", "#do"), class_="jump"),
        tag("div", tale, side, class_="story"),
    )


def _headline(episode: Episode) -> str:
    n_columns = len(names(episode.columns))
    if episode.silent_since_ms:
        return "No record comes"
    if episode.broken:
        return "Records cannot be read"
    if episode.aged and not n_columns:
        return "The model has become too old"
    return "1 column drifts" if n_columns == 1 else f"{n_columns} columns drift" if n_columns else "No column drifts"


def _times(found: Explanation, episode: Episode) -> Html:
    window = episode.window
    held = []
    if episode.acknowledged is not None:
        held.append(f"acknowledged by {episode.acknowledged.by}")
    if episode.snoozed_until_ms:
        held.append(f"snoozed until {rfc3339(episode.snoozed_until_ms)}")
    return facts(
        ("in the data since", moment(rfc3339(episode.since_ms)) if episode.since_ms != NO_TIME else "window "
         f"{episode.opened_window}"),
        ("last change", moment(found.incident.changed)),
        ("window", f"{window.index}: {window.n_rows:,} rows"),
        ("windows with drift", str(episode.n_windows)),
        ("people", ", ".join(held) or "nobody has acknowledged it"),
    )  # fmt: skip


def _changed(model: str, columns: Sequence[Drifting]) -> Html:
    """A table with only those of its columns that say something."""
    segmented = any(one.segment != WHOLE for one in columns)
    tested = any(one.verdict.p_value is not None for one in columns)
    weighed = any(one.verdict.evidence is not None for one in columns)
    head = ("column", "rows", "what changed", "effect", "p", "evidence", "since")
    shown = (True, segmented, True, True, tested, weighed, True)
    rows = [
        (
            column_link(model, one.verdict.column, one.segment),
            one.segment if one.segment != WHOLE else "all",
            one.verdict.reason,
            effect(one.verdict),
            tag("span", "" if one.verdict.p_value is None else f"{one.verdict.p_value:.2g}", class_="number"),
            "" if one.verdict.evidence is None else f"{one.verdict.evidence:.3g}",
            since(one),
        )
        for one in columns
    ]
    return table(compress(head, shown), (compress(row, shown) for row in rows), "Columns that drift, the worst first")


def effect(verdict: Verdict) -> Part:
    """The size of a change, with its interval where one is known."""
    words = describe.size(verdict.measure, verdict.effect, verdict.effect_low, verdict.effect_high)
    return [[tag("span", each, class_="number"), " "] for each in words] if words else "not known"


def since(one: Drifting) -> Part:
    """When a column began to drift in this incident."""
    return moment(rfc3339(one.since_ms)) if one.since_ms != NO_TIME else f"window {one.since_window}"


class _Seen:
    """Windows of one model, each segment's read once."""

    def __init__(self, history: History, model: str) -> None:
        self.history = history
        self.model = model
        self._glances: dict[str, list[tuple[ClosedWindow, Glance]]] = {}
        self._compared: dict[tuple[str, int], Compared | None] = {}

    def points(self, segment: str, column: str) -> list[ColumnPoint]:
        """The column in each window that has it."""
        if segment not in self._glances:
            self._glances[segment] = self.history.glances(self.model, segment, N_WINDOWS)
        return [
            point(window, glance, glance.names.index(column))
            for window, glance in self._glances[segment]
            if column in glance.names
        ]

    def compared(self, segment: str, window: int) -> Compared | None:
        """A window beside its reference."""
        key = segment, window
        if key not in self._compared:
            self._compared[key] = self.history.compared(self.model, segment, window)
        return self._compared[key]


def _column(seen: _Seen, one: Drifting) -> Html:
    """One column of the incident: its distribution in its last drifting window, and its course."""
    column, segment = one.verdict.column, one.segment
    points = seen.points(segment, column)
    drifting = [p.index for p in points if p.outcome == Outcome.DRIFT and p.index >= one.since_window]
    compared = seen.compared(segment, drifting[-1]) if drifting else None
    around = [p for p in points if p.index >= one.since_window - N_BEFORE]
    where = "" if segment == WHOLE else f" in {segment}"
    course = charts.course(column, around, one.since_window)
    return section(
        f"{column or '(no name)'}{where}",
        tag("p", one.verdict.reason, " · ", effect(one.verdict), " · since ", since(one), class_="lead"),
        tag("h3", f"Rows in window {drifting[-1]}, and the size of the change over time") if drifting else None,
        _distribution(compared, column, course),
        tag("p", column_link(seen.model, column, segment), ": its whole history", class_="more"),
    )


def _distribution(compared: Compared | None, column: str, course: Html) -> Html:
    why = charts.undrawn(compared, column)
    if compared is None or why:
        return tag("div", tag("p", why), course)
    return charts.distribution(column, outline(compared.pair, compared.pair.bins.names.index(column)), course)


def _quality(columns: Sequence[Drifting]) -> Html:
    rows = [(one.verdict.column or "(no name)", one.segment, fact) for one in columns for fact in one.verdict.quality]
    if not rows:
        return tag("p", "No fault of the data itself was found in these columns.")
    return table(("column", "rows", "fact"), rows, "Facts about the data itself")


def _trigger(request: Asked, entry: TriggerEntry) -> Html:
    steps = [
        tag("li", moment(rfc3339(past.at_ms)), " ", tag("b", past.step.replace("_", " ")), f" by {past.by}",
            f": {past.note}" if past.note else "")
        for past in entry.history
    ]  # fmt: skip
    return tag(
        "div",
        tag(
            "p",
            badge(entry.step, entry.step.replace("_", " ")),
            f" {entry.channel}",
            f", run {entry.run}" if entry.run else "",
        ),
        trigger_forms(request, entry),
        tag("ol", steps, class_="timeline"),
    )


def _story(found: Explanation) -> Html:
    made = found.made or (None,) * len(found.changes)
    steps = [
        tag("li", moment(at), " ", tag("b", change.change), f" in window {change.window}: {change.reason}.",
            tag("span", f"{'Told' if change.told else 'Not told'}: {change.notice}.", class_="soft line"))
        for at, change in zip(made, found.changes, strict=True)
    ]  # fmt: skip
    return tag("ol", reversed(steps), class_="timeline")


def _deliveries(found: Explanation) -> Html:
    if not found.deliveries:
        return tag("p", "Nothing was sent.")
    sent = [
        tag("li", moment(one.done or one.queued), " ", tag("b", one.channel), f" {one.purpose} ", badge(one.state),
            f" after {one.attempts} attempts" if one.attempts > 1 else "", f": {one.reason}" if one.reason else "")
        for one in found.deliveries
    ]  # fmt: skip
    return tag("ol", reversed(sent), class_="timeline")
