"""Arrow IPC: every record is a stream of one schema and some batches of rows.

What is read was written by others, so it is bounded before it is unpacked and validated before it is used: bodies that
Arrow itself has compressed are refused (a mebibyte may hold gigabytes; Kafka's own compression is bounded), and so are
records of very many rows. Batches of few rows with the same schema are put together first, as most work is per column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from detectors.cells import MISSING, Cells, Floats
from monitor.batch import Batch, Records, Value
from monitor.decode import STAMP, Decoder, Layout, Path
from monitor.decode import arrowframe as frame
from monitor.decode.arrowframe import Message
from monitor.decode.arrowplace import InPlace, Rows
from monitor.decode.columns import MAX_ROWS
from monitor.decode.sheet import Sheet
from monitor.decode.value import Codes, Fault

if TYPE_CHECKING:
    import pyarrow as pa

FEW_ROWS: Final = 500
"""Batches of fewer rows are read faster together than each alone."""
_NONE_WRONG = np.zeros(0, np.bool_)

Route = tuple[int, ...]
"""Where a column stands: its number in the batch, and that of the field in each struct on the way."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """How batches of one schema are read.

    floats: columns that are float64 as they are; others: all the rest that the layout has and the schema too. strange:
    names of columns that the reference does not have.
    """

    schema: pa.Schema
    floats: Sequence[tuple[int, Route]]
    others: Sequence[tuple[int, Route]]
    strange: list[str]


class ArrowStream(Decoder):
    """Decodes Arrow IPC streams; a nested path is a field of a struct column."""

    format = "arrow"

    def __init__(self, layout: Layout) -> None:
        import pyarrow as pa

        self._pa: Any = pa
        self._layout = layout
        self._codes = [Codes(column) for column in layout.bins.categorical]
        self._plan: _Plan | None = None
        self._named: pa.Schema | None = None
        self._in_place = InPlace(pa, layout, self._codes)

    def decode(self, records: Records) -> Batch:
        """See `Decoder.decode`."""
        parts: list[tuple[int, Sequence[Rows | pa.RecordBatch]]] = []
        faults: list[tuple[int, Fault]] = []
        for i, value in enumerate(records.values):
            found = self._batches(value)
            if isinstance(found, tuple):
                faults.append((i, found))
            elif found:
                parts.append((i, found))
        sizes = np.array([sum(batch.num_rows for batch in batches) for _, batches in parts], np.int64)
        sheet = Sheet(self._layout, self._codes, records, np.array([i for i, _ in parts], np.int64).repeat(sizes))
        for i, fault in faults:
            sheet.refuse_record(i, *fault)
        begins = (sizes.cumsum() - sizes).tolist()
        firsts = [
            (begin, self._planned(batches[0].schema).strange) for begin, (_, batches) in zip(begins, parts, strict=True)
        ]
        first = 0
        for batch in self._together([batch for _, batches in parts for batch in batches]):
            if isinstance(batch, Rows):
                batch.fill(first, sheet)
            else:
                self._fill(batch, first, sheet)
            first += batch.num_rows
        return sheet.batch(firsts)

    def _batches(self, value: Value) -> Sequence[Rows | pa.RecordBatch] | Fault:
        """A record's batches that have rows."""
        if value is None:
            return "tombstone", "the record has no value"
        try:
            stream = frame.messages(memoryview(value))
            if (fault := _too_much(stream)) is not None:
                return fault
            if (found := self._in_place.read(stream)) is not None:
                return found
            with self._pa.ipc.open_stream(value) as reader:
                schema, batches = reader.schema, list(reader)
            for batch in batches:
                batch.validate(full=True)
            if self._named is None or not self._named.equals(schema):
                _read_names(schema)
                self._named = schema
        except (self._pa.ArrowException, OSError, *frame.Damage) as error:
            return "not_arrow", f"not an Arrow IPC stream: {str(error)[:200] or type(error).__name__}"
        if len(set(schema.names)) < len(schema.names):
            return "duplicate_columns", "two columns of one name, wanted every name once"
        self._in_place.learn(schema, stream[0].head)
        return [batch for batch in batches if batch.num_rows]

    def _together(self, batches: Iterable[Rows | pa.RecordBatch]) -> Iterator[Rows | pa.RecordBatch]:
        for run in _alike(batches):
            if isinstance(run[0], Rows) or len(run) == 1 or sum(batch.num_rows for batch in run) >= FEW_ROWS * len(run):
                yield from run
            else:
                table = self._pa.Table.from_batches(run).unify_dictionaries().combine_chunks()
                yield from table.to_batches()

    def _planned(self, schema: pa.Schema) -> _Plan:
        if self._plan is None or not self._plan.schema.equals(schema):
            routes = [(column, self._route(schema, path)) for column, path in self._layout.places]
            found = [(column, *route) for column, route in routes if route is not None]
            plain = {column for column, _, kind in found if kind == self._pa.float64() and self._is_number(column)}
            floats = [(column, route) for column, route, _ in found if column in plain]
            others = [(column, route) for column, route, _ in found if column not in plain]
            self._plan = _Plan(schema, floats, others, self._strange(schema))
        return self._plan

    def _is_number(self, column: int) -> bool:
        return column < self._layout.bins.n_columns and self._layout.spelled(column) is None

    def _route(self, schema: pa.Schema, path: Path) -> tuple[Route, pa.DataType] | None:
        """Where the column at a path stands, and its type; None where there is none."""
        fields, route, kind = list(schema), [], None
        for key in path:
            places = [i for i, field in enumerate(fields) if field.name == key]
            if not places:
                return None
            route.append(places[-1])
            kind = fields[places[-1]].type
            fields = list(kind) if self._pa.types.is_struct(kind) else []
        return tuple(route), kind

    def _fill(self, batch: pa.RecordBatch, first: int, sheet: Sheet) -> None:
        bins, rows = self._layout.bins, slice(first, first + batch.num_rows)
        plan, taken = self._planned(batch.schema), dict[Route, Any]()
        for column, route in plan.floats:
            sheet.numbers[column, rows] = _at(batch, route, taken).to_numpy(zero_copy_only=False)
        for column, route in plan.others:
            array = _at(batch, route, taken)
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

    def _floats(self, array: Any) -> tuple[Floats, Any]:
        """A column as numbers, and which of its values are present and none."""
        pa, kinds = self._pa, self._pa.types
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
        cells: bytes = codes.cells(array.dictionary.to_pylist())
        places = array.indices
        if places.null_count:
            places = places.cast(self._pa.int64()).fill_null(len(cells))
        found: NDArray[np.integer[Any]] = places.to_numpy(zero_copy_only=False)
        if found.itemsize == 1:
            return np.frombuffer(found.tobytes().translate(cells[:256].ljust(256)), np.uint8)
        return np.frombuffer(cells + bytes([MISSING]), np.uint8).take(found)

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


def _alike(batches: Iterable[Rows | pa.RecordBatch]) -> list[list[Rows | pa.RecordBatch]]:
    """Runs of batches of one kind with one schema."""
    runs: list[list[Rows | pa.RecordBatch]] = []
    for batch in batches:
        if runs and type(runs[-1][0]) is type(batch) and runs[-1][0].schema.equals(batch.schema):
            runs[-1].append(batch)
        else:
            runs.append([batch])
    return runs


def _at(batch: pa.RecordBatch, route: Route, taken: dict[Route, Any]) -> Any:
    """The column that stands there. taken: every struct on the way, taken from the batch so far."""
    if len(route) == 1:
        return batch.column(route[0])
    above = route[:-1]
    if above not in taken:
        struct_ = _at(batch, above, taken)
        # What is in a null struct is null.
        taken[above] = struct_.flatten().__getitem__ if struct_.null_count else struct_.field
    return taken[above](route[-1])


def _seconds(pa: Any, array: Any) -> Any:
    """Points in time and lengths of time as seconds, as tables have them."""
    kinds = pa.types
    unit = pa.duration("us") if kinds.is_duration(array.type) else pa.timestamp("us")
    if kinds.is_time(array.type) or kinds.is_interval(array.type):
        return array
    return pa.compute.divide(array.cast(unit, safe=False).cast(pa.int64()).cast(pa.float64()), 1e6)


def _too_much(stream: Iterable[Message]) -> Fault | None:
    """Whether a stream says of itself, before it is unpacked, that it is more than is taken."""
    n_rows = 0
    for message in stream:
        head = message.head
        if head.kind not in (frame.SCHEMA, frame.DICTIONARY, frame.ROWS):
            return "not_arrow", f"not a stream of batches: found a message of type {head.kind}"
        n_rows += head.n_rows
        if head.is_compressed:
            return "compressed", "Arrow's own compression, wanted none; let Kafka compress (compression.type)"
        if head.n_rows < 0 or n_rows > MAX_ROWS:
            return "too_many_rows", f"{n_rows:,} rows, wanted at most {MAX_ROWS:,}"
    return None
