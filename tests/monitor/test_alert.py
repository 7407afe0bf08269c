"""Incidents open, grow, and are resolved; retraining is called once, and never for faulty data."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import Bins
from monitor.alert import Change, Episode, Policy, State, advance
from monitor.batch import Severity
from monitor.check import Judged
from monitor.decision import CLASSIFIER, CORRELATION, JOINT, Outcome, Verdict
from monitor.message import Subject, alert_body, retrain_body
from monitor.window import WHOLE, Window

BINS = Bins.of({"x": np.arange(10.0)}, {})
HOUR = 3_600_000
USUAL = Policy()


def verdict(column: str, outcome: Outcome, **changes: object) -> Verdict:
    said = Verdict(column=column, outcome=outcome, reason="median 1 → 2", n_reference=9, n_current=9, measure="ks")
    return msgspec.structs.replace(said, **changes)


def judged(index: int, *drifting: str, segment: str = WHOLE, calm: Sequence[str] = ("y",), **changes: object) -> Judged:
    window = Window.fresh(BINS, segment, index * HOUR, (index + 1) * HOUR).closed(index)
    said = [verdict(name, Outcome.DRIFT, since_window=index, effect=0.5, **changes) for name in drifting]
    return Judged(window, (*said, *(verdict(name, Outcome.OK) for name in calm)))


def play(windows: Sequence[Judged], policy: Policy = USUAL) -> tuple[Episode | None, list[Change]]:
    episode, told = None, []
    for window in windows:
        episode, change = advance("m", episode, [window], policy, {})
        told += [change] if change else []
    return episode, told


def test_the_title_tells_columns_and_correlations_apart():
    of_pairs = judged(1, "correlation of a and b", "correlation of a and c", measure=CORRELATION)
    subject = Subject("m", None, 30, "r", "c")

    def titled(*windows: Judged) -> str:
        return alert_body(subject, play(windows)[1][-1], None).title

    assert titled(judged(1, "a")) == "1 of 30 columns drifted"
    assert titled(of_pairs) == "2 correlations of columns changed"
    jointly = judged(3, "joint distribution", measure=JOINT)
    assert titled(jointly) == "the joint distribution of columns changed"
    assert titled(judged(3, "whole rows", measure=CLASSIFIER)) == "the rows can be told from the reference's"
    assert titled(of_pairs, jointly).endswith(
        "2 correlations of columns changed, the joint distribution of columns changed"
    )
    assert titled(of_pairs, judged(2, "a")) == "1 of 30 columns drifted, 2 correlations of columns changed"


def test_an_incident_opens_grows_and_is_resolved_after_calm_windows_in_a_row():
    story = [
        judged(0),
        judged(1, "a"),
        judged(2, "a"),
        judged(3, "a", "b"),
        judged(4),
        judged(5, "a"),
        judged(6),
        judged(7),
    ]
    episode, told = play(story)
    assert [(change.change, change.window) for change in told] == [("opened", 1), ("updated", 3), ("resolved", 7)]
    assert {change.episode.id for change in told} == {"m-1-19700101T0100Z"}
    assert [change.episode.n_changes for change in told] == [1, 2, 3]
    grown = {column.verdict.column: column.since_window for column in told[1].episode.columns}
    assert grown == {"a": 1, "b": 3}
    assert told[-1].episode.state is State.RESOLVED
    assert episode is None


def test_a_new_episode_is_a_new_incident():
    _, told = play([judged(0, "a"), judged(1), judged(2), judged(3, "a")])
    assert [change.change for change in told] == ["opened", "resolved", "opened"]
    assert told[0].episode.id != told[2].episode.id


def test_for_windows_keeps_an_incident_pending_and_a_calm_window_ends_it_untold():
    policy = Policy(for_windows=2, clear_windows=2)
    _, told = play([judged(0, "a"), judged(1), judged(2, "a"), judged(3, "a")], policy)
    assert [(change.change, change.episode.state) for change in told] == [
        ("pending", State.PENDING), ("resolved", State.RESOLVED), ("pending", State.PENDING), ("opened", State.FIRING),
    ]  # fmt: skip


def test_an_incident_fires_for_so_long_after_its_last_drift_however_calm_the_windows_are():
    policy = Policy(clear_windows=2, keep_firing_ms=5 * HOUR)
    _, told = play([judged(0, "a"), *(judged(hour) for hour in range(1, 4)), judged(4, "a")], policy)
    assert [change.change for change in told] == ["opened"]
    _, told = play([judged(0, "a"), *(judged(hour) for hour in range(1, 9))], policy)
    assert [(change.change, change.window) for change in told] == [("opened", 0), ("resolved", 5)]


def test_a_window_that_says_nothing_neither_resolves_nor_opens():
    silent = Judged(judged(2).window, (verdict("y", Outcome.UNKNOWN),))
    episode, told = play([judged(0, "a"), silent, silent, silent])
    assert [change.change for change in told] == ["opened"]
    assert episode is not None
    assert episode.n_calm == 0


def test_a_rise_of_severity_is_told():
    _, told = play([judged(0, "a"), judged(1, "a", severity=Severity.CRITICAL)])
    assert [change.reason for change in told][1] == "severity rose from warning to critical"
    assert told[1].episode.severity is Severity.CRITICAL


def test_segments_join_the_models_one_incident_and_stand_behind_the_whole():
    together = [judged(1, "a"), judged(1, "b", segment="region=EU")]
    episode, change = advance("m", None, together, Policy(), {})
    assert change is not None
    assert [(column.segment, column.verdict.column) for column in change.episode.columns] == [
        ("all", "a"),
        ("region=EU", "b"),
    ]
    assert change.segment == WHOLE
    _, alone = advance("m", None, [judged(1), judged(1, "b", segment="region=EU")], Policy(), {})
    assert alone is not None
    assert alone.segment == "region=EU"
    assert episode is not None


def order(*verdicts: Verdict, **importance: float) -> list[str]:
    window = Judged(judged(1).window, verdicts)
    (change,) = play([window], Policy(importance=importance))[1]
    body = alert_body(Subject("m", None, 30, "r", "c"), change, None)
    retraining = retrain_body(Subject("m", None, 30, "r", "c"), change, "t", "why")
    assert body.columns == retraining.columns
    names = [column.column for column in body.columns]
    assert change.reason == f"drift in {', '.join(names)}"
    return names


def drifts(column: str, **changes: object) -> Verdict:
    return verdict(column, Outcome.DRIFT, **changes)


def test_the_worst_column_is_the_one_that_chance_explains_least_times_its_importance():
    a, b = drifts("a", evidence=1e4, effect=0.1), drifts("b", evidence=1e4, effect=0.9)
    assert order(a, b) == ["b", "a"]  # all else equal, the larger change
    assert order(a, b, a=2.0) == ["a", "b"]
    assert order(drifts("a", evidence=1e9, effect=0.1), b) == ["a", "b"]
    assert order(drifts("a", evidence=1e9), b, b=3.0) == ["b", "a"]
    assert order(drifts("a", p_value=1e-9), drifts("b", p_value=1e-4, effect=0.9)) == ["a", "b"]
    assert order(drifts("a", evidence=1e9), b, drifts("c"), a=0.0) == ["b", "a", "c"]
    critical = drifts("c", severity=Severity.CRITICAL)
    assert order(a, b, critical, a=9.0) == ["c", "a", "b"]


alike = st.sampled_from([None, 1.0, 1e5, 1e300])


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.dictionaries(st.sampled_from("abcde"), st.tuples(alike, st.floats(0, 1)), min_size=1), st.randoms())
def test_the_order_of_columns_does_not_depend_on_that_in_which_they_are_judged(found, random):
    verdicts = [drifts(name, evidence=evidence, effect=effect) for name, (evidence, effect) in found.items()]
    before = order(*verdicts)
    random.shuffle(verdicts)
    assert order(*verdicts) == before
    weighed = order(*verdicts, **{before[-1]: 10.0})
    told = found[before[-1]][0]
    if told is not None and told > 1 and all(found[name][0] == told for name in before):
        assert weighed[0] == before[-1]


@pytest.mark.parametrize(
    ("evidence", "p_value", "rarity"),
    [
        (None, None, 0),
        (0.5, None, 0),
        (1e6, 1e-9, 6),
        (1e308, None, 300),
        (None, 0.0, 300),
        (None, 1e-12, 12),
        (None, 1.0, 0),
    ],
)
def test_rarity_is_the_digits_of_the_odds(evidence: float | None, p_value: float | None, rarity: float):
    assert drifts("a", evidence=evidence, p_value=p_value).rarity == pytest.approx(rarity)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.lists(st.sets(st.sampled_from("abc")), max_size=30), st.integers(1, 3), st.integers(1, 3))
def test_whatever_happens_changes_come_in_order_and_every_column_is_told(drifts, for_windows, clear_windows):
    policy = Policy(for_windows, clear_windows)
    windows = [judged(i, *sorted(names)) for i, names in enumerate(drifts)]
    episode, told = play(windows, policy)
    by_incident: dict[str, list[Change]] = {}
    for change in told:
        by_incident.setdefault(change.episode.id, []).append(change)
    for changes in by_incident.values():
        words = [change.change for change in changes]
        assert words == sorted(words, key=["pending", "opened", "updated", "resolved"].index)
        assert [change.episode.n_changes for change in changes] == list(range(1, len(changes) + 1))
    still_firing = [c for c in by_incident.values() if c[-1].change != "resolved"]
    assert len(still_firing) == (episode is not None)
    if episode is not None and episode.state is State.FIRING:
        assert {column.verdict.column for column in still_firing[0][-1].episode.columns} == {
            column.verdict.column for column in episode.columns
        }
