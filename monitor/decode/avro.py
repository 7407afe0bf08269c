"""Avro with Confluent's wire header: a zero byte, the schema's number in four bytes, one Avro datum.

Schemas come from outside the records (`Decoder.look_up`). A schema that refers to itself, or that has lists of things
of no size, is refused: a short record could then hold more than fits the memory, or the stack.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from monitor.batch import Batch, Records, Value
from monitor.decode import Decoder, Layout, Schemas
from monitor.decode.sheet import Sheet
from monitor.decode.value import Codes, Fault, at

HEADER: Final = struct.Struct(">bI")
N_SCHEMAS: Final = 1_000
"""Schemas that are remembered."""
DEPTH: Final = 32
_SIZED: Final = frozenset({"boolean", "int", "long", "float", "double", "bytes", "string", "enum"})

Read = Callable[[io.BytesIO], Any]


class ConfluentAvro(Decoder):
    """Decodes records that are Avro records; a nested path is a field of a nested record."""

    format = "avro"
    needs_schemas = True

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._codes = [Codes(column) for column in layout.bins.categorical]
        self._schemas: Schemas = _none
        self._readers: dict[int, Read | Fault] = {}

    def look_up(self, schemas: Schemas) -> None:
        """See `Decoder.look_up`."""
        self._schemas, self._readers = schemas, {}

    def decode(self, records: Records) -> Batch:
        """See `Decoder.decode`."""
        found = [self._read(value) for value in records.values]
        kept = [i for i, document in enumerate(found) if isinstance(document, dict)]
        documents = [document for document in found if isinstance(document, dict)]
        sheet = Sheet(self._layout, self._codes, records, np.array(kept, np.int64))
        for i, document in enumerate(found):
            if isinstance(document, tuple):
                sheet.refuse_record(i, *document)
        for column, path in self._layout.places:
            sheet.fill(column, 0, [at(document, path) for document in documents])
        inspected = [(row, self._strange(documents[row])) for row, _ in sheet.to_inspect()]
        return sheet.batch(inspected)

    def _read(self, value: Value) -> dict[str, Any] | Fault:
        if value is None:
            return "tombstone", "the record has no value"
        if len(value) < HEADER.size or value[0] != 0:
            head = bytes(value[: HEADER.size])
            return "not_avro", f"begins with {head!r}, wanted a zero byte and the four bytes of a schema's number"
        reader = self._reader(HEADER.unpack_from(value)[1])
        if isinstance(reader, tuple):
            return reader
        body = io.BytesIO(value[HEADER.size :])
        try:
            document = reader(body)
        except Exception as error:  # noqa: BLE001  # whatever the library raises at such bytes costs this record alone
            return "not_avro", f"not a datum of its schema: {type(error).__name__}: {str(error)[:200]}"
        if body.read(1):
            return "not_avro", f"{len(value) - body.tell() + 1} bytes are left over behind the datum"
        if not isinstance(document, dict):
            return "not_an_object", f"an Avro {type(document).__name__}, wanted a record"
        return document

    def _reader(self, number: int) -> Read | Fault:
        if number not in self._readers:
            if len(self._readers) >= N_SCHEMAS:
                self._readers.clear()
            self._readers[number] = self._made(number)
        return self._readers[number]

    def _made(self, number: int) -> Read | Fault:
        import fastavro

        try:
            schema = _plain(json.loads(self._schemas(number)))
            _check(schema, (), {})
            parsed = fastavro.parse_schema(schema)
        except LookupError as error:
            return "no_schema", f"schema {number}: {error.args[0] if error.args else 'there is none'}"
        except (ValueError, TypeError, RecursionError, fastavro.schema.SchemaParseException) as error:
            return "bad_schema", f"schema {number} cannot be used: {error}"

        def read(body: io.BytesIO) -> Any:
            return fastavro.schemaless_reader(body, parsed, None)

        return read

    def _strange(self, document: dict[str, Any]) -> list[str]:
        features = at(document, self._layout.features)
        names = features if isinstance(features, dict) else ()
        return [name for name in names if name not in self._layout.known]


def _none(number: int) -> str:
    raise LookupError(f"no schema {number}: neither a file nor a registry is configured")


def _plain(schema: Any) -> Any:
    """The schema without logical types but decimals: points in time stay numbers, told apart by size as everywhere."""
    if isinstance(schema, list):
        return [_plain(inner) for inner in schema]
    if isinstance(schema, dict):
        kept = {key: inner for key, inner in schema.items() if key != "logicalType" or inner == "decimal"}
        return {
            key: _plain(inner) if key in ("type", "items", "values", "fields") else inner for key, inner in kept.items()
        }
    return schema


def _check(schema: Any, within: tuple[str, ...], known: dict[str, bool]) -> bool:
    """Whether every datum of a schema takes at least a byte. ValueError when it may hold more than it shows.

    within: names of the records around it. known: what was found of the named types so far.
    """
    if len(within) > DEPTH:
        raise ValueError(f"it is nested more than {DEPTH} deep")
    if isinstance(schema, list):
        for inner in schema:
            _check(inner, within, known)
        return True
    if isinstance(schema, str):
        name = schema.rpartition(".")[2]
        if name in within:
            raise ValueError(f"{name} is part of itself; a record of it may be nested without end")
        return schema in _SIZED or known.get(name, False)
    if schema["type"] in ("array", "map"):
        sized = _check(schema.get("items", schema.get("values")), (*within, ""), known)
        if schema["type"] == "array" and not sized:
            raise ValueError("it has a list of things that take no bytes; a short record could hold any number of them")
        return True
    return _check_named(schema, within, known)


def _check_named(schema: dict[str, Any], within: tuple[str, ...], known: dict[str, bool]) -> bool:
    kind, name = schema["type"], str(schema.get("name", "")).rpartition(".")[2]
    if kind in ("record", "error"):
        sized = [_check(field["type"], (*within, name), known) for field in schema["fields"]]
        known[name] = any(sized)
    elif kind == "fixed":
        known[name] = schema["size"] > 0
    elif kind == "enum":
        known[name] = True
    else:
        return _check(kind, within, known)
    return known[name]
