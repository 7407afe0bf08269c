"""driftd's own format: one JSON object per record.

Each record is decoded by itself, into a msgspec type made from the reference's columns, so that a bad record cannot
hurt its neighbours and is known by its offset. Only a record that does not fit the type is looked at a second time,
value by value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec
import numpy as np

from detectors.bins import Cells, Floats
from monitor.batch import NO_TIME, Batch, Int64s, Records, Reject
from monitor.decode import Decoder, Layout, Path
from monitor.decode.value import Codes, epoch_ms, number

HEAD_BYTES: Final = 200
INSPECT_EVERY: Final = 64
"""Every record whose offset is a multiple of this is searched for columns that the reference does not have."""
NAME_LENGTH: Final = 200
Fault = tuple[str, str]
"""Kind and reason of a reject."""
NO_FAULT: Final = ("", "")
_ABSENT: Final = object()


class NativeJson(Decoder):
    """Decodes JSON objects whose columns stand at the layout's paths."""

    format = "json"

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        bins = layout.bins
        self._codes = [Codes(column) for column in bins.categorical]
        scalar = str | int | float | bool | None
        leaves: dict[Path, Any] = dict.fromkeys(layout.paths[: bins.n_numeric], float | None)
        leaves |= dict.fromkeys(layout.paths[bins.n_numeric :], scalar)
        if layout.timestamp is not None:
            leaves[layout.timestamp] = scalar
        record, attributes = _record_type("Record", leaves)
        self._typed = msgspec.json.Decoder(record)
        self._untyped = msgspec.json.Decoder()
        self._paths = [*layout.paths, *([layout.timestamp] if layout.timestamp else [])]
        self._row = _getter([attributes[path] for path in self._paths])

    def decode(self, records: Records) -> Batch:
        """See `Decoder.decode`. A tombstone is a reject of its own reason; absent event time is Kafka's timestamp."""
        rows: list[Sequence[Any]] = []
        kept: list[int] = []
        times: list[int] = []
        wrong: list[tuple[int, int]] = []
        rejects: list[Reject] = []
        for i, value in enumerate(records.values):
            row, fault = self._read(value)
            when = self._time(row, int(records.timestamps_ms[i])) if row is not None else None
            if row is not None and when is None:
                words = f"the event time {str(row[-1])[:40]!r} is neither epoch s/ms/us/ns nor RFC 3339"
                fault = ("event_time", words)
            if row is None or when is None:
                head = bytes(value[:HEAD_BYTES]) if value is not None else b""
                rejects.append(Reject(records.partition, int(records.offsets[i]), *fault, head))
                continue
            for column, cell in enumerate(row):
                if cell is _ABSENT:
                    wrong.append((column, len(rows)))
            rows.append(row)
            times.append(when)
            kept.append(i)
        numbers, cells = self._columns(rows, wrong)
        inspected, unknown = self._unknown(records, kept)
        return Batch(
            records.partition, records.offsets[kept], np.array(times, np.int64), numbers, cells, records.next_offset,
            tuple(rejects), inspected, unknown,
        )  # fmt: skip

    def _read(self, value: bytes | memoryview | None) -> tuple[Sequence[Any] | None, Fault]:
        """One record's values in the order of the paths, or why there are none."""
        if value is None:
            return None, ("tombstone", "the record has no value")
        try:
            return self._row(self._typed.decode(value)), NO_FAULT
        except msgspec.ValidationError:
            return self._read_loosely(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return None, ("not_json", f"not JSON: {error}")

    def _read_loosely(self, value: bytes | memoryview) -> tuple[Sequence[Any] | None, Fault]:
        """The same, value by value; a number that is not one becomes _ABSENT."""
        try:
            document = self._untyped.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return None, ("not_json", f"not JSON: {error}")
        if not isinstance(document, dict):
            return None, ("not_an_object", f"a JSON {type(document).__name__}, wanted an object")
        row: list[Any] = [_at(document, path) for path in self._paths]
        for column in range(self._layout.bins.n_numeric):
            if row[column] is not None:
                found = number(row[column])
                row[column] = _ABSENT if found is None else found
        return row, NO_FAULT

    def _time(self, row: Sequence[Any], fallback: int) -> int | None:
        if self._layout.timestamp is None or row[-1] is None:
            return fallback
        when = epoch_ms(row[-1])
        return when if when is not None and when != NO_TIME else None

    def _columns(self, rows: list[Sequence[Any]], wrong: list[tuple[int, int]]) -> tuple[Floats, Cells]:
        bins, n_rows = self._layout.bins, len(rows)
        columns = list(zip(*rows, strict=True)) if rows else [()] * bins.n_columns
        invalid = np.zeros((bins.n_numeric, n_rows), np.bool_) if wrong else None
        if invalid is not None:
            columns = [tuple(None if value is _ABSENT else value for value in column) for column in columns]
            invalid[tuple(np.array(wrong).T)] = True
        numbers = np.empty((bins.n_numeric, n_rows), np.float64)
        for i in range(bins.n_numeric):
            numbers[i] = np.array(columns[i], np.float64)
        words = np.empty((len(self._codes), n_rows), np.uint8)
        for i, codes in enumerate(self._codes):
            column = columns[bins.n_numeric + i]
            words[i] = np.fromiter((codes[_hashable(value)] for value in column), np.uint8, n_rows)
        return numbers, bins.cells(numbers, words, invalid)

    def _unknown(self, records: Records, kept: list[int]) -> tuple[Int64s, tuple[tuple[int, str], ...]]:
        """Rows that are inspected, and the row and name of every column in them that the reference does not have."""
        depth = len(self._layout.features)
        known = self._layout.ignored | {path[depth] for path in self._paths if path[:depth] == self._layout.features}
        found: list[tuple[int, str]] = []
        inspected: list[int] = []
        for row in np.flatnonzero(records.offsets[kept] % INSPECT_EVERY == 0).tolist():
            try:
                document = self._untyped.decode(records.values[kept[row]] or b"")
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue  # the typed reading does not look into what it passes over
            inspected.append(row)
            features = _at(document, self._layout.features)
            if isinstance(features, dict):
                found += [(row, name[:NAME_LENGTH]) for name in features if name not in known]
        return np.array(inspected, np.int64), tuple(found)


def _hashable(value: Any) -> Any:
    """Lists and objects, which only the loose reading lets through, stand as one value that is no word."""
    return () if isinstance(value, dict | list) else value


def _at(document: Any, path: Path) -> Any:
    """What stands at the path; None where any step of it is absent."""
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _getter(attributes: list[str]) -> Callable[[Any], Sequence[Any]]:
    """Read several attributes at once, always as a sequence."""
    if not attributes:
        return lambda _: ()
    if len(attributes) == 1:
        one = attrgetter(attributes[0])
        return lambda record: (one(record),)
    return attrgetter(*attributes)


def _record_type(name: str, leaves: dict[Path, Any]) -> tuple[type[msgspec.Struct], dict[Path, str]]:
    """A msgspec type with these leaves, and the dotted attribute under which each is found in it."""
    fields: list[tuple[str, Any, Any]] = []
    rename: dict[str, str] = {}
    attributes: dict[Path, str] = {}
    for i, key in enumerate(dict.fromkeys(path[0] for path in leaves)):
        attribute = f"f{i}"
        rename[attribute] = key
        inner = {path[1:]: kind for path, kind in leaves.items() if path[0] == key}
        if () in inner:
            fields.append((attribute, inner[()], None))
            attributes[(key,)] = attribute
        else:
            nested, below = _record_type(f"{name}_{attribute}", inner)
            fields.append((attribute, nested, msgspec.field(default_factory=nested)))
            attributes |= {(key, *path): f"{attribute}.{dotted}" for path, dotted in below.items()}
    return msgspec.defstruct(name, fields, rename=rename, kw_only=True, gc=False), attributes
