"""Records that are taken apart all at once give what they give value by value."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import Bins
from detectors.cells import MISSING, UNSEEN
from monitor.batch import Batch, Partition, Records
from monitor.decode import REGISTRY, Layout
from monitor.decode.packed import ABSENT, Packed, Rows, cells_of, words

WORDS = {"free": 9, "paid": 4, "other": 3, "": 2, "\ud800": 5}
BINS = Bins.of(
    {"age": np.arange(100.0), "debt": np.linspace(0, 1, 50)}, {"plan": WORDS, "town": {"Köln": 9, "Oslo": 3}}
)
FEATURES = ("features",)
NESTED = Layout(BINS, tuple((*FEATURES, name) for name in BINS.names), ("ts",), FEATURES)
FLAT = Layout(BINS, tuple((name,) for name in BINS.names), ("ts",), id=("id",))

ordinary = st.fixed_dictionaries(
    {
        "age": st.floats(allow_nan=False, allow_infinity=False),
        "debt": st.floats(0, 1),
        "plan": st.sampled_from([*WORDS, "nowhere", "eight-by"]),
        "town": st.sampled_from(["Köln", "Oslo", "Rome"]),
    }
)
odd = st.sampled_from(
    [
        None,
        True,
        False,
        3,
        -3,
        2**32 + 1,
        2**63,
        2**64,
        2**70,
        2.5,
        "eight-by",
        "free",
        "x" * 300,
        "\x00",
        [1],
        {"a": 1},
    ]
)
messy = st.dictionaries(st.sampled_from(BINS.names), odd)
stamps = st.sampled_from([1_700_000_000, 1_700_000_000_123, 1.7e9, "2023-11-14T22:13:20Z", None, 2**63 + 5, "soon"])


def records(documents: list[Any]) -> Records:
    offsets = np.arange(len(documents), dtype=np.int64)
    values = [json.dumps(document).encode() for document in documents]
    return Records(Partition("predictions", 0), offsets, offsets + 1_000, values, len(values))


def same(one: Batch, other: Batch) -> bool:
    arrays = ("offsets", "time_ms", "numbers", "cells", "keys")
    alike = (getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in arrays)
    return all(alike) and one.rejects == other.rejects


@settings(max_examples=200)
@given(
    rows=st.lists(st.tuples(ordinary, messy | st.just({}), stamps), min_size=1, max_size=40),
    stamp=stamps,
    calm=st.booleans(),
    nested=st.booleans(),
)
def test_all_at_once_is_as_value_by_value(rows: list[Any], stamp: Any, calm: bool, nested: bool) -> None:
    """calm: whether all records are of one kind, so that they lie alike."""
    documents = []
    for features, wrong, when in rows:
        inner = features if calm else {**features, **wrong}
        kept = {"ts": stamp if calm else when}
        documents.append({**kept, "features": inner} if nested else {**kept, "id": "a7", **inner})
    layout = NESTED if nested else FLAT
    at_once = REGISTRY["json"](layout).decode(records(documents))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Packed, "rows", lambda *_: None)
        by_value = REGISTRY["json"](layout).decode(records(documents))
    assert same(at_once, by_value)


def test_ordinary_records_are_taken_apart_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    leaf = Rows.leaf
    monkeypatch.setattr(Rows, "leaf", lambda *given: found.append(leaf(*given)) or found[-1])
    paid = BINS.categorical[0].codes()["paid"]
    row = {"ts": 1_700_000_000_000, "features": {"age": 1, "debt": 0.5, "plan": "paid", "town": "elsewhere"}}
    REGISTRY["json"](NESTED).decode(records([row] * 5_000))
    taken = [(values.size, values.dtype.kind, set(values.tolist())) for values in found]
    assert taken == [
        (5_000, "i", {1_700_000_000_000}), (5_000, "f", {1.0}), (5_000, "f", {0.5}),
        (5_000, "u", {paid}), (5_000, "u", {UNSEEN}),
    ]  # fmt: skip


@given(st.dictionaries(st.text(max_size=20), st.integers(3, 255), max_size=30), st.text(max_size=20))
def test_a_word_stands_for_its_cell_and_any_other_for_unseen(cells: dict[str, int], text: str) -> None:
    kind = words(frozenset(cells.items()))
    read = msgspec.json.Decoder(kind)
    for word in [*cells, text]:
        member = read.decode(json.dumps(word).encode())
        assert cells_of(kind)[member] == cells.get(word, UNSEEN)
    assert cells_of(kind)[ABSENT] == MISSING
