"""The native JSON format: rows are what a plain reading of the JSON gives, and a bad record harms only itself."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import Bins
from detectors.cells import FIRST, INVALID, MISSING, RARE, UNSEEN
from monitor.batch import NO_TIME, Batch, Partition, Records
from monitor.decode import REGISTRY, Layout
from monitor.decode.value import epoch_ms

BINS = Bins.of({"age": np.arange(100.0), "debt": np.linspace(0, 1, 50)}, {"plan": {"free": 9, "paid": 4, "true": 1}})
NESTED = Layout(BINS, (("features", "age"), ("features", "debt"), ("features", "plan")), ("ts",), ("features",))
FLAT = Layout(BINS, (("age",), ("debt",), ("plan",)), None, (), frozenset({"id"}))


def records(values: list[bytes | None], first: int = 0) -> Records:
    offsets = np.arange(first, first + len(values), dtype=np.int64)
    return Records(Partition("predictions", 0), offsets, offsets + 1_000, values, first + len(values))


def decode(layout: Layout, *documents: Any) -> Batch:
    return REGISTRY["json"](layout).decode(records([json.dumps(document).encode() for document in documents]))


def row(**features: Any) -> dict[str, Any]:
    return {"ts": 1_700_000_000, "features": features}


def test_a_good_record_becomes_a_row_with_its_event_time():
    batch = decode(NESTED, row(age=42, debt=0.5, plan="paid"))
    assert batch.numbers[:, 0].tolist() == [42.0, 0.5]
    assert batch.cells[2].tolist() == [FIRST + 1]
    assert batch.time_ms.tolist() == [1_700_000_000_000]
    assert batch.next_offset == 1


def test_absent_and_null_values_are_missing_and_absent_time_is_kafkas():
    batch = decode(NESTED, {"features": {"age": None}}, {"features": {}}, {})
    assert (batch.cells == MISSING).all()
    assert batch.time_ms.tolist() == [1_000, 1_001, 1_002]


@pytest.mark.parametrize("wrong", ["12", [1], {"a": 1}, 10**400], ids=["text", "list", "object", "huge integer"])
def test_a_value_of_the_wrong_type_costs_only_its_own_cell(wrong: Any):
    batch = decode(NESTED, row(age=1, debt=0.1, plan="free"), row(age=wrong, debt=0.2, plan="free"))
    assert batch.n_rows == 2
    assert batch.cells[0].tolist()[1] in ({INVALID} if wrong != 10**400 else {INVALID, 255})
    assert batch.numbers[1].tolist() == [0.1, 0.2]
    assert not batch.rejects


def test_categories_of_every_json_type_have_one_spelling():
    batch = decode(NESTED, *(row(age=1, debt=0, plan=plan) for plan in (True, "true", 7, ["free"], None, "new")))
    assert batch.cells[2].tolist() == [FIRST + 2, FIRST + 2, UNSEEN, INVALID, MISSING, UNSEEN]
    assert RARE not in batch.cells[2]


BAD = {
    "truncated": b'{"age": 1',
    "empty": b"",
    "binary": b"\xff\xfe\x00",
    "list": b"[1, 2]",
    "number": b"7",
    "null": b"null",
    "tombstone": None,
    "deep": b"[" * 100_000,
    "bad utf-8": b'{"plan": "\xff"}',
    "two documents": b'{"age": 1}{"age": 2}',
}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("at", [0, 3, 6])
def test_a_bad_record_never_hurts_its_neighbours_and_keeps_its_offset(value: bytes | None, at: int):
    good: list[bytes | None] = [json.dumps({"age": i, "plan": "free"}).encode() for i in range(6)]
    batch = REGISTRY["json"](FLAT).decode(records([*good[:at], value, *good[at:]], first=10))
    assert batch.numbers[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert [reject.offset for reject in batch.rejects] == [10 + at]
    assert batch.rejects[0].reason
    assert batch.next_offset == 17


def test_an_unreadable_event_time_is_a_reject_that_quotes_it():
    batch = decode(NESTED, {"ts": "yesterday", "features": {}}, row(age=3))
    assert batch.n_rows == 1
    assert "yesterday" in batch.rejects[0].reason


def test_columns_that_the_reference_lacks_are_counted_by_name():
    batch = decode(FLAT, {"id": 1, "age": 3, "colour": "red"})
    assert [name for _, name in batch.unknown] == ["colour"]
    assert batch.inspected.size == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip
documents = st.dictionaries(st.sampled_from(["age", "debt", "plan", "x"]), json_values, max_size=4)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.lists(documents | json_values, max_size=8))
def test_any_json_gives_what_a_plain_reading_gives(values: list[Any]):
    batch = decode(FLAT, *values)
    objects = [value for value in values if isinstance(value, dict)]
    assert batch.n_rows == len(objects)
    assert len(batch.rejects) == len(values) - len(objects)
    for i, document in enumerate(objects):
        for column, name in enumerate(("age", "debt")):
            value = document.get(name)
            if value is None:
                assert batch.cells[column, i] == MISSING
            elif isinstance(value, str | list | dict):
                assert batch.cells[column, i] == INVALID
            else:
                assert batch.numbers[column, i] == float(value)


@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000, 1_000_000_000])
def test_epoch_units_are_told_apart(unit: int):
    assert epoch_ms(1_700_000_000 * unit) == 1_700_000_000_000


def test_times_that_are_none_say_so():
    assert [epoch_ms(value) for value in (True, None, float("inf"), float("nan"), 1e30, [])] == [None] * 6
    assert epoch_ms("2018-10-30 18:00:00.000") == 1_540_922_400_000
    assert NO_TIME < 0
