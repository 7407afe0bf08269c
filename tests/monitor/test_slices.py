"""Payloads as places in one piece of memory: what they are alone, they are together."""

from __future__ import annotations

import json

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitor.slices import Slices

DOCUMENTS = st.dictionaries(st.text(max_size=3), st.none() | st.integers() | st.text(max_size=5), max_size=3)
PARTS = st.sampled_from(
    ['{"a":"', '"}', "{", "}", '{"a":[{}', "]}", '{"b":1}', '{"b":2},{"b":3}', ",", "\\", "\n", " "]
)
ODD = st.lists(PARTS, max_size=4).map(lambda parts: "".join(parts).encode())
PAYLOADS = (
    st.none() | ODD | ODD.map(lambda text: b"{" + text + b"}") | DOCUMENTS.map(lambda found: json.dumps(found).encode())
)


def laid(payloads: list[bytes | None], gaps: list[int]) -> Slices:
    """The payloads with as many other bytes between them."""
    data, begins, ends = bytearray(), list[int](), list[int]()
    for payload, gap in zip(payloads, gaps, strict=True):
        data += b"}" * gap
        begins.append(len(data))
        data += payload or b""
        ends.append(len(data) if payload is not None else begins[-1] - 1)
    return Slices(data + b"\0", np.array(begins, np.int64), np.array(ends, np.int64))


@given(st.data())
def test_they_are_a_sequence_of_views(data: st.DataObject) -> None:
    payloads = data.draw(st.lists(PAYLOADS, max_size=8))
    slices = laid(payloads, data.draw(st.lists(st.integers(1, 30), min_size=len(payloads), max_size=len(payloads))))
    assert list(slices) == payloads
    assert [slices[i] for i in range(len(slices))] == payloads
    first, last = data.draw(st.tuples(st.integers(0, 9), st.integers(0, 9)))
    assert list(slices[first:last]) == payloads[first:last]


@given(st.data())
def test_as_many_objects_in_their_lines_are_these_objects(data: st.DataObject) -> None:
    """Whatever payloads hold: two objects in one of them, or one object in two, are not taken for what they are not."""
    payloads = data.draw(st.lists(PAYLOADS, max_size=8))
    slices = laid(payloads, data.draw(st.lists(st.integers(1, 20), min_size=len(payloads), max_size=len(payloads))))
    lines = slices.lines()
    assert list(slices) == payloads
    if lines is None:
        return
    decoder = msgspec.json.Decoder()
    try:
        found = decoder.decode_lines(lines)
    except msgspec.DecodeError:
        return
    if len(found) == len(payloads):
        assert found == [decoder.decode(payload) for payload in payloads if payload is not None]


@given(st.lists(DOCUMENTS, min_size=1, max_size=30), st.integers(1, 20), st.integers(0, 12))
def test_ordinary_payloads_are_read_by_their_lines(documents: list[object], gap: int, more: int) -> None:
    payloads: list[bytes | None] = [json.dumps({"a" * 40: document}).encode() for document in documents]
    lines = laid(payloads, [gap + more * (i % 2) for i in range(len(payloads))]).lines()
    assert lines is not None
    assert [found["a" * 40] for found in msgspec.json.Decoder().decode_lines(lines)] == documents
