"""Verdicts: real drift is named, still columns never are, and too little data is unknown."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

from detectors import REGISTRY, Bins, Pair, Profile, Score
from detectors.law import Laws
from monitor.batch import Severity
from monitor.check import _merged
from monitor.config import Rule
from monitor.decision import Outcome, Scores, Verdict
from monitor.decision.family import FLOORS, Family
from monitor.decision.rules import Thresholds
from monitor.reference import build, kinds_of
from monitor.table import counted

CAR_LOAN = Path(__file__).parents[3] / "shared" / "data" / "nannyml_car_loan"
DRIFTING = {"car_value", "loan_length", "salary_range", "repaid_loan_on_prev_car", "y_pred_proba"}


def profile(bins: Bins, frame: pd.DataFrame) -> Profile:
    return Profile.of(bins, *counted(frame, bins))


def judge(reference: Profile, current: Profile) -> tuple[Verdict, ...]:
    return Family().judge(Scores(Pair(reference, current)), b"")[0]


def drifting(reference: Profile, current: Profile) -> set[str]:
    return {verdict.column for verdict in judge(reference, current) if verdict.outcome is Outcome.DRIFT}


@pytest.mark.skipif(not CAR_LOAN.is_dir(), reason="needs the car-loan data set, which is not part of this repository")
def test_on_a_real_log_exactly_the_columns_that_drift_are_named_and_only_once_they_do():
    reference = pd.read_parquet(CAR_LOAN / "reference.parquet").drop(columns=["id", "timestamp", "repaid"])
    analysis = pd.read_parquet(CAR_LOAN / "analysis.parquet")
    bins, normal = build(reference, kinds_of(reference, {}))
    for window in range(10):
        rows = analysis.iloc[window * 5_000 : (window + 1) * 5_000]
        assert drifting(normal, profile(bins, rows)) == (DRIFTING if window >= 5 else set()), window


def table(rng: np.random.Generator, n: int) -> pd.DataFrame:
    columns = {f"x{i}": rng.normal(size=n) for i in range(6)} | {f"w{i}": rng.choice(list("abcd"), n) for i in range(3)}
    return pd.DataFrame(columns)


@pytest.mark.parametrize("word", list("abcd"))
def test_one_row_is_no_drift_whatever_it_holds(word: str):
    frame = table(np.random.default_rng(0), 5_000)
    bins, normal = build(frame, kinds_of(frame, {}))
    one = frame.iloc[:1].assign(w0=word, x0=9.0)
    assert {verdict.outcome for verdict in judge(normal, profile(bins, one))} == {Outcome.UNKNOWN}


@pytest.mark.parametrize("n_rows", [50, 500, 5_000])
def test_without_drift_few_windows_have_any_verdict_of_drift(n_rows: int):
    rng = np.random.default_rng(n_rows)
    alarms = 0
    for _ in range(8):
        frame = table(rng, 5_000)
        bins, normal = build(frame, kinds_of(frame, {}))
        alarms += sum(bool(drifting(normal, profile(bins, table(rng, n_rows)))) for _ in range(10))
    assert alarms <= 4  # 80 windows at a family-wise 1 %: more than 4 has a chance below 0.2 %


def of_many_laws(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    return {
        "normal": rng.normal(size=n), "skewed": rng.exponential(size=n), "heavy": np.exp(rng.normal(size=n)),
        "flat": rng.uniform(size=n), "tails": rng.standard_t(3, n), "counts": rng.poisson(3, n) * 1.0,
    }  # fmt: skip


def of_numbers(bins: Bins, numbers: np.ndarray) -> Profile:
    return Profile.of(bins, numbers, bins.cells(numbers, np.zeros((0, 0), np.uint8)))


def with_laws(reference: Profile, current: Profile, laws: Laws) -> tuple[Verdict, ...]:
    return Family().judge(Scores(Pair(reference, current, laws)), b"")[0]


@pytest.mark.parametrize(("n_rows", "n_windows"), [(50, 20), (1_000_000, 2)])
def test_p_values_of_few_rows_and_of_a_million_are_honest(n_rows: int, n_windows: int, monkeypatch: pytest.MonkeyPatch):
    for name in FLOORS:  # which would hide what a million rows prove
        monkeypatch.setitem(FLOORS, name, 0.0)
    rng, alarms = np.random.default_rng(n_rows), 0
    for _ in range(4):
        before = of_many_laws(rng, 5_000)
        bins = Bins.of(before, {})
        normal = of_numbers(bins, np.stack(list(before.values())))
        laws = Laws.of(normal)
        for _ in range(n_windows):
            current = of_numbers(bins, np.stack(list(of_many_laws(rng, n_rows).values())))
            alarms += any(v.outcome is Outcome.DRIFT for v in with_laws(normal, current, laws))
    assert alarms <= (4 if n_windows > 2 else 1)  # at 1 %: of 80 windows more than 4, and of 8 more than 1, below 0.3 %


def test_a_wider_spread_is_found_by_drawn_laws_where_the_distance_of_ranks_shows_little():
    rng = np.random.default_rng(3)
    before = rng.normal(size=(10, 20_000))
    bins = Bins.of({f"x{i}": row for i, row in enumerate(before)}, {})
    normal, rows = of_numbers(bins, before), rng.normal(size=(10, 1_000))
    rows[4] *= 1.2
    current = of_numbers(bins, rows)
    assert not drifting(normal, current)  # without drawn laws, as a segment is judged
    told = [v for v in with_laws(normal, current, Laws.of(normal)) if v.outcome is Outcome.DRIFT]
    assert [(v.column, v.faulty) for v in told] == [("x4", False)]
    assert told[0].measure in ("wasserstein", "variance")


def test_missing_values_invalid_values_and_new_words_are_drift_with_a_quality_fact():
    rng = np.random.default_rng(1)
    frame = table(rng, 5_000)
    bins, normal = build(frame, kinds_of(frame, {}))
    current = table(rng, 1_000).astype(object)
    current.loc[:99, "x0"] = None
    current.loc[:99, "x1"] = "text"
    current.loc[:99, "w0"] = "new"
    verdicts = {v.column: v for v in judge(normal, profile(bins, current))}
    found = {name for name, verdict in verdicts.items() if verdict.outcome is Outcome.DRIFT}
    assert found == {"x0", "x1", "w0"}
    facts = [verdicts[name].quality[0] for name in ("x0", "x1", "w0")]
    assert facts == ["missing 0 % → 10 %", "of the wrong type 0 % → 10 %", "words the reference never had 0 % → 10 %"]
    assert all(verdicts[name].faulty for name in found)


def test_too_few_rows_are_unknown_and_say_how_many():
    rng = np.random.default_rng(1)
    frame = table(rng, 500)
    bins, normal = build(frame, kinds_of(frame, {}))
    for n_rows in (0, 5):
        verdicts = judge(normal, profile(bins, table(rng, n_rows)))
        assert {v.outcome for v in verdicts} == {Outcome.UNKNOWN}
        assert f"found {n_rows} valid rows, wanted 30" in verdicts[0].reason


def shares(rows: int, first: float) -> dict[str, int]:
    return {"a": round(rows * first), "b": rows - round(rows * first)}


def test_a_rule_fires_after_so_many_windows_and_holds_until_it_is_cleared():
    rule = Rule(detector="tv", threshold=0.2, clear=0.1, for_windows=2, severity="critical")
    memory, said = b"", []
    for first in (0.5, 0.75, 0.75, 0.65, 0.55, 0.65):
        pair = Pair.of_words({"w": shares(1_000, 0.5)}, {"w": shares(1_000, first)})
        verdicts, memory = Thresholds((rule,)).judge(Scores(pair), memory)
        said.append(verdicts[0].outcome)
    assert said == ["ok", "ok", "drift", "drift", "ok", "ok"]


def test_a_fault_of_a_column_outranks_its_drift():
    said = Verdict(column="a", outcome=Outcome.DRIFT, reason="", n_reference=9, n_current=9, measure="psi")
    fault = msgspec.structs.replace(said, measure="missing", faulty=True)
    graver = msgspec.structs.replace(said, severity=Severity.CRITICAL)
    calm = msgspec.structs.replace(said, outcome=Outcome.OK)
    for verdicts, measure, faulty in (
        ((said, fault), "missing", True),
        ((fault, graver), "psi", True),
        ((calm, fault), "missing", True),
        ((calm, said), "psi", False),
    ):
        for order in (verdicts, verdicts[::-1]):
            merged = _merged(order)
            assert (merged.outcome, merged.measure, merged.faulty) == (Outcome.DRIFT, measure, faulty)


def test_rules_alone_say_nothing_of_columns_that_no_rule_names():
    pair = Pair.of_words({"w": shares(1_000, 0.5)}, {"w": shares(1_000, 0.9)})
    rules = (Rule(detector="tv", threshold=0.2, column="other*"),)
    (verdict,), _ = Thresholds(rules).judge(Scores(pair), b"")
    assert (verdict.outcome, verdict.reason) == (Outcome.UNKNOWN, "no rule for this column")


def test_a_detector_that_fails_on_one_column_makes_that_one_unknown_and_no_other(monkeypatch: pytest.MonkeyPatch):
    whole = REGISTRY["ks"].score

    def score(pair: Pair) -> Score:
        if "x1" in pair.bins.names:
            raise ZeroDivisionError("planted")
        return whole(pair)

    monkeypatch.setattr(REGISTRY["ks"], "score", score)
    rng = np.random.default_rng(1)
    frame = table(rng, 5_000)
    bins, normal = build(frame, kinds_of(frame, {}))
    current = table(rng, 1_000)
    current["x0"] += 1
    verdicts = {v.column: v for v in judge(normal, profile(bins, current))}
    assert verdicts["x1"].outcome is Outcome.UNKNOWN
    assert "ks failed: ZeroDivisionError" in verdicts["x1"].reason
    assert verdicts["x0"].outcome is Outcome.DRIFT
    assert {verdicts[name].outcome for name in ("x2", "w0")} == {Outcome.OK}
