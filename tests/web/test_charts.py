"""What is drawn stays within its drawing."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitor.account import ClosedWindow, ColumnPoint
from monitor.decision import Outcome
from monitor.glance import N_FACTS, Fact, Glance, decode, encode
from monitor.web.charts import course, strip
from monitor.web.heat import N_CELLS, heat_map
from monitor.web.layout import column_link
from monitor.web.svg import Frame

counts = st.tuples(*[st.integers(0, 100)] * len(Outcome)).filter(any)
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


@given(st.lists(counts, max_size=80))
def test_a_strip_has_a_mark_for_every_window_and_the_higher_one_where_more_drifts(found: list[tuple[int, int, int]]):
    drawn = str(strip(found))
    marks = {
        class_: [tuple(map(float, mark)) for mark in re.findall(r"M(\S+) (\S+?)V([^M]+)", path)]
        for path, class_ in re.findall(r'<path d="([^"]*)" class="(\w+)"', drawn)
    }
    told = marks.get("calm", []) + marks.get("unsure", [])
    assert len(marks.get("unsure", [])) == sum(not (n_ok or n_drift) for n_ok, n_drift, _ in found)
    places = sorted(x for x, *_ in told)
    (width,) = {float(width) for width in re.findall(r'stroke-width="([^"]*)"', drawn)} or {0.0}
    assert len(places) == len(found)
    assert all(after - before >= width for before, after in pairwise(places)), "none covers another"
    assert all(width / 2 <= x <= 240 - width / 2 for x in places)
    drifting = [(n_drift / sum((n_ok, n_drift, n_unknown))) for n_ok, n_drift, n_unknown in found if n_drift]
    heights = [ground - top for _, ground, top in marks.get("moved", [])]
    assert len(heights) == len(drifting)
    assert all(0 < height <= 22 for height in heights)
    by_share = [height for _, height in sorted(zip(drifting, heights, strict=True))]
    assert by_share == sorted(heights), "more of it, higher"
    assert f"{len(drifting)} with drift" in drawn or not found


NAMES = st.lists(st.sampled_from(["a", "b", "<c>", "", "größe"]), unique=True, min_size=1).map(tuple)


@st.composite
def seen(draw: st.DrawFn) -> Glance:
    """A window at a glance; which columns it has, and in which order, is its own matter."""
    names = draw(NAMES)
    table = np.full((len(names), N_FACTS), np.nan, "<f4")
    table[:, Fact.EFFECT] = draw(st.lists(st.sampled_from([np.nan, -0.9, 0.0, 0.07, 0.31, 2.0]), min_size=len(names),
                                          max_size=len(names)))  # fmt: skip
    outcomes = draw(st.lists(st.sampled_from(range(len(Outcome))), min_size=len(names), max_size=len(names)))
    return Glance.made(names, bytes(outcomes), table, draw(st.none() | st.floats(0, 1)))


@given(seen())
def test_a_glance_comes_back_as_it_was_written(glance: Glance):
    assert decode(encode(glance)) == glance


@given(st.lists(seen(), min_size=1, max_size=N_CELLS))
def test_every_cell_of_the_heat_map_tells_of_its_column_in_its_window(glances: list[Glance]):
    windows = [(ClosedWindow(i, None, None, 10, {}), glance) for i, glance in enumerate(glances)]
    drawn = str(heat_map("m", windows))
    names = {name for glance in glances for name in glance.names}
    for name in names:
        (row,) = re.findall(rf'<th scope="row">{re.escape(column_link("m", name))}</th>(.*?)</tr>', drawn)
        assert re.findall(r"<td[^>]*>([^<]*)</td>", row) == [_cell(glance, name) for glance in glances]
    assert drawn.count('scope="row"') == len(names)


def _cell(glance: Glance, name: str) -> str:
    if name not in glance.names:
        return ""
    row = glance.names.index(name)
    effect = float(np.nan_to_num(glance.table[row, Fact.EFFECT]))
    drifting = str(min(round(100 * abs(effect)), 99))
    return {Outcome.DRIFT: drifting, Outcome.UNKNOWN: "?", Outcome.OK: "·"}[glance.outcome(row)]


def test_no_two_heads_of_the_heat_map_are_alike():
    glance = Glance.made(["x"], bytes([0]), np.zeros((1, N_FACTS), np.float32))
    for hours in (1, 6, 24):
        starts = [f"2026-11-{1 + i * hours // 24:02d}T{i * hours % 24:02d}:00:00Z" for i in range(25)]
        windows = [(ClosedWindow(i, start, start, 10, {}), glance) for i, start in enumerate(starts)]
        heads = re.findall(r'<span title="[^"]*">([^<]*)</span>', str(heat_map("m", windows)))
        assert len(heads) == len(set(heads)) == 5
