"""Files of rows as one pandas table: Parquet, CSV, JSON lines.

Types are those of the file. CSV has none: a column whose values nearly all spell numbers is of numbers, and what does
not spell one stays text, to be counted as a type error.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from monitor.decode.value import document
from monitor.errors import SourceError
from monitor.table import column

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_MOSTLY: Final = 0.9


def read(files: Sequence[Path]) -> pd.DataFrame:
    """All rows of all files, one below the other. SourceError names the file that cannot be read, and why."""
    import pandas as pd

    frames = [_read(file) for file in files]
    filled = [frame for frame in frames if len(frame)] or frames[:1]
    return filled[0] if len(filled) == 1 else pd.concat(filled, ignore_index=True)


def _read(file: Path) -> pd.DataFrame:
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        raise SourceError(f"{file}: found {file.suffix or 'no'} ending, wanted one of {', '.join(READERS)}")
    try:
        frame, names = reader(file)
    except OSError as error:
        raise SourceError(f"{file}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # pandas' and Arrow's errors of content, and text that is not UTF-8
        raise SourceError(f"{file}: cannot be read: {error}") from error
    once(file, names)
    frame.columns = names
    return frame


def once(file: Path, names: Iterable[str]) -> None:
    """SourceError where a file has several columns of one name."""
    twice = [f"{n} columns named {name!r}" for name, n in Counter(names).items() if n > 1]
    if twice:
        raise SourceError(f"{file}: found {', '.join(twice)}; wanted every name once")


def _parquet(file: Path) -> tuple[pd.DataFrame, list[str]]:
    from pyarrow import parquet

    with file.open("rb") as opened:
        frame = of_arrow(parquet.ParquetFile(opened).read())
    return frame, list(frame.columns)


def of_arrow(rows: pa.Table | pa.RecordBatch) -> pd.DataFrame:
    """Rows of a Parquet file. What pandas wrote as an index that has a name is a column like the others."""
    frame: pd.DataFrame = rows.to_pandas(date_as_object=False)
    frame = frame.reset_index(level=[name for name in frame.index.names if name in rows.schema.names])
    return frame.set_axis(list(map(str, frame.columns)), axis=1)


def csv_parts(file: Path, n_rows: int, numeric: Container[str] = ()) -> Iterator[pd.DataFrame]:
    """The rows of a CSV file, so many at a time, under the names of its header. ValueError as pandas says it.

    numeric: columns of which whatever spells a number is one; of others nearly all values have to.
    """
    import pandas as pd

    names = pd.read_csv(file, header=None, nrows=1, dtype=str, encoding="utf-8-sig", keep_default_na=False).iloc[0]
    with pd.read_csv(
        file, chunksize=n_rows, low_memory=False, encoding="utf-8-sig", index_col=False, float_precision="round_trip"
    ) as parts:
        while (frame := _next(parts, len(names))) is not None:
            for place, dtype in enumerate(frame.dtypes):
                if pd.api.types.is_object_dtype(dtype):
                    least = 0.0 if names[place] in numeric else _MOSTLY
                    frame.isetitem(place, _numbers_where_spelled(frame.iloc[:, place], least).to_numpy())
            frame.columns = [name or str(given) for name, given in zip(names, frame.columns, strict=True)]
            yield frame


def _next(parts: Iterator[pd.DataFrame], n_names: int) -> pd.DataFrame | None:
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return next(parts, None)
        except pd.errors.ParserWarning as error:  # values without a column would be left out
            raise ValueError(f"rows have more values than the header's {n_names} names") from error


def _csv(file: Path) -> tuple[pd.DataFrame, list[str]]:
    (frame,) = csv_parts(file, sys.maxsize)
    return frame, list(frame.columns)


def _numbers_where_spelled(values: pd.Series, least: float) -> pd.Series:
    """The column with its numbers as numbers if this share of its values are some; as it came otherwise."""
    import pandas as pd

    found = pd.to_numeric(values, errors="coerce")
    if found.notna().sum() < least * max(values.notna().sum(), 1):
        return values
    return found.astype(object).where(found.notna(), values)


def _json_lines(file: Path) -> tuple[pd.DataFrame, list[str]]:
    import pandas as pd

    rows: list[dict[str, Any]] = []
    bad: list[str] = []
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.isspace():
                continue
            found = document(line)
            if isinstance(found, dict):
                rows.append(found)
            else:
                bad.append(f"line {number}: {found[1]}")
    if bad:
        count = "1 line is" if len(bad) == 1 else f"{len(bad)} lines are"
        raise ValueError(f"{count} not a JSON object; {bad[0]}")
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pd.DataFrame({name: column([row.get(name) for row in rows]) for name in names}), names


READERS: Final[dict[str, Callable[[Path], tuple[pd.DataFrame, list[str]]]]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
}
"""By ending: each gives the table and its columns' names as they stand in the file."""
