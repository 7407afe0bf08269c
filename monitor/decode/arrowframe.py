"""How an Arrow IPC stream is framed: messages, each of a flatbuffer that says what it is and a body of buffers.

The flatbuffers are Arrow's Message, Schema and RecordBatch (format/Message.fbs and Schema.fbs); of them only the fields
that are asked for are read. Nothing is believed: what points outside of its message is an error.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

SCHEMA, DICTIONARY, ROWS = 1, 2, 3
"""Numbers of the messages that streams of rows are made of."""
Pairs = NDArray[np.int64]
Damage: Final = (ValueError, TypeError, IndexError, struct.error)
"""What a damaged message raises."""
MOST_KEPT: Final = 1 << 16
"""Bytes of metadata that are remembered."""
_U16, _U32, _I16, _I32, _I64 = (struct.Struct(f"<{code}").unpack_from for code in "HIhiq")


@dataclass(frozen=True, slots=True)
class Head:
    """What a message's metadata says of it.

    kind: its number in Arrow's list; n_body: bytes that follow. header: where what it holds stands in the metadata;
    batch: where the RecordBatch in it stands, that of a dictionary's words too. n_rows: of that. is_compressed: whether
    the body is, by Arrow itself.
    """

    metadata: bytes
    kind: int
    n_body: int
    header: int
    batch: int = 0
    n_rows: int = 0
    is_compressed: bool = False

    @classmethod
    def of(cls, metadata: bytes) -> Head:
        """Raises `Damage`."""
        message = _U32(metadata, 0)[0]
        kind, n_body, header = field(metadata, message, 1), integer(metadata, message, 3), inner(metadata, message, 2)
        number = metadata[kind] if kind else 0
        if number not in (DICTIONARY, ROWS):
            return cls(metadata, number, n_body, header)
        batch = inner(metadata, header, 1) if number == DICTIONARY else header
        compressed = bool(field(metadata, batch, 3))
        return cls(metadata, number, n_body, header, batch, integer(metadata, batch, 0), compressed)


_known = lru_cache(256)(Head.of)
"""A producer says the same of most of its messages."""


@dataclass(frozen=True, slots=True)
class Message:
    head: Head
    body: memoryview


def messages(stream: memoryview) -> list[Message]:
    """All messages of a stream, which may end without saying so. Raises `Damage`."""
    found, at = [], 0
    while at < len(stream):
        size = _I32(stream, at)[0]
        at += 4
        if size == -1:  # since version 0.15 these bytes come before a length
            size = _I32(stream, at)[0]
            at += 4
        if size == 0:
            break
        metadata = bytes(stream[at : at + size])
        head = _known(metadata) if len(metadata) <= MOST_KEPT else Head.of(metadata)
        if size < 0 or not 0 <= head.n_body <= len(stream) - at - size:
            raise ValueError(f"a message of {size} bytes and {head.n_body} more, where {len(stream) - at} are left")
        at += size
        found.append(Message(head, stream[at : at + head.n_body]))
        at += head.n_body
    return found


def field(data: bytes, table: int, number: int) -> int:
    """Where the value of a table's field stands in a flatbuffer; 0 where it is absent."""
    vtable = table - _I32(data, table)[0]
    if vtable < 0:
        raise ValueError("a table outside its message")
    entry = 4 + 2 * number
    offset = _U16(data, vtable + entry)[0] if entry + 2 <= _U16(data, vtable)[0] else 0
    return table + int(offset) if offset else 0


def inner(data: bytes, table: int, number: int) -> int:
    """Where the table stands that is a field of this one."""
    place = field(data, table, number)
    if not place:
        raise ValueError("a message without its header")
    return place + int(_U32(data, place)[0])


def integer(data: bytes, table: int, number: int) -> int:
    """A field of 64 bits; 0 where it is absent."""
    place = field(data, table, number)
    return int(_I64(data, place)[0]) if place else 0


def pairs(data: bytes, table: int, number: int) -> Pairs:
    """A list of structs of two 64-bit integers, as nodes and buffers are, shape (structs, 2)."""
    place = inner(data, table, number)
    n = _U32(data, place)[0]
    return np.frombuffer(data, "<i8", 2 * n, place + 4).reshape(n, 2)


def tables(data: bytes, table: int, number: int) -> list[int]:
    """Where the tables of a list stand; none where it is absent."""
    if not field(data, table, number):
        return []
    place = inner(data, table, number)
    entries = range(place + 4, place + 4 + 4 * min(_U32(data, place)[0], len(data)), 4)
    return [entry + int(_U32(data, entry)[0]) for entry in entries]


def is_little_endian(schema: Head) -> bool:
    """Whether the numbers in the bodies of a stream are."""
    place = field(schema.metadata, schema.header, 0)
    return not place or _I16(schema.metadata, place)[0] == 0
