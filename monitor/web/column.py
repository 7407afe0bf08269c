"""One column's whole history, and every statistic of its latest window beside what is usual without drift."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from litestar import Response, get
from litestar.params import FromPath

from detectors import REGISTRY, law, mmd
from detectors.domain import Classifier
from monitor.account import ColumnHistory
from monitor.decision import Scores
from monitor.describe import number, percent
from monitor.history import Compared
from monitor.null import usual
from monitor.outline import outline
from monitor.rowsample import RowSample
from monitor.scorecard import scorecard
from monitor.web import charts, svg
from monitor.web.html import Html, path, table, tag
from monitor.web.layout import badge, facts, in_query, link, model_link, moment, page, section
from monitor.web.site import Asked, Here
from monitor.window import WHOLE

N_WINDOWS: Final = 2_160
N_ROWS: Final = 30


@get("/models/{name:str}/column", sync_to_thread=True, include_in_schema=False)
def column(site: Here, request: Asked, name: FromPath[str]) -> Response[str]:
    """A column's history."""
    asked, segment = request.query_params.get("name", ""), request.query_params.get("segment", WHOLE)
    with site.history() as history:
        found = history.column(name, asked, segment, N_WINDOWS)
        number_asked = request.query_params.get("window", "")
        index = int(number_asked) if number_asked.isascii() and number_asked.isdecimal() else found.points[-1].index
        compared = history.compared(name, segment, min(index, 2**53))
        rows = history.rows(compared, name) if compared is not None and segment == WHOLE else None
    shown = asked or "(no name)"
    last = found.points[-1]
    return page(
        request,
        f"{shown}, {name}",
        tag("p", link("Overview", "/"), " / ", model_link(name), class_="path"),
        tag("h1", shown, " ", badge(last.outcome)),
        _facts(found),
        section("Values over time", _values(found)),
        tag(
            "div",
            section("Size of the change over time", charts.course(shown, found.points)),
            section("Missing, unexpected and malformed values", _rates(found)),
            class_="twins",
        ),
        section(f"Window {index} against the reference", _compared(compared, asked, shown), _together(compared, rows)),
        section("Windows", _windows(found)),
    )


def _facts(found: ColumnHistory) -> Html:
    last = found.points[-1]
    return facts(
        ("kind", found.kind),
        ("rows", found.segment if found.segment != WHOLE else "all"),
        ("windows", str(len(found.points))),
        ("last window", moment(last.start)),
        ("effect there", "not known" if last.effect is None else number(last.effect)),
        ("missing there", "not known" if last.missing is None else percent(last.missing)),
    )


def _values(found: ColumnHistory) -> Html:
    if found.kind == "unknown":
        return tag("p", "The reference has no such column, so nothing is kept of its values.")
    if found.kind == "numeric":
        key = svg.legend(
            ("wide", "middle 90 %"), ("narrow", "middle 50 %"), ("current-line", "median"),
            ("reference-line", "the reference's median"), ("reference-thin", "its other quantiles"),
        )  # fmt: skip
        return tag("div", key, charts.bands(found))
    tones = [(f"tone{i}", label) for i, label in enumerate(found.labels)]
    return tag("div", svg.legend(*tones, ("reference-thin", "the reference")), charts.word_shares(found))


def _rates(found: ColumnHistory) -> Html:
    words = "outside the reference's range" if found.kind == "numeric" else "words the reference never had"
    key = svg.legend(("tone0", "missing"), ("tone1", words), ("tone2", "of the wrong type"))
    return tag("div", key, charts.rates(found))


def _compared(compared: Compared | None, column_name: str, shown: str) -> Html:
    why = charts.undrawn(compared, column_name)
    if compared is None or why:
        return tag("p", why)
    alone = compared.pair.only(compared.pair.bins.names.index(column_name))
    pair = replace(alone, laws=law.between(alone.reference, alone.current, REGISTRY))
    drawn = outline(pair, 0)
    return tag(
        "div",
        tag(
            "p", f"Reference {compared.reference[:12]}: {int(pair.n[0]):,} valid rows; this window: {int(pair.m[0]):,}."
        ),
        charts.distribution(shown, drawn, charts.cumulative(shown, drawn) if drawn.is_numeric else Html()),
        tag("h3", "Statistics"),
        _statistics(Scores(pair)),
    )


def _statistics(scores: Scores) -> Html:
    found = scorecard(scores, 0, REGISTRY)
    null = usual(scores.pair, 0, [name for name, score in found.items() if score.statistic is not None])
    rows = []
    for name, score in found.items():
        expected = null.get(name)
        rows.append((
            name,
            score.reason or "not known" if score.statistic is None else number(score.statistic),
            "" if expected is None else number(expected.median),
            "" if expected is None else number(expected.high),
            "" if score.p_value is None else f"{score.p_value:.2g}",
            "" if score.effect is None else number(score.effect),
        ))  # fmt: skip
    head = ("statistic", "here", "usual without drift", "95 of 100 stay below", "p", "effect")
    caption = "Every statistic of this window; what is usual is drawn from the reference, for windows of this size"
    return table(head, rows, caption, shown=True)


SURE: Final = 0.01
"""A classifier that chance explains leans on nothing in particular."""


def _together(compared: Compared | None, rows: tuple[RowSample, RowSample] | None) -> Html:
    """All columns at once, of the rows that are kept."""
    if compared is None or rows is None:
        return Html()
    found = mmd.discrepancy(compared.pair.reference, rows[0].cells, rows[1].cells)
    if found is None:
        return Html()
    sizes = f"{found.n_current:,} rows of this window beside {found.n_reference:,} of the reference"
    said = f"All columns together: MMD {number(found.statistic)}, p {found.p_value:.2g}, of {sizes}. "
    said += "It also sees columns that change only with each other."
    return tag("div", tag("h3", "Whole rows"), tag("p", said), _told_apart(compared, rows))


def _told_apart(compared: Compared, rows: tuple[RowSample, RowSample]) -> Html:
    """How well a classifier tells the window's rows from the reference's, and by which columns."""
    found = Classifier.of(compared.pair.reference, rows[0].cells).tell(rows[1].cells)
    if found is None:
        return Html()
    said = f"A classifier tells them apart with AUC {found.auc:.2f} (0.5 is not at all), p {found.p_value:.2g}. "
    names = compared.pair.bins.names
    leans = ", ".join(f"{names[column]} {percent(share)}" for column, share in found.columns.items())
    return tag("p", said, f"It leans on {leans}." if leans and found.p_value < SURE else None)


def _windows(found: ColumnHistory) -> Html:
    rows = []
    for point in reversed(found.points[-N_ROWS:]):
        segment = in_query(found.segment)
        href = path("models", found.model, "column", name=found.column, segment=segment, window=point.index)
        said = number if found.kind == "numeric" else percent
        middle = tuple("" if level is None else said(level) for level in point.levels)
        rows.append((
            link(str(point.index), href),
            moment(point.start),
            badge(point.outcome),
            "" if point.effect is None else number(point.effect),
            "" if point.missing is None else percent(point.missing),
            *middle,
            "" if point.bins == found.bins else "on another reference",
        ))  # fmt: skip
    labels = [f"quantile {label}" if found.kind == "numeric" else label for label in found.labels]
    labels += [""] * (len(found.points[-1].levels) - len(labels))
    return table(("window", "from", "verdict", "effect", "missing", *labels, ""), rows, "The latest windows")


HANDLERS: Final = [column]
