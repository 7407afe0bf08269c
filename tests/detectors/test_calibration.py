"""Learning from a reference: what holds the budget, what is taken off paging, and what is not believed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detectors.calibration import Calibration
from tests.detectors.weeks import N_NUMBERS, Table, Watchman, drawn

N_ROWS, HOURS = 300, 336


def wandering(rng: np.random.Generator, hours: int, size: float, rho: float) -> np.ndarray:
    """An autoregression for each numeric column, row by row, shape (4, rows)."""
    level = np.zeros((N_NUMBERS, hours))
    for hour in range(1, hours):
        level[:, hour] = rho * level[:, hour - 1] + size * np.sqrt(1 - rho**2) * rng.normal(size=N_NUMBERS)
    return np.repeat(level, N_ROWS, axis=1)


def timed(seed: int, hours: int, size: float = 0.1, rho: float = 0.7, season: float = 0.0) -> Table:
    rng = np.random.default_rng(seed)
    day = season * np.sin(2 * np.pi * np.repeat(np.arange(hours), N_ROWS) / 24)
    return drawn(rng, hours * N_ROWS, wandering(rng, hours, size, rho) + day)


def cut(table: Table) -> list[Table]:
    return [
        Table(table.numbers[:, i : i + N_ROWS], table.words[i : i + N_ROWS]) for i in range(0, table.n_rows, N_ROWS)
    ]


@pytest.fixture(scope="module")
def guard() -> Watchman:
    return Watchman.of(timed(1, HOURS), N_ROWS, hours=True)


def test_the_null_model_is_what_the_windows_were_made_of(guard: Watchman):
    null = guard.calibration.null
    levels = [k for k, measure in enumerate(guard.signals.measure) if measure == "level"]
    assert np.sqrt(null.wobble[levels]) == pytest.approx(np.full(4, 0.1), rel=0.25)
    assert null.rho[levels] == pytest.approx(np.full(4, 0.7), abs=0.25)
    assert null.rho[levels].mean() == pytest.approx(0.7, abs=0.12)
    assert null.is_timed
    assert guard.calibration.order == "the rows have a time"


def test_a_season_is_learnt_where_there_is_one_and_not_where_there_is_none(guard: Watchman):
    season = 0.3
    cyclic = Watchman.of(timed(2, HOURS, 0.03, season=season), N_ROWS, hours=True).calibration.null
    wanted = 0.98 * season * np.sin(2 * np.pi * np.arange(24) / 24)
    assert cyclic.season[:24, 0] == pytest.approx(wanted, abs=0.08)
    assert np.abs(guard.calibration.null.season[:, 0]).max() < 0.1


def test_the_budget_holds_on_the_weeks_after(guard: Watchman):
    alarms = guard.alarms(cut(timed(3, HOURS)))
    assert alarms.sum() <= 4  # two weeks at a budget of one


def test_what_was_learnt_is_kept_as_bytes(guard: Watchman):
    calibration = guard.calibration
    again = Calibration.from_bytes(calibration.to_bytes())
    assert again.to_bytes() == calibration.to_bytes()
    assert (again.off, again.order, again.ln_factor) == (calibration.off, calibration.order, calibration.ln_factor)
    with pytest.raises(ValueError, match="damaged"):
        Calibration.from_bytes(calibration.to_bytes()[:-2])


def test_what_walks_away_is_taken_off_paging_by_a_rule_that_is_named():
    rng = np.random.default_rng(4)
    steps = np.cumsum(rng.normal(0, 0.2, HOURS))
    shift = np.zeros((N_NUMBERS, HOURS * N_ROWS))
    shift[0] = np.repeat(steps, N_ROWS)
    calibration = Watchman.of(drawn(rng, HOURS * N_ROWS, shift), N_ROWS, hours=True).calibration
    assert list(calibration.off) == [0]
    assert any(rule in calibration.off[0] for rule in ("level moves", "rang", "sees no shift"))


def test_rows_in_no_order_leave_the_prior(guard: Watchman):
    quiet = Watchman.of(drawn(np.random.default_rng(5), 30_000), 1_000).calibration
    assert quiet.order == "the rows have no time, and their order shows nothing"
    assert (quiet.null.wobble == 0.05**2).all()
    assert not quiet.off


def test_an_order_that_is_that_of_time_is_believed():
    calibration = Watchman.of(timed(6, 100, 0.15, 0.8), N_ROWS).calibration
    assert calibration.order == "the rows have no time, but their order shows how they move"


@pytest.mark.parametrize("hidden", [False, True], ids=["by a column", "by something that is not watched"])
def test_an_order_that_is_not_that_of_time_does_not_blind_the_watch(hidden: bool):
    rng = np.random.default_rng(7)
    shift = np.sort(rng.normal(size=30_000)) if hidden else 0.0
    table = drawn(rng, 30_000, shift)
    if not hidden:
        order = np.argsort(table.numbers[0])
        table = Table(table.numbers[:, order], table.words[order])
    guard = Watchman.of(table, 500, mend=lambda m: m if hidden else replace(m, misleading="they are sorted by x0"))
    assert guard.calibration.order.startswith("the order of the rows is not that of time")
    assert not guard.calibration.off
    shuffle = rng.permutation(30_000)
    mixed = Table(table.numbers[:, shuffle], table.words[shuffle])
    calm = [Table(mixed.numbers[:, i : i + 500], mixed.words[i : i + 500]) for i in range(0, 10_000, 500)]
    assert guard.alarms(calm).sum() == 0
    width = mixed.numbers[0].std()
    moved = [Table(t.numbers + 0.5 * width * np.array([[1.0], [0], [0], [0]]), t.words) for t in calm]
    assert guard.alarms(moved)[:4, 0].any()


def test_the_smallest_shift_promised_is_found_and_half_of_it_is_not(guard: Watchman):
    least = guard.calibration.least
    assert 0.08 < least[0] < 0.4
    rng, found = np.random.default_rng(8), {0.4: 0, 1.1: 0}
    for factor in found:
        for _ in range(6):
            hours = 24
            shift = wandering(rng, hours, 0.1, 0.7) + factor * least[0]
            alarms = guard.alarms(cut(drawn(rng, hours * N_ROWS, shift)))
            found[factor] += int(alarms[:, :N_NUMBERS].any(axis=0).sum())
    assert found[1.1] >= 0.6 * 24
    assert found[0.4] <= 0.25 * 24


def test_equal_rows_give_equal_calibrations(guard: Watchman):
    again = Watchman.of(timed(1, HOURS), N_ROWS, hours=True)
    assert again.calibration.to_bytes() == guard.calibration.to_bytes()
