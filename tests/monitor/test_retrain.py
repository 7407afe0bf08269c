"""Retraining is called once, one at a time, never for faulty data; and a trigger goes on to its end."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.alert import Change, Policy, advance, age
from monitor.batch import NO_TIME
from monitor.config import Retrain
from monitor.loss import Loss, Toll
from monitor.message import Subject, retrain_body
from monitor.order import CallBack
from monitor.retrain import (
    DAY_MS,
    Evidence,
    Learnt,
    Retraining,
    Step,
    Trigger,
    approved,
    because,
    call_ended,
    called_back,
    consider,
    made,
    passed,
    refused,
    remembered,
    said,
)
from tests.monitor.test_alert import HOUR, judged

ENOUGH = Evidence(n_rows=10_000, effect=1.0, predicts=True)
SUBJECT = Subject("m", "3", 9, "ref", "cfg")


def options(**changes: object) -> Retrain:
    return Retrain.model_validate({"model": "m", "channel": "job", "mode": "auto", **changes})


def opened(index: int, **changes: object) -> Change:
    _, change = advance("m", None, [judged(index, "a", **changes)], Policy(), {})
    assert change is not None
    return change


def trigger(change: Change, **changes: object) -> Trigger:
    body = retrain_body(SUBJECT, change, f"{change.episode.id}-retrain", change.reason)
    return made(change, body, ENOUGH, options(**changes), 1_000)


def after(one: Trigger) -> Retraining:
    return remembered(Retraining(), one, 0)


@pytest.mark.parametrize(
    ("mode", "step"), [("auto", Step.CALLED), ("dry_run", Step.DRY_RUN), ("approve", Step.AWAITS_APPROVAL)]
)
def test_a_firing_incident_makes_one_trigger(mode: str, step: Step):
    change = opened(1)
    assert consider(change, ENOUGH, options(mode=mode), Retraining()) is None
    one = trigger(change, mode=mode)
    assert one.step is step
    words = consider(change, ENOUGH, options(mode=mode), after(one))
    assert words == said(one)
    assert "job" in str(words)


def test_faulty_data_pages_and_never_retrains():
    assert "faulty" in str(consider(opened(1, faulty=True), ENOUGH, options(), Retraining()))


def test_what_cannot_be_seen_is_no_evidence():
    change = opened(1)
    silent = msgspec.structs.replace(change, episode=msgspec.structs.replace(change.episode, state="nodata"))
    assert "cannot be seen" in str(consider(silent, ENOUGH, options(), Retraining()))


@pytest.mark.parametrize(
    ("evidence", "changes", "words"),
    [
        (Evidence(10_000, 1.0, False), {}, "output does not drift"),
        (Evidence(10_000, 0.4, True), {"min_effect": 0.5}, "weighted effect is 0.4, wanted 0.5"),
        (Evidence(999, 1.0, True), {"min_rows": 1_000}, "999 new rows"),
    ],
)
def test_too_little_evidence_calls_nobody_and_says_what_is_missing(evidence, changes, words):
    assert words in str(consider(opened(1), evidence, options(**changes), Retraining()))


def loss(mean: float, n: int = 1_000, usual: float = 0.1) -> Loss:
    """Of rows that lie 0.1 around their mean."""
    above = mean - usual
    return Loss(n, usual, n * above, n * (above**2 + 0.01))


@pytest.mark.parametrize(
    ("mean", "n", "wanted", "called"),
    [(0.2, 1_000, 0.0, True), (0.1, 1_000, 0.0, False), (0.2, 3, 0.0, False), (0.2, 1_000, 0.099, False)],
    ids=["really risen", "as usual", "too few rows to be sure", "too small a rise"],
)
def test_where_labels_tell_it_the_loss_must_have_really_risen(mean: float, n: int, wanted: float, called: bool):
    """Whether the output drifts is asked only where labels do not tell."""
    for predicts in (True, False):
        evidence = Evidence(10_000, 1.0, predicts, loss(mean, n))
        words = consider(opened(1), evidence, options(min_loss_rise=wanted), Retraining())
        assert (words is None) == called, words
        assert called or f"the mean loss is {mean:g}" in str(words)


@pytest.mark.parametrize(
    ("total", "per_day", "called"),
    [(100.0, 0.0, True), (99.0, 0.0, False), (30.0, 5.0, True), (29.0, 5.0, False), (99.0, -5.0, False)],
)
def test_a_retraining_is_weighed_against_what_the_loss_has_cost_and_will_cost(
    total: float, per_day: float, called: bool
):
    evidence = Evidence(10_000, 1.0, None, loss(0.2), Toll(total, per_day / DAY_MS))
    words = consider(opened(1), evidence, options(retrain_cost=100), Retraining())
    assert (words is None) == called, words
    assert called or f"the loss has cost {total:g} more" in str(words)
    assert consider(opened(1), evidence, options(), Retraining()) is None
    unlabelled = Evidence(10_000, 1.0, predicts=True)
    assert consider(opened(1), unlabelled, options(retrain_cost=100), Retraining()) is None


def test_there_must_be_new_labels_to_learn_from():
    evidence = Evidence(10_000, 1.0, None, loss(0.2), Toll(n_labels=700))
    before = Retraining(n_labels=300)
    assert "400 new labels" in str(consider(opened(1), evidence, options(min_labels=401), before))
    assert consider(opened(1), evidence, options(min_labels=400), before) is None


windows = st.lists(st.tuples(st.floats(-1, 1), st.integers(30, 500), st.integers(0, 10_000)), max_size=20)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(windows)
def test_the_toll_is_what_the_rise_cost_all_predictions_and_never_below_nothing(found: list[tuple[float, int, int]]):
    toll, sums = Toll(), [0.0]
    for rise, n, n_rows in found:
        toll = toll.after(loss(0.1 + rise, n), n_rows, HOUR)
        sums.append(sums[-1] + rise * n_rows)
    # A sum that is held at nothing from below is its distance from the lowest point so far.
    assert toll.total == pytest.approx(sums[-1] - min(sums), abs=1e-6)
    assert toll.n_labels == sum(n for _, n, _ in found)
    assert toll.by(0) == toll.total <= toll.by(DAY_MS)


@pytest.mark.parametrize(("told", "before", "waits"), [(None, 0.3, True), (None, None, False), (0.1, 0.3, False)])
def test_labels_that_come_later_are_waited_for_where_the_loss_spoke(
    told: float | None, before: float | None, waits: bool
):
    one = msgspec.structs.replace(trigger(opened(1)), loss=None if before is None else loss(before))
    rotated = one.stepped(Step.ROTATED, 0, "ana")
    now = None if told is None else loss(told)
    at_check = passed(rotated, options(check_after="1d"), False, DAY_MS, now, 3 * DAY_MS)
    assert (at_check is None) == waits
    after_all = passed(rotated, options(check_after="1d"), False, 4 * DAY_MS, now, 3 * DAY_MS)
    assert after_all is not None
    assert after_all.step is Step.EFFECTIVE


@pytest.mark.parametrize(
    ("now", "drifts", "helped"),
    [
        (loss(0.1), True, True),
        (loss(0.12, usual=0.12), True, True),
        (loss(0.16), False, False),
        (loss(0.14, n=10), False, False),
        (None, False, True),
        (None, True, False),
    ],
    ids=["fell", "by the new reference", "less than half", "nobody can be sure", "no labels", "no labels, drift"],
)
def test_the_check_asks_whether_the_loss_fell(now: Loss | None, drifts: bool, helped: bool):
    change = opened(1)
    body = retrain_body(SUBJECT, change, "t", change.reason)
    risen = Evidence(10_000, 1.0, None, loss(0.2))
    one = made(change, body, risen, options(), 0).stepped(Step.ROTATED, 0, "ana")
    checked = passed(one, options(check_after="1h"), drifts, HOUR, now)
    assert checked.step is (Step.EFFECTIVE if helped else Step.INEFFECTIVE)
    assert ("mean loss" in said(checked)) == (now is not None)


def test_a_trigger_that_no_loss_spoke_for_is_checked_by_drift():
    one = trigger(opened(1)).stepped(Step.ROTATED, 0, "ana")
    assert passed(one, options(check_after="1h"), False, HOUR, loss(0.9)).step is Step.EFFECTIVE


def test_a_model_whose_output_is_not_watched_needs_no_drift_of_it():
    assert consider(opened(1), Evidence(10, 1.0, None), options(), Retraining()) is None


def test_the_cool_down_is_in_event_time_and_doubles_after_what_did_not_help():
    first = trigger(opened(1)).stepped(Step.EFFECTIVE, 2_000, "driftd")
    for index, n_ineffective, allowed in ((9, 0, False), (11, 0, True), (11, 1, False), (21, 1, True)):
        before = msgspec.structs.replace(after(first), n_ineffective=n_ineffective)
        words = consider(opened(index), ENOUGH, options(cooldown="10h"), before)
        assert (words is None) == allowed, words


def test_windows_without_time_have_no_cool_down():
    first = trigger(opened(1)).stepped(Step.EFFECTIVE, 2_000, "driftd")
    timeless = opened(2)
    seen = msgspec.structs.replace(timeless.episode.window, start_ms=NO_TIME, end_ms=NO_TIME)
    timeless = msgspec.structs.replace(timeless, episode=msgspec.structs.replace(timeless.episode, window=seen))
    assert consider(timeless, ENOUGH, options(), after(first)) is None


def test_no_more_than_so_many_a_day():
    before = Retraining()
    for index in (1, 3):
        one = trigger(opened(index)).stepped(Step.FAILED, 0, "job")
        before = remembered(before, one, 0)
    fast = options(cooldown="1h", max_per_day=2)
    assert "2 triggers within a day" in str(consider(opened(6), ENOUGH, fast, before))
    assert consider(opened(30), ENOUGH, fast, before) is None


def test_one_at_a_time():
    under_way = after(trigger(opened(1)).stepped(Step.STARTED, 0, "job"))
    assert "still under way" in str(consider(opened(900), ENOUGH, options(), under_way))


OLD = Evidence(10_000, 0.0, predicts=False, loss=loss(0.1), age_ms=91 * DAY_MS)
"""Of a model whose data, output and loss are all as usual."""


@pytest.mark.parametrize("index", [0, 1])
def test_a_model_that_is_too_old_is_retrained_though_nothing_speaks_for_it(index: int):
    change = (age("m", judged(1).window, "max age")[1], opened(1))[index]
    assert consider(change, OLD, options(max_age="90d"), Retraining()) is None
    assert because(change, OLD, options(max_age="90d")).startswith("max age: what the model has learnt is 91.0 days")
    assert "not called" in str(consider(change, OLD, options(max_age="91d"), Retraining()))
    assert "not called" in str(consider(change, OLD, options(), Retraining()))
    one = made(change, trigger(change).body, OLD, options(max_age="90d"), 0)
    assert one.loss is None  # it did not speak for it, so that the check does not ask whether it fell
    assert because(opened(1), ENOUGH, options(max_age="90d")) == opened(1).reason


def test_age_is_no_reason_to_learn_faults_or_too_little_or_too_soon():
    too_old = options(max_age="90d", min_rows=20_000)
    assert "faulty" in str(consider(opened(1, faulty=True), OLD, too_old, Retraining()))
    assert "10,000 new rows" in str(consider(opened(1), OLD, too_old, Retraining()))
    failed = after(trigger(opened(1)).stepped(Step.FAILED, 0, "job"))
    assert "cool-down" in str(consider(opened(2), OLD, options(max_age="90d"), failed))
    running = after(trigger(opened(1)).stepped(Step.STARTED, 0, "job"))
    assert "still under way" in str(consider(opened(2), OLD, options(max_age="90d"), running))


@pytest.mark.parametrize(
    ("step", "reference", "until"), [(Step.SUCCEEDED, None, 9), (Step.ROTATED, "r", 9), (Step.FAILED, None, 1)]
)
def test_age_counts_from_what_was_learnt_last(step: Step, reference: str | None, until: int):
    known = Retraining(learnt=Learnt().under("r1", NO_TIME, 0).under("r2", HOUR, 0))
    assert known.learnt == Learnt("r2", HOUR)
    one = msgspec.structs.replace(trigger(opened(8)), reference=reference)
    now = remembered(known, one, 0).stepped(one.stepped(step, 0, "job"))
    assert now.learnt == Learnt("r2", until * HOUR)
    assert now.learnt.under("r2", 99 * HOUR, 99 * HOUR) == now.learnt
    assert now.learnt.under("r3", 0, 99 * HOUR).until_ms == until * HOUR
    assert now.learnt.age_ms(10 * HOUR) == (10 - until) * HOUR
    assert (now.learnt.age_ms(0), now.learnt.age_ms(NO_TIME), Learnt().age_ms(HOUR)) == (0, 0, 0)


def test_a_job_that_names_no_reference_is_over_once_it_succeeded():
    one, _ = called_back(trigger(opened(1)), back("succeeded"), options(), 10)
    assert consider(opened(900), ENOUGH, options(), after(one)) is None
    waits, _ = called_back(trigger(opened(1)), back("succeeded", reference="r"), options(), 10)
    assert "still under way" in str(consider(opened(900), ENOUGH, options(), after(waits)))


def back(status: str, **changes: object) -> CallBack:
    return CallBack(trigger="t", status=status, **changes)


def test_the_loop_from_call_to_effect():
    one = trigger(opened(1))
    one, _ = called_back(one, back("started"), options(), 10)
    one, words = called_back(one, back("succeeded", version="4", reference="references/v4"), options(), 20)
    assert (one.step, one.version, words) == (Step.SUCCEEDED, "4", "noted: succeeded")
    one, words = approved(one, "ana", 30)
    assert (one.step, "references/v4" in words) == (Step.ROTATED, True)
    assert passed(one, options(check_after="1h"), True, 30 + HOUR - 1) is None
    assert passed(one, options(check_after="1h"), True, 30 + HOUR).step is Step.INEFFECTIVE
    assert passed(one, options(check_after="1h"), False, 30 + HOUR).step is Step.EFFECTIVE
    assert [past.step for past in one.history] == [Step.CALLED, Step.STARTED, Step.SUCCEEDED, Step.ROTATED]
    assert [past.by for past in one.history] == ["driftd", "job", "job", "ana"]


def test_a_reference_takes_over_by_itself_where_that_is_configured():
    one, words = called_back(trigger(opened(1)), back("succeeded", reference="r"), options(rotate="auto"), 20)
    assert (one.step, "takes over" in words) == (Step.ROTATED, True)


def test_a_job_that_is_not_expected_is_told_so():
    done = trigger(opened(1)).stepped(Step.FAILED, 0, "job")
    for order in (back("started"), back("succeeded"), back("failed")):
        assert called_back(done, order, options(), 5)[0] is None


def test_approval_and_refusal_are_for_what_waits():
    waiting = trigger(opened(1), mode="approve")
    assert approved(waiting, "ana", 5)[0].step is Step.CALLED
    assert refused(waiting, "ana", 5)[0].step is Step.REFUSED
    running = trigger(opened(1))
    assert approved(running, "ana", 5)[0] is None
    assert refused(running, "ana", 5)[0] is None


def test_what_waits_too_long_ends():
    waiting = trigger(opened(1), mode="approve")
    assert passed(waiting, options(ttl="1h"), True, HOUR) is None
    assert passed(waiting, options(ttl="1h"), True, 1_000 + HOUR).step is Step.EXPIRED
    running = trigger(opened(1))
    assert passed(running, options(callback_within="1h"), True, 1_000 + HOUR).step is Step.TIMED_OUT
    assert passed(running, options(), True, 1_000 + 24 * HOUR).step is Step.SUCCEEDED
    late, _ = called_back(running.stepped(Step.TIMED_OUT, 9, "driftd"), back("succeeded"), options(), 10)
    assert late.step is Step.SUCCEEDED


def test_a_call_that_was_given_up_ends_its_trigger_until_it_comes_through_after_all():
    called = trigger(opened(1))
    assert call_ended(called, "", 5) is None
    lost = call_ended(called, "expired: HTTP 503", 10)
    assert (lost.step, lost.under_way, said(lost)) == (
        Step.GIVEN_UP, False, "the call to job was given up: expired: HTTP 503"
    )  # fmt: skip
    assert call_ended(lost, "expired: HTTP 503", 20) is None
    assert passed(lost, options(callback_within="0s", ttl="1h"), True, 9 * HOUR) is None
    assert called_back(lost, back("succeeded"), options(), 20)[0].step is Step.SUCCEEDED
    assert call_ended(lost, "", 20).step is Step.CALLED


def test_a_job_that_has_spoken_was_reached_whatever_became_of_the_call():
    one, _ = called_back(trigger(opened(1)), back("started"), options(), 10)
    assert call_ended(one, "HTTP 504", 20) is None
