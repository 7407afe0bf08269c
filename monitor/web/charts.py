"""What a person sees of a column: its distribution, and how it went over time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from detectors.joint import JOINT_NAME
from detectors.pairs import WHOLE_ROWS
from monitor.account import ColumnHistory, ColumnPoint
from monitor.decision import Outcome
from monitor.describe import JOINT, TOLD_APART, correlations, number, percent
from monitor.history import Compared
from monitor.outline import Outline, Part
from monitor.web import svg
from monitor.web.html import Html, table, tag
from monitor.web.svg import Frame

BAR: Final = 22
"""Height of a word's two bars."""

_BROAD: Final = "chart broad"
N_DOTS: Final = 100
"""Windows from which on their marks are smaller, so that they do not cover each other."""


def strip(outcomes: Sequence[tuple[int, int, int]]) -> Html:
    """A model's latest windows, one mark each: how large a part of the columns drifts.

    outcomes: of each window how many columns got each verdict, in the order of `Outcome`. A page holds thousands of
    these marks, so they are upright strokes, in one path for each kind.
    """
    n_drifting = sum(n_drift > 0 for _, n_drift, _ in outcomes)
    label = f"the last {len(outcomes)} windows, {n_drifting} with drift" if outcomes else "no window yet"
    frame = Frame(0, 1, 0, 1, width=240, height=24, left=0, right=0, top=1, bottom=1)
    each, ground, full = frame.width / max(len(outcomes), 12), frame.y(0), frame.y(1)
    calm, unsure, moved = list[str](), list[str](), list[str]()
    for i, (n_ok, n_drift, n_unknown) in enumerate(outcomes):
        foot = f"M{(i + 0.5) * each:.4g} {ground:g}V"
        (calm if n_ok or n_drift else unsure).append(f"{foot}{full:g}")
        if n_drift:
            share = n_drift / (n_ok + n_drift + n_unknown)
            moved.append(f"{foot}{ground - max(share, 0.2) * (ground - full):.3g}")
    marks = [
        tag("path", d="".join(strokes), class_=class_, stroke_width=round(0.8 * each, 2))
        for class_, strokes in (("calm", calm), ("unsure", unsure), ("moved", moved))
        if strokes
    ]
    return svg.drawing(frame, label, marks, class_="strip")


def distribution(column: str, outline: Outline, *beside: Html) -> Html:
    """The reference and the window. beside: other drawings."""
    if not outline.parts:
        return tag("p", "The reference holds no value of this column.")
    picture = histogram(column, outline) if outline.is_numeric else words(column, outline)
    shown = [part for part in outline.special if part.reference or part.current]
    return tag(
        "div",
        svg.legend(("reference", "reference"), ("current", "this window"), ("excess", "more than in the reference")),
        tag("div", picture, beside, class_="pair"),
        [tag("p", f"{part.label}: {percent(part.reference)} → {percent(part.current)}") for part in shown],
        numbers(outline),
        class_="distribution",
    )


def undrawn(compared: Compared | None, column: str) -> str:
    """What is said of a column whose distribution in a window cannot be drawn; "" where it can be."""
    if compared is None:
        return "This window, or the reference that it was counted on, is not kept any more."
    bins = compared.pair.bins
    if column == JOINT_NAME:
        return JOINT
    if column == WHOLE_ROWS:
        return TOLD_APART
    if column in bins.pair_names:
        return correlations(compared.pair, bins.pair_names.index(column))
    return "" if column in bins.names else "The reference has no such column."


def numbers(outline: Outline) -> Html:
    """The same as numbers."""
    rows = [(part.label, percent(part.reference), percent(part.current)) for part in (*outline.parts, *outline.special)]
    return tag("details", tag("summary", "As numbers"), table(("", "reference", "this window"), rows, "Shares of rows"))


def histogram(column: str, outline: Outline) -> Html:
    """Stretches of equal width: the reference as an outline, the window filled, what it has more hatched."""
    borders = outline.borders.tolist()
    highest = max(max(part.reference, part.current) for part in outline.parts)
    frame = Frame(borders[0], borders[-1], 0, highest * 1.05)
    marks, steps = [], list[tuple[float, float | None]]()
    for left, right, part in zip(borders[:-1], borders[1:], outline.parts, strict=True):
        common = min(part.reference, part.current)
        marks.append(svg.box(frame, left, 0, right, common, "current"))
        if part.current > common:
            marks.append(svg.box(frame, left, common, right, part.current, "excess"))
        steps += [(left, part.reference), (right, part.reference)]
    label = f"Histogram of {column}: {_moved(outline.parts)} of the rows lie elsewhere than in the reference"
    ends = [(value, number(value)) for value in svg.levels(borders[0], borders[-1], 5)]
    return svg.drawing(
        frame, label, svg.side_axis(frame, percent=True), marks, svg.polyline(frame, steps, "reference-line"),
        svg.below(frame, ends),
    )  # fmt: skip


def cumulative(column: str, outline: Outline) -> Html:
    """Both cumulative shares, and where they are furthest apart."""
    borders, places = outline.borders, outline.points
    frame = Frame(float(borders[0]), float(borders[-1]), 0, 1)
    inside = (places >= borders[0]) & (places <= borders[-1])
    gap = abs(outline.reference - outline.current) * inside
    at = int(gap.argmax())
    x, before, after = float(places[at]), float(outline.reference[at]), float(outline.current[at])
    sides = [
        svg.polyline(frame, _steps(places[inside].tolist(), side[inside].tolist()), class_)
        for side, class_ in ((outline.reference, "reference-line"), (outline.current, "current-line"))
    ]
    label = (
        f"Cumulative shares of {column}: {percent(before)} of the reference and {percent(after)} of this window lie at "
        f"or below {number(x)}, where the two are furthest apart"
    )
    ends = [(value, number(value)) for value in svg.levels(float(borders[0]), float(borders[-1]), 5)]
    return svg.drawing(
        frame, label, svg.side_axis(frame, percent=True), sides, svg.line(frame, x, before, x, after, "gap"),
        svg.below(frame, ends),
    )  # fmt: skip


def words(column: str, outline: Outline) -> Html:
    """A word's share in the reference above its share in the window."""
    highest = max(max(part.reference, part.current) for part in outline.parts)
    height = len(outline.parts) * (BAR + 8) + 12
    frame = Frame(0, highest, 0, 1, height=height, left=150, right=105, bottom=0, top=0)
    marks = []
    for i, part in enumerate(outline.parts):
        top = 6 + i * (BAR + 8)
        marks += [
            tag("text", _short(part.label), x=frame.left - 8, y=top + 15, text_anchor="end", class_="word"),
            _bar(frame, top, 0, part.reference, "reference"),
            _bar(frame, top + BAR / 2, 0, min(part.reference, part.current), "current"),
            _bar(frame, top + BAR / 2, part.reference, max(part.current, part.reference), "excess"),
            tag("text", f"{percent(part.reference)} → {percent(part.current)}", class_="word",
                x=frame.x(max(part.reference, part.current)) + 6, y=top + 15),
        ]  # fmt: skip
    label = f"Words of {column}: {_moved(outline.parts)} of the rows have another word than in the reference"
    return svg.drawing(frame, label, marks)


def course(column: str, points: Sequence[ColumnPoint], since: int | None = None) -> Html:
    """The size of a column's change over its windows, with its interval; since: where drift began."""
    known = [point for point in points if point.effect is not None]
    if not known:
        return tag("p", "No size of a change is known, or its windows are not kept any more.")
    area = [(p.index, *_span(p.effect_low, p.effect_high)) for p in points]
    highest = max([*_some([_up(p.effect) for p in known]), *_some([high for *_, high in area]), 0.05])
    frame = Frame(points[0].index - 0.5, points[-1].index + 0.5, 0, highest * 1.05)
    size = 3 if len(points) <= N_DOTS else 1.8
    dots = [
        tag("circle", cx=frame.x(p.index), cy=frame.y(_up(p.effect) or 0.0), r=size, class_=f"dot {p.outcome}")
        for p in known
    ]
    begin = []
    if since is not None and points[0].index <= since <= points[-1].index:
        begin = [
            svg.line(frame, since - 0.5, 0, since - 0.5, frame.high_y, "since"),
            tag("text", "since", x=frame.x(since - 0.5) - 5, y=frame.top + 10, text_anchor="end", class_="since"),
        ]
    n_drift = sum(point.outcome == Outcome.DRIFT for point in points)
    label = f"Effect of {column} over {len(points)} windows, {n_drift} of them drifting"
    lines = svg.polyline(frame, [(p.index, _up(p.effect)) for p in points], "effect-line")
    return svg.drawing(
        frame, label, svg.side_axis(frame), svg.band(frame, area, "interval"), lines, dots, begin, ends(frame, points),
    )  # fmt: skip


def bands(history: ColumnHistory) -> Html:
    """Quantiles of a number over time against the reference's."""
    points, usual = history.points, history.reference
    known = [level for point in points for level in point.levels if level is not None]
    known += [level for level in usual or () if level is not None]
    if not known:
        return tag("p", "No value of this column is known.")
    frame = _broad(points, min(known), max(known))
    wide = svg.band(frame, [(p.index, p.levels[0], p.levels[4]) for p in points], "wide")
    narrow = svg.band(frame, [(p.index, p.levels[1], p.levels[3]) for p in points], "narrow")
    middle = svg.polyline(frame, [(p.index, p.levels[2]) for p in points], "current-line")
    lines = [
        svg.line(frame, frame.low_x, level, frame.high_x, level, "reference-line" if i == 2 else "reference-thin")
        for i, level in enumerate(usual or ())
        if level is not None
    ]
    label = f"Quantiles of {history.column} over {len(points)} windows: median and the middle 50 % and 90 % of the rows"
    return svg.drawing(
        frame, label, svg.side_axis(frame), wide, narrow, lines, middle, changes_of_reference(frame, points),
        ends(frame, points), class_=_BROAD,
    )  # fmt: skip


def word_shares(history: ColumnHistory) -> Html:
    """Shares of the most frequent words over time against the reference's."""
    points = history.points
    highest = max(_some([*(level for point in points for level in point.levels), *(history.reference or ()), 0.05]))
    frame = _broad(points, 0, highest * 1.05)
    marks = []
    for i in range(len(history.labels)):
        usual = history.reference[i] if history.reference else None
        if usual is not None:
            marks.append(svg.line(frame, frame.low_x, usual, frame.high_x, usual, f"reference-thin tone{i}"))
        marks += svg.polyline(frame, [(p.index, p.levels[i]) for p in points], f"tone tone{i}")
    label = f"Shares of the words of {history.column} over {len(points)} windows"
    return svg.drawing(frame, label, svg.side_axis(frame, percent=True), marks, ends(frame, points), class_=_BROAD)


def rates(history: ColumnHistory) -> Html:
    """Missing, malformed and unseen shares over time."""
    points = history.points
    highest = max([*_some([x for p in points for x in (p.missing, p.invalid, p.odd)]), 0.02])
    frame = Frame(points[0].index - 0.5, points[-1].index + 0.5, 0, highest * 1.05, height=150)
    usual = history.reference_missing
    marks = [
        svg.line(frame, frame.low_x, usual, frame.high_x, usual, "reference-thin") if usual is not None else None,
        svg.polyline(frame, [(p.index, p.missing) for p in points], "tone tone0"),
        svg.polyline(frame, [(p.index, p.odd) for p in points], "tone tone1"),
        svg.polyline(frame, [(p.index, p.invalid) for p in points], "tone tone2"),
    ]
    label = f"Missing, unexpected and malformed values of {history.column} over {len(points)} windows"
    return svg.drawing(frame, label, svg.side_axis(frame, percent=True), marks, ends(frame, points))


def _broad(points: Sequence[ColumnPoint], low: float, high: float) -> Frame:
    """The frame of a broad chart, with room for the larger letters that it has on a narrow screen."""
    return Frame(points[0].index - 0.5, points[-1].index + 0.5, low, high, width=svg.WIDE, height=240, left=80)


def ends(frame: Frame, points: Sequence[ColumnPoint]) -> Html:
    """Names of the first and the last window under the axis."""
    return svg.below(frame, [(p.index, (p.start or f"window {p.index}")[:10]) for p in (points[0], points[-1])])


def changes_of_reference(frame: Frame, points: Sequence[ColumnPoint]) -> list[Html]:
    """A line wherever the windows after it were counted on another reference."""
    at = [after.index - 0.5 for before, after in pairwise(points) if before.bins != after.bins]
    return [svg.line(frame, x, frame.low_y, x, frame.high_y, "since") for x in at]


def _bar(frame: Frame, top: float, low: float, high: float, class_: str) -> Html:
    left, right = frame.x(low), frame.x(high)
    return tag("rect", x=left, y=top, width=round(max(right - left, 0), 1), height=BAR / 2 - 1, class_=class_)


def _steps(places: list[float], shares: list[float]) -> list[tuple[float, float | None]]:
    return list(zip(places, shares, strict=True))


def _moved(parts: Sequence[Part]) -> str:
    return percent(sum(max(part.current - part.reference, 0.0) for part in parts))


def _short(label: str) -> str:
    return label if len(label) <= 24 else label[:23] + "…"


def _up(value: float | None) -> float | None:
    """Sizes of change are drawn upwards, whatever their sign."""
    return None if value is None else abs(value)


def _span(low: float | None, high: float | None) -> tuple[float | None, float | None]:
    """The sizes of change that an interval holds; from nothing on where it holds both signs."""
    if low is None or high is None:
        return None, None
    least, most = sorted((abs(low), abs(high)))
    return 0.0 if low < 0 < high else least, most


def _some(values: Sequence[float | None] | None) -> list[float]:
    return [value for value in values or () if value is not None]
