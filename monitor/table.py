"""Tables as columns on the cells of a reference, the same as the records of a topic would give."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from detectors import Bins
from detectors.bins import MISSING, Cells, Floats
from monitor.batch import NO_TIME, Int64s
from monitor.decode.value import Codes, epoch_ms

if TYPE_CHECKING:
    import pandas as pd


def counted(frame: pd.DataFrame, bins: Bins) -> tuple[Floats, Cells]:
    """A table as columns on the cells: the numbers, shape (numeric columns, rows), and all cells, (columns, rows).

    A column that the table lacks is missing in every row; text in a numeric column is invalid.
    """
    import pandas as pd  # noqa: PLC0415

    numbers = np.full((bins.n_numeric, len(frame)), np.nan)
    invalid = np.zeros(numbers.shape, np.bool_)
    words = np.full((len(bins.categorical), len(frame)), MISSING, np.uint8)
    for row, numeric in enumerate(bins.numeric):
        if numeric.name in frame:
            values = frame[numeric.name]
            is_number = pd.api.types.is_numeric_dtype(values)
            found = values if is_number else values.where(values.map(_is_number))
            numbers[row] = found.astype(object).where(found.notna(), np.nan).to_numpy(np.float64)
            invalid[row] = values.notna().to_numpy() & np.isnan(numbers[row])
    for row, column in enumerate(bins.categorical):
        if column.name in frame:
            codes, distinct = pd.factorize(frame[column.name], use_na_sentinel=True)
            known = Codes(column)
            cells = np.array([*(known[plain(value)] for value in distinct), MISSING], np.uint8)
            words[row] = cells[codes]
    return numbers, bins.cells(numbers, words, invalid)


def times(column: pd.Series) -> Int64s:
    """Event times as epoch milliseconds, NO_TIME where there is none that can be read; see `epoch_ms`."""
    import pandas as pd  # noqa: PLC0415

    if pd.api.types.is_datetime64_any_dtype(column):
        zone = getattr(column.dtype, "tz", None)
        utc = column if zone is None else column.dt.tz_convert("UTC").dt.tz_localize(None)
        found = utc.astype("datetime64[ms]").astype("int64").to_numpy()
        return np.where(column.isna(), NO_TIME, found)
    codes, distinct = pd.factorize(column, use_na_sentinel=True)
    known = [epoch_ms(plain(value)) for value in distinct]
    read = np.array([NO_TIME if when is None else when for when in known] + [NO_TIME], np.int64)
    return np.asarray(read[codes])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number | np.bool_)


def plain(value: object) -> object:
    """NumPy's scalars as Python's, so that a category is spelled alike in files and in JSON."""
    return value.item() if isinstance(value, np.generic) else value
