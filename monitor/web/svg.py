"""Drawings as inline SVG: a frame that maps values to places, axes, and a few kinds of marks.

Colours and patterns come from the style sheet by class, so that a drawing follows light and dark by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from monitor.describe import number
from monitor.web.html import Html, Part, tag

WIDTH: Final = 440
HEIGHT: Final = 190
WIDE: Final = 760


@dataclass(frozen=True, slots=True)
class Frame:
    """Where values lie in a drawing: x from `low_x` to `high_x`, y upwards from `low_y` to `high_y`."""

    low_x: float
    high_x: float
    low_y: float
    high_y: float
    width: int = WIDTH
    height: int = HEIGHT
    left: int = 52
    right: int = 10
    top: int = 10
    bottom: int = 26

    def x(self, value: float) -> float:
        """Its place from the left."""
        share = (value - self.low_x) / ((self.high_x - self.low_x) or 1.0)
        return round(self.left + share * (self.width - self.left - self.right), 1)

    def y(self, value: float) -> float:
        """Its place from the top."""
        share = (value - self.low_y) / ((self.high_y - self.low_y) or 1.0)
        return round(self.height - self.bottom - share * (self.height - self.top - self.bottom), 1)


def drawing(frame: Frame, label: str, *marks: Part, class_: str = "chart") -> Html:
    """A drawing with its description for who cannot see it."""
    return tag(
        "svg", tag("title", label), *marks, class_=class_, viewBox=f"0 0 {frame.width} {frame.height}", role="img",
        aria_label=label, preserveAspectRatio="xMidYMid meet",
    )  # fmt: skip


def levels(low: float, high: float, n_wanted: int = 5) -> list[float]:
    """Round values between the two, about so many.

    >>> levels(0, 0.43), levels(12_000, 96_000)
    ([0.0, 0.1, 0.2, 0.3, 0.4], [20000.0, 40000.0, 60000.0, 80000.0])
    """
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return []
    rough = (high - low) / n_wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    found = [round(k * step, 12) for k in range(first, first + 2 * n_wanted + 2)]
    return [value + 0.0 for value in found if value <= high + step * 1e-9]


def side_axis(frame: Frame, *, percent: bool = False) -> Html:
    """Lines across, and what they stand for."""
    marks = []
    for value in levels(frame.low_y, frame.high_y):
        words = f"{100 * value:g} %" if percent else number(value)
        marks += [line(frame, frame.low_x, value, frame.high_x, value, "grid"), text(frame, value, words)]
    return tag("g", marks, class_="axis")


def text(frame: Frame, at: float, words: str) -> Html:
    """Words at the left of a height."""
    return tag("text", words, x=frame.left - 6, y=frame.y(at) + 4, text_anchor="end")


def below(frame: Frame, places: Iterable[tuple[float, str]]) -> Html:
    """Words under places on the x axis; the first and the last do not leave the drawing."""
    marks = []
    for value, words in places:
        at = frame.x(value)
        anchor = "start" if at < frame.left + 30 else "end" if at > frame.width - 40 else "middle"
        marks.append(tag("text", words, x=at, y=frame.height - 8, text_anchor=anchor))
    return tag("g", marks, class_="axis")


def line(frame: Frame, x1: float, y1: float, x2: float, y2: float, class_: str) -> Html:  # two points
    """A straight line between two points."""
    return tag("line", x1=frame.x(x1), y1=frame.y(y1), x2=frame.x(x2), y2=frame.y(y2), class_=class_)


def polyline(frame: Frame, points: Iterable[tuple[float, float | None]], class_: str) -> list[Html]:
    """Lines through the points, with a gap wherever one is not known."""
    runs: list[list[str]] = [[]]
    for x, y in points:
        if y is None:
            runs.append([])
        else:
            runs[-1].append(f"{frame.x(x)},{frame.y(y)}")
    return [tag("polyline", points=" ".join(run), class_=class_) for run in runs if run]


def band(frame: Frame, points: Sequence[tuple[float, float | None, float | None]], class_: str) -> list[Html]:
    """The area between a low and a high value at every place, with a gap wherever one is not known."""
    runs: list[list[tuple[float, float, float]]] = [[]]
    for x, low, high in points:
        if low is None or high is None:
            runs.append([])
        else:
            runs[-1].append((x, low, high))
    marks = []
    for run in runs:
        if run:
            there = [f"{frame.x(x)},{frame.y(high)}" for x, _, high in run]
            back = [f"{frame.x(x)},{frame.y(low)}" for x, low, _ in reversed(run)]
            marks.append(tag("polygon", points=" ".join(there + back), class_=class_))
    return marks


def box(frame: Frame, x1: float, y1: float, x2: float, y2: float, class_: str) -> Html:  # two corners
    """A rectangle between two corners."""
    left, right, top, bottom = frame.x(x1), frame.x(x2), frame.y(max(y1, y2)), frame.y(min(y1, y2))
    return tag(
        "rect", x=left, y=top, width=round(max(right - left, 0), 1), height=round(max(bottom - top, 0), 1),
        class_=class_,
    )  # fmt: skip


def legend(*entries: tuple[str, str]) -> Html:
    """What the marks mean: class of the mark, words."""
    return tag(
        "p",
        [tag("span", tag("span", class_=f"key {class_}", aria_hidden="true"), " ", words) for class_, words in entries],
        class_="legend",
    )
