"""Tables as numbers, words and columns on the cells of a reference, whatever their dtypes.

A table means what the same rows would mean as the records of a topic: booleans are 0 and 1, text is never a number.
What JSON cannot say is added to that: decimals are numbers, points in time are seconds since 1970 (UTC) and lengths of
time are seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from detectors import Bins, Kind
from detectors.cells import INVALID, MISSING, UNSEEN, Cells, Floats
from detectors.columns import CategoricalColumn
from monitor.batch import NO_TIME, Int64s, Keys
from monitor.decode.value import epoch_ms, keys, number, word
from monitor.errors import ReferenceFault
from monitor.loss import absolute, from_labels, labels_of

if TYPE_CHECKING:
    import pandas as pd

Bools = NDArray[np.bool_]
Indices = NDArray[np.intp]

_SAMPLE_ROWS: Final = 1_000
_MOSTLY: Final = 0.9
_MEMBERS: Final = 1_000


def counted(frame: pd.DataFrame, bins: Bins, label: str | None = None) -> tuple[Floats, Cells]:
    """A table as columns on the cells: the numbers, shape (numeric columns, rows), and all cells, (columns, rows).

    A column that the table lacks is missing in every row; text in a numeric column is invalid. label: the column that
    losses are made from; without one the table has them already.
    """
    matrix = np.full((bins.n_numeric, len(frame)), np.nan)
    invalid = np.zeros(matrix.shape, np.bool_)
    cells = np.full((len(bins.categorical), len(frame)), MISSING, np.uint8)
    for row, numeric in enumerate(bins.numeric):
        name = label if label and numeric.error_of else numeric.name
        output = bins.errors.get(row, row) - bins.n_numeric
        if name == label and output >= 0 and name in frame:
            matrix[row] = labels_of(_cells(frame[name], bins.categorical[output]))
        elif name in frame:
            matrix[row], others = numbers(frame[name])
            invalid[row] = False if others is None else others
    for row, column in enumerate(bins.categorical):
        if column.name in frame:
            cells[row] = _cells(frame[column.name], column)
    if label:
        from_labels(bins, matrix, cells)
    return matrix, bins.cells(matrix, cells, invalid)


def errors(outputs: pd.Series, labels: pd.Series, kind: Kind) -> Floats:
    """What the labels make of a model's outputs: the absolute error of numbers, else 0 or 1; NaN without a label."""
    if kind is Kind.NUMERIC:
        return absolute(numbers(labels)[0], numbers(outputs)[0])
    said, wanted = (_texts(values) for values in (outputs, labels))
    pairs = zip(said, wanted, strict=True)
    return np.array([np.nan if None in pair else float(pair[0] != pair[1]) for pair in pairs], np.float64)


def opened(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with its objects opened: a column for every member, named by its dotted path.

    A column that holds anything but objects stays as it is, and so do objects with more than a thousand members, which
    are tables of their own. ReferenceFault where two columns come to have one name.

    >>> import pandas as pd
    >>> opened(pd.DataFrame({"id": [1, 2], "x": [{"a": 3, "b": {"c": "d"}}, None]}))
       id  x.a x.b.c
    0   1  3.0     d
    1   2  NaN  None
    """
    import pandas as pd

    columns = [column for name in frame.columns for column in _opened(str(name), frame[name])]
    if [name for name, _ in columns] == list(frame.columns):
        return frame
    twice = [name for name, n in Counter(name for name, _ in columns).items() if n > 1]
    if twice:
        raise ReferenceFault(f"found two columns for {', '.join(twice)}: a name with dots, and a member of an object")
    return pd.DataFrame(dict(columns), index=frame.index)


def _opened(name: str, values: pd.Series) -> Iterator[tuple[str, pd.Series]]:
    known = values[values.notna()] if values.dtype == object else values[:0]
    members = dict.fromkeys(key for value in known for key in value) if all(type(v) is dict for v in known) else {}
    if not 0 < len(members) <= _MEMBERS:
        yield name, values
        return
    for key in members:
        inner = column([value.get(key) if type(value) is dict else None for value in values])
        yield from _opened(f"{name}.{key}", inner.set_axis(values.index))


def column(values: list[Any]) -> pd.Series:
    """Values of JSON as a column."""
    import pandas as pd

    try:
        return pd.Series(values)
    except OverflowError:  # an integer beyond any float among floats
        return pd.Series(values, dtype=object)


def is_numeric(values: pd.Series) -> bool:
    """Whether a column is of numbers: by its dtype or, where that says nothing, by nine in ten of its values."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(values.dtype) or isinstance(values.dtype, pd.CategoricalDtype):
        return False
    if values.dtype != object:
        return pd.api.types.is_numeric_dtype(values.dtype)
    spread = values.iloc[:: max(len(values) // _SAMPLE_ROWS, 1)]
    if pd.api.types.infer_dtype(spread) == "string":
        return False
    present = [value for value in spread[spread.notna()] if not isinstance(value, bool | np.bool_)]
    if not present and len(spread) < len(values):
        present = [value for value in values[values.notna()] if not isinstance(value, bool | np.bool_)]
    found = sum(_number(value) is not None for value in present)
    return bool(present) and found >= _MOSTLY * len(present)


def is_time(values: pd.Series) -> bool:
    """Whether a column is of points in time or lengths of time, by its dtype."""
    return values.dtype.kind in "mM"


def numbers(values: pd.Series) -> tuple[Floats, Bools | None]:
    """A column as float64, NaN where there is no number; and the rows that hold something else (None: no row does)."""
    import pandas as pd

    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        found, invalid = numbers(pd.Series(dtype.categories))
        codes = values.cat.codes.to_numpy()
        return np.append(found, np.nan)[codes], None if invalid is None else np.append(invalid, False)[codes]
    if is_time(values):
        return _seconds(values), None
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype):
        if isinstance(dtype, np.dtype):
            return values.to_numpy(np.float64), None
        return values.to_numpy(np.float64, na_value=np.nan), None
    present = values.notna().to_numpy(np.bool_)
    found = np.full(len(values), np.nan)
    objects = values.to_numpy(object)
    if not pd.api.types.is_string_dtype(values):  # looks into the objects
        found[present] = [_number(value) for value in objects[present]]  # None becomes NaN
    invalid = present & np.isnan(found)
    return found, invalid if invalid.any() else None


def words(values: pd.Series) -> tuple[Indices, list[str | None]]:
    """Which of the listed words each row holds, -1 where it is missing; None in the list stands for no word at all.

    A word may be listed more than once.
    """
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        return np.asarray(values.cat.codes, np.intp), _spelled(values.dtype.categories)
    try:
        codes, distinct = pd.factorize(values)
        if _told_apart(distinct):
            return np.asarray(codes, np.intp), _spelled(distinct)
    except TypeError:  # lists and objects cannot be looked up
        pass
    present = values.notna().to_numpy(np.bool_)
    texts = _spelled(values.to_numpy(object)[present])
    place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    codes = np.full(len(values), -1, np.intp)
    codes[present] = [place[text] for text in texts]
    return codes, list(place)


def word_counts(values: pd.Series) -> tuple[Counter[str], int, int]:
    """How often each word occurs; rows that are missing; rows that hold something else than a word."""
    counts: Counter[str | None] = Counter()
    found = None
    if _can_be_looked_up(values):
        found = values.value_counts(sort=False, dropna=False)  # of shared texts four times as fast as `words`
    if found is not None and _told_apart(found.index[found.index.notna()]):
        present = found[found.index.notna()]
        for text, count in zip(_spelled(present.index), present.tolist(), strict=True):
            counts[text] += count
    else:
        counts.update(_spelled(values[values.notna()]))
    n_missing, n_invalid = len(values) - counts.total(), counts.pop(None, 0)
    return Counter({text: count for text, count in counts.items() if text is not None and count}), n_missing, n_invalid


def times(column: pd.Series) -> Int64s:
    """Event times as epoch milliseconds, NO_TIME where there is none that can be read; see `epoch_ms`."""
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column):
        zone = getattr(column.dtype, "tz", None)
        utc = column if zone is None else column.dt.tz_convert("UTC").dt.tz_localize(None)
        found = utc.astype("datetime64[ms]").astype("int64").to_numpy()
        return np.where(column.isna(), NO_TIME, found)
    if not _can_be_looked_up(column):
        return np.array([NO_TIME if (at := epoch_ms(_plain(value))) is None else at for value in column], np.int64)
    codes, distinct = pd.factorize(column, use_na_sentinel=True)
    known = [epoch_ms(_plain(value)) for value in distinct]
    read = np.array([NO_TIME if when is None else when for when in known] + [NO_TIME], np.int64)
    return np.asarray(read[codes])


def identities(values: pd.Series) -> Keys:
    """A number for the id of every row, 0 where it has none: the same that the id has in a record."""
    codes, texts = words(values)
    return np.array([*keys(texts), 0], np.uint64)[codes]


def storable(frame: pd.DataFrame) -> pd.DataFrame:
    """The table, with columns whose values Parquet cannot hold together, such as numbers among words, as text."""
    import pyarrow as pa

    kept = frame.copy(deep=False)
    for place, values in enumerate(kept[name] for name in frame):
        if values.dtype == object:
            try:
                pa.array(values, from_pandas=True)
            except (pa.ArrowException, OverflowError):
                kept.isetitem(place, values.map(str, na_action="ignore").to_numpy())
    return kept


def _cells(values: pd.Series, column: CategoricalColumn) -> Cells:
    """The cell of every value of a categorical column."""
    codes, texts = words(values)
    known = column.codes()
    places = [INVALID if text is None else known.get(text, UNSEEN) for text in texts]
    return np.array([*places, MISSING], np.uint8)[codes]


def _texts(values: pd.Series) -> list[str | None]:
    """The word of every row, None where it has none."""
    codes, texts = words(values)
    return [None if code < 0 else texts[code] for code in codes.tolist()]


def _can_be_looked_up(values: pd.Series) -> bool:
    """Whether every value has a hash. Those without, pandas counts in the square of their number."""
    types = set(map(type, values.to_numpy())) if values.dtype == object else set()
    return tuple not in types and all(issubclass(each, Hashable) for each in types)


def _told_apart(distinct: pd.Index[Any] | Iterable[object]) -> bool:
    """Whether a look-up kept these values apart: it takes True for 1, so objects must all be text."""
    return getattr(distinct, "dtype", np.dtype(object)).kind != "O" or all(type(value) is str for value in distinct)


def _spelled(values: Iterable[object]) -> list[str | None]:
    """Each value as a category, None where it is none."""
    return [_word(value) for value in values]


def _seconds(values: pd.Series) -> Floats:
    if str(values.dtype).startswith(("date32", "date64")):  # Arrow's days
        values = values.astype("timestamp[us][pyarrow]")
    unit = f"{values.dtype.kind}8[us]"
    missing: Any = np.array("NaT", unit)
    found = values.to_numpy(unit, na_value=missing)
    return np.where(np.isnat(found), np.nan, found.astype(np.int64) / 1e6)


def _number(value: object) -> float | None:
    value = _plain(value)
    if isinstance(value, Decimal):
        return float(value) if not value.is_nan() else None
    return number(value)


def _word(value: object) -> str | None:
    value = _plain(value)
    if isinstance(value, Decimal):
        return word(float(value))
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    return str(value) if isinstance(value, timedelta) else word(value)


def _plain(value: object) -> object:
    """NumPy's scalars as Python's, so that a category is spelled alike in files and in JSON."""
    return value.item() if isinstance(value, np.generic) else value
