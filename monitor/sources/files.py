"""Files as logs: JSON lines as records, tables as rows.

Each file is a partition of its own, named after its path, its rows numbered from 0. JSON lines go through the model's
decoder like the records of a topic; Parquet and CSV hold columns already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from detectors import Kind
from monitor.batch import NO_TIME, Batch, Partition, Records, Reject
from monitor.decode import Layout
from monitor.errors import SourceError
from monitor.sources.tables import csv_parts, of_arrow, once
from monitor.table import counted, identities, opened, times

if TYPE_CHECKING:
    import pandas as pd

LINES: Final = 4_096
ROWS: Final = 16_384


def read(file: Path, layout: Layout) -> Iterator[Records | Batch]:
    """The rows of a file in their order, some thousand at a time. SourceError says why it cannot be read."""
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise SourceError(f"{file}: found {file.suffix or 'no ending'}, wanted one of {', '.join(_READERS)}")
    try:
        yield from reader(file, layout)
    except (OSError, ValueError) as error:
        raise SourceError(f"{file}: cannot be read: {error}") from error


def _lines(file: Path, _: Layout) -> Iterator[Records]:
    offset = 0
    with file.open("rb") as lines:
        while found := list(islice(lines, LINES)):
            kept = [(offset + i, line) for i, line in enumerate(found) if line.strip()]
            offset += len(found)
            offsets = np.array([number for number, _ in kept], np.int64)
            no_times = np.full(offsets.size, NO_TIME)
            yield Records(Partition(str(file), 0), offsets, no_times, [line for _, line in kept], offset)


def _tables(frames: Iterator[pd.DataFrame], file: Path, layout: Layout) -> Iterator[Batch]:
    offset = 0
    stamp = None if layout.timestamp is None else ".".join(layout.timestamp)
    label = next((".".join(layout.paths[row]) for row in layout.bins.errors), None)
    dotted = {".".join(path): name for name, path in zip(layout.bins.names, layout.paths, strict=True)}
    moved = {path: name for path, name in dotted.items() if path not in {name, label}}
    identity = None if layout.id is None else ".".join(layout.id)
    for flat in frames:
        once(file, flat.columns)
        frame = opened(flat)
        numbers, cells = counted(_named(frame, moved), layout.bins, label)
        offsets = np.arange(offset, offset + len(frame), dtype=np.int64)
        offset += len(frame)
        time_ms = times(frame[stamp]) if stamp in frame else np.full(len(frame), NO_TIME)
        known = {*layout.bins.names, *layout.ignored, *moved, stamp, identity}
        keys = identities(frame[identity]) if identity in frame else np.zeros(0, np.uint64)
        unknown = tuple((0, name) for name in _strangers(flat, frame, layout, known)) if len(frame) else ()
        inspected = np.zeros(min(len(frame), 1), np.int64)
        at = Partition(str(file), 0)
        yield _timed(Batch(at, offsets, time_ms, numbers, cells, offset, (), inspected, unknown, keys), layout)


def _strangers(flat: pd.DataFrame, frame: pd.DataFrame, layout: Layout, known: Set[str | None]) -> Iterator[str]:
    """Features that nobody knows: columns of the file as it came, and members of the features' object."""
    inner = "".join(f"{key}." for key in layout.features)
    for name in map(str, frame.columns):
        own = name.removeprefix(inner)
        if (name in flat or own != name) and not {name, own} & known:
            yield own


def _named(frame: pd.DataFrame, moved: Mapping[str, str]) -> pd.DataFrame:
    """The table with columns that stand under the dotted path of another one under that one's name."""
    found = {path: name for path, name in moved.items() if path in frame}
    return frame.drop(columns=[name for name in found.values() if name in frame]).rename(columns=found)


def _timed(batch: Batch, layout: Layout) -> Batch:
    """The batch without rows whose event time cannot be read, where the layout names one."""
    unreadable = (batch.time_ms == NO_TIME) & (layout.timestamp is not None)
    if not unreadable.any():
        return batch
    why = "the event time is absent or neither epoch s/ms/us/ns nor RFC 3339"
    lost = tuple(
        Reject(batch.partition, offset, "event_time", why, b"") for offset in batch.offsets[unreadable].tolist()
    )
    return batch.without(unreadable, lost)


def _parquet(file: Path, layout: Layout) -> Iterator[Batch]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as table:
        yield from _tables(map(of_arrow, table.iter_batches(ROWS)), file, layout)


def _csv(file: Path, layout: Layout) -> Iterator[Batch]:
    own = zip(layout.paths, layout.bins.names, layout.bins.kinds, strict=True)
    numeric = {name for path, *names, kind in own if kind is Kind.NUMERIC for name in (".".join(path), *names)}
    yield from _tables(csv_parts(file, ROWS, numeric), file, layout)


_READERS: Final[dict[str, Callable[[Path, Layout], Iterator[Records | Batch]]]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".jsonl": _lines,
    ".ndjson": _lines,
}
