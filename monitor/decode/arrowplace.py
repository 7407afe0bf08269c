"""Batches of Arrow IPC read where they lie: columns as views of a message's body, without Arrow's objects in between.

For what most producers send: numbers as float64, words as dictionaries of text, the event time as int64, in structs or
not. Whatever is otherwise, or not as it should be, is left to Arrow itself, which reads the record or says what is
wrong with it: so the answers are the same, and only the common case is fast.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from detectors.cells import INVALID, MISSING, Bools, Cells
from monitor.decode import STAMP, Layout, Path
from monitor.decode import arrowframe as frame
from monitor.decode.arrowframe import Head, Message, Pairs
from monitor.decode.sheet import Sheet
from monitor.decode.value import Codes

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_REMEMBERED: Final = 256
_MOST_BYTES: Final = 4_096
"""Of a dictionary whose cells are remembered."""
_FLOATS, _WORDS, _TIME = range(3)
Cellwise = dict[int, bytes]
"""By the number of a dictionary, the cells of its words."""


@dataclass(frozen=True, slots=True)
class _Field:
    """Where a field's node and its first buffer stand among those of a batch. dictionary: its number, if it has one."""

    kind: Any
    node: int
    buffer: int
    parents: tuple[int, ...]
    dictionary: int = -1


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """How the batches of one schema lie.

    schema: as Arrow has it. columns: of the layout; the first are the floats, then come words, then the event time.
    nodes, buffers, sizes: of each column its node, the buffer of its values and their bytes each. parents: nodes of all
    structs around them. dictionaries: of each column of words the categorical column whose words it is read in, and the
    number of its dictionary. known: places by a batch's metadata, as most of a producer's batches lie alike.
    """

    schema: pa.Schema
    columns: tuple[int, ...]
    n_floats: int
    nodes: frame.Pairs
    buffers: frame.Pairs
    sizes: frame.Pairs
    parents: frame.Pairs
    dictionaries: tuple[tuple[int, int], ...]
    known: dict[bytes, Places | None] = field(default_factory=dict)

    @classmethod
    def of(cls, pyarrow: Any, schema: pa.Schema, message: Head, layout: Layout) -> Shape | None:
        """None where the columns are not all of kinds that are read in place. Raises `arrowframe.Damage`."""
        if not frame.is_little_endian(message):
            return None
        fields = _fields(pyarrow.types, schema, message)
        if fields is None:
            return None
        found = [(column, fields[path]) for column, path in layout.places if path in fields]
        kinds = [_kind(pyarrow, column, known, layout) for column, known in found]
        if None in kinds:
            return None
        order = sorted(range(len(found)), key=lambda i: (kinds[i] or 0, i))
        columns = [found[i][0] for i in order]
        chosen = [found[i][1] for i in order]
        widths = [8 if known.dictionary < 0 else known.kind.index_type.bit_width // 8 for known in chosen]
        n_floats = kinds.count(_FLOATS)
        return cls(
            schema, tuple(columns), n_floats, np.array([known.node for known in chosen], np.int64),
            np.array([known.buffer + 1 for known in chosen], np.int64), np.array(widths, np.int64),
            np.array(sorted({node for known in chosen for node in known.parents}), np.int64),
            tuple(
                (layout.spelled(column) or 0, known.dictionary)
                for column, known in zip(columns, chosen, strict=True) if known.dictionary >= 0
            ),
        )  # fmt: skip

    def places(self, head: Head) -> Places | None:
        """Where the values of such a batch lie; None where Arrow itself is to read it."""
        if len(head.metadata) > frame.MOST_KEPT:
            return Places.of(self, head)
        if head.metadata not in self.known:
            if len(self.known) >= _MOST_REMEMBERED:
                self.known.clear()
            self.known[head.metadata] = Places.of(self, head)
        return self.known[head.metadata]


@dataclass(frozen=True, slots=True)
class Places:
    """Where the values of a batch lie in its body.

    floats: runs of neighbouring columns whose values lie equally far apart: the first of the layout's columns, how many
    they are, where the first begins, and how many bytes lie between two. others: where each column that is of no floats
    begins. nulls: of columns that have such, the place among all and where the bits begin that say which values there
    are.
    """

    floats: tuple[tuple[int, int, int, int], ...]
    others: tuple[int, ...]
    nulls: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, shape: Shape, head: Head) -> Places | None:
        """None where they do not lie where they should. Raises `arrowframe.Damage`."""
        nodes, buffers = frame.pairs(head.metadata, head.batch, 1), frame.pairs(head.metadata, head.batch, 2)
        own, values, n_rows = nodes[shape.nodes], buffers[shape.buffers], head.n_rows
        right = (own[:, 0] == n_rows).all() and (own[:, 1] >= 0).all()
        if not right or (nodes[shape.parents] != (n_rows, 0)).any() or not _inside(values, head.n_body):
            return None
        with_nulls = np.flatnonzero(own[:, 1])
        bits = buffers[shape.buffers[with_nulls] - 1]
        if (values[:, 1] < n_rows * shape.sizes).any() or not _inside(bits, head.n_body):
            return None
        has_time = len(shape.columns) > shape.n_floats + len(shape.dictionaries)
        if (8 * bits[:, 1] < n_rows).any() or (has_time and len(shape.columns) - 1 in with_nulls):
            return None
        starts = values[:, 0].tolist()
        nulls = tuple(zip(with_nulls.tolist(), bits[:, 0].tolist(), strict=True))
        return cls(tuple(_evenly(shape.columns[: shape.n_floats], starts)), tuple(starts[shape.n_floats :]), nulls)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A batch that can be read in place. words: cells of each column of words."""

    shape: Shape
    num_rows: int
    body: memoryview
    places: Places
    words: Sequence[Cells]

    @property
    def schema(self) -> pa.Schema:
        """As Arrow's batches have it."""
        return self.shape.schema

    @classmethod
    def of(cls, shape: Shape, message: Message, cells: Cellwise) -> Rows | None:
        """None where Arrow itself is to read it. Raises `arrowframe.Damage`. cells: of the dictionaries so far."""
        places, words, n_rows = shape.places(message.head), [], message.head.n_rows
        if places is None:
            return None
        for i, (_, number) in enumerate(shape.dictionaries):
            if number not in cells:
                return None
            size = int(shape.sizes[shape.n_floats + i])
            found = _placed(message.body, n_rows, places.others[i], size, cells[number])
            for place, start in places.nulls:
                if place == shape.n_floats + i:
                    found = np.where(_present(message.body, start, n_rows), found, MISSING).astype(np.uint8)
            if INVALID in found.tobytes():
                return None
            words.append(found)
        return cls(shape, n_rows, message.body, places, words)

    def fill(self, first: int, sheet: Sheet) -> None:
        """Put the rows into a sheet from this row on."""
        n_rows, shape, body = self.num_rows, self.shape, self.body
        rows = slice(first, first + n_rows)
        for column, n, start, step in self.places.floats:
            sheet.numbers[column : column + n, rows] = np.ndarray((n, n_rows), "<f8", body, start, (step, 8))
        for place, start in self.places.nulls:
            if place < shape.n_floats:
                sheet.numbers[shape.columns[place], rows][~_present(body, start, n_rows)] = np.nan
        for column, cells in zip(shape.columns[shape.n_floats :], self.words, strict=False):
            sheet.put(column, first, cells)
        if len(self.places.others) > len(self.words):
            sheet.stamp(first, np.frombuffer(body, "<i8", n_rows, self.places.others[-1]))


@dataclass(slots=True)
class InPlace:
    """Reads streams of schemas that it has learnt."""

    pyarrow: Any
    layout: Layout
    codes: Sequence[Codes]
    _shapes: dict[bytes, Shape | None] = field(default_factory=dict)
    _known: dict[tuple[int, bytes, bytes], bytes] = field(default_factory=dict)

    def learn(self, schema: pa.Schema, message: Head) -> None:
        """From a stream that Arrow has read; message: the one that its schema came in."""
        metadata = message.metadata
        if metadata in self._shapes or len(metadata) > frame.MOST_KEPT:
            return
        if len(self._shapes) >= _MOST_REMEMBERED:
            self._shapes.clear()
        self._shapes[metadata] = None
        with contextlib.suppress(*frame.Damage):  # Arrow reads it, so it is read
            self._shapes[metadata] = Shape.of(self.pyarrow, schema, message, self.layout)

    def read(self, stream: Sequence[Message]) -> list[Rows] | None:
        """The batches of a stream that have rows; None where Arrow itself is to read it."""
        if not stream or (shape := self._shapes.get(stream[0].head.metadata)) is None:
            return None
        found, cells = list[Rows](), Cellwise()
        with contextlib.suppress(*frame.Damage):
            for message in stream[1:]:
                if message.head.kind == frame.DICTIONARY:
                    self._look_up(shape, message, cells)
                elif message.head.kind != frame.ROWS:
                    return None
                elif message.head.n_rows:
                    if (rows := Rows.of(shape, message, cells)) is None:
                        return None
                    found.append(rows)
            return found
        return None

    def _look_up(self, shape: Shape, message: Message, cells: Cellwise) -> None:
        """Note the cells of a dictionary's words; none where they are not plainly there."""
        head = message.head
        number = frame.integer(head.metadata, head.header, 0)
        cells.pop(number, None)
        spelled = {spelled for spelled, own in shape.dictionaries if own == number}
        if len(spelled) != 1:  # nobody asks, or not all in the same words
            return
        (which,) = spelled
        key = (which, head.metadata, bytes(message.body))
        made = self._known.get(key)
        if made is None:
            words = _words(message)
            if words is None:
                return
            made = self.codes[which].cells(words)
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            if len(message.body) <= _MOST_BYTES:
                self._known[key] = made
        cells[number] = made


def _fields(kinds: Any, schema: pa.Schema, message: Head) -> dict[Path, _Field] | None:
    """Every field of a schema by its path; None where one is of a kind whose buffers are not known here."""
    found = dict[Path, _Field]()
    node = buffer = 0

    def walk(fields: Iterable[pa.Field], tables: Sequence[int], above: Path, parents: tuple[int, ...]) -> bool:
        nonlocal node, buffer
        for one, table in zip(fields, tables, strict=True):
            number, path, kind = -1, (*above, one.name), one.type
            if kinds.is_dictionary(kind):
                number = frame.integer(message.metadata, frame.inner(message.metadata, table, 4), 0)
            found[path] = _Field(kind, node, buffer, parents, number)
            node, own = node + 1, node
            if kinds.is_struct(kind):
                buffer += 1
                if not walk(list(kind), frame.tables(message.metadata, table, 5), path, (*parents, own)):
                    return False
            elif kinds.is_primitive(kind) or kinds.is_dictionary(kind):
                buffer += 2
            elif kinds.is_string(kind) or kinds.is_large_string(kind):
                buffer += 3
            else:
                return False
        return True

    return found if walk(schema, frame.tables(message.metadata, message.header, 1), (), ()) else None


def _kind(pyarrow: Any, column: int, known: _Field, layout: Layout) -> int | None:
    """How a column is read in place, in the order of a shape; None where it is not."""
    if column < layout.bins.n_columns and layout.spelled(column) is None:
        return _FLOATS if known.kind == pyarrow.float64() else None
    if column < layout.bins.n_columns:
        if not pyarrow.types.is_dictionary(known.kind) or known.kind.value_type != pyarrow.string():
            return None
        return _WORDS if known.kind.index_type.bit_width < 64 else None
    return _TIME if column == layout.bins.n_columns + STAMP and known.kind == pyarrow.int64() else None


def _words(message: Message) -> list[str] | None:
    """The words of a dictionary of text; None where they only add to earlier ones, or some are null."""
    head, body = message.head, message.body
    found = _text(head) if len(head.metadata) <= frame.MOST_KEPT else _text.__wrapped__(head)
    if found is None:
        return None
    n, ends, text, n_text = found
    borders = struct.unpack_from(f"<{n + 1}i", body, ends)
    if borders[0] < 0 or borders[-1] > n_text or any(a > b for a, b in pairwise(borders)):
        return None
    data = bytes(body[text : text + n_text])
    return [str(data[a:b], "utf-8") for a, b in pairwise(borders)]


@lru_cache(_MOST_REMEMBERED)
def _text(head: Head) -> tuple[int, int, int, int] | None:
    """Of a dictionary of text: how many words, where the ends of each stand, where the text begins, and its bytes."""
    nodes, buffers = frame.pairs(head.metadata, head.batch, 1), frame.pairs(head.metadata, head.batch, 2)
    if len(nodes) != 1 or len(buffers) != 3 or frame.field(head.metadata, head.header, 2):
        return None
    (n, n_null), (_, (ends, n_ends), (text, n_text)) = nodes[0].tolist(), buffers.tolist()
    if n_null or n < 1 or not _inside(buffers, head.n_body) or n_ends < 4 * (n + 1):
        return None
    return n, ends, text, n_text


def _placed(body: memoryview, n_rows: int, start: int, size: int, cells: bytes) -> Cells:
    """The cells of a dictionary's places; INVALID, which no word is, where a place is not in the dictionary."""
    if size == 1:
        table = cells[:256].ljust(256, bytes([INVALID]))
        return np.frombuffer(bytes(body[start : start + n_rows]).translate(table), np.uint8)
    places = np.frombuffer(body, f"<u{size}", n_rows, start)
    return np.frombuffer(cells + bytes([INVALID]), np.uint8).take(places, mode="clip")


def _present(body: memoryview, start: int, n_rows: int) -> Bools:
    packed = np.frombuffer(body, np.uint8, -(-n_rows // 8), start)
    return np.unpackbits(packed, count=n_rows, bitorder="little").view(np.bool_)


def _inside(buffers: Pairs, n_bytes: int) -> bool:
    """Whether buffers lie in a body of so many bytes, all of them."""
    whole = (buffers >= 0).all() and (buffers <= n_bytes).all()
    return bool(whole and (buffers.sum(axis=1) <= n_bytes).all())


def _evenly(columns: Sequence[int], starts: Sequence[int]) -> Iterator[tuple[int, int, int, int]]:
    """Runs of neighbouring columns whose values lie equally far apart, see `Places.floats`."""
    begin = 0
    while begin < len(columns):
        end = begin + 1
        step = starts[end] - starts[begin] if end < len(columns) else 0
        while step > 0 and end < len(columns):
            if columns[end] != columns[end - 1] + 1 or starts[end] - starts[end - 1] != step:
                break
            end += 1
        yield columns[begin], end - begin, starts[begin], step if end - begin > 1 else 8
        begin = end
