"""Laws of signals: they add, they are standardised on the reference, and only the order of numbers counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import Profile
from detectors.blocks import Rows, cut_by_rows, cut_by_time, panes_of, sorted_by
from detectors.cells import INVALID
from detectors.packed import pack, unpack
from detectors.parts import Measure
from detectors.season import DAY_MS, HOUR_MS, MONDAY_MS, Season
from detectors.signals import Signals
from tests.detectors.weeks import Table, bins_of, cells_of, drawn, without_values

laws = settings(max_examples=30, derandomize=True, deadline=None)


@pytest.fixture(scope="module")
def table() -> Table:
    rng = np.random.default_rng(3)
    whole = without_values(drawn(rng, 5_000), 1, 0.1, rng)
    return replace(whole, numbers=np.where(np.arange(4)[:, None] == 2, np.rint(whole.numbers), whole.numbers))


def signals_of(table: Table, rows: float = 500) -> tuple[Signals, Profile, np.ndarray]:
    bins = bins_of(table)
    cells = cells_of(bins, table)
    profile = Profile.of(bins, table.numbers, cells)
    return Signals.of(profile, rows), profile, cells


def test_over_the_reference_every_signal_has_mean_0_and_variance_1(table: Table):
    signals, profile, cells = signals_of(table)
    values, rows = signals.values(signals.read(profile))
    assert np.abs(values).max() < 1e-9
    one_by_one, _ = signals.values(signals.read_rows(cells, np.arange(table.n_rows), table.n_rows))
    squares = (one_by_one**2).sum(axis=0) / rows
    assert squares == pytest.approx(np.ones(signals.n_signals), abs=1e-6)
    assert signals.row_variance(profile) == pytest.approx(np.ones(signals.n_signals), abs=1e-9)


def test_ranks_of_one_column_are_uncorrelated(table: Table):
    signals, _, cells = signals_of(table)
    values, _ = signals.values(signals.read_rows(cells, np.arange(table.n_rows), table.n_rows))
    mine = np.flatnonzero((signals.column == 2) & ~signals.is_share)  # the rounded column: ties and all
    correlation = values[:, mine].T @ values[:, mine] / table.n_rows
    assert correlation == pytest.approx(np.eye(mine.size), abs=2e-3)


@laws
@given(st.lists(st.integers(0, 3), min_size=200, max_size=200))
def test_readings_of_parts_add_up_to_that_of_the_whole_exactly(parts: list[int]):
    table = drawn(np.random.default_rng(0), 200)
    signals, profile, cells = signals_of(table, 1_000)
    whole, pieces = signals.read(profile), signals.read_rows(cells, np.array(parts), 4).sum(axis=0)
    for name in ("n_all", "valid", "totals", "events"):
        assert np.array_equal(getattr(whole, name), getattr(pieces, name)), name


def test_a_monotone_transform_of_numbers_changes_nothing(table: Table):
    other = replace(table, numbers=np.exp(table.numbers / 2) * 7 - 3)
    (signals, profile, _), (transformed, moved, _) = signals_of(table), signals_of(other)
    assert np.array_equal(signals.weights, transformed.weights)
    assert np.array_equal(signals.read(profile).totals, transformed.read(moved).totals)


def test_rare_words_are_counted_as_events_and_frequent_ones_are_shares(table: Table):
    signals, _, cells = signals_of(table)
    measures = {signals.measure[k] for k in np.flatnonzero(signals.column == 4)}
    assert measures == {Measure.SHARE}
    missing = [k for k, measure in enumerate(signals.measure) if measure is Measure.MISSING]
    assert signals.column[missing].tolist() == [1]
    assert signals.is_fault.sum() == 1
    broken = cells.copy()
    broken[0, :7] = INVALID
    events = signals.read_rows(broken, np.zeros(table.n_rows, np.intp), 1).events[0]
    found = {
        (column, str(kind)): int(n) for column, kind, n in zip(signals.event_column, signals.event, events, strict=True)
    }
    assert found[0, "invalid"] == 7
    assert sum(found.values()) == 7


def test_windows_of_time_and_of_rows_hold_the_same_rows(table: Table):
    signals, _, cells = signals_of(table)
    times = MONDAY_MS + np.arange(table.n_rows) * HOUR_MS // 500
    rows = Rows(table.numbers, cells, times, np.ones(table.n_rows, np.bool_))
    timed, counted = cut_by_time(signals, rows, HOUR_MS), cut_by_rows(signals, rows, 500)
    assert (timed.n_blocks, timed.n_panes) == (counted.n_blocks, counted.n_panes) == (10, 2)
    assert np.array_equal(timed.windows.totals, counted.windows.totals)
    assert timed.gaps(HOUR_MS).tolist() == [0.0] * 10
    again = type(timed).from_arrays(*unpack(pack(*timed.to_arrays(), level=6)))
    assert np.array_equal(again.reading.totals, timed.reading.totals)


@pytest.mark.parametrize(("rows", "panes"), [(50, 1), (399, 1), (400, 2), (800, 4), (1e6, 4)])
def test_panes_have_at_least_200_rows(rows: float, panes: int):
    assert panes_of(rows) == panes


def test_a_sorted_table_is_seen_and_one_in_any_other_order_is_not(table: Table):
    _, _, cells = signals_of(table)
    assert sorted_by(cells).size == 0
    for column in (0, 2, 4):
        assert column in sorted_by(cells[:, np.argsort(cells[column], kind="stable")])


def test_the_hours_of_a_week():
    hours = MONDAY_MS + np.arange(400) * HOUR_MS
    assert Season.of(HOUR_MS).cells(hours).tolist() == [hour % 168 for hour in range(400)]
    assert Season.of(5 * 60_000).n_cells == 168
    assert Season.of(DAY_MS).n_cells == 7
    assert Season.of(2 * DAY_MS).n_cells == Season.of(0).n_cells == 1


def test_packed_arrays_refuse_to_lie():
    data = pack({"a": 1}, {"x": np.arange(3)})
    assert unpack(data)[0] == {"a": 1}
    for harmed in (data[:-1], data[:9] + b"!" + data[10:], b"DRAR"):
        with pytest.raises(ValueError, match=r"damaged|not packed"):
            unpack(harmed)
