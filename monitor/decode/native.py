"""driftd's own format: one JSON object per record.

Each record is decoded by itself, into a msgspec type made from the reference's columns, so that a bad record cannot
hurt its neighbours and is known by its offset. Only a record that does not fit the type is looked at a second time,
value by value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from monitor.batch import Batch, Records, Value
from monitor.decode import Decoder, Layout, Path
from monitor.decode.packed import cells_of, words
from monitor.decode.sheet import Sheet
from monitor.decode.typed import Typed, each
from monitor.decode.value import Codes, at, document
from monitor.slices import Slices

CHUNK: Final = 6_000
"""Values that are decoded before they are taken apart: as many as stay in the processor's cache."""
N_SHAPES: Final = 8
"""Orders of keys that are remembered."""
_REFUSED: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError)
"""What a typed decoder raises; TypeError where there is no value."""


class NativeJson(Decoder):
    """Decodes JSON objects whose columns stand at the layout's paths."""

    format = "json"

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._codes = [Codes(column) for column in layout.bins.categorical]
        stands_in = [words(frozenset(codes.items())) for codes in self._codes]
        for codes, kind in zip(self._codes, stands_in, strict=True):
            codes.update(cells_of(kind))
        self._words = {
            column: stands_in[place]
            for column in range(layout.bins.n_columns)
            if (place := layout.spelled(column)) is not None
        }
        self._shapes: dict[tuple[Path, ...], Typed] = {}
        self._paths = tuple(dict.fromkeys(path for _, path in layout.places))
        self._typed = self._shape(self._paths)

    def decode(self, records: Records) -> Batch:
        """See `Decoder.decode`. A tombstone is a reject of its own reason; absent event time is Kafka's timestamp."""
        sheet = Sheet(self._layout, self._codes, records)
        if records.values:
            self._learn(records.values[0])
        values, chunk = records.values, max(16, CHUNK // (len(self._paths) + 1))
        chunks = (self._read(values[at : at + chunk], at, sheet) for at in range(0, len(values), chunk))
        for column, first, found in self._typed.columns(chunks):
            sheet.fill(column, first, found)
        return sheet.batch(self._inspect(sheet))

    def _read(self, values: Sequence[Value], first: int, sheet: Sheet) -> tuple[list[Any], bool]:
        """The records as the type has them, an empty one in the place of each that is refused; whether all do fit."""
        if (several := self._at_once(values)) is not None:
            return several, True
        unfit = list[int]()

        def otherwise(row: int, _: Exception) -> Any:
            unfit.append(row)
            found = document(values[row])
            if isinstance(found, dict):
                return self._typed.loosely(found)
            sheet.refuse(first + row, *found)
            return self._typed.empty

        read = each(lambda todo: map(self._typed.decode, todo), values, _REFUSED, otherwise)
        return read, not unfit

    def _at_once(self, values: Sequence[Value]) -> list[Any] | None:
        """The records, if all of them can be read as one text."""
        lines = values.lines() if isinstance(values, Slices) else None
        if lines is None:
            return None
        try:
            found = self._typed.decode_lines(lines)
        except _REFUSED:
            return None
        return found if len(found) == len(values) else None

    def _inspect(self, sheet: Sheet) -> Iterator[tuple[int, list[str]]]:
        """Rows that are inspected, and the columns in each that the reference does not have."""
        for row, value in sheet.to_inspect():
            found = document(value)
            if isinstance(found, dict):  # the typed reading does not look into what it passes over
                features = at(found, self._layout.features)
                names = features if isinstance(features, dict) else ()
                yield row, [name for name in names if name not in self._layout.known]

    def _learn(self, value: Value) -> None:
        """Read on in the order in which this record has its keys."""
        found = document(value)
        if isinstance(found, dict):
            self._typed = self._shape(_arranged(self._paths, found))

    def _shape(self, order: tuple[Path, ...]) -> Typed:
        if order not in self._shapes and len(self._shapes) < N_SHAPES:
            self._shapes[order] = Typed(self._layout, order, self._words)
        return self._shapes.get(order) or self._typed


def _arranged(paths: Sequence[Path], document: Mapping[str, Any]) -> tuple[Path, ...]:
    """The paths in the order in which they stand in the document; those that do not come last."""
    place: dict[Path, int] = {}

    def note(inner: Mapping[str, Any], prefix: Path) -> None:
        for key, value in inner.items():
            place[*prefix, key] = len(place)
            if isinstance(value, dict) and any(path[: len(prefix) + 1] == (*prefix, key) for path in paths):
                note(value, (*prefix, key))

    note(document, ())
    return tuple(sorted(paths, key=lambda path: place.get(path, len(place))))
