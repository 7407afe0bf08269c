"""`driftd compare` as a script meets it: what SciPy finds on the same rows, and an answer for every odd file."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from typer.testing import CliRunner

import monitor.demo
from detectors import REGISTRY
from detectors.rows import score_rows
from monitor.cli import app
from monitor.compare import compare

CAR_LOAN = Path(__file__).parents[3] / "shared" / "data" / "nannyml_car_loan"
DEMO = Path(monitor.demo.__path__[0]) / "data"
DRIFTING = {"car_value", "loan_length", "salary_range", "repaid_loan_on_prev_car", "y_pred_proba"}
WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "parquet": lambda frame, file: frame.to_parquet(file),
    "csv": lambda frame, file: frame.to_csv(file, index=False),
    "jsonl": lambda frame, file: file.write_bytes(
        frame.to_json(orient="records", lines=True, double_precision=15).encode()
    ),
}


class Found(msgspec.Struct, forbid_unknown_fields=True):
    """The promised shape, written down apart from the code that keeps it."""

    statistic: float | None
    p_value: float | None
    effect: float | None
    n_reference: int
    n_current: int
    reason: str | None = None


class Column(msgspec.Struct, forbid_unknown_fields=True):
    column: str
    kind: str
    verdict: str
    detectors: dict[str, Found]
    reason: str = ""


class Rows(msgspec.Struct, forbid_unknown_fields=True):
    rows: int


class Document(msgspec.Struct, forbid_unknown_fields=True):
    reference: Rows
    current: Rows
    columns: list[Column]

    def verdicts(self) -> dict[str, str]:
        return {column.column: column.verdict for column in self.columns}

    def drifting(self) -> set[str]:
        return {column.column for column in self.columns if column.verdict == "drift"}

    def __getitem__(self, name: str) -> Column:
        return next(column for column in self.columns if column.column == name)


def decoded(text: str | bytes) -> Document:
    """The document, held to every promise that its types do not make. JSON has no NaN and no Infinity to decode."""
    document = msgspec.json.decode(text, type=Document)
    for column in document.columns:
        assert column.kind in ("numeric", "categorical")
        assert column.verdict in ("ok", "drift", "unknown")
        assert column.verdict == "ok" or column.reason
        for name, found in column.detectors.items():
            numbers = (found.statistic, found.p_value, found.effect)
            assert (None in numbers) == (found.reason is not None), (column.column, name, found)
            assert found.p_value is None or 0 <= found.p_value <= 1, (column.column, name, found)
    return document


def driftd(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monitor", "compare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def compared(reference: pd.DataFrame, current: pd.DataFrame) -> Document:
    return decoded(msgspec.json.encode(compare(reference, current, REGISTRY).document()))


def table(rows: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "normal": rng.normal(shift, size=rows),
            "skew": rng.lognormal(shift, size=rows),
            "holes": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(shift, size=rows)),
            "count": rng.poisson(3 + shift, rows),
            "plan": rng.choice(["free", "paid", "trial"], rows, p=[0.5, 0.3 - shift / 4, 0.2 + shift / 4]),
            "member": rng.random(rows) < 0.4 + shift / 4,
        }
    )


@pytest.mark.parametrize(("before", "after"), [("parquet", "csv"), ("csv", "jsonl"), ("jsonl", "parquet")])
def test_the_command_finds_what_scipy_finds_on_the_same_rows(tmp_path: Path, before: str, after: str):
    reference, current = table(3_000, 1), table(2_000, 2, 0.2)
    files = tmp_path / f"reference.{before}", tmp_path / f"current.{after}"
    WRITERS[before](reference, files[0])
    WRITERS[after](current, files[1])
    done = driftd(*files, "--json")
    assert done.returncode == 0, done.stderr
    document = decoded(done.stdout)
    assert (document.reference.rows, document.current.rows) == (3_000, 2_000)
    assert [column.column for column in document.columns] == list(reference)
    for name in ("normal", "skew", "holes", "count"):
        x, y = (frame[name].dropna().to_numpy(np.float64) for frame in (reference, current))
        found = document[name].detectors
        assert all((each.n_reference, each.n_current) == (x.size, y.size) for each in (found["ks"], found["energy"]))
        close(found["ks"].statistic, stats.ks_2samp(x, y).statistic)
        close(found["wasserstein"].statistic, stats.wasserstein_distance(x, y))
        close(found["energy"].statistic, stats.energy_distance(x, y))
        with pytest.warns(UserWarning, match="p-value"):  # SciPy's table of p-values ends at 0.001
            close(found["ad"].statistic, stats.anderson_ksamp([x, y], variant="midrank").statistic)
        close(found["wasserstein"].effect, stats.wasserstein_distance(x, y) / x.std())
    for name in ("normal", "skew", "holes"):
        x, y = (frame[name].dropna().to_numpy() for frame in (reference, current))
        cvm, ks = stats.cramervonmises_2samp(x, y), stats.ks_2samp(x, y)
        close(document[name].detectors["cvm"].statistic, cvm.statistic)
        assert document[name].detectors["ks"].p_value == pytest.approx(ks.pvalue, rel=0.1, abs=1e-3)
        assert document[name].detectors["cvm"].p_value == pytest.approx(cvm.pvalue, rel=0.1, abs=1e-3)
    for name in ("plan", "member"):
        counts = pd.crosstab(np.repeat([0, 1], [3_000, 2_000]), pd.concat([reference[name], current[name]]).to_numpy())
        expected = stats.chi2_contingency(counts, correction=False)
        close(document[name].detectors["chi2"].statistic, expected.statistic)
        assert document[name].detectors["chi2"].p_value == pytest.approx(expected.pvalue, rel=1e-6)
        assert document[name].detectors["ks"].reason == "not defined for categorical columns"
    shares = (reference["plan"].value_counts(normalize=True) - current["plan"].value_counts(normalize=True)).abs()
    close(document["plan"].detectors["tv"].statistic, shares.sum() / 2)


def close(found: float | None, wanted: float) -> None:
    assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_on_a_real_prediction_log_exactly_the_columns_that_drift_are_named(tmp_path: Path):
    log = pd.read_parquet(DEMO / "log.parquet")
    log[len(log) // 2 :].to_parquet(tmp_path / "late.parquet")
    log[: len(log) // 2].to_parquet(tmp_path / "early.parquet")
    late, early = (
        driftd(DEMO / "reference.parquet", tmp_path / f"{name}.parquet", "--json") for name in ("late", "early")
    )
    assert decoded(late.stdout).drifting() == DRIFTING
    assert decoded(early.stdout).drifting() == set()
    for document in map(decoded, (late.stdout, early.stdout)):
        assert {column.column for column in document.columns if column.verdict == "unknown"} == {"id", "timestamp"}


@pytest.mark.skipif(not CAR_LOAN.is_dir(), reason="needs the car-loan data set, which is not part of this repository")
def test_on_the_whole_car_loan_log_too(tmp_path: Path):
    analysis = pd.read_parquet(CAR_LOAN / "analysis.parquet")
    for name, rows, drifting in (("late", analysis[25_000:], DRIFTING), ("early", analysis[:25_000], set())):
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
        document = decoded(driftd(CAR_LOAN / "reference.parquet", tmp_path / f"{name}.csv", "--json").stdout)
        assert document.drifting() == drifting
        assert document["repaid"].reason == "only in the reference file"


def test_exit_codes_say_what_happened(tmp_path: Path):
    table(2_000, 1).to_parquet(tmp_path / "a.parquet")
    table(2_000, 2).to_parquet(tmp_path / "same.parquet")
    table(2_000, 3, 0.5).to_parquet(tmp_path / "moved.parquet")
    (tmp_path / "bad.jsonl").write_text('{"a": 1}\n{"a": \n')
    run = CliRunner()

    def code(*arguments: str) -> int:
        return run.invoke(app, ["compare", *arguments], env={"COLUMNS": "200"}).exit_code

    a, same, moved = (str(tmp_path / f"{name}.parquet") for name in ("a", "same", "moved"))
    assert (code(a, same), code(a, same, "--fail-on-drift")) == (0, 0)
    assert (code(a, moved), code(a, moved, "--fail-on-drift")) == (0, 1)
    assert code(a, moved, "--fail-on-drift", "--json", "--column", "normal") == 1
    assert (code(a), code(a, same, "--detector", "kss"), code(a, same, "--column", "normla")) == (2, 2, 2)
    for arguments, words in (
        ([a, same, "--detector", "kss"], "found 'kss', no such detector; did you mean 'ks'?"),
        ([a, same, "--column", "normla"], "found 'normla', no such column; did you mean 'normal'?"),
    ):
        assert words in run.invoke(app, ["compare", *arguments], env={"COLUMNS": "200"}).stderr
    for file, words in (("none.csv", "No such file"), ("bad.jsonl", "line 2"), ("x.txt", "wanted one of")):
        done = driftd(a, tmp_path / file)
        assert (done.returncode, done.stdout, words in done.stderr) == (1, "", True), done.stderr


def test_only_what_is_asked_for_is_computed_in_the_order_of_the_question(tmp_path: Path):
    table(500, 1).to_parquet(tmp_path / "a.parquet")
    arguments = ["--column", "plan", "--column", "normal", "--detector", "psi", "--detector", "ks", "--detector", "psi"]
    done = CliRunner().invoke(app, ["compare", *[str(tmp_path / "a.parquet")] * 2, "--json", *arguments])
    document = decoded(done.stdout)
    assert [(column.column, list(column.detectors)) for column in document.columns] == [
        ("plan", ["psi", "ks"]),
        ("normal", ["psi", "ks"]),
    ]


def test_people_see_the_worst_first_within_their_terminals_width(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    table(2_000, 1).assign(gone=1, **{"a name that is far too long for any table " * 3: 0}).to_csv(tmp_path / "a.csv")
    table(2_000, 2, 0.6).to_csv(tmp_path / "b.csv")
    lines = driftd(tmp_path / "a.csv", tmp_path / "b.csv").stdout.splitlines()
    rows = lines[1 : 1 + next(i for i, line in enumerate(lines) if ": " in line)]
    verdicts = [word for line in rows for word in line.split() if word in ("drift", "unknown", "ok")]
    assert verdicts == sorted(verdicts, key=["drift", "unknown", "ok"].index)
    assert lines[1].split()[2] == "drift"
    assert max(map(len, lines[: len(rows)])) <= 80
    assert "gone: only in the reference file" in lines
    assert lines[-1].endswith("; 2,000 reference rows, 2,000 current rows")


def many(*values: object) -> pd.Series:
    return pd.Series(list(values) * 60, dtype=object).infer_objects()


nothing = pd.Series([], dtype=object)
ODD: dict[str, tuple[pd.Series, pd.Series, str]] = {
    "no rows": (nothing, nothing, "unknown"),
    "no rows in the reference": (nothing, many(1, 2), "unknown"),
    "no rows now": (many(1, 2), nothing, "unknown"),
    "one number each": (pd.Series([1]), pd.Series([2]), "unknown"),
    "one word each": (pd.Series(["x"]), pd.Series(["y"]), "unknown"),
    "one row in the reference": (pd.Series([1.5]), many(1.5), "unknown"),
    "all null": (many(None), many(None), "unknown"),
    "null before": (many(np.nan), many(1.0), "drift"),
    "null now": (many(1.0, 2.0), many(np.nan), "drift"),
    "constant": (many(7), many(7), "ok"),
    "constants that differ": (many(7), many(8), "drift"),
    "infinities": (many(1.0, 2.0, np.inf), many(-np.inf, 1.0, 2.0), "drift"),
    "infinities alone": (many(np.inf), many(np.inf), "ok"),
    "booleans": (many(True, False), many(True), "drift"),
    "booleans with nulls": (many(True, False), many(True, None, False, None), "drift"),
    "nullable integers": (many(1, 2).astype("Int64"), many(1, None, 2).astype("Int64"), "drift"),
    "big integers": (many(10**18, 10**30), many(10**18, 10**30), "ok"),
    "integers beyond floats": (many(10, 20), pd.Series([10, 20, 10**400] * 60, dtype=object), "drift"),
    "huge and tiny": (many(1e308, -1e308), many(5e-324, 0.0), "drift"),
    "text among numbers": (many(1, 2), many("x", 1, 2), "drift"),
    "text for numbers": (many(1, 2), many("1", "2"), "drift"),
    "numbers for text": (many("x", "y"), many(1, 2), "drift"),
    "lists and objects": (many([1], {"b": 2}), many([1], {"b": 2}), "unknown"),
    "true is not one": (many(1, "x"), many(True, "x"), "drift"),
    "one is one": (many(1, "x"), many(1.0, "x"), "ok"),
    "decimals": (many(Decimal("0.1"), Decimal(2)), many(0.1, 2.0), "ok"),
    "bytes": (many(b"x"), many(b"x"), "unknown"),
    "categories of numbers": (many(1, 2).astype("category"), many("1", "2"), "ok"),
}


@pytest.mark.parametrize("name", ODD)
def test_every_odd_column_gets_an_answer(name: str):
    before, after, verdict = ODD[name]
    document = compared(pd.DataFrame({"größe [€]": before}), pd.DataFrame({"größe [€]": after}))
    assert document.verdicts() == {"größe [€]": verdict}
    assert list(document.columns[0].detectors) == list(REGISTRY)
    assert (document.reference.rows, document.current.rows) == (len(before), len(after))


def test_columns_of_one_table_alone_are_unknown_and_tables_without_columns_have_none():
    document = compared(pd.DataFrame({"a": many(1, 2)}), pd.DataFrame({"b": many("x", None)}))
    assert document.verdicts() == {"a": "unknown", "b": "unknown"}
    assert [column.reason for column in document.columns] == ["only in the reference file", "only in the current file"]
    assert [column.kind for column in document.columns] == ["numeric", "categorical"]
    assert document["b"].detectors["psi"] == Found(None, None, None, 0, 60, "only in the current file")
    assert compared(pd.DataFrame(), pd.DataFrame()).columns == []


def test_text_among_numbers_is_a_type_error_and_the_numbers_are_compared_all_the_same():
    current = table(1_000, 2).astype({"normal": object})
    current.loc[:99, "normal"] = "n/a"
    column = compared(table(1_000, 1), current)["normal"]
    assert (column.verdict, column.reason) == ("drift", "of the wrong type 0 % → 10 %")
    assert column.detectors["type_error"].statistic == 0.1
    assert column.detectors["ks"].n_current == 900
    close(
        column.detectors["ks"].statistic,
        stats.ks_2samp(table(1_000, 1)["normal"], table(1_000, 2)["normal"][100:]).statistic,
    )


def test_ids_and_clocks_are_not_judged_unless_asked_for():
    def keyed(start: int) -> pd.DataFrame:
        number = np.arange(start, start + 1_000)
        frame = {
            "id": number, "uuid": [f"{n:032x}" for n in number], "at": pd.to_datetime(number // 3, unit="s"),
            "downwards": -number, "sorted": number / 7, "jumbled": np.random.default_rng(0).permutation(number),
        }  # fmt: skip
        return pd.DataFrame(frame)

    reference, current = keyed(0), keyed(5_000)
    keys = {"id", "uuid", "at", "downwards"}
    verdicts = compared(reference, current).verdicts()
    assert {name for name, verdict in verdicts.items() if verdict == "unknown"} == keys
    assert {name for name, verdict in verdicts.items() if verdict == "drift"} == {"sorted", "jumbled"}
    asked = compare(reference, current, ["ks"], ["id", "at"])
    assert {column.verdict.outcome for column in asked.columns} == {"drift"}
    current["uuid"] = current["uuid"].where(current.index % 2 == 0)
    assert compared(reference, current)["uuid"].reason == "missing 0 % → 50 %"


def test_points_in_time_are_compared_as_seconds():
    rng = np.random.default_rng(0)
    ages = [
        pd.Series(pd.Timestamp("1980-05-01", tz="UTC") + pd.to_timedelta(rng.normal(365, 90, 500), "d")) for _ in "ab"
    ]
    late = (ages[1] + pd.Timedelta("30d")).dt.tz_convert("Europe/Paris").dt.as_unit("us")
    column = compared(pd.DataFrame({"born": ages[0]}), pd.DataFrame({"born": late}))["born"]
    assert (column.kind, column.verdict) == ("numeric", "drift")
    assert column.detectors["mean"].statistic == pytest.approx(30 * 86_400, rel=0.2)


@pytest.mark.parametrize("rows", [60, 600, 6_000])
def test_without_drift_few_pairs_of_tables_have_any_verdict_of_drift(rows: int):
    pairs = [compare(table(4_000, 2 * i), table(rows, 2 * i + 1), ["ks"]) for i in range(40)]
    assert sum(pair.count("drift") > 0 for pair in pairs) <= 3  # at a family-wise 1 %: more has a chance of 1 in 1000


def test_statistics_on_rows_are_scipys_for_every_size_and_every_share_of_ties():
    rng = np.random.default_rng(5)
    for trial in range(300):
        n, m = rng.integers(1, [40, 400][trial % 2], 2)
        digits = int(rng.integers(0, 4))
        x, y = (np.sort(rng.normal(shift, size=size).round(digits)) for shift, size in ((0, n), (trial % 3 / 4, m)))
        found = score_rows(x, y, ["ks", "kuiper", "wasserstein", "energy"])
        values = np.concatenate((x, y))
        gap = np.searchsorted(x, values, "right") / n - np.searchsorted(y, values, "right") / m
        close(found["ks"].statistic, stats.ks_2samp(x, y).statistic)
        close(found["kuiper"].statistic, max(gap.max(), 0) + max(-gap.min(), 0))
        close(found["wasserstein"].statistic, stats.wasserstein_distance(x, y))
        close(found["energy"].statistic, stats.energy_distance(x, y))


COLUMNS = st.lists(
    st.one_of(st.none(), st.integers(-5, 5), st.floats(width=32), st.text(max_size=2), st.booleans()),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(COLUMNS, COLUMNS)
def test_any_two_columns_get_an_answer_that_does_not_depend_on_the_order_of_rows(
    before: list[object], after: list[object]
):
    tables = [pd.DataFrame({"a": pd.Series(values, dtype=object)}) for values in (before, after)]
    turned = [frame[::-1].reset_index(drop=True) for frame in tables]
    assert compared(*tables)["a"].detectors == compared(*turned)["a"].detectors


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_distances_on_rows_do_not_depend_on_which_table_is_the_reference(before: list[float], after: list[float]):
    a, b = pd.DataFrame({"a": before}), pd.DataFrame({"a": after})
    there, back = compared(a, b)["a"].detectors, compared(b, a)["a"].detectors
    for name in ("ks", "kuiper", "cvm", "ad", "wasserstein", "energy"):
        one, other = there[name].statistic, back[name].statistic
        assert (one is None) == (other is None)
        assert one is None or math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9), name
