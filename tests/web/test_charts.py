"""What is drawn stays within its drawing."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from monitor.account import ColumnPoint
from monitor.web.charts import course
from monitor.web.svg import Frame

effects = st.floats(-1e6, 1e6, allow_subnormal=False)


def point(index: int, effect: float, margin: float) -> ColumnPoint:
    return ColumnPoint(
        index, None, "drift", effect, effect - margin, effect + margin, None, 100, 0.0, 0.0, 0.0, (), "bins"
    )  # fmt: skip


@given(st.lists(st.tuples(effects, st.floats(0, 1e6)), min_size=1, max_size=9))
def test_changes_of_either_sign_and_their_intervals_lie_within_the_drawing(found: list[tuple[float, float]]):
    drawn = str(course("x", [point(i, *one) for i, one in enumerate(found)]))
    frame = Frame(0, 1, 0, 1)
    heights = [float(y) for y in re.findall(r'cy="([^"]*)"', drawn)]
    for area in re.findall(r'<polygon points="([^"]*)"', drawn):
        heights += [float(y) for y in re.findall(r",(\S+)", area)]
    assert len(heights) == 3 * len(found)
    assert all(frame.y(1) <= y <= frame.y(0) for y in heights)


def test_an_interval_with_both_signs_reaches_down_to_no_change():
    drawn = str(course("x", [point(0, 0.1, 0.3), point(1, 0.2, 0.1)]))
    (area,) = re.findall(r'<polygon points="([^"]*)"', drawn)
    at_zero = Frame(0, 1, 0, 1).y(0)
    assert [float(y) == at_zero for y in re.findall(r",(\S+)", area)] == [False, False, False, True]
