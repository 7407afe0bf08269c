"""The loss: every format and file makes the same of the same labels, and a row without one is no fault."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import REGISTRY as DETECTORS
from detectors import Bins, Kind, Pair, Profile
from detectors.cells import FIRST, INVALID, MISSING, Floats
from detectors.parts import Event, Measure
from detectors.signals import Signals
from monitor.batch import Batch, Partition, Records
from monitor.check import Judge, Judged, Reference
from monitor.config import Config, Fields, Model
from monitor.decision import Outcome
from monitor.decode import REGISTRY, Layout, layout
from monitor.glance import Glance
from monitor.loss import LOSS, Loss
from monitor.reference import build, kinds_of, seal, slicing, unseal, with_loss
from monitor.replay import Log, replay
from monitor.sources import files
from monitor.window import WHOLE, Window

CAR_LOAN = Path(__file__).parents[3] / "shared" / "data" / "nannyml_car_loan"
NUMBERS = Bins.of({"score": np.linspace(0, 1, 50), LOSS: np.linspace(0, 1, 50)}, {}, {LOSS: "score"})
WORDS = Bins.of({LOSS: np.array([0.0, 1.0])}, {"said": {"no": 5, "yes": 4, "3": 2}}, {LOSS: "said"})
BY_SCORE = layout(Fields(score="score", label="truth.label"), NUMBERS)
BY_WORD = layout(Fields(prediction="said", label="truth.label"), WORDS)
Row = tuple[Any, Any]


def json_rows(rows: list[dict[str, Any]], _: Any) -> list[bytes]:
    return [json.dumps(each).encode() for each in rows]


def json_columns(rows: list[dict[str, Any]], _: Any) -> list[bytes]:
    """One record: every object's members as lists."""
    own = {key: [each[key] for each in rows] for key in rows[0] if key != "truth"}
    return [json.dumps({**own, "truth": {"label": [each["truth"]["label"] for each in rows]}}).encode()]


def arrow(rows: list[dict[str, Any]], _: Any) -> list[bytes]:
    table, sink = pa.Table.from_pylist(rows), io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return [sink.getvalue()]


def avro(rows: list[dict[str, Any]], schema: Any) -> list[bytes]:
    found = []
    for each in rows:
        body = io.BytesIO()
        fastavro.schemaless_writer(body, fastavro.parse_schema(schema), each)
        found.append(struct.pack(">bI", 0, 7) + body.getvalue())
    return found


def avro_schema(name: str, kind: str) -> dict[str, Any]:
    truth = {"type": "record", "name": "Truth", "fields": [{"name": "label", "type": ["null", kind]}]}
    return {
        "type": "record",
        "name": "Prediction",
        "fields": [{"name": name, "type": ["null", kind]}, {"name": "truth", "type": truth}],
    }


FORMATS: dict[str, Callable[[list[dict[str, Any]], Any], list[bytes]]] = {
    "json": json_rows,
    "columns": json_columns,
    "arrow": arrow,
    "avro": avro,
}
each_format = pytest.mark.parametrize("form", FORMATS)


def decoded(form: str, where: Layout, kind: str, rows: list[Row]) -> Batch:
    name = next(name for name in where.bins.names if name != LOSS)
    schema = avro_schema(name, kind)
    values = FORMATS[form]([{name: output, "truth": {"label": label}} for output, label in rows], schema)
    decoder = REGISTRY[form](where)
    decoder.look_up(lambda _: json.dumps(schema))
    offsets = np.arange(len(values), dtype=np.int64)
    return decoder.decode(Records(Partition("t", 0), offsets, offsets, values, len(values)))


def losses(batch: Batch, bins: Bins) -> Floats:
    return batch.numbers[bins.names.index(LOSS)]


@each_format
def test_numbers_have_their_absolute_error_in_every_format(form: str):
    batch = decoded(form, BY_SCORE, "double", [(0.75, 1.0), (0.25, 0.0), (0.5, None), (None, 1.0)])
    np.testing.assert_array_equal(losses(batch, NUMBERS), [0.25, 0.25, np.nan, np.nan])
    assert batch.numbers[0].tolist()[:3] == [0.75, 0.25, 0.5]
    assert batch.cells[1, 2:].tolist() == [MISSING, MISSING]
    assert not batch.rejects
    assert not batch.unknown


@each_format
def test_words_are_right_or_wrong_in_every_format(form: str):
    rows = [("no", "no"), ("no", "yes"), ("yes", None), (None, "yes"), ("no", "never"), ("other", "no")]
    batch = decoded(form, BY_WORD, "string", rows)
    np.testing.assert_array_equal(losses(batch, WORDS), [0, 1, np.nan, np.nan, 1, 1])
    assert batch.cells[1, :3].tolist() == [FIRST, FIRST, FIRST + 1]
    assert not batch.rejects


@each_format
def test_words_that_nobody_can_tell_apart_have_no_loss(form: str):
    assert np.isnan(losses(decoded(form, BY_WORD, "string", [("new", "newer")]), WORDS)).all()


@pytest.mark.parametrize(("label", "loss"), [(True, 0.25), (0, 0.75), ("yes", np.nan), ([1], np.nan)])
def test_a_label_of_the_wrong_kind_costs_only_its_own_cell(label: Any, loss: float):
    batch = decoded("json", BY_SCORE, "double", [(0.75, label)])
    np.testing.assert_array_equal(losses(batch, NUMBERS), [loss])
    assert (batch.cells[1, 0] == INVALID) == np.isnan(loss)


def test_words_that_json_spells_as_numbers_are_compared_as_words():
    rows: list[Row] = [("3", 3), (3, "3"), (3, 4), ("no", [1])]
    np.testing.assert_array_equal(losses(decoded("json", BY_WORD, "string", rows), WORDS), [0, 0, 1, np.nan])


def test_records_without_any_label_have_no_loss():
    batch = REGISTRY["json"](BY_SCORE).decode(
        Records(Partition("t", 0), np.arange(1), np.zeros(1, np.int64), [b'{"score": 0.5}'], 1)
    )
    assert np.isnan(losses(batch, NUMBERS)).all()


def model_of(decision: str = "family", **fields: Any) -> Model:
    return Model(name="m", reference=Path("r"), decision=decision, window="500 rows", fields=Fields(**fields))


def logged(n: int, wrong: float = 0.0, unlabelled: float = 0.0, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    score = rng.uniform(size=n)
    label = (rng.uniform(size=n) < np.where(rng.uniform(size=n) < wrong, 1 - score, score)).astype(float)
    label[rng.uniform(size=n) < unlabelled] = np.nan
    return pd.DataFrame(
        {"x": rng.normal(size=n), "score": score, "said": np.where(score > 0.5, "y", "n"), "label": label}
    )


def prepared(rows: pd.DataFrame, model: Model) -> tuple[pd.DataFrame, dict[str, Kind], str]:
    frame = rows.drop(columns="label")
    return with_loss(frame, kinds_of(frame, {}), rows, model)


def test_a_reference_has_the_loss_of_its_rows_and_remembers_whose_error_it_is(tmp_path: Path):
    rows = logged(2_000)
    model = model_of(score="score", prediction="said", label="label")
    frame, kinds, error_of = prepared(rows, model)
    seal(frame, kinds, tmp_path, slicing(rows, model, 0), error_of)
    bins = unseal(tmp_path).bins
    assert {bins.names[row]: bins.names[output] for row, output in bins.errors.items()} == {LOSS: "score"}
    assert bins.numeric[bins.names.index(LOSS)].mean == pytest.approx((rows["score"] - rows["label"]).abs().mean())


def test_labels_in_words_are_compared_with_the_prediction():
    rows = logged(300).assign(label=lambda frame: np.where(frame["label"] > 0, "y", "n"))
    frame, _, error_of = prepared(rows, model_of(score="score", prediction="said", label="label"))
    assert error_of == "said"
    np.testing.assert_array_equal(frame[LOSS], (rows["said"] != rows["label"]).astype(float))


@pytest.mark.parametrize(
    "rows",
    [
        logged(50).drop(columns="label"),
        logged(50).assign(label=np.nan),
        logged(50).assign(loss=1.0),
    ],
    ids=["no column", "no label in it", "a column of that name"],
)
def test_there_is_no_loss_where_the_rows_do_not_tell_it(rows: pd.DataFrame):
    frame = rows.drop(columns="label", errors="ignore")
    kinds = kinds_of(frame, {})
    same, as_before, error_of = with_loss(frame, kinds, rows, model_of(score="score", label="label"))
    assert (list(same), as_before, error_of) == (list(frame), kinds, "")


def test_who_ignores_the_loss_has_none():
    model = model_of(score="score", label="label").model_copy(
        update={"columns": Config.model_validate(IGNORED).model[0].columns}
    )
    assert prepared(logged(50), model)[2] == ""


IGNORED = {"model": [{"name": "m", "reference": "r", "columns": {LOSS: {"kind": "ignore"}}}]}


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("output", ["score", "said"])
def test_files_of_every_kind_give_the_reference_its_own_profile(tmp_path: Path, kind: str, output: str):
    rows = logged(400, unlabelled=0.3)
    if output == "said":
        rows["label"] = np.where(rows["label"].isna(), None, np.where(rows["label"] > 0, "y", "n"))
    fields = Fields(**{"score" if output == "score" else "prediction": output}, label="label")
    model = model_of().model_copy(update={"fields": fields})
    frame, kinds, error_of = prepared(rows, model)
    bins, profile = build(frame, kinds, error_of)
    file = tmp_path / f"rows.{kind}"
    write = {"csv": rows.to_csv, "parquet": rows.to_parquet}
    if kind in write:
        write[kind](file, index=False)
    else:
        rows.to_json(file, orient="records", lines=True, double_precision=15)
    where = layout(fields, bins)
    found = [
        part if isinstance(part, Batch) else REGISTRY["json"](where).decode(part) for part in files.read(file, where)
    ]
    again = sum((Profile.of(bins, batch.numbers, batch.cells) for batch in found), Profile.empty(bins))
    row = bins.names.index(LOSS)
    assert again.n_valid[row] == profile.n_valid[row] > 0
    assert Loss.of(again).mean == pytest.approx(Loss.of(profile).mean, rel=1e-6)
    assert not any(name for batch in found for _, name in batch.unknown)


@pytest.mark.parametrize("decision", ["family", "budget"])
def test_rows_without_label_are_no_fault_and_a_risen_loss_is_drift(decision: str):
    model = model_of(decision, score="score", label="label")
    config = Config(model=(model,))
    frame, kinds, error_of = prepared(logged(4_000), model)
    bins, normal = build(frame, kinds, error_of)
    judge = Judge.of(Reference("r", bins, normal), config, model)
    where = layout(model.fields, bins)

    def verdicts(**changes: Any) -> dict[str, Any]:
        memory = b""
        for index in range(6):
            window = windowed(logged(500, seed=index + 1, **changes), where, index)
            judged, memory = judge.judge(window, memory)
        assert isinstance(judged, Judged)
        return {verdict.column: verdict for verdict in judged.verdicts}

    window = windowed(logged(500, seed=3, unlabelled=0.5), where, 0)
    labelled = Glance.of(judge.judge(window, b"")[0]).labelled
    row = bins.names.index(LOSS)
    assert labelled == window.tally.profile.n_valid[row] / 500
    assert labelled == pytest.approx(0.5, abs=0.1)
    assert verdicts(unlabelled=0.5)[LOSS].outcome is not Outcome.DRIFT
    assert verdicts(unlabelled=1.0)[LOSS].outcome is Outcome.UNKNOWN
    risen = verdicts(unlabelled=0.5, wrong=0.8)[LOSS]
    assert (risen.outcome, risen.faulty) == (Outcome.DRIFT, False)


def windowed(rows: pd.DataFrame, where: Layout, index: int) -> Window:
    values = [json.dumps({k: v for k, v in each.items() if v == v}).encode() for each in rows.to_dict("records")]
    offsets = np.arange(len(values), dtype=np.int64)
    batch = REGISTRY["json"](where).decode(Records(Partition("t", 0), offsets, offsets, values, len(values)))
    fresh = Window.fresh(where.bins, WHOLE, index, index + 1)
    tally = type(fresh.tally)(Profile.of(where.bins, batch.numbers, batch.cells), {})
    return fresh.with_rows(tally).closed(index)


def test_an_error_is_never_missing_nor_out_of_range_whatever_watches_it():
    profile = Profile.of(NUMBERS, np.array([[0.5, 0.5], [np.nan, 9.0]]), np.array([[9, 9], [MISSING, 255]], np.uint8))
    pair = Pair(profile, profile)
    for name in ("missing", "out_of_range"):
        assert np.isnan(DETECTORS[name].score(pair).statistic).tolist() == [False, True]
    signals = Signals.of(profile, 500)
    own = signals.column == 1
    assert not any(measure is Measure.MISSING for measure, mine in zip(signals.measure, own, strict=True) if mine)
    events = zip(signals.event_column.tolist(), signals.event, strict=True)
    assert [event for column, event in events if column == 1] == [Event.INVALID]


numbers = st.lists(st.floats(0, 1), min_size=1, max_size=60)


@settings(max_examples=80, derandomize=True, deadline=None)
@given(numbers, numbers)
def test_the_mean_and_its_interval_are_those_of_the_rows_and_add(some: list[float], others: list[float]):
    def of(values: list[float]) -> Loss:
        rows = np.array([np.zeros(len(values)), values])
        found = Loss.of(Profile.of(NUMBERS, rows, NUMBERS.cells(rows, np.empty((0, len(values)), np.uint8))))
        assert found is not None
        return found

    together, rows = of(some) + of(others), np.array(some + others)
    assert (together.n, together.usual) == (rows.size, pytest.approx(0.5))
    assert together.mean == pytest.approx(rows.mean(), abs=1e-3)
    half = 1.96 * rows.std() / np.sqrt(rows.size)
    assert (together.low, together.high) == (
        pytest.approx(rows.mean() - half, abs=3e-3),
        pytest.approx(rows.mean() + half, abs=3e-3),
    )


def test_losses_against_two_references_do_not_add():
    with pytest.raises(ValueError, match="one reference"):
        Loss(1, 0.1, 0.0, 0.0) + Loss(1, 0.2, 0.0, 0.0)


@pytest.mark.skipif(not CAR_LOAN.is_dir(), reason="needs the car-loan data set, which is not part of this repository")
def test_the_car_loan_models_loss_rises_where_its_data_drift(tmp_path: Path):
    fields = Fields(id="id", timestamp="timestamp", score="y_pred_proba", prediction="y_pred", label="repaid")
    model = model_of().model_copy(
        update={"fields": fields, "window": Model(name="w", reference="r", window="5000 rows").window}
    )
    rows = pd.read_parquet(CAR_LOAN / "reference.parquet")
    frame = rows.drop(columns=["id", "timestamp", "repaid"])
    frame, kinds, error_of = with_loss(frame, kinds_of(frame, {}), rows, model)
    reference = seal(frame, kinds, tmp_path / "r", None, error_of)
    log = pd.read_parquet(CAR_LOAN / "analysis.parquet").merge(pd.read_parquet(CAR_LOAN / "analysis_target.parquet"))
    log.loc[::4, "repaid"] = np.nan
    log.to_parquet(tmp_path / "log.parquet")
    replay(Config(model=(model,)), model, reference, Log([tmp_path / "log.parquet"]), tmp_path / "out")
    said = [json.loads(line) for line in (tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()]
    own = {each["window"]: each for each in said if each["column"] == LOSS}
    assert [own[window]["verdict"] for window in range(10)] == ["ok"] * 5 + ["drift"] * 5
    assert {each["n_current"] for each in own.values()} == {3_750}
    assert not any(each["quality"] for each in own.values())


def test_the_overview_says_how_many_rows_have_their_label():
    from monitor.account import ModelStatus
    from monitor.join import Labelled
    from monitor.line import Counts
    from monitor.web.overview import _labels

    status = ModelStatus("m", Counts(), 1, 0, None, None, None)
    assert _labels(status) == "none"
    assert _labels(msgspec.structs.replace(status, with_label=0.625)) == "62.5% of the last window's rows"
    later = Labelled(predictions=2_000, joined=1_862)
    told = msgspec.structs.replace(status, labelled=later, coverage=later.coverage, with_label=0.1)
    assert _labels(told) == "93.1% of 2,000 predictions"
