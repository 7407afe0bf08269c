"""An incident's story on one screen: what changed, since when and by how much, who was told, and what can be done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from litestar import Request, Response, get
from litestar.params import FromPath

from monitor.account import ClosedWindow, ColumnPoint, Explanation
from monitor.alert import Drifting, Episode
from monitor.batch import NO_TIME
from monitor.decision import Outcome, Verdict
from monitor.describe import number
from monitor.glance import Glance
from monitor.history import Compared, History, point
from monitor.message import rfc3339
from monitor.outline import outline
from monitor.retrain import Trigger
from monitor.web import charts
from monitor.web.forms import incident_forms, trigger_forms
from monitor.web.html import Html, Part, table, tag
from monitor.web.layout import badge, column_link, facts, link, model_link, moment, page, section
from monitor.web.site import Here
from monitor.window import WHOLE

N_COLUMNS: Final = 6
"""Columns that are drawn; the others are in the table."""
N_WINDOWS: Final = 240


@get("/incidents/{identity:str}", sync_to_thread=True, include_in_schema=False)
def incident(site: Here, request: Request[Any, Any, Any], identity: FromPath[str]) -> Response[str]:
    """One incident; its address never changes."""
    with site.history() as history:
        found = history.explain(identity)
        columns = found.changes[-1].episode.columns
        seen = _Seen(history, found.incident.model)
        drawn = [_column(seen, drifting) for drifting in columns[:N_COLUMNS]]
        triggers = history.triggers()
    episode, one = found.changes[-1].episode, found.incident
    waiting = [entry for entry in triggers if entry.incident == one.id]
    return page(
        request,
        one.id,
        tag("p", link("Incidents", "/incidents"), " / ", model_link(one.model), class_="path"),
        tag("h1", one.id, " ", badge(one.state, f"{one.state}, {one.severity}")),
        tag("p", f"{_headline(episode)}: {found.changes[-1].reason}.", class_="lead"),
        _times(found, episode),
        section("What to do", incident_forms(request, found), [trigger_forms(request, entry) for entry in waiting]),
        section("What changed", _changed(one.model, columns), id_="columns") if columns else None,
        drawn,
        tag("p", f"{len(columns) - N_COLUMNS} more columns are in the table above.")
        if len(columns) > N_COLUMNS
        else None,
        section("Quality of the data", _quality(columns)),
        section("Retraining", [_trigger(trigger) for trigger in found.triggers]) if found.triggers else None,
        section("What happened, and who was told", _story(found), _deliveries(found)),
    )


def _headline(episode: Episode) -> str:
    names = len({column.verdict.column for column in episode.columns})
    if episode.silent_since_ms:
        return "No record comes"
    if episode.broken:
        return "Records cannot be read"
    return "1 column drifts" if names == 1 else f"{names} columns drift" if names else "No column drifts"


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
    rows = [
        (
            column_link(model, one.verdict.column, one.segment),
            one.segment if one.segment != WHOLE else "all rows",
            one.verdict.reason,
            effect(one.verdict),
            "" if one.verdict.p_value is None else f"{one.verdict.p_value:.2g}",
            "" if one.verdict.evidence is None else f"{one.verdict.evidence:.3g}",
            since(one),
        )
        for one in columns
    ]
    head = ("column", "rows", "what changed", "effect (95 % interval)", "p", "evidence", "since")
    return table(head, rows, "Columns that drift, the worst first")


def effect(verdict: Verdict) -> Html | str:
    """The size of a change, with its interval where one is known."""
    if verdict.effect is None:
        return "not known"
    words = f"{verdict.measure} {number(verdict.effect)}"
    if verdict.effect_low is None or verdict.effect_high is None:
        return words
    return tag("span", words, " ", tag("span", f"({number(verdict.effect_low)} to {number(verdict.effect_high)})"))


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
    begin = max(one.since_window - 30, 0)
    around = [p for p in points if p.index >= begin]
    where = "" if segment == WHOLE else f" in {segment}"
    return section(
        f"{column or '(no name)'}{where}",
        tag("p", one.verdict.reason, " · ", effect(one.verdict), " · since ", since(one), class_="lead"),
        tag("h3", f"Distribution in window {drifting[-1]}" if drifting else "Distribution"),
        _distribution(compared, column),
        tag("h3", "Size of the change over time"),
        charts.course(column, around, one.since_window) if around else tag("p", "Its windows are not kept any more."),
        tag("p", column_link(seen.model, column, segment), ": its whole history", class_="more"),
    )


def _distribution(compared: Compared | None, column: str) -> Html:
    if compared is None:
        return tag("p", "This window, or the reference that it was counted on, is not kept any more.")
    names = compared.pair.bins.names
    if column not in names:
        return tag("p", "The reference has no such column.")
    return charts.distribution(column, outline(compared.pair, names.index(column)))


def _quality(columns: Sequence[Drifting]) -> Html:
    rows = [(one.verdict.column or "(no name)", one.segment, fact) for one in columns for fact in one.verdict.quality]
    if not rows:
        return tag("p", "No fault of the data itself was found in these columns.")
    return table(("column", "rows", "fact"), rows, "Facts about the data itself")


def _trigger(trigger: Trigger) -> Html:
    rows = [(past.step.replace("_", " "), moment(rfc3339(past.at_ms)), past.by, past.note) for past in trigger.history]
    places = [
        f"{rows.topic}[{rows.partition}] {rows.first_offset:,} to {rows.last_offset:,}" for rows in trigger.body.rows
    ]
    return tag(
        "div",
        tag("p", trigger.id, " ", badge(trigger.step, trigger.step.replace("_", " ")), f" to {trigger.channel}"),
        table(("step", "when", "by", "note"), rows, f"Steps of {trigger.id}"),
        tag("p", "Rows: ", "; ".join(places) or "none", class_="soft"),
    )


def _story(found: Explanation) -> Html:
    made = found.made or (None,) * len(found.changes)
    rows = [
        (
            moment(at),
            change.change,
            f"{change.window}",
            change.reason,
            "told" if change.told else "not told",
            change.notice,
        )
        for at, change in zip(made, found.changes, strict=True)
    ]
    return table(("when", "change", "window", "what", "people", "why, or why not"), rows, "Changes")


def _deliveries(found: Explanation) -> Html:
    rows = [
        (
            moment(sent.done or sent.queued),
            sent.channel,
            sent.purpose,
            badge(sent.state),
            str(sent.attempts),
            sent.reason,
        )
        for sent in found.deliveries
    ]
    if not rows:
        return tag("p", "Nothing was sent.")
    return table(("when", "channel", "purpose", "state", "attempts", "reason"), rows, "What was sent to whom")
