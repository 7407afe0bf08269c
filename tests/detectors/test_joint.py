"""Laws of joint scores: their sums add exactly, they are blind to single columns, and what only they show rings."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import Bins, Profile
from detectors.correlation import watched
from detectors.joint import MOST, N_SCORES, UNIT, Joint
from tests.detectors.weeks import SHARES, Table, Watchman, bins_of, cells_of, drawn

laws = settings(max_examples=20, derandomize=True, deadline=None)


def learnt(table: Table) -> tuple[Bins, Joint, np.ndarray]:
    """Cells, joint scores and the cells of the rows."""
    bins = bins_of(table)
    cells = cells_of(bins, table)
    return bins, watched(Profile.of(bins, table.numbers, cells), cells, np.ones(5), 0, joint=True).joint, cells


def entwined(rng: np.random.Generator, n_rows: int, strength: float) -> Table:
    """The sign of the third column is that of the product of the first two, in so many rows; else all are apart."""
    table = drawn(rng, n_rows)
    numbers = table.numbers.copy()
    bound = rng.random(n_rows) < strength
    numbers[2, bound] = (np.abs(numbers[2]) * np.sign(numbers[0] * numbers[1]))[bound]
    return Table(numbers, table.words)


@cache
def still() -> tuple[Bins, Joint]:
    """Learnt from rows whose columns have nothing to do with each other."""
    bins, joint, _ = learnt(drawn(np.random.default_rng(4), 20_000))
    return bins, joint


def by_hand(joint: Joint, cells: np.ndarray) -> list[int]:
    """The sums in Python's own integers."""
    values = [table[cells[column]].astype(object) for table, column in zip(joint.tables, joint.columns, strict=True)]
    values.append(np.ones(cells.shape[1], object))
    return [int(values[a] @ (values[b] * values[c])) for a, b, c in joint.scores.tolist()]


@laws
@given(st.lists(st.integers(-1, 4), min_size=300, max_size=300))
def test_sums_are_exact_and_add_in_any_split(parts: list[int]):
    table = drawn(np.random.default_rng(0), 300)
    table.numbers[2, :40] = np.nan
    bins, joint = still()
    cells, pairs = cells_of(bins, table), replace(bins.pairs, joint=joint)
    assert pairs.sums(cells).tolist() == by_hand(joint, cells)
    group = np.array(parts)
    split = pairs.sums_by(cells, group, 5)
    assert np.array_equal(split.sum(axis=0), pairs.sums(cells[:, group >= 0]))
    assert np.array_equal(split[3], pairs.sums(cells[:, group == 3]))


def test_blocks_of_rows_are_exact_where_every_product_is_the_largest():
    joint = Joint((0, 1, 2), np.full((3, 256), MOST, np.int8), np.array([[0, 1, 2], [0, 1, -1]]), np.ones(2))
    assert joint.sums(np.zeros((3, 5_000), np.uint8)).tolist() == [5_000 * MOST**3, 5_000 * MOST**2]


def test_mean_and_variance_are_those_of_the_scores():
    _, joint, cells = learnt(entwined(np.random.default_rng(1), 3_000, 0.5))
    mean, variance = joint.moments(cells)
    rows = np.stack([joint.sums(cells[:, [row]]) for row in range(3_000)])
    assert mean == pytest.approx(rows.mean(axis=0), abs=1e-9)
    assert variance == pytest.approx(rows.var(axis=0), rel=1e-9)


def test_half_of_the_scores_are_of_two_columns_and_none_names_a_column_twice():
    _, joint = still()
    members = [joint.members(score) for score in range(joint.n_scores)]
    sizes = [len(each) for each in members]
    assert sizes.count(2) == sizes.count(3) == N_SCORES // 2
    assert all(len(set(each)) == len(each) for each in members)
    assert {column for each in members for column in each} == set(range(5))


def test_what_belongs_together_in_the_reference_is_watched_first():
    """Of 12 columns the first three belong together, which no two of them show."""
    rng = np.random.default_rng(3)
    numbers = rng.normal(size=(12, 20_000))
    numbers[2] = np.abs(numbers[2]) * np.sign(numbers[0] * numbers[1])
    bins = Bins.of({f"x{i}": row for i, row in enumerate(numbers)}, {})
    cells = bins.cells(numbers, np.zeros((0, 0), np.uint8))
    joint = watched(Profile.of(bins, numbers, cells), cells, np.ones(12), 0, joint=True).joint
    of_three = [joint.members(score) for score in range(joint.n_scores) if len(joint.members(score)) == 3]
    assert of_three[0] == (0, 1, 2)


@laws
@given(st.integers(0, 10_000), st.floats(-0.3, 0.3), st.sampled_from(range(4)))
def test_a_shift_of_single_columns_moves_no_score_while_columns_are_apart(seed: int, shift: float, column: int):
    bins, joint = still()
    moved = drawn(np.random.default_rng(seed), 5_000)
    moved.numbers[column] += shift
    mean, _ = joint.moments(cells_of(bins, moved))
    z = mean / np.sqrt(joint.variance / 5_000)
    assert np.abs(z).max() < 6  # of 128 scores that move by chance alone


def test_a_monotone_transform_of_the_columns_changes_no_sum():
    plain = entwined(np.random.default_rng(5), 3_000, 0.5)
    bent = Table(np.exp(plain.numbers) * 7 - 3, plain.words)
    (_, one, cells), (_, two, others) = learnt(plain), learnt(bent)
    assert np.array_equal(one.sums(cells), two.sums(others))
    assert np.array_equal(one.scores, two.scores)


def test_missing_values_and_words_never_seen_are_in_the_middle():
    table = drawn(np.random.default_rng(6), 2_000)
    bins, joint, _ = learnt(table)
    nothing = Table(np.full((4, 50), np.nan), np.full(50, -1))
    assert not joint.sums(cells_of(bins, nothing)).any()


def test_keys_constants_and_columns_of_no_weight_take_no_part():
    rng = np.random.default_rng(7)
    numbers = rng.normal(size=(3, 2_000))
    numbers[1] = 4.0
    words = {str(i): 1 for i in range(2_000)}
    bins = Bins.of({f"x{i}": row for i, row in enumerate(numbers)}, {"key": words, "w": {"a": 1_000, "b": 1_000}})
    codes = bins.categorical[0].codes()
    of_words = np.stack([[codes[str(i)] for i in range(2_000)], rng.integers(3, 5, 2_000)]).astype(np.uint8)
    cells = bins.cells(numbers, of_words)
    profile = Profile.of(bins, numbers, cells)
    assert set(watched(profile, cells, np.ones(5), 0, joint=True).joint.columns) == {0, 2, 4}
    assert set(watched(profile, cells, np.array([1, 1, 0, 1, 1]), 0, joint=True).joint.columns) == {0, 4}
    assert watched(profile, cells, np.array([1, 1, 0, 1, 0]), 0, joint=True).joint.n_scores == 0


def test_scores_live_through_json_and_their_sums_through_bytes():
    table = drawn(np.random.default_rng(8), 1_000)
    bins, joint, cells = learnt(table)
    own = replace(bins, pairs=replace(bins.pairs, joint=joint))
    again = Bins.from_json(own.to_json())
    assert again.id == own.id != bins.id
    profile = Profile.of(own, table.numbers, cells)
    assert np.array_equal(Profile.of(again, table.numbers, cells).pairs, profile.pairs)
    assert np.array_equal(Profile.from_bytes(own, profile.to_bytes()).pairs, joint.sums(cells))
    assert profile + Profile.empty(own) == profile


@pytest.fixture(scope="module")
def guard() -> Watchman:
    """Learnt from 20,000 rows in no order, whose columns have nothing to do with each other."""
    return Watchman.of(drawn(np.random.default_rng(1), 20_000), 1_000, correlations=4, joint=True)


def test_the_scatter_of_a_windows_score_is_as_stated(guard: Watchman):
    n, sets = 500, 400
    reading = guard.signals.read_rows(
        cells_of(guard.bins, drawn(np.random.default_rng(2), n * sets)), np.arange(n * sets) // n, sets
    )
    values, rows = guard.signals.values(reading)
    own = values[:, -guard.signals.n_joint :] * np.sqrt(rows[:, -guard.signals.n_joint :])
    assert own.var(axis=0).mean() == pytest.approx(1.0, rel=0.05)


def test_where_nothing_changes_nothing_rings(guard: Watchman):
    rng = np.random.default_rng(3)
    assert not guard.alarms([drawn(rng, 1_000) for _ in range(168)]).any()


@pytest.mark.parametrize("strength", [0.5, 0.8])
def test_what_only_three_columns_together_show_is_found_and_named(guard: Watchman, strength: float):
    rng = np.random.default_rng(4)
    windows = [entwined(rng, 1_000, strength) for _ in range(12)]
    alarms = guard.alarms(windows)
    assert alarms[:, -1].any()
    assert not alarms[:, :-1].any()  # no column and no pair of them
    vigil = guard.begin()
    for window in windows:
        vigil, seen = guard.after(vigil, guard.reading(window))
    layout = guard.signals
    part, change = vigil.effect(layout, guard.calibration.null, seen.wobble, layout.n_columns - 1)
    assert layout.pairs.joint.members(part - layout.first_of(layout.n_columns - 1)) == (0, 1, 2)
    assert abs(float(change.size[0])) > strength / 3


def test_a_word_that_goes_with_a_number_is_found(guard: Watchman):
    rng = np.random.default_rng(5)

    def sorted_in_part(n_rows: int) -> Table:
        table = drawn(rng, n_rows)
        words = table.words.copy()
        mine = rng.random(n_rows) < 0.4
        low = np.argsort(np.argsort(table.numbers[3, mine])) < SHARES[0] * mine.sum()
        words[mine] = np.where(low, 0, 1 + rng.choice(3, mine.sum(), p=SHARES[1:] / SHARES[1:].sum()))
        return Table(table.numbers, words)

    alarms = guard.alarms([sorted_in_part(1_000) for _ in range(24)])
    assert alarms[:, -1].any()
    assert not alarms[:, :-1].any()


def test_scores_are_silent_while_a_column_has_an_alarm_of_its_own(guard: Watchman):
    rng = np.random.default_rng(6)
    moved = [entwined(rng, 1_000, 0.8) for _ in range(12)]
    for table in moved:
        table.numbers[3] += 2
    alarms = guard.alarms(moved)
    assert alarms[:, 3].any()
    first = int(alarms[:, 3].argmax())
    assert not alarms[first:, -1].any()


def test_one_standard_deviation_is_a_whole_number_of_units():
    _, joint, cells = learnt(drawn(np.random.default_rng(9), 20_000))
    alone = joint.tables.astype(np.float64)[np.arange(len(joint.columns))[:, None], cells[list(joint.columns)]]
    assert alone.std(axis=1) == pytest.approx(UNIT, rel=0.03)
    assert np.abs(alone.mean(axis=1)).max() < 0.03 * UNIT
