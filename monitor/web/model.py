"""One model: all its columns over time, its windows, and what was said in one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from litestar import Response, get
from litestar.params import FromPath

from monitor.account import ClosedWindow
from monitor.decision import Verdict
from monitor.history import Unknown
from monitor.web.heat import heat_map
from monitor.web.html import Html, path, table, tag
from monitor.web.incident import effect
from monitor.web.layout import (
    badge,
    column_link,
    facts,
    few,
    in_query,
    incident_link,
    link,
    model_link,
    moment,
    page,
    section,
)
from monitor.web.site import Asked, Here
from monitor.window import WHOLE

N_GLANCES: Final = 1_440
N_WINDOWS: Final = 50


@get("/models/{name:str}", sync_to_thread=True, include_in_schema=False)
def model(site: Here, request: Asked, name: FromPath[str]) -> Response[str]:
    """A model's heat map and windows."""
    segment = request.query_params.get("segment", WHOLE)
    with site.history() as history:
        if name not in history.models():
            raise Unknown(f"there is no model {name}")
        segments = history.segments(name)
        glances = history.glances(name, segment, N_GLANCES)
        incidents = history.incidents(everything=True, limit=20, model=name)
    shown = [(incident_link(one.id), badge(one.state), few(one.columns), moment(one.opened)) for one in incidents]
    windows = [window for window, _ in glances[-N_WINDOWS:]]
    return page(
        request,
        name,
        tag("p", link("Overview", "/"), class_="path"),
        tag("h1", name),
        _segments(name, segment, segments) if len(segments) > 1 else None,
        section("Columns over time", heat_map(name, glances, segment)),
        section("Incidents", table(("incident", "state", "columns", "opened"), shown, f"Incidents of {name}"))
        if shown
        else None,
        section("Windows", _windows(name, segment, windows)) if windows else None,
    )


@get("/models/{name:str}/windows/{number:int}", sync_to_thread=True, include_in_schema=False)
def window(site: Here, request: Asked, name: FromPath[str], number: FromPath[int]) -> Response[str]:
    """What was said of each column in one window."""
    segment = request.query_params.get("segment", WHOLE)
    with site.history() as history:
        number = max(min(number, 2**53), -(2**53))
        found, verdicts = history.windows(name, segment, 1, number + 1), history.verdicts(name, segment, number)
    if not verdicts or not found:
        raise Unknown(f"no window {number} of {name} ({segment}) is kept")
    (one,) = found
    return page(
        request,
        f"{name}, window {number}",
        tag("p", link("Overview", "/"), " / ", model_link(name), class_="path"),
        tag("h1", f"Window {number}", "" if segment == WHOLE else f" of {segment}"),
        facts(("from", moment(one.start)), ("to", moment(one.end)), ("rows", f"{one.n_rows:,}"),
              ("late rows", f"{one.n_late:,}"), ("revision", str(one.revision))),
        _verdicts(name, segment, verdicts),
    )  # fmt: skip


def _segments(name: str, chosen: str, segments: Sequence[str]) -> Html:
    links = []
    for segment in segments:
        href = path("models", name, segment=in_query(segment))
        words, here = "all rows" if segment == WHOLE else segment, "page" if segment == chosen else None
        links.append(tag("li", tag("a", words, href=href, aria_current=here)))
    return tag("nav", tag("ul", links), aria_label="Segments", class_="segments")


def _windows(name: str, segment: str, windows: Sequence[ClosedWindow]) -> Html:
    rows = [
        (
            link(str(one.index), path("models", name, "windows", str(one.index), segment=in_query(segment))),
            moment(one.start),
            f"{one.n_rows:,}",
            ", ".join(f"{n} {outcome}" for outcome, n in one.outcomes.items()),
            f"{one.n_late:,}" if one.n_late else "",
        )
        for one in reversed(windows)
    ]
    return table(("window", "from", "rows", "verdicts", "late rows"), rows, "The latest windows")


def _verdicts(name: str, segment: str, verdicts: Sequence[Verdict]) -> Html:
    rows = [
        (column_link(name, one.column, segment), badge(one.outcome), one.reason, effect(one),
         "" if one.p_value is None else f"{one.p_value:.2g}", f"{one.n_current:,}", "; ".join(one.quality))
        for one in sorted(verdicts, key=lambda one: (one.outcome != "drift", one.outcome != "unknown", one.column))
    ]  # fmt: skip
    head = ("column", "verdict", "why", "effect", "p", "valid rows", "facts about the data")
    return table(head, rows, "Verdicts, drift first")


HANDLERS: Final = [model, window]
