"""Many rows per record as columns of JSON: where a record of one row has a value, these have a list of values.

A value that is no list holds for all rows of its record. Lists of different lengths cost their record.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from monitor.batch import Batch, Records
from monitor.decode import Decoder, Layout
from monitor.decode.sheet import Sheet
from monitor.decode.value import Codes, Fault, at, document

MAX_ROWS: Final = 1 << 16
"""Rows that one record may have."""


class ColumnarJson(Decoder):
    """Decodes JSON objects of lists."""

    format = "columns"

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._codes = [Codes(column) for column in layout.bins.categorical]

    def decode(self, records: Records) -> Batch:
        """See `Decoder.decode`."""
        parts: list[tuple[int, dict[str, Any], int]] = []
        faults: list[tuple[int, Fault]] = []
        for i, value in enumerate(records.values):
            found = document(value)
            n_rows = self._n_rows(found) if isinstance(found, dict) else found
            if isinstance(found, dict) and isinstance(n_rows, int):
                parts.append((i, found, n_rows))
            elif isinstance(n_rows, tuple):
                faults.append((i, n_rows))
        sizes = [n_rows for _, _, n_rows in parts]
        sheet = Sheet(self._layout, self._codes, records, np.repeat([i for i, _, _ in parts], sizes).astype(np.int64))
        for i, fault in faults:
            sheet.refuse_record(i, *fault)
        for column, path in self._layout.places:
            values: list[Any] = []
            for _, found, n_rows in parts:
                inside = at(found, path)
                values += inside if isinstance(inside, list) else [inside] * n_rows
            sheet.fill(column, 0, values)
        begins = (np.cumsum(sizes, dtype=np.int64) - sizes).tolist()
        firsts = [(begin, self._strange(found)) for begin, (_, found, n) in zip(begins, parts, strict=True) if n]
        return sheet.batch(firsts)

    def _n_rows(self, found: dict[str, Any]) -> int | Fault:
        lists = {path: at(found, path) for _, path in self._layout.places}
        sizes = {len(inside): path for path, inside in lists.items() if isinstance(inside, list)}
        if not sizes:
            return "no_columns", "none of the model's columns is a list, wanted a list of values for each"
        if len(sizes) > 1:
            told = ", ".join(f"{'.'.join(path)} has {size}" for size, path in sorted(sizes.items())[:3])
            return "lengths", f"columns of different lengths: {told}"
        (size,) = sizes
        return size if size <= MAX_ROWS else ("too_many_rows", f"{size:,} rows, wanted at most {MAX_ROWS:,}")

    def _strange(self, found: dict[str, Any]) -> list[str]:
        features = at(found, self._layout.features)
        names = features if isinstance(features, dict) else ()
        return [name for name in names if name not in self._layout.known]
