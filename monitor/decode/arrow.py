"""Arrow IPC: every record is a stream of one schema and some batches of rows.

What is read was written by others, so it is bounded before it is unpacked and validated before it is used: bodies that
Arrow itself has compressed are refused (a mebibyte may hold gigabytes; Kafka's own compression is bounded), and so are
records of very many rows. Streams with the same schema are put together first, as most work is per column.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from detectors.cells import MISSING, Cells, Floats
from monitor.batch import Batch, Records
from monitor.decode import STAMP, Decoder, Layout, Path
from monitor.decode.columns import MAX_ROWS
from monitor.decode.sheet import Sheet
from monitor.decode.value import Codes, Fault
from monitor.slices import Value

if TYPE_CHECKING:
    import pyarrow as pa


_NONE_WRONG = np.zeros(0, np.bool_)
_U16, _U32, _I32, _I64 = (struct.Struct(f"<{code}").unpack_from for code in "HIiq")


class ArrowStream(Decoder):
    """Decodes Arrow IPC streams; a nested path is a field of a struct column."""

    format = "arrow"

    def __init__(self, layout: Layout) -> None:
        import pyarrow as pa

        self._pa: Any = pa
        self._layout = layout
        self._codes = [Codes(column) for column in layout.bins.categorical]
        self._named: pa.Schema | None = None

    def decode(self, records: Records) -> Batch:
        """See `Decoder.decode`."""
        parts: list[tuple[int, pa.Table]] = []
        faults: list[tuple[int, Fault]] = []
        for i, value in enumerate(records.values):
            found = self._table(value)
            if isinstance(found, tuple):
                faults.append((i, found))
            else:
                parts.append((i, found))
        sizes = [table.num_rows for _, table in parts]
        sheet = Sheet(self._layout, self._codes, records, np.repeat([i for i, _ in parts], sizes).astype(np.int64))
        for i, fault in faults:
            sheet.refuse_record(i, *fault)
        first = 0
        firsts: list[tuple[int, list[str]]] = []
        for tables in _alike([table for _, table in parts]):
            strange = self._strange(tables[0].schema)
            sizes = [table.num_rows for table in tables]
            begins = (first + np.cumsum(sizes) - sizes).tolist()
            firsts += [(begin, strange) for begin, size in zip(begins, sizes, strict=True) if size]
            self._fill(self._together(tables), first, sheet)
            first += sum(sizes)
        return sheet.batch(firsts)

    def _table(self, value: Value) -> pa.Table | Fault:
        if value is None:
            return "tombstone", "the record has no value"
        try:
            if (fault := self._too_much(value)) is not None:
                return fault
            with self._pa.ipc.open_stream(value) as reader:
                table: pa.Table = reader.read_all()
            table.validate(full=True)
            if self._named is None or not self._named.equals(table.schema):
                _read_names(table.schema)
                self._named = table.schema
        except (self._pa.ArrowException, OSError, ValueError, TypeError, IndexError, struct.error) as error:
            return "not_arrow", f"not an Arrow IPC stream: {str(error)[:200] or type(error).__name__}"
        if len(set(table.schema.names)) < len(table.schema.names):
            return "duplicate_columns", "two columns of one name, wanted every name once"
        return table

    def _too_much(self, value: bytes | memoryview) -> Fault | None:
        """Whether a stream says of itself, before it is unpacked, that it is more than is taken."""
        n_rows = 0
        for message in self._pa.ipc.MessageReader.open_stream(value):
            if message.type == "schema":
                continue
            if message.type not in ("record batch", "dictionary"):
                return "not_arrow", f"not a stream of batches: found a message of type {message.type}"
            length, compressed = _header(memoryview(message.metadata), dictionary=message.type == "dictionary")
            n_rows += length
            if compressed:
                return "compressed", "Arrow's own compression, wanted none; let Kafka compress (compression.type)"
            if not 0 <= n_rows <= MAX_ROWS:
                return "too_many_rows", f"{n_rows:,} rows, wanted at most {MAX_ROWS:,}"
        return None

    def _together(self, tables: list[pa.Table]) -> pa.Table:
        if len(tables) == 1 and all(column.num_chunks == 1 for column in tables[0].columns):
            return tables[0]
        return self._pa.concat_tables(tables).unify_dictionaries().combine_chunks()

    def _fill(self, table: pa.Table, first: int, sheet: Sheet) -> None:
        bins, rows = self._layout.bins, slice(first, first + table.num_rows)
        members: dict[Path, dict[str, Any]] = {(): dict(zip(table.schema.names, table.columns, strict=True))}
        for column, path in self._layout.places:
            array = self._at(path, members)
            if array is None or not len(array):
                continue
            spelled = self._layout.spelled(column) if column < bins.n_columns else None
            if spelled is not None:
                sheet.put(column, first, self._cells(array, self._codes[spelled]))
            elif column < bins.n_columns:
                sheet.numbers[column, rows], wrong = self._floats(array)
                if wrong.size:
                    sheet.mistakes += [(column, first + row) for row in np.flatnonzero(wrong).tolist()]
            elif column == bins.n_columns + STAMP and self._pa.types.is_timestamp(array.type):
                times_ms = array.cast(self._pa.timestamp("ms"), safe=False).cast(self._pa.int64())
                present = array.is_valid().to_numpy(zero_copy_only=False)
                sheet.time(first, times_ms.fill_null(0).to_numpy(zero_copy_only=False), present)
            elif column == bins.n_columns + STAMP and array.type == self._pa.int64() and not array.null_count:
                sheet.stamp(first, array.to_numpy())
            else:
                sheet.fill(column, first, array.to_pylist())

    def _at(self, path: Path, members: dict[Path, dict[str, Any]]) -> Any:
        """The column at a path, as one array; None where there is none. members: of every struct taken apart so far."""
        above, key = path[:-1], path[-1]
        if above not in members:
            struct_ = self._at(above, members)
            members[above] = {}
            if struct_ is not None and self._pa.types.is_struct(struct_.type):
                names = [field.name for field in struct_.type]
                members[above] = dict(zip(names, struct_.flatten(), strict=True))  # what is in a null struct is null
        array = members[above].get(key)
        return array.combine_chunks() if isinstance(array, self._pa.ChunkedArray) else array

    def _floats(self, array: Any) -> tuple[Floats, Any]:
        """A column as numbers, and which of its values are present and none."""
        pa, kinds = self._pa, self._pa.types
        if array.type == pa.float64():
            return array.to_numpy(zero_copy_only=False), _NONE_WRONG
        if kinds.is_dictionary(array.type):
            array = array.dictionary_decode()
        if kinds.is_temporal(array.type):
            array = _seconds(pa, array)
        kind = array.type
        known = (kinds.is_integer, kinds.is_floating, kinds.is_boolean, kinds.is_decimal)
        if not any(is_kind(kind) for is_kind in known):
            return np.full(len(array), np.nan), array.is_valid().to_numpy(zero_copy_only=False)
        numbers = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return numbers, _NONE_WRONG

    def _cells(self, array: Any, codes: Codes) -> Cells:
        kinds = self._pa.types
        kind = array.type
        flat = (kinds.is_string, kinds.is_large_string, kinds.is_integer, kinds.is_floating, kinds.is_boolean)
        if not kinds.is_dictionary(kind):
            if not any(is_kind(kind) for is_kind in flat):
                return np.frombuffer(codes.cells(array.to_pylist()), np.uint8)
            array = array.dictionary_encode()
        cells = np.frombuffer(codes.cells(array.dictionary.to_pylist()) + bytes([MISSING]), np.uint8)
        places = array.indices
        if places.null_count:
            places = places.cast(self._pa.int64()).fill_null(cells.size - 1)
        return np.asarray(cells[places.to_numpy(zero_copy_only=False)], np.uint8)

    def _strange(self, schema: pa.Schema) -> list[str]:
        fields: Iterable[Any] = schema
        for key in self._layout.features:
            inner = next((field.type for field in fields if field.name == key), None)
            fields = list(inner) if inner is not None and self._pa.types.is_struct(inner) else []
        return [field.name for field in fields if field.name not in self._layout.known]


def _read_names(fields: Iterable[Any]) -> None:
    """UnicodeDecodeError for a name, at any depth, that is no text: it would come when the name is asked for."""
    for field in fields:
        str(field.name)
        _read_names(field.type.field(i) for i in range(field.type.num_fields))


def _alike(tables: list[pa.Table]) -> list[list[pa.Table]]:
    """Runs of tables with one schema."""
    runs: list[list[pa.Table]] = []
    for table in tables:
        if runs and runs[-1][0].schema.equals(table.schema):
            runs[-1].append(table)
        else:
            runs.append([table])
    return runs


def _seconds(pa: Any, array: Any) -> Any:
    """Points in time and lengths of time as seconds, as tables have them."""
    kinds = pa.types
    unit = pa.duration("us") if kinds.is_duration(array.type) else pa.timestamp("us")
    if kinds.is_time(array.type) or kinds.is_interval(array.type):
        return array
    return pa.compute.divide(array.cast(unit, safe=False).cast(pa.int64()).cast(pa.float64()), 1e6)


def _header(metadata: memoryview, *, dictionary: bool) -> tuple[int, bool]:
    """Rows that a batch says it has, and whether its body is compressed: two fields of Arrow's Message flatbuffer."""
    batch = _inner(metadata, _U32(metadata, 0)[0], 2)
    if dictionary:
        batch = _inner(metadata, batch, 1)
    length = _field(metadata, batch, 0)
    return (_I64(metadata, length)[0] if length else 0), bool(_field(metadata, batch, 3))


def _field(data: memoryview, table: int, number: int) -> int:
    """Where the value of a table's field stands in a flatbuffer; 0 where it is absent."""
    vtable = table - _I32(data, table)[0]
    if vtable < 0:
        raise ValueError("a table outside its message")
    entry = 4 + 2 * number
    offset = _U16(data, vtable + entry)[0] if entry + 2 <= _U16(data, vtable)[0] else 0
    return table + offset if offset else 0


def _inner(data: memoryview, table: int, number: int) -> int:
    """Where the table stands that is a field of this one."""
    place = _field(data, table, number)
    if not place:
        raise ValueError("a message without its header")
    return place + int(_U32(data, place)[0])
