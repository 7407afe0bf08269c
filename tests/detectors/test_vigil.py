"""The watch: its arithmetic against plain loops, and what must never or always ring."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detectors.belief import Belief, Span, Surprise
from detectors.evidence import RATES, SIZES, Cap, Counted, Evidence
from detectors.learning import COUNT, Learning
from detectors.trail import Trail
from detectors.vigil import Vigil
from tests.detectors.weeks import Table, Watchman, drawn, without_values

LEVELS = slice(0, 4)


@pytest.fixture(scope="module")
def guard() -> Watchman:
    """Learnt from 20,000 rows in no order, watching windows of 1,000."""
    return Watchman.of(drawn(np.random.default_rng(1), 20_000), 1_000)


def windows(seed: int, shifts: list[float], n_rows: int = 1_000) -> list[Table]:
    rng = np.random.default_rng(seed)
    only_first = np.array([1.0, 0, 0, 0])[:, None]
    return [drawn(rng, n_rows, shift * only_first) for shift in shifts]


def test_the_filter_is_the_textbooks_kalman_filter(guard: Watchman):
    null, wobble = guard.calibration.null, Learning.initial(guard.calibration.null).wobble(guard.calibration.null)
    rng = np.random.default_rng(0)
    belief, k = Belief.initial(null, wobble), 0
    state, covariance = np.zeros(2), np.diag([null.offset[k], wobble.variance[k]])
    for _ in range(30):
        y = rng.normal(0, 0.05, null.level.shape)
        span = Span.of(null, wobble, 1.0, 0.0, 0)
        belief, surprise = belief.after(null, wobble, null.level + y, np.full(y.shape, 1_000.0), span)
        a = np.diag([1.0, wobble.rho[k]])
        state, covariance = a @ state, a @ covariance @ a.T
        covariance[1, 1] += (1 - wobble.rho[k] ** 2) * wobble.variance[k]
        h = np.ones(2)
        variance = h @ covariance @ h + null.row_variance[k] / 1_000
        miss = y[k] - h @ state
        gain = covariance @ h / variance
        state = state + gain * np.clip(miss, -3 * variance**0.5, 3 * variance**0.5)
        covariance = covariance - np.outer(gain, h @ covariance)
        assert (belief.offset[k], belief.wobble[k]) == pytest.approx(tuple(state), abs=1e-12)
        assert belief.v_cross[k] == pytest.approx(covariance[0, 1], abs=1e-14)
        assert np.sign(surprise.z[k]) == np.sign(miss)


def test_evidence_is_the_recursion_written_out(guard: Watchman):
    null, layout = guard.calibration.null, guard.signals
    cap = Cap.below(layout, np.full(layout.n_columns, 8.0))
    evidence, rng = Evidence.none(null), np.random.default_rng(2)
    by_hand, of_events = np.zeros(8), np.zeros(4)
    for _ in range(40):
        z = rng.normal(0.5, 1, null.level.shape)
        surprise = Surprise(z, np.zeros_like(z), np.ones(z.shape, np.bool_))
        counts = Counted(rng.poisson(0.2, null.event_rate.shape) * 1.0, np.full(null.event_rate.shape, 1_000.0))
        evidence = evidence.after(null, surprise, counts, 1.0, cap)
        for i, size in enumerate([*SIZES, *-SIZES]):
            gain = min(size * z[0] - size * size / 2, cap.signals[0])
            by_hand[i] = (by_hand[i] + 1) * np.exp(gain)
        for i, rate in enumerate(RATES):
            gain = np.log1p(rate) * counts.events[0] - rate * 1_000 * null.event_rate[0]
            of_events[i] = (of_events[i] + 1) * np.exp(min(gain, cap.events[0]))
    assert evidence.signals[:, 0] == pytest.approx(by_hand)
    assert evidence.events[:, 0] == pytest.approx(of_events)


def test_without_drift_the_mean_of_evidence_is_the_number_of_windows(guard: Watchman):
    null, layout = guard.calibration.null, guard.signals
    cap = Cap.below(layout, np.full(layout.n_columns, np.inf))
    rng, shape = np.random.default_rng(3), (20_000, layout.n_signals)
    evidence = Evidence(np.zeros((8, *shape)), np.zeros((4, shape[0], layout.n_events)))
    nothing = Counted(np.zeros((shape[0], layout.n_events)), np.zeros((shape[0], layout.n_events)))
    for _ in range(5):
        z = rng.normal(size=shape)
        evidence = evidence.after(null, Surprise(z, np.zeros(shape), np.ones(shape, np.bool_)), nothing, 1.0, cap)
    small = evidence.signals[[0, 1, 4, 5]].mean(axis=(1, 2))  # larger sizes have too heavy a tail for a mean of samples
    assert small == pytest.approx(np.full(4, 5.0), rel=0.1)


def test_a_trail_keeps_every_row_of_its_time(guard: Watchman):
    null, trail = guard.calibration.null, Trail.none()
    for window in range(100):
        rest = np.full(null.level.shape, float(window))
        trail = trail.after(rest, np.ones_like(rest), np.zeros(null.event_rate.shape), np.ones(null.event_rate.shape))
        assert sum(trail.lengths) == sum(rows[0] for rows in trail.rows) == window + 1
        assert len(trail.lengths) <= 4 * 6 + 1


def test_quiet_rows_of_the_references_own_size_never_ring():
    """The reference's own error is as large as a window's: a filter without it rings 48 times in 168 windows."""
    rng = np.random.default_rng(5)
    guard = Watchman.of(drawn(rng, 1_000), 1_000)
    assert guard.alarms([drawn(rng, 1_000) for _ in range(168)]).sum() == 0


def test_a_shift_is_found_and_only_where_it_is(guard: Watchman):
    found = guard.alarms(windows(7, [0.0] * 10 + [0.4] * 6))
    assert found[:10].sum() == 0
    assert found[:, 1:].sum() == 0
    assert found[10:12, 0].any()


def test_a_shift_that_lasts_one_window_is_found_by_its_panes(guard: Watchman):
    found = guard.alarms(windows(8, [0.0] * 5 + [0.6] + [0.0] * 5))
    assert found[5, 0]
    assert found[:, 1:].sum() == found[:5].sum() == 0


def test_one_strange_pane_is_not_enough(guard: Watchman):
    rng = np.random.default_rng(9)
    calm = windows(9, [0.0] * 8)
    calm[4].numbers[0, :250] += 5
    assert guard.alarms(calm).sum() == 0
    assert guard.alarms([without_values(drawn(rng, 1_000), 1, 0.05, rng) for _ in range(3)])[:, 1].any()


def test_a_shift_that_was_always_there_is_never_learnt_as_normal(guard: Watchman):
    vigil, count = guard.begin(), 0
    for table in windows(10, [0.25] * 120):
        vigil, seen = guard.after(vigil, guard.reading(table))
        count += int(seen.alarm.loud[0])
    assert count >= 10  # it goes on ringing for as long as it lasts
    assert vigil.learning.learnt[COUNT, 0] == 0


def test_an_excursion_that_returned_is_learnt(guard: Watchman):
    swing = [0.2 * np.sin(window / 3) for window in range(150)]
    vigil = guard.begin()
    for table in windows(11, swing):
        vigil, _ = guard.after(vigil, guard.reading(table))
    wobble = vigil.learning.wobble(guard.calibration.null)
    assert vigil.learning.learnt[COUNT, 0] > 100
    assert 0.1**2 < wobble.variance[0] < 0.2**2
    assert wobble.variance[3] < wobble.variance[0] / 2


def test_empty_windows_add_no_evidence(guard: Watchman):
    vigil, empty = guard.begin(), drawn(np.random.default_rng(0), 0)
    for table in windows(12, [0.1] * 3):
        vigil, before = guard.after(vigil, guard.reading(table))
    for _ in range(50):
        vigil, seen = guard.after(vigil, guard.reading(empty))
    assert (seen.ln_evidence <= before.ln_evidence + 1e-9).all()


@pytest.mark.parametrize("factor", [0.05, 0.2, 5, 20])
def test_traffic_does_not_ring(guard: Watchman, factor: float):
    rng = np.random.default_rng(13)
    assert guard.alarms([drawn(rng, int(1_000 * factor)) for _ in range(40)]).sum() == 0


def test_a_state_goes_on_from_its_bytes_as_it_was(guard: Watchman):
    through, restored = guard.begin(), guard.begin()
    for table in windows(14, [0.0] * 20 + [0.3] * 5):
        reading = guard.reading(table)
        through = Vigil.from_bytes(through.to_bytes())
        restored = Vigil.from_bytes(Vigil.from_bytes(restored.to_bytes()).to_bytes())
        (through, one), (restored, other) = guard.after(through, reading), guard.after(restored, reading)
        assert np.array_equal(one.alarm.loud, other.alarm.loud)
        assert np.array_equal(one.ln_evidence, other.ln_evidence)
    assert len(through.to_bytes()) < 500 * (guard.signals.n_signals + guard.signals.n_events)
    with pytest.raises(ValueError, match="damaged"):
        Vigil.from_bytes(through.to_bytes()[:-3] + b"abc")


def test_the_order_of_columns_changes_nothing():
    rng = np.random.default_rng(15)
    reference, live = drawn(rng, 10_000), [drawn(rng, 1_000, 0.3 * (k > 4)) for k in range(8)]
    turned = [Table(table.numbers[::-1], table.words) for table in live]
    straight = Watchman.of(reference, 1_000)
    mirrored = Watchman.of(Table(reference.numbers[::-1], reference.words), 1_000)
    assert np.array_equal(straight.alarms(live)[:, LEVELS], mirrored.alarms(turned)[:, LEVELS][:, ::-1])


def test_what_an_alarm_says_holds_the_truth(guard: Watchman):
    vigil = guard.begin()
    for window, table in enumerate(windows(16, [0.0] * 20 + [0.5] * 10)):
        vigil, seen = guard.after(vigil, guard.reading(table))
        if seen.alarm.loud[0] and window > 24:
            part, effect = vigil.effect(guard.signals, guard.calibration.null, seen.wobble, 0)
            assert guard.signals.column[part] == 0
            assert abs(effect.size[0] - 0.98 * 0.5) < 2 * 1.96 * effect.error[0]
            assert window + 1 - effect.oldest[0] <= 20 <= window + 1 - effect.youngest[0] + 1
    assert vigil.standing.firing[0]


def test_a_monotone_transform_of_numbers_changes_no_alarm():
    rng = np.random.default_rng(18)
    reference, live = drawn(rng, 10_000), [drawn(rng, 1_000, 0.3 * (k > 4)) for k in range(8)]
    bent = [Table(np.sinh(table.numbers) * 1e6, table.words) for table in live]
    straight = Watchman.of(reference, 1_000).alarms(live)
    assert straight.any()
    other = Watchman.of(Table(np.sinh(reference.numbers) * 1e6, reference.words), 1_000)
    assert np.array_equal(other.alarms(bent), straight)


def test_a_real_change_below_the_floor_pages_nobody_and_is_told(guard: Watchman):
    null = guard.calibration.null
    stricter = replace(guard, calibration=replace(guard.calibration, null=replace(null, gate=null.gate * 10)))
    live = windows(19, [0.5] * 6)
    assert guard.alarms(live)[:, 0].any()
    vigil, small = stricter.begin(), []
    for table in live:
        vigil, seen = stricter.after(vigil, stricter.reading(table))
        assert not seen.alarm.loud.any()
        small.append(seen.alarm.small)
    assert np.any(small, axis=0).tolist() == [True, False, False, False, False]
