"""Laws of pairs of columns: their sums add exactly, their correlation is the textbook's, and only its change rings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import Bins, Profile
from detectors.correlation import choose
from detectors.pairs import MOST_CORRELATION, MOST_SCORE, Pairs, fisher
from tests.detectors.weeks import Table, Watchman, drawn

laws = settings(max_examples=30, derandomize=True, deadline=None)
NO_WORDS = np.zeros((0, 0), np.uint8)


def correlated(rng: np.random.Generator, n_rows: int, correlation: float) -> np.ndarray:
    """Four normal columns; the first two have this correlation, the others none."""
    numbers = rng.normal(size=(4, n_rows))
    numbers[1] = correlation * numbers[0] + np.sqrt(1 - correlation**2) * numbers[1]
    return numbers


def pairs_of(numbers: np.ndarray, limit: int = 16) -> tuple[Bins, Pairs, np.ndarray]:
    bins = Bins.of({f"x{i}": row for i, row in enumerate(numbers)}, {})
    cells = bins.cells(numbers, NO_WORDS)
    counts = Profile.of(bins, numbers, cells).counts
    return bins, choose(counts, cells, np.ones(len(numbers)), limit), cells


@laws
@given(st.lists(st.integers(-1, 4), min_size=300, max_size=300))
def test_sums_are_exact_and_add_in_any_split(parts: list[int]):
    rng = np.random.default_rng(0)
    numbers = correlated(rng, 300, 0.5)
    numbers[2, :40] = np.nan
    _, pairs, cells = pairs_of(numbers)
    scores = np.take_along_axis(pairs.scores, cells.astype(np.intp), axis=1).astype(object)
    i, j = np.triu_indices(4)
    by_hand = [*scores.sum(axis=1), *(scores[i] * scores[j]).sum(axis=1)]
    assert pairs.sums(cells).tolist() == by_hand
    group = np.array(parts)
    split = pairs.sums_by(cells, group, 5)
    assert np.array_equal(split.sum(axis=0), pairs.sums(cells[:, group >= 0]))
    assert np.array_equal(split[3], pairs.sums(cells[:, group == 3]))


def test_blocks_of_rows_are_exact_where_every_product_is_the_largest():
    pairs = Pairs((0, 1), np.full((2, 256), MOST_SCORE, np.int8), np.ones(1))
    sums = pairs.sums(np.zeros((2, 5_000), np.uint8))
    assert sums.tolist() == [5_000 * MOST_SCORE] * 2 + [5_000 * MOST_SCORE**2] * 3


def test_the_correlation_is_that_of_the_scores():
    numbers = correlated(np.random.default_rng(1), 2_000, -0.7)
    _, pairs, cells = pairs_of(numbers)
    scores = np.take_along_axis(pairs.scores, cells.astype(np.intp), axis=1).astype(np.float64)
    first, second = pairs.members
    found = pairs.correlations(pairs.sums(cells), np.array(2_000))
    assert found == pytest.approx(np.corrcoef(scores)[first, second], abs=1e-12)
    assert found[0] == pytest.approx(6 / np.pi * np.arcsin(-0.35), abs=0.03)  # Spearman's of a normal pair


def test_a_column_that_does_not_vary_or_few_rows_show_no_correlation():
    _, pairs, cells = pairs_of(correlated(np.random.default_rng(1), 2_000, 0.5))
    still = cells.copy()
    still[0] = still[0, 0]
    found = pairs.correlations(pairs.sums(still), np.array(2_000))
    assert np.isnan(found).tolist() == [0 in pair for pair in pairs.members.T.tolist()]
    assert np.isnan(pairs.correlations(pairs.sums(cells[:, :9]), np.array(9))).all()


def test_a_monotone_transform_of_the_columns_changes_no_sum():
    numbers = correlated(np.random.default_rng(2), 3_000, 0.6)
    plain, bent = (pairs_of(side) for side in (numbers, np.exp(numbers) * 7 - 3))
    assert np.array_equal(plain[1].sums(plain[2]), bent[1].sums(bent[2]))
    assert np.array_equal(plain[1].variance, bent[1].variance)


@pytest.mark.parametrize("law", ["none", "weak", "strong", "spread", "words", "missing"])
def test_the_scatter_of_fishers_z_is_as_stated_whatever_the_law(law: str):
    rng = np.random.default_rng(3)

    def draw(n: int) -> np.ndarray:
        numbers = correlated(rng, n, {"weak": 0.4, "strong": 0.9}.get(law, 0.0))
        if law == "spread":  # no correlation, but the one tells how far the other scatters
            numbers[1] *= 0.1 + np.abs(numbers[0])
        if law == "words":
            numbers[1] = numbers[0] + numbers[1] > 1
        if law == "missing":
            numbers[0, rng.random(n) < 0.3] = np.nan
        return numbers

    bins, pairs, _ = pairs_of(draw(20_000))
    n, sets = 400, 3_000
    cells = bins.cells(draw(n * sets), NO_WORDS)
    sums = pairs.sums_by(cells, np.arange(n * sets) // n, sets)
    z = fisher(pairs.correlations(sums, np.full(sets, n)))
    assert z.var(axis=0) * (n - 3) == pytest.approx(pairs.variance, rel=0.12)


def test_two_columns_that_say_the_same_have_a_finite_z():
    numbers = correlated(np.random.default_rng(4), 1_000, 0.0)
    numbers[1] = -2 * numbers[0]
    _, pairs, cells = pairs_of(numbers)
    z = fisher(pairs.correlations(pairs.sums(cells), np.array(1_000)))
    assert z[0] == -np.arctanh(MOST_CORRELATION)
    assert (pairs.variance > 0).all()


def test_the_columns_with_the_strongest_correlations_are_watched():
    rng = np.random.default_rng(5)
    numbers = rng.normal(size=(30, 5_000))
    numbers[7] += numbers[20]
    numbers[11] -= 0.5 * numbers[3]
    assert set(pairs_of(numbers, 4)[1].columns) == {3, 7, 11, 20}
    assert pairs_of(numbers, 2)[1].columns == (7, 20)
    assert pairs_of(numbers, 1)[1].n_pairs == pairs_of(numbers, 0)[1].n_pairs == 0


def test_what_chance_made_large_is_not_chosen_for_it():
    rng = np.random.default_rng(6)
    _, pairs, _ = pairs_of(rng.normal(size=(60, 500)), 5)
    assert pairs.columns == (0, 1, 2, 3, 4)  # all are alike, so the first


def test_importance_weighs_and_a_column_without_any_is_not_watched():
    rng = np.random.default_rng(7)
    numbers = correlated(rng, 3_000, 0.9)
    numbers[3] = 0.5 * numbers[2] + rng.normal(size=3_000)
    bins = Bins.of({f"x{i}": row for i, row in enumerate(numbers)}, {})
    cells = bins.cells(numbers, NO_WORDS)
    counts = Profile.of(bins, numbers, cells).counts
    assert choose(counts, cells, np.array([1.0, 1, 9, 9]), 2).columns == (2, 3)
    assert choose(counts, cells, np.array([1.0, 0, 1, 1]), 16).columns == (0, 2, 3)


def test_pairs_live_through_json_and_profiles_through_bytes():
    numbers = correlated(np.random.default_rng(8), 1_000, 0.5)
    bins, pairs, cells = pairs_of(numbers)
    paired = replace(bins, pairs=pairs)
    assert Bins.from_json(paired.to_json()).id == paired.id != bins.id
    assert b'"version": 2' in bins.to_json()  # as it was before there were pairs
    profile = Profile.of(paired, numbers, cells)
    assert Profile.from_bytes(paired, profile.to_bytes()) == profile
    assert np.array_equal(Profile.from_bytes(paired, profile.to_bytes()).pairs, pairs.sums(cells))
    assert profile + Profile.empty(paired) == profile


@pytest.fixture(scope="module")
def guard() -> Watchman:
    """Learnt from 20,000 rows in no order, watching windows of 1,000."""
    return Watchman.of(table(np.random.default_rng(1), 20_000, 0.6), 1_000, correlations=4)


def table(rng: np.random.Generator, n_rows: int, correlation: float) -> Table:
    return replace(drawn(rng, n_rows), numbers=correlated(rng, n_rows, correlation))


def test_a_change_of_correlation_alone_is_found_and_only_there(guard: Watchman):
    rng = np.random.default_rng(9)
    found = guard.alarms([table(rng, 1_000, r) for r in [0.6] * 10 + [0.3] * 4])
    n_columns = guard.bins.n_columns
    assert found[:10].sum() == 0
    assert found[10:12, n_columns].any()
    assert found.sum() == found[:, n_columns].sum()


def test_quiet_rows_ring_no_pair(guard: Watchman):
    rng = np.random.default_rng(10)
    assert guard.alarms([table(rng, 1_000, 0.6) for _ in range(168)]).sum() == 0


@pytest.mark.parametrize("shift", [0.5, 2.0])
def test_a_column_that_moves_by_itself_rings_and_its_pairs_do_not(guard: Watchman, shift: float):
    rng, first = np.random.default_rng(11), np.array([1.0, 0, 0, 0])[:, None]
    quiet = [table(rng, 1_000, 0.6) for _ in range(20)]
    moved = [replace(t, numbers=t.numbers + shift * first * (i >= 10)) for i, t in enumerate(quiet)]
    found = guard.alarms(moved)
    assert found[10:, 0].any()
    assert found[:, 1:].sum() == 0


def test_the_state_of_a_pair_lives_through_bytes(guard: Watchman):
    rng = np.random.default_rng(12)
    vigil = guard.begin()
    for _ in range(3):
        vigil, _ = guard.after(vigil, guard.reading(table(rng, 1_000, 0.6)))
    again = type(vigil).from_bytes(vigil.to_bytes())
    reading = guard.reading(table(rng, 1_000, 0.0))
    assert np.array_equal(guard.after(vigil, reading)[1].alarm.loud, guard.after(again, reading)[1].alarm.loud)
    per_score = len(vigil.to_bytes()) / (guard.signals.n_signals + guard.signals.n_events)
    assert per_score <= 500
