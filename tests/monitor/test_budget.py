"""The budget's decision from a configuration to verdicts: shares, calibrations that are kept, the ledger, alarms."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from scipy import special

from detectors import Profile
from monitor import allowance
from monitor.alert import State
from monitor.batch import NO_TIME, Batch, Moment, Partition
from monitor.check import Judge, budgeted, ledger
from monitor.cli import read_config
from monitor.config import Config, Model, Rule
from monitor.decision import CORRELATION, Outcome, Scores, Verdict
from monitor.errors import ReferenceFault
from monitor.frozen import freeze, thaw
from monitor.reference import kinds_of, seal, slicing, unseal
from monitor.replay import Log, replay
from monitor.rowwindows import RowWindows
from monitor.table import counted
from monitor.tally import Tally
from monitor.window import WHOLE, Extras, Segments, Span, TimeWindows, Window
from tests.monitor.command import driftd, sealed_home

CONFIG = """
[budget]
false_alarms = 2
per = "week"
[[model]]
name = "credit"
reference = "ref"
window = "1h"
lateness = "1s"
segments = ["plan"]
[model.fields]
timestamp = "ts"
[model.columns.age]
importance = 3
[[model]]
name = "other"
reference = "ref"
[[model]]
name = "ruled"
reference = "ref"
decision = "rules"
"""
N_HOURS, N_ROWS = 120, 200


def rows(seed: int, n_hours: int, first: int = 0, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = n_hours * N_ROWS
    return pd.DataFrame(
        {
            "ts": 1_699_833_600_000 + first * 3_600_000 + np.arange(n) * 3_600_000 // N_ROWS,
            "age": rng.normal(size=n) + shift,
            "debt": rng.exponential(size=n),
            "plan": rng.choice(["free", "paid"], n, p=[0.7, 0.3]),
        }
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed_home(tmp_path_factory.mktemp("budget"), CONFIG, "credit", rows(1, N_HOURS))


@pytest.fixture
def config(home: Path) -> Config:
    return read_config(home / "driftd.toml")


def test_the_shares_of_all_models_segments_and_columns_are_the_budget(home: Path, config: Config):
    bins = unseal(home / "ref").bins
    found = [allowance.of(config, model, bins) for model in config.model if model.decision == "budget"]
    total = sum(float(own.shares.sum()) for each in found for own in each.by_segment.values())
    assert total == pytest.approx(1.0)
    assert bins.pair_names == ("correlation of age and debt",)
    whole, paid = found[0].by_segment["all"], found[0].by_segment["plan=paid"]
    age, debt, plan = (bins.names.index(name) for name in ("age", "debt", "plan"))
    assert whole.shares[age] == pytest.approx(3 * whole.shares[debt])
    assert paid.shares[plan] == 0.0  # it has one value there
    pair = bins.n_columns
    assert whole.shares[pair] == pytest.approx(np.sqrt(whole.shares[age] * whole.shares[debt]))
    assert paid.shares.size == bins.n_columns  # pairs are watched in the whole alone
    without = config.model[0].model_copy(update={"correlations": 0})
    assert allowance.of(config, without, bins).by_segment["all"].shares[pair] == 0.0
    assert (whole.alarms, whole.period) == (2.0, 168.0)


def test_a_new_model_takes_its_share_from_the_others_and_the_whole_stays_the_budget(home: Path, config: Config):
    reference = unseal(home / "ref")
    *_, (before, memory) = _judged(Judge.of(reference, config, config.model[0]), reference, 3, shift_from=9)
    new = Model(name="new", reference=Path("ref"))
    grown = config.model_copy(update={"model": (*config.model, new)})
    found = [allowance.of(grown, model, reference.bins) for model in grown.model if model.decision == "budget"]
    assert sum(own.shares.sum() for each in found for own in each.by_segment.values()) == pytest.approx(1.0)
    after, memory = Judge.of(reference, grown, grown.model[0]).judge(before.window, memory)
    shares = [[verdict.share for verdict in judged.verdicts] for judged in (before, after)]
    assert shares[1] == pytest.approx([share * 2 / 3 for share in shares[0]], rel=1e-4)
    book = ledger(memory)  # what was seen before is not forgotten
    assert book is not None
    assert book.n_windows == 4


@pytest.mark.parametrize(
    ("window", "per", "period"),
    [("1h", "day", 24), ("5m", "week", 2016), ("1d", "week", 168), ("500 rows", "week", 168)],
)
def test_windows_that_are_long_or_have_no_time_count_as_hours(
    config: Config, home: Path, window: str, per: str, period: int
):
    model = Model(name="m", reference=Path("ref"), window=window)
    known = config.model_copy(update={"budget": config.budget.model_copy(update={"per": per}), "model": (model,)})
    assert allowance.of(known, model, unseal(home / "ref").bins).by_segment["all"].period == period


def test_a_segment_is_compared_with_its_own_rows(home: Path):
    reference = unseal(home / "ref")
    assert set(reference.pasts) == {"all", "plan=free", "plan=paid"}
    free, paid = (reference.pasts[f"plan={plan}"].profile.n_rows for plan in ("free", "paid"))
    assert free + paid == reference.profile.n_rows == reference.pasts["all"].profile.n_rows
    assert reference.pasts["all"].blocks is not None
    assert reference.pasts["all"].blocks.n_blocks == N_HOURS


def test_calibrate_shows_what_it_learnt_and_keeps_it(home: Path, config: Config):
    done = driftd("calibrate", "--config", home / "driftd.toml", "--model", "credit", "--json")
    assert done.returncode == 0, done.stderr
    segments = json.loads(done.stdout)
    assert [each["segment"] for each in segments] == ["all", "plan=free", "plan=paid"]
    whole = segments[0]
    assert (whole["windows"], whole["order"]) == (N_HOURS, "the rows have a time")
    assert whole["replayed"] <= whole["allowed"]
    assert sum(each["expected"] for each in segments) == pytest.approx(2 / 2)  # half is the other model's
    assert all(0 < column["within_24"] < 1 for column in whole["columns"])
    reference = unseal(home / "ref")
    known = reference.calibrations.under(allowance.of(config, config.model[0], reference.bins).key(reference.id))
    assert set(known) == {"all", "plan=free", "plan=paid"}
    stricter = config.model_copy(update={"budget": config.budget.model_copy(update={"false_alarms": 0.1})})
    other = allowance.of(stricter, config.model[0], reference.bins).key(reference.id)
    assert reference.calibrations.under(other) == {}
    text = driftd("calibrate", "--config", home / "driftd.toml", "--model", "credit").stdout
    assert "budget 2 a week over everything" in text
    assert "kept with the reference" in text
    refused = driftd("calibrate", "--config", home / "driftd.toml", "--model", "ruled")
    assert (refused.returncode, 'only "budget"' in refused.stderr) == (1, True)


def test_what_was_kept_decides_as_what_is_learnt_anew(home: Path, config: Config):
    reference = unseal(home / "ref")
    kept = budgeted(reference, config, config.model[0])
    reference.calibrations.by_segment.clear()
    anew = budgeted(reference, config, config.model[0])
    for segment, ward in kept.wards.items():
        assert anew.wards[segment].calibration.to_bytes() == ward.calibration.to_bytes()


def test_a_damaged_calibration_is_refused(home: Path, tmp_path: Path):
    copied = tmp_path / "home"
    shutil.copytree(home, copied)
    assert driftd("calibrate", "--config", copied / "driftd.toml", "--model", "credit").returncode == 0
    kept = copied / "ref" / "calibration.bin"
    kept.write_bytes(kept.read_bytes()[:-5])
    with pytest.raises(ReferenceFault, match="driftd calibrate"):
        unseal(copied / "ref")


def test_a_shift_becomes_one_incident_that_says_all_it_knows(home: Path, config: Config, tmp_path: Path):
    log = pd.concat([rows(2, 30, N_HOURS), rows(3, 12, N_HOURS + 30, shift=0.6)])
    log.to_parquet(tmp_path / "log.parquet")
    replay(config, config.model[0], unseal(home / "ref"), Log([tmp_path / "log.parquet"]), tmp_path / "out")
    verdicts = [json.loads(line) for line in (tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()]
    drifting = [v for v in verdicts if v["verdict"] == "drift"]
    assert {v["column"] for v in drifting} == {"age"}
    first = next(v for v in drifting if v["segment"] == "all")
    assert 30 <= first["window"] <= 32
    last = [v for v in drifting if v["segment"] == "all"][-1]
    assert last["effect_low"] <= 0.569 <= last["effect_high"]  # sqrt(3) (2 Phi(0.6 / sqrt(2)) - 1)
    assert last["evidence"] > 1_000
    incidents = [json.loads(line) for line in (tmp_path / "out" / "incidents.jsonl").read_text().splitlines()]
    assert len({i["id"] for i in incidents if i["state"] == State.FIRING}) == 1


def test_a_change_of_correlation_alone_is_told_as_such(home: Path, config: Config, tmp_path: Path):
    calm, mixed = rows(2, 30, N_HOURS), rows(3, 12, N_HOURS + 30)
    of_age = -special.log_ndtr(-mixed["age"])  # exponential, as debts are
    mixed["debt"] = np.where(np.random.default_rng(0).random(len(mixed)) < 0.5, of_age, mixed["debt"])
    pd.concat([calm, mixed]).to_parquet(tmp_path / "log.parquet")
    replay(config, config.model[0], unseal(home / "ref"), Log([tmp_path / "log.parquet"]), tmp_path / "out")
    verdicts = [json.loads(line) for line in (tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()]
    drifting = [v for v in verdicts if v["verdict"] == "drift" and v["segment"] == "all"]
    assert {v["column"] for v in drifting} == {"correlation of age and debt"}
    assert 30 <= drifting[0]["window"] <= 32
    assert drifting[0]["reason"].startswith(("from 0.0", "from -0.0"))
    before, after = (float(word) for word in drifting[-1]["reason"].split()[1::2])
    assert abs(before) < 0.05
    assert 0.4 < after < 0.6
    assert drifting[-1]["effect_low"] <= np.arctanh(0.5) - before <= drifting[-1]["effect_high"]
    incidents = [json.loads(line) for line in (tmp_path / "out" / "incidents.jsonl").read_text().splitlines()]
    assert incidents[0]["reason"] == "drift in correlation of age and debt"


def test_the_ledger_and_the_words_of_an_alarm(home: Path, config: Config):
    reference = unseal(home / "ref")
    judge, memory = Judge.of(reference, config, config.model[0]), b""
    told = None
    for judged, latest in _judged(judge, reference, 40, shift_from=30):
        told, memory = next((v for v in judged.verdicts if v.outcome is Outcome.DRIFT), told), latest
    book = ledger(memory)
    assert book is not None
    assert (book.n_windows, book.false_alarms, book.per) == (40, 2.0, "week")
    assert book.expected == pytest.approx(40 / 168 * 2 / 2 / 3)
    assert (book.pages, book.off) == (1, {})
    assert book.alarms >= 1
    assert told is not None
    assert told.began is not None
    assert told.began[1] <= 30 <= told.began[2] + 1
    words = " ".join(told.certainty())
    assert "by chance once in" in words
    assert "of the budget" in words
    assert "began in window" in words
    assert not told.faulty


@pytest.mark.parametrize(("began", "words"), [(14, "began in window 14"), (16, "changed again in window 16")])
def test_a_change_after_the_first_alarm_is_not_said_to_be_its_beginning(began: int, words: str):
    counts = {"n_reference": 9, "n_current": 9, "since_window": 15}
    verdict = Verdict(
        column="age", outcome=Outcome.DRIFT, reason="r", measure="level", began=(began, began, began), **counts
    )
    assert list(verdict.certainty()) == [words]


def test_scores_are_shown_beside_what_they_are_held_against_and_how_long_they_took(home: Path, config: Config):
    reference, ticks = unseal(home / "ref"), itertools.count()
    rules = (Rule(detector="psi", threshold=5.0), Rule(detector="psi", threshold=2.0, column="debt"))
    shown = config.http.model_copy(update={"scores": ("evidence", "ks")})
    ruled = config.model_copy(update={"rule": rules, "http": shown})
    judge = replace(Judge.of(reference, ruled, config.model[0]), clock=lambda: float(next(ticks)))
    limits = judge.limits()
    assert limits["psi"] == {"age": 5.0, "debt": 2.0, "plan": 5.0}
    for judged, _ in _judged(judge, reference, 40, shift_from=30):
        assert judged.statistics.keys() == {"evidence", "ks"}
        scores = Scores(reference.beside(judged.window.tally.profile, WHOLE))
        numeric = dict(zip(reference.bins.names, scores["ks"].statistic.tolist(), strict=True)) | {"plan": np.nan}
        assert judged.statistics["ks"] == {name: value for name, value in numeric.items() if np.isfinite(value)}
        assert judged.seconds.keys() == {"budget", "thresholds", "psi", "ks"}
        assert min(judged.seconds.values()) > 0
        evidence = judged.statistics["evidence"]
        if judged.window.index < 30:
            assert all(evidence[name] < bar for name, bar in limits["evidence"].items())
    assert evidence["age"] > limits["evidence"]["age"]


def test_another_decision_begins_without_what_the_one_before_remembered(home: Path, config: Config):
    reference = unseal(home / "ref")
    model = config.model[0]
    *_, (judged, memory) = _judged(Judge.of(reference, config, model), reference, 3, shift_from=9)
    rule = Rule(detector="psi", threshold=5.0)
    ruled = config.model_copy(update={"rule": (rule,)})
    for other in ("rules", "family", "budget"):
        judge = Judge.of(reference, ruled, model.model_copy(update={"decision": other}))
        again, memory = judge.judge(judged.window, memory)
        assert len(again.verdicts) == len(judged.verdicts)


def test_late_rows_change_numbers_and_not_what_was_said(home: Path, config: Config):
    reference = unseal(home / "ref")
    judge = Judge.of(reference, config, config.model[0])
    *_, (judged, _) = _judged(judge, reference, 34, shift_from=30)
    assert any(v.outcome is Outcome.DRIFT for v in judged.verdicts)
    of_pair = msgspec.structs.replace(judged.verdicts[0], column="correlation of age and debt", measure=CORRELATION)
    again = judge.rejudge(judged.window.amended(judged.window.tally), (*judged.verdicts, of_pair))
    assert again.verdicts[-1] == of_pair
    again = judge.rejudge(judged.window.amended(judged.window.tally), judged.verdicts)
    assert [v.outcome for v in again.verdicts] == [v.outcome for v in judged.verdicts]
    assert [v.n_current for v in again.verdicts] == [2 * v.n_current for v in judged.verdicts]


def test_a_reference_that_was_sealed_without_its_windows_is_watched_by_the_prior(config: Config, tmp_path: Path):
    frame = rows(1, N_HOURS).drop(columns=["ts"])
    reference = seal(frame, kinds_of(frame, {}), tmp_path)
    budget = budgeted(reference, config, config.model[0])
    assert budget.account("all").order == "the windows of the reference are not known"
    timed = slicing(rows(1, N_HOURS), config.model[0], 0)
    assert (timed.time_ms != NO_TIME).all()


def test_how_rows_are_spread_over_partitions_changes_no_verdict(home: Path, config: Config):
    reference = unseal(home / "ref")
    frame = pd.concat([rows(2, 6, N_HOURS), rows(3, 6, N_HOURS + 6, shift=0.6)], ignore_index=True)
    numbers, cells = counted(frame, reference.bins)
    times, found = frame["ts"].to_numpy(np.int64), []
    for n_partitions in (1, 3):
        windows = TimeWindows(reference.bins, Span(3_600_000, 0), Segments({}), Extras(panes=True))
        owner = np.random.default_rng(4).integers(0, n_partitions, len(frame))
        for partition in reversed(range(n_partitions)):
            own = np.flatnonzero(owner == partition)
            offsets = np.arange(own.size)
            batch = Batch(Partition("t", partition), offsets, times[own], numbers[:, own], cells[:, own], own.size)
            windows.add(batch)
        windows.settle()
        judge, memory, told = Judge.of(reference, config, config.model[0]), b"", []
        for index, window in enumerate(windows.finish()):
            judged, memory = judge.judge(window.closed(index), memory)
            told.append(judged.verdicts)
        found.append(told)
    assert any(verdict.outcome is Outcome.DRIFT for verdict in found[0][-1])
    assert found[0] == found[1]


def _judged(judge: Judge, reference, n_windows: int, shift_from: int):
    """Windows of the whole, judged one after the other."""
    memory = b""
    for index in range(n_windows):
        frame = rows(100 + index, 1, N_HOURS + index, shift=0.6 * (index >= shift_from))
        profile = Profile.of(reference.bins, *counted(frame, reference.bins))
        start_ms = int(frame["ts"].iloc[0])
        tally = Tally(profile)
        window = Window(WHOLE, start_ms, start_ms + 3_600_000, tally, Tally.empty(reference.bins), index=index)
        judged, memory = judge.judge(window, memory)
        yield judged, memory


@pytest.mark.parametrize("by_rows", [True, False])
def test_a_windows_quarters_add_up_to_it_and_are_kept_until_it_closes(home: Path, by_rows: bool):
    bins = unseal(home / "ref").bins
    segments = Segments.of(bins, ["plan"], 5)
    extras = Extras(panes=True)
    windows = RowWindows(bins, 400, segments, extras) if by_rows else TimeWindows(
        bins, Span(3_600_000, 0), segments, extras
    )  # fmt: skip
    frame = rows(5, 3)
    numbers, cells = counted(frame, bins)
    for first in range(0, 600, 77):
        part = slice(first, min(first + 77, 600))
        times = frame["ts"].to_numpy(np.int64)[part]
        offsets = np.arange(part.start, part.stop)
        windows.add(Batch(Partition("t", 0), offsets, times, numbers[:, part], cells[:, part], part.stop))
        windows.settle()
        windows.open = {key: thaw(freeze(window), bins) for key, window in windows.open.items()}
    closed = [*windows.close(Moment(0, frozenset({Partition("t", 0)}))), *windows.finish()]
    assert len(closed) == (6 if by_rows else 9)
    for window in closed:
        panes = window.tally.panes
        assert panes is not None
        assert np.array_equal(panes.counts.sum(axis=0), window.tally.profile.counts)
        assert np.array_equal(panes.pairs.sum(axis=0), window.tally.profile.pairs)
        assert bool(panes.pairs.size) == (window.segment == WHOLE)
        assert thaw(freeze(window.closed(0)), bins).tally.panes is None
    (first_one, *_) = closed
    assert first_one.tally.panes is not None
    assert first_one.tally.panes.counts[:, 0].sum(axis=1).tolist() == [100 if by_rows else 50] * 4
