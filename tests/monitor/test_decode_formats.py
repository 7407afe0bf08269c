"""What every record format owes: the same rows as JSON gives, and faults that cost only themselves."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pytest

from detectors import Bins
from detectors.cells import INVALID, MISSING
from monitor.batch import Batch, Partition, Records
from monitor.decode import REGISTRY, Decoder, Layout

BINS = Bins.of({"age": np.arange(100.0), "debt": np.linspace(0, 1, 50)}, {"plan": {"free": 9, "paid": 4, "true": 1}})
LAYOUT = Layout(BINS, (("features", "age"), ("features", "debt"), ("features", "plan")), ("ts",), ("features",))
TS = 1_700_000_000_000
SCHEMA = {
    "type": "record",
    "name": "Prediction",
    "fields": [
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {
            "name": "features",
            "type": {
                "type": "record",
                "name": "Features",
                "fields": [
                    {"name": "age", "type": ["null", "double", "string"]},
                    {"name": "debt", "type": ["null", "double"]},
                    {"name": "plan", "type": ["null", "string", "boolean", {"type": "array", "items": "string"}]},
                    {"name": "colour", "type": "string", "default": "red"},
                ],
            },
        },
    ],
}


def row(at: int, age: Any = 1.0, debt: Any = 0.5, plan: Any = "free") -> dict[str, Any]:
    return {"ts": TS + at, "features": {"age": age, "debt": debt, "plan": plan, "colour": "red"}}


ROWS = [row(0), row(1, None, 0.25, None), row(2, 120.0, None, "new"), row(3, 7.0, 0.1, "paid")]


def json_rows(rows: Sequence[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(each).encode() for each in rows]


def columns_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = rows[0]["features"]
    return {"ts": [r["ts"] for r in rows], "features": {name: [r["features"][name] for r in rows] for name in names}}


def json_columns(rows: Sequence[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(columns_of(rows)).encode()]


def arrow_stream(rows: Sequence[dict[str, Any]], options: pa.ipc.IpcWriteOptions | None = None) -> list[bytes]:
    return [stream(pa.Table.from_pylist(list(rows)), options)]


def stream(table: pa.Table, options: pa.ipc.IpcWriteOptions | None = None) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue()


def avro(rows: Sequence[dict[str, Any]], schema: Any = SCHEMA, number: int = 7) -> list[bytes]:
    found = []
    for each in rows:
        body = io.BytesIO()
        fastavro.schemaless_writer(body, fastavro.parse_schema(schema), each)
        found.append(struct.pack(">bI", 0, number) + body.getvalue())
    return found


def schemas(number: int) -> str:
    if number != 7:
        raise LookupError("there is none")
    return json.dumps(SCHEMA)


@dataclass(frozen=True)
class Format:
    """A format, how rows are written in it, and records of it that cannot be read."""

    name: str
    write: Callable[[Sequence[dict[str, Any]]], list[bytes]]
    bad: dict[str, bytes | None]

    def decoder(self) -> Decoder:
        made = REGISTRY[self.name](LAYOUT)
        made.look_up(schemas)
        return made


NOT_JSON = {
    "tombstone": None,
    "empty": b"",
    "truncated": b'{"ts": [1',
    "list": b"[]",
    "binary": b"\xff\x00",
    "deep": b"[" * 50_000,
}
BOMB = pa.table({"ts": pa.array(np.zeros(2_000_000, np.int64))})
FORMATS = [
    Format("json", json_rows, {**NOT_JSON, "two": b"{}{}"}),
    Format(
        "columns",
        json_columns,
        {
            **NOT_JSON,
            "lengths": json.dumps({"ts": [1, 2], "features": {"age": [1]}}).encode(),
            "no lists": json.dumps(row(0)).encode(),
            "too many": json.dumps({"ts": [1] * 70_000}).encode(),
        },
    ),
    Format(
        "arrow",
        arrow_stream,
        {
            "tombstone": None,
            "empty": b"",
            "text": b"{}",
            "truncated": arrow_stream(ROWS)[0][:-300],
            "no batch": arrow_stream(ROWS)[0][:40],
            "compressed": arrow_stream(ROWS * 100, pa.ipc.IpcWriteOptions(compression="zstd"))[0],
            "bomb": stream(BOMB, pa.ipc.IpcWriteOptions(compression="zstd")),
            "too many": stream(pa.table({"ts": pa.nulls(1 << 20)})),
            "twice": stream(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["ts", "ts"])),
        },
    ),
    Format(
        "avro",
        avro,
        {
            "tombstone": None,
            "empty": b"",
            "json": b'{"ts": 1}',
            "header alone": struct.pack(">bI", 0, 7),
            "truncated": avro(ROWS)[0][:-3],
            "left over": avro(ROWS)[0] + b"\0",
            "no such schema": avro(ROWS, number=8)[0],
            "long text": avro(ROWS)[0][:12] + b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f",
        },
    ),
]
CASES = [pytest.param(each, name, id=f"{each.name}-{name}") for each in FORMATS for name in each.bad]
each_format = pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)


def records(values: Sequence[bytes | None]) -> Records:
    offsets = np.arange(10, 10 + len(values), dtype=np.int64) * 64
    return Records(Partition("t", 0), offsets, offsets + 1_000, list(values), int(offsets[-1]) + 64 if values else 640)


def same_rows(one: Batch, other: Batch) -> None:
    np.testing.assert_array_equal(one.numbers, other.numbers)
    np.testing.assert_array_equal(one.cells, other.cells)
    np.testing.assert_array_equal(one.time_ms, other.time_ms)


def expected(rows: Sequence[dict[str, Any]]) -> Batch:
    return REGISTRY["json"](LAYOUT).decode(records(json_rows(rows)))


@each_format
def test_every_format_gives_the_rows_that_json_gives(form: Format):
    batch = form.decoder().decode(records(form.write(ROWS)))
    same_rows(batch, expected(ROWS))
    assert not batch.rejects
    assert {name for _, name in batch.unknown} == {"colour"}
    assert batch.inspected.size >= 1


@each_format
def test_nothing_gives_nothing(form: Format):
    batch = form.decoder().decode(records([]))
    assert (batch.n_rows, batch.rejects, batch.next_offset) == (0, (), 640)


@pytest.mark.parametrize(("form", "name"), CASES)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_bad_record_costs_only_itself(form: Format, name: str, at: int):
    good = [*form.write(ROWS[:2]), *form.write(ROWS[2:])]
    where = at * len(good) // 2
    values: list[bytes | None] = [*good[:where], form.bad[name], *good[where:]]
    found = records(values)
    batch = form.decoder().decode(found)
    same_rows(batch, expected(ROWS))
    assert [reject.offset for reject in batch.rejects] == [int(found.offsets[where])]
    assert batch.rejects[0].reason
    assert len(batch.rejects[0].head) <= 200
    assert batch.next_offset == found.next_offset


@pytest.mark.parametrize("form", [form for form in FORMATS if form.name in ("columns", "arrow")], ids=lambda f: f.name)
def test_rows_of_one_record_share_its_offset(form: Format):
    found = records([*form.write(ROWS[:3]), *form.write(ROWS[3:])])
    assert form.decoder().decode(found).offsets.tolist() == [640, 640, 640, 704]


def test_values_of_the_wrong_type_cost_only_their_cells():
    wrong = [row(0, "12"), row(1, plan=["free"]), row(2, plan=True)]
    for form in FORMATS:
        if form.name != "arrow":
            batch = form.decoder().decode(records(form.write(wrong)))
            same_rows(batch, expected(wrong))
            assert (batch.cells[0, 0], batch.cells[2, 1]) == (INVALID, INVALID)


def test_an_event_time_that_is_none_costs_its_row_alone():
    document = columns_of(ROWS)
    document["ts"][1] = "yesterday"
    batch = REGISTRY["columns"](LAYOUT).decode(records([json.dumps(document).encode()]))
    assert batch.n_rows == 3
    assert (batch.rejects[0].offset, batch.rejects[0].row) == (640, 1)


ARROW_TYPES = {
    "float32": (pa.array([1.5, None], pa.float32()), [1.5, np.nan]),
    "int8": (pa.array([3, None], pa.int8()), [3, np.nan]),
    "uint64": (pa.array([2**60, 1], pa.uint64()), [2.0**60, 1]),
    "boolean": (pa.array([True, None]), [1, np.nan]),
    "decimal": (pa.array([1, None], pa.decimal128(10, 2)), [1, np.nan]),
    "timestamp": (pa.array([1_500, None], pa.timestamp("ms")), [1.5, np.nan]),
    "days": (pa.array([1, None], pa.date32()), [86_400, np.nan]),
    "duration": (pa.array([2, None], pa.duration("s")), [2, np.nan]),
    "dictionary": (pa.array([4.0, None]).dictionary_encode(), [4, np.nan]),
    "nothing": (pa.nulls(2), [np.nan, np.nan]),
}


@pytest.mark.parametrize(("array", "numbers"), ARROW_TYPES.values(), ids=ARROW_TYPES.keys())
def test_arrow_numbers_of_every_type(array: pa.Array, numbers: list[float]):
    flat = Layout(BINS, (("age",), ("debt",), ("plan",)))
    batch = REGISTRY["arrow"](flat).decode(records([stream(pa.table({"age": array}))]))
    np.testing.assert_array_equal(batch.numbers[0], numbers)
    assert INVALID not in batch.cells[0]
    assert (batch.cells[1] == MISSING).all()


def test_arrow_text_is_never_a_number_and_words_have_one_spelling():
    flat = Layout(BINS, (("age",), ("debt",), ("plan",)))
    decode = REGISTRY["arrow"](flat).decode
    text = decode(records([stream(pa.table({"age": ["1", None], "debt": [[1.0], None]}))]))
    assert text.cells[0].tolist() == text.cells[1].tolist() == [INVALID, MISSING]
    spelled = [pa.array(["true", None]), pa.array([True, None]), pa.array(["true", None]).dictionary_encode()]
    cells = {tuple(decode(records([stream(pa.table({"plan": array}))])).cells[2].tolist()) for array in spelled}
    assert cells == {(5, MISSING)}


def test_arrow_times_are_what_their_type_says():
    layout = Layout(BINS, (("age",), ("debt",), ("plan",)), ("ts",))
    times = pa.array([5_000_000, None], pa.timestamp("us", "UTC"))
    batch = REGISTRY["arrow"](layout).decode(records([stream(pa.table({"ts": times}))]))
    assert batch.time_ms.tolist() == [5_000, 640 + 1_000]


HOSTILE = {
    "itself": {"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]},
    "nothings": {
        "type": "record",
        "name": "N",
        "fields": [{"name": "all", "type": {"type": "array", "items": "null"}}],
    },
    "empty records": {
        "type": "record",
        "name": "N",
        "fields": [{"name": "all", "type": {"type": "array", "items": {"type": "record", "name": "E", "fields": []}}}],
    },
    "no schema": {"type": "recrod"},
    "no JSON object": 7,
}


@pytest.mark.parametrize("schema", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_schema_that_could_hold_more_than_it_shows_is_refused(schema: Any):
    made = REGISTRY["avro"](LAYOUT)
    made.look_up(lambda _: json.dumps(schema))
    batch = made.decode(records([struct.pack(">bI", 0, 1) + b"\x02" * 1_000_000]))
    assert (batch.n_rows, batch.rejects[0].kind) == (0, "bad_schema")


def test_a_schema_is_looked_up_once():
    asked: list[int] = []
    made = REGISTRY["avro"](LAYOUT)
    made.look_up(lambda number: asked.append(number) or json.dumps(SCHEMA))  # type: ignore[func-returns-value]
    for _ in range(3):
        made.decode(records(avro(ROWS)))
    assert asked == [7]
