"""Arrow's batches read where they lie are what Arrow itself reads, and what is not as it should be is left to Arrow."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors import Bins
from detectors.cells import MISSING
from monitor.batch import Batch, Partition, Records
from monitor.decode import REGISTRY, Decoder, Layout
from monitor.decode.arrowframe import messages
from monitor.decode.arrowplace import InPlace, Rows
from monitor.decode.value import Codes

BINS = Bins.of({"a": np.arange(100.0), "b": np.linspace(0, 1, 50), "c": np.arange(9.0)}, {"w": {"x": 9, "y": 4}})
FLAT = Layout(BINS, (("a",), ("b",), ("c",), ("w",)), ("ts",))
NESTED = Layout(BINS, (("f", "a"), ("f", "b"), ("c",), ("f", "w")), ("ts",), ("f",))
FLOAT = st.none() | st.floats(width=64)
ROW = st.tuples(FLOAT, FLOAT, FLOAT, st.none() | st.sampled_from(["x", "y", "new", "ü"]))
BATCHES = st.lists(st.lists(ROW, max_size=12), min_size=1, max_size=4)
INDEX = st.sampled_from([pa.int8(), pa.int16(), pa.int32(), pa.uint8()])


def stream(batches: Sequence[pa.RecordBatch]) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


def batch_of(rows: Sequence[tuple[Any, ...]], index: pa.DataType, nested: bool) -> pa.RecordBatch:
    numbers = [pa.array([row[i] for row in rows], pa.float64()) for i in range(3)]
    words = pa.array([row[3] for row in rows], pa.string()).dictionary_encode()
    words = words.cast(pa.dictionary(index, pa.string()))
    ts = pa.array([1_700_000_000_000 + i for i in range(len(rows))], pa.int64())
    if nested:
        inside = pa.StructArray.from_arrays([words, numbers[0], numbers[1]], names=["w", "a", "b"])
        return pa.record_batch({"c": numbers[2], "f": inside, "ts": ts})
    odd = pa.array(["odd"] * len(rows), pa.string())
    return pa.record_batch({"ts": ts, "b": numbers[1], "odd": odd, "a": numbers[0], "c": numbers[2], "w": words})


def records(*values: bytes) -> Records:
    offsets = np.arange(len(values), dtype=np.int64)
    return Records(Partition("t", 0), offsets, offsets + 1_000, values, len(values))


def in_place(layout: Layout, taught: bytes, value: bytes) -> list[Rows] | None:
    """What is read in place of a stream, by one that has learnt the schema of another."""
    reader = InPlace(pa, layout, [Codes(column) for column in BINS.categorical])
    reader.learn(pa.ipc.open_stream(taught).schema, messages(memoryview(taught))[0].head)
    return reader.read(messages(memoryview(value)))


def by_arrow(layout: Layout, value: bytes) -> Batch:
    return REGISTRY["arrow"](layout).decode(records(value))  # it has learnt nothing yet


def by_place(layout: Layout, value: bytes) -> Batch:
    decoder: Decoder = REGISTRY["arrow"](layout)
    decoder.decode(records(value))
    return decoder.decode(records(value))


def same(one: Batch, other: Batch) -> None:
    for name in ("numbers", "cells", "time_ms", "offsets"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert [(each.offset, each.kind) for each in one.rejects] == [(each.offset, each.kind) for each in other.rejects]
    assert (one.unknown, one.inspected.tolist()) == (other.unknown, other.inspected.tolist())


@given(BATCHES, INDEX, st.booleans())
def test_what_is_read_in_place_is_what_arrow_reads(rows: list[list[tuple[Any, ...]]], index: pa.DataType, nested: bool):
    layout = NESTED if nested else FLAT
    value = stream([batch_of(some, index, nested) for some in rows])
    found = in_place(layout, value, value)
    no_words = any(some and all(row[3] is None for row in some) for some in rows)
    assert no_words or found is not None, "this is what reading in place is for"
    assert found is None or sum(batch.num_rows for batch in found) == sum(map(len, rows))
    same(by_place(layout, value), by_arrow(layout, value))


@given(BATCHES, st.booleans(), st.data())
def test_damage_is_no_more_than_a_reject_or_another_value(
    rows: list[list[tuple[Any, ...]]], nested: bool, data: st.DataObject
):
    layout = NESTED if nested else FLAT
    good = stream([batch_of(some, pa.int8(), nested) for some in rows])
    bad = bytearray(good)
    for place in data.draw(st.lists(st.integers(0, len(good) - 1), min_size=1, max_size=4)):
        bad[place] = data.draw(st.integers(0, 255))
    bad = bad[: data.draw(st.sampled_from([len(good), len(good) // 2, len(good) - 9]))]
    decoder = REGISTRY["arrow"](layout)
    decoder.decode(records(good))
    batch = decoder.decode(records(bytes(bad), good))  # whatever comes of the first, it does not raise
    kept = batch.offsets == 1
    for name in ("numbers", "cells", "time_ms"):
        expected = getattr(decoder.decode(records(b"", good)), name)
        np.testing.assert_array_equal(getattr(batch, name)[..., kept], expected)
    assert not [reject for reject in batch.rejects if reject.offset == 1]


OTHERWISE = {
    "numbers of another width": {"a": pa.array([1.5], pa.float32())},
    "words that are no dictionary": {"w": pa.array(["x"])},
    "a null time": {"ts": pa.array([None], pa.int64())},
    "a time of its own type": {"ts": pa.array([5], pa.timestamp("ms"))},
    "lists beside them": {"more": pa.array([[1]])},
    "a null struct": {"f": pa.StructArray.from_arrays([pa.array([1.0])], names=["a"], mask=pa.array([True]))},
}


@pytest.mark.parametrize("columns", OTHERWISE.values(), ids=OTHERWISE.keys())
def test_what_is_otherwise_is_left_to_arrow(columns: dict[str, pa.Array]):
    layout = NESTED if "f" in columns else FLAT
    value = stream([pa.record_batch(columns)])
    assert in_place(layout, value, value) is None
    same(by_place(layout, value), by_arrow(layout, value))


def test_a_place_beyond_the_dictionary_is_no_word():
    words = pa.DictionaryArray.from_arrays(pa.array([0, 1, 7], pa.int8()), pa.array(["x", "y"]), safe=False)
    good = stream([batch_of([(1.0, 1.0, 1.0, "x"), (1.0, 1.0, 1.0, "y"), (1.0, 1.0, 1.0, "x")], pa.int8(), False)])
    layout = Layout(BINS, (("a",), ("b",), ("c",), ("w",)))
    bad = stream([pa.record_batch({"w": words})])
    assert in_place(layout, bad, bad) is None
    decoder = REGISTRY["arrow"](layout)
    batch = decoder.decode(records(bad, good, bad))
    assert [reject.offset for reject in batch.rejects] == [0, 2]
    assert batch.offsets.tolist() == [1, 1, 1]
    assert (batch.cells[3] != MISSING).all()
