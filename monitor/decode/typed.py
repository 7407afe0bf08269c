"""Records of one shape, read by a msgspec type that is made for it, and taken apart into columns without a loop.

The type's fields stand in the order in which the records have their keys: then each key is found at the first look.
Nothing here is done per record in Python as long as the records are as expected; what is not costs itself alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
from msgspec.structs import astuple

from monitor.decode import STAMP, Layout, Path
from monitor.decode.packed import ABSENT, Form, Packed, Rows, Taken, Word
from monitor.decode.value import at

NUMBER: Final = float | bool | str | None
"""What a numeric column takes at first; that a text is no number is seen when the values are taken out."""
SCALAR: Final = str | int | float | bool | None
PASS: Final = 50
"""Chunks that are taken apart value by value before it is tried again without."""
PILE: Final = 32
"""Chunks that lie alike, at most, before their columns are taken out."""

V = TypeVar("V")
R = TypeVar("R")


def each(
    stream: Callable[[Iterator[V]], Iterable[R]],
    values: Sequence[V],
    errors: tuple[type[Exception], ...],
    otherwise: Callable[[int, Exception], R],
) -> list[R]:
    """What `stream` makes of all values, as fast as `list(stream(iter(values)))` while it raises none of the errors.

    stream: takes one value for each that it gives. otherwise: stands in for a value at which an error was raised.
    """
    found: list[R] = []
    todo = iter(values)
    while True:
        try:
            found.extend(stream(todo))  # what comes before an error stays in the list
        except errors as error:
            found.append(otherwise(len(found), error))
        else:
            return found


@dataclass(frozen=True, slots=True)
class _Node:
    """One object within the records: by the place among its fields, the columns of each leaf, and inner objects."""

    leaves: list[tuple[int, list[int]]]
    inner: list[tuple[int, _Node]]

    def columns(self, objects: Sequence[Any]) -> Iterator[tuple[int, Sequence[Any]]]:
        fields = list(zip(*map(astuple, objects), strict=True))
        for place, columns in self.leaves:
            for column in columns:
                yield column, fields[place]
        for place, node in self.inner:
            yield from node.columns(fields[place])


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One value within the records: its columns, how it is got, and which kind of array has it as it should be."""

    columns: list[int]
    get: Callable[[Any], Any]
    kind: str

    def is_in_order(self, kind: str) -> bool:
        """Whether an array of this kind has the values; "" stands for none."""
        return kind == self.kind != ""


class Typed:
    """Reads records whose keys come in the order of the given paths.

    decode: one record; decode_lines: one for each line. empty: a record in which everything is absent.
    """

    def __init__(self, layout: Layout, order: Iterable[Path], words: Mapping[int, type[Word]]) -> None:
        """words: what stands for the words of each column that is read in words, by its number."""
        columns: dict[Path, list[int]] = {}
        for column, path in layout.places:
            columns.setdefault(path, []).append(column)
        kinds = {path: _kind(layout, several, words) for path, several in columns.items()}
        self._type, self._attributes = _shared_type(tuple((path, kinds[path][0]) for path in order))
        self._leaves = [
            _Leaf(columns[path], attrgetter(attribute), kinds[path][1]) for path, attribute in self._attributes.items()
        ]
        self._node = _node(self._type, (), columns)
        self._packed, self._n_passed = Packed(_form(self._type)), PASS
        decoder = msgspec.json.Decoder(self._type)
        self.decode: Callable[[Any], Any] = decoder.decode
        self.decode_lines: Callable[[Any], list[Any]] = decoder.decode_lines
        self.empty = self._type()

    def loosely(self, document: Mapping[str, Any]) -> Any:
        """A record with values that `decode` would refuse; they are judged when they are taken out."""
        record = self._type()
        for path, attribute in self._attributes.items():
            value = at(document, path)
            if value is not None:
                value = () if isinstance(value, dict | list) else value  # one value that is no number and no word
                inner, _, last = attribute.rpartition(".")
                setattr(attrgetter(inner)(record) if inner else record, last, value)
        return record

    def columns(self, chunks: Iterable[tuple[Sequence[Any], bool]]) -> Iterator[tuple[int, int, Sequence[Any] | Taken]]:
        """The values of every place of the layout: the column's number, the first row, and values as they are, or an
        array of what is as it should be: float64 of numbers, uint8 of a word's cells, int64 of times.

        A column whose path leads through another column is not in it. chunks: records, and whether `decode` made all
        of them. Records are let go of chunk by chunk, and columns are taken out of many chunks at once.
        """
        first, pile = 0, list[Rows]()
        for records, plain in chunks:
            rows = self._rows(records) if plain else None
            if pile and (rows is None or rows.plan is not pile[0].plan or len(pile) == PILE):
                yield from self._piled(first, pile)
                pile = []
            if rows is None:
                found = self._node.columns(records) if records else ()
                yield from ((column, first, values) for column, values in found)
            else:
                pile.append(rows)
                for leaf, kind in zip(self._leaves, rows.kinds, strict=True):
                    if not leaf.is_in_order(kind):
                        values = list(map(leaf.get, records))
                        yield from ((column, first, values) for column in leaf.columns)
            first += len(records)
        if pile:
            yield from self._piled(first, pile)

    def _piled(self, end: int, pile: Sequence[Rows]) -> Iterator[tuple[int, int, Taken]]:
        rows = Rows.together(pile)
        first = end - rows.packed.shape[0]
        for i, leaf in enumerate(self._leaves):
            if leaf.is_in_order(rows.kinds[i]):
                values = rows.leaf(i)
                yield from ((column, first, values) for column in leaf.columns)

    def _rows(self, records: Sequence[Any]) -> Rows | None:
        """Whether that works is seen by trying; after it has not, it is not tried for a while."""
        if not records or self._n_passed < PASS:
            self._n_passed += 1
            return None
        rows = self._packed.rows(records)
        self._n_passed = PASS if rows is not None else 0
        return rows


def _kind(layout: Layout, columns: Sequence[int], words: Mapping[int, type[Word]]) -> tuple[Any, str]:
    """The kind of the value that all of these columns are read from, and of the array that has it in order."""
    n_columns = layout.bins.n_columns
    if all(column < n_columns and layout.spelled(column) is None for column in columns):
        return NUMBER, "f"
    if len(columns) == 1 and columns[0] in words:
        return words[columns[0]], "u"
    return SCALAR, "i" if columns == [n_columns + STAMP] else ""


@lru_cache(maxsize=256)
def _shared_type(leaves: tuple[tuple[Path, Any], ...]) -> tuple[type[msgspec.Struct], dict[Path, str]]:
    """`_record_type` of these leaves, in this order. Making one takes as long as reading a thousand records does, and
    many models may have the same columns."""
    return _record_type("Record", dict(leaves))


def _record_type(name: str, leaves: Mapping[Path, Any]) -> tuple[type[msgspec.Struct], dict[Path, str]]:
    """A msgspec type with these leaves, and the dotted attribute under which each is found in it."""
    fields: list[tuple[str, Any, Any]] = []
    rename: dict[str, str] = {}
    attributes: dict[Path, str] = {}
    for i, key in enumerate(dict.fromkeys(path[0] for path in leaves)):
        attribute = f"f{i}"
        rename[attribute] = key
        inner = {path[1:]: kind for path, kind in leaves.items() if path[0] == key}
        if () in inner:
            kind = inner[()]
            if isinstance(kind, type):
                fields.append((attribute, kind | int | float | bool | None, ABSENT))
            else:
                fields.append((attribute, kind, np.nan if kind is NUMBER else None))
            attributes[(key,)] = attribute
        else:
            nested, below = _record_type(f"{name}_{attribute}", inner)
            fields.append((attribute, nested, msgspec.field(default_factory=nested)))
            attributes |= {(key, *path): f"{attribute}.{dotted}" for path, dotted in below.items()}
    return msgspec.defstruct(name, fields, rename=rename, kw_only=True, gc=False), attributes


def _node(type_: type[msgspec.Struct], prefix: Path, columns: Mapping[Path, list[int]]) -> _Node:
    node = _Node([], [])
    for place, (key, inner) in enumerate(_fields(type_)):
        path = (*prefix, key)
        if inner is not None:
            node.inner.append((place, _node(inner, path, columns)))
        else:
            node.leaves.append((place, columns[path]))
    return node


def _form(type_: type[msgspec.Struct]) -> Form:
    return tuple(None if inner is None else _form(inner) for _, inner in _fields(type_))


@lru_cache(maxsize=256)
def _fields(type_: type[msgspec.Struct]) -> list[tuple[str, type[msgspec.Struct] | None]]:
    """The key of each field, and its type where it is an object of its own. Asking msgspec takes a millisecond."""
    return [
        (field.encode_name, field.type)
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
        else (field.encode_name, None)
        for field in msgspec.structs.fields(type_)
    ]
