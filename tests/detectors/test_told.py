"""Laws of a classifier of whole rows under the budget: it learns what windows show while nothing is wrong, rings for
what columns do not show, and only by rising."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.domain import Told, auc_of
from detectors.parts import FIXED
from detectors.season import HOUR_MS, MONDAY_MS, Season
from detectors.signals import Reading
from detectors.vigil import Vigil
from tests.detectors.weeks import N_NUMBERS, N_TAUGHT, Table, Watchman, cells_of, drawn

laws = settings(max_examples=20, derandomize=True, deadline=None)
N_ROWS, N_SHOWN, HOURS = 400, 200, 10 * 24


def daily(rng: np.random.Generator, hours: int, first: int = 0) -> list[Table]:
    """Hours of a daily cycle of .3 standard deviations and a wobble of .05, each column's its own."""
    amplitude, phase = np.random.default_rng(77).uniform(0, (0.3, 24), (N_NUMBERS, 2)).T
    wobble, found = np.zeros(N_NUMBERS), []
    for hour in range(first, first + hours):
        wobble = 0.7 * wobble + np.sqrt(1 - 0.7**2) * 0.05 * rng.normal(size=N_NUMBERS)
        shift = amplitude * np.sin(2 * np.pi * (hour - phase) / 24) + wobble
        found.append(drawn(rng, N_ROWS, shift[:, None]))
    return found


def together(tables: list[Table]) -> Table:
    return Table(np.concatenate([t.numbers for t in tables], axis=1), np.concatenate([t.words for t in tables]))


def entwined(table: Table, rng: np.random.Generator, share: float) -> Table:
    """The sign of the third column is that of the product of the first two, in so many rows; else all are apart."""
    numbers, bound = table.numbers - np.median(table.numbers, axis=1, keepdims=True), rng.random(table.n_rows) < share
    numbers[2, bound] = (np.abs(numbers[2]) * np.sign(numbers[0] * numbers[1]))[bound]
    return Table(numbers + np.median(table.numbers, axis=1, keepdims=True), table.words)


def as_wide(table: Table, rng: np.random.Generator, share: float) -> Table:
    """The second column is as far from its middle as the first, in so many rows: uncorrelated all the same."""
    numbers, bound = table.numbers.copy(), rng.random(table.n_rows) < share
    numbers[1, bound] = (np.sign(rng.normal(size=table.n_rows)) * np.abs(numbers[0]))[bound]
    return Table(numbers, table.words)


@pytest.fixture(scope="module")
def guard() -> Watchman:
    """Learnt from ten days of hours."""
    table = together(daily(np.random.default_rng(1), HOURS))
    return Watchman.of(table, N_ROWS, hours=True, correlations=4, n_shown=N_SHOWN)


def watched(guard: Watchman, tables: list[Table], first: int = HOURS) -> np.ndarray:
    """Alarms, shape (windows, columns)."""
    vigil, found = guard.begin(), []
    for hour, table in enumerate(tables, first):
        cell = int(Season.of(HOUR_MS).cells(np.array(MONDAY_MS + hour * HOUR_MS)))
        vigil, seen = guard.after(vigil, guard.reading(table), cell)
        found.append(seen.alarm.loud)
    return np.array(found)


def test_a_block_says_what_the_classifier_says_of_its_first_rows_that_did_not_teach_it(guard: Watchman):
    table = together(daily(np.random.default_rng(1), HOURS))
    order, cells = np.random.default_rng(0).permutation(table.n_rows), cells_of(guard.bins, table)
    assert guard.classifier is not None
    for block in (0, 17, HOURS - 1):
        mine = np.arange(block * N_ROWS, (block + 1) * N_ROWS)
        mine = mine[order[mine] >= N_TAUGHT]
        shown = mine[np.argsort(order[mine])][:N_SHOWN]
        told = guard.classifier.tell(cells[:, shown])
        assert told is not None
        assert tuple(guard.blocks.windows.told[block]) == told.reading
        assert not guard.blocks.reading.told[block, :-1].any()


def test_the_order_of_rows_within_windows_changes_nothing_where_their_lots_go_with_them(guard: Watchman):
    table, rng = together(daily(np.random.default_rng(1), HOURS)), np.random.default_rng(2)
    order = np.random.default_rng(0).permutation(table.n_rows)
    moved = np.concatenate([hour * N_ROWS + rng.permutation(N_ROWS) for hour in range(HOURS)])
    again = Watchman.of(
        Table(table.numbers[:, moved], table.words[moved]), N_ROWS, hours=True, correlations=4, n_shown=N_SHOWN,
        order=order[moved],
    )  # fmt: skip
    assert np.array_equal(again.blocks.windows.told, guard.blocks.windows.told)
    assert again.calibration.null.level[-1] == guard.calibration.null.level[-1]


def test_without_drift_it_is_silent_though_hours_can_be_told_from_the_whole(guard: Watchman):
    assert guard.classifier is not None
    plain = replace(guard.classifier, steadiness=np.ones_like(guard.classifier.steadiness))
    hours = daily(np.random.default_rng(3), 6 * 24, HOURS)
    cells = [cells_of(guard.bins, hour)[:, :N_SHOWN] for hour in hours[:48]]
    anyway, steady = ([side.tell(each).auc for each in cells] for side in (plain, guard.classifier))
    assert np.mean(anyway) > 0.52
    assert abs(np.mean(steady) - 0.5) < 0.01  # what hours always show counts for nothing
    assert (guard.blocks.windows.told[:, 0] > 0).mean() > 0.95
    assert not guard.calibration.off
    assert not watched(guard, hours)[:, -1].any()


def test_functions_are_steady_where_windows_differ_by_chance_alone_and_less_so_the_more_they_differ():
    rng = np.random.default_rng(12)
    table = drawn(rng, 20_000)
    taught = Watchman.of(table, N_ROWS, n_shown=N_SHOWN)
    assert taught.classifier is not None
    moves = np.array([0.0, 0.05, 0.1, 0.3])[:, None]
    windows = [
        cells_of(taught.bins, drawn(rng, N_SHOWN, moves * rng.choice([-1, 1], (N_NUMBERS, 1)))) for _ in range(400)
    ]
    classifier = taught.classifier.steadied(windows)
    levels = [classifier.steadiness[(classifier.owners == [column, -1, -1]).all(axis=1)][0] for column in range(4)]
    assert levels == pytest.approx(1 / (1 + N_SHOWN * (0.98 * moves[:, 0]) ** 2), abs=0.2)
    assert levels == sorted(levels, reverse=True)
    assert classifier.steadiness.max() == 1
    # To make anything of less steady functions is to say less of them, whatever they are off by.
    shifted = cells_of(taught.bins, drawn(rng, N_SHOWN, 0.3 * (moves > 0.2)))
    before, after = taught.classifier.tell(shifted), classifier.tell(shifted)
    assert before is not None
    assert after is not None
    assert before.auc > after.auc + 0.02


@pytest.mark.parametrize(("change", "share"), [(entwined, 0.6), (as_wide, 0.5)])
def test_what_neither_a_column_nor_a_correlation_shows_is_found(guard: Watchman, change, share: float):
    rng = np.random.default_rng(4)
    alarms = watched(guard, [change(table, rng, share) for table in daily(rng, 16, HOURS)])
    assert alarms[:8, -1].any()
    assert not alarms[:, :-1].any()


def test_it_is_silent_while_a_column_has_an_incident(guard: Watchman):
    rng = np.random.default_rng(5)
    tables = [entwined(table, rng, 0.6) for table in daily(rng, 12, HOURS)]
    for table in tables:
        table.numbers[3] += 2
    alarms = watched(guard, tables)
    assert alarms[:, 3].any()
    assert not alarms[int(alarms[:, 3].argmax()) :, -1].any()


def spoken(guard: Watchman, effect: float, n_windows: int) -> tuple[Vigil, np.ndarray]:
    """Windows like the reference of which the classifier says this, beyond what is usual."""
    tables, vigil, found = daily(np.random.default_rng(6), n_windows, HOURS), guard.begin(), []
    null = guard.calibration.null
    for hour, table in enumerate(tables, HOURS):
        cell = int(Season.of(HOUR_MS).cells(np.array(MONDAY_MS + hour * HOUR_MS)))
        reading = guard.reading(table)
        rows = reading.told[-1, 0]
        reading.told[-1] = rows, round((null.at(cell)[0][-1] + effect) * FIXED) * rows
        vigil, seen = guard.after(vigil, reading, cell)
        found.append(seen.alarm.loud[-1])
    return vigil, np.array(found)


def test_rows_that_are_more_like_the_reference_than_usual_are_no_news(guard: Watchman):
    assert spoken(guard, 0.4, 6)[1].any()
    vigil, alarms = spoken(guard, -0.4, 24)
    assert not alarms.any()
    assert vigil.evidence.signals[:, -1].mean() <= 24


def test_windows_of_fewer_rows_than_it_was_learnt_from_are_no_evidence(guard: Watchman):
    rng = np.random.default_rng(7)
    vigil, _ = spoken(guard, 0.1, 3)
    short = entwined(drawn(rng, N_SHOWN - 1), rng, 1.0)
    after, _ = guard.after(vigil, guard.reading(short))
    assert np.array_equal(after.evidence.signals[..., -1], vigil.evidence.signals[..., -1])


def test_time_passes_once_in_a_window_of_several_panes(guard: Watchman):
    """A window that says what was expected adds one window to the sum of all possible beginnings."""
    reading = guard.reading(drawn(np.random.default_rng(8), N_ROWS))
    expected = guard.calibration.null.at(0)[0][-1]

    def in_panes(n: int) -> Reading:
        told = np.zeros((n, 2), np.int64)
        told[-1] = reading.told[-1, 0], round(expected * FIXED) * reading.told[-1, 0]
        panes = reading.sum(axis=0).each(lambda array: np.repeat(array[None], n, axis=0))
        return replace(panes, told=told)

    whole, quarters = (guard.after(guard.begin(), in_panes(n))[0] for n in (1, 4))
    assert quarters.evidence.signals[..., -1] == pytest.approx(whole.evidence.signals[..., -1], rel=1e-3)


def test_a_watch_that_was_written_down_goes_on_as_if_it_had_not_been(guard: Watchman):
    rng = np.random.default_rng(9)
    straight = stored = guard.begin()
    rang = False
    for table in [entwined(table, rng, 0.5) for table in daily(rng, 6, HOURS)]:
        straight, seen = guard.after(Vigil.from_bytes(straight.to_bytes()), guard.reading(table))
        stored, again = guard.after(Vigil.from_bytes(stored.to_bytes()), guard.reading(table))
        assert np.array_equal(seen.alarm.loud, again.alarm.loud)
        assert straight.to_bytes() == stored.to_bytes()
        rang = rang or bool(seen.alarm.loud[-1])
    assert rang


@laws
@given(st.floats(0, 1))
def test_auc_and_effect_are_two_words_for_one_thing(auc: float):
    assert auc_of(Told(auc, 1.0, {}, 1, 1).effect) == pytest.approx(auc, abs=1e-12)


def test_rows_in_no_order_of_time_must_differ_by_more_than_their_columns_may_wobble():
    """However columns wobble, a reference without time cannot show it, and together they tell rows apart."""
    rng = np.random.default_rng(10)
    bare = Watchman.of(drawn(rng, 20_000), N_ROWS, n_shown=N_SHOWN)
    assert not bare.calibration.null.is_timed
    wobbling = [drawn(rng, N_ROWS, 0.05 * rng.normal(size=(N_NUMBERS, 1))) for _ in range(60)]
    assert not bare.alarms(wobbling)[:, -1].any()
    assert bare.alarms([entwined(drawn(rng, N_ROWS), rng, 0.7) for _ in range(12)])[:, -1].any()


def test_a_reference_that_is_sorted_does_not_blind_it():
    """Stretches of a sorted file are nothing like the whole, but windows will be."""
    rng = np.random.default_rng(11)
    table = drawn(rng, 20_000)
    order = np.argsort(table.numbers[0])
    ordered = Table(table.numbers[:, order], table.words[order])
    misled = Watchman.of(ordered, N_ROWS, n_shown=N_SHOWN, mend=lambda m: replace(m, misleading="sorted by x0"))
    values, _ = misled.signals.values(misled.blocks.windows)
    assert auc_of(float(values[:, -1].mean())) > 0.8
    assert not misled.alarms([drawn(rng, N_ROWS) for _ in range(60)])[:, -1].any()
    assert misled.alarms([entwined(drawn(rng, N_ROWS), rng, 0.7) for _ in range(12)])[:, -1].any()
