"""What it takes to make one model's rows of records, wherever that is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from detectors.cells import MISSING, Floats
from monitor.batch import NO_TIME, Batch, Records, Reject
from monitor.decode import REGISTRY, Decoder, Layout, Schemas
from monitor.loss import labels_of

SKEW_MS: Final = 3_600_000
"""How far an event time may lie after its record was logged: clocks differ, but none is right about the future."""

_NO_ID: Final = ("no_id", "the label's record has no id, so nobody can tell whose label it is")
_NO_LABEL: Final = ("no_label", "the record has no label, or one that is not of the output's kind")


@dataclass(frozen=True, slots=True)
class Reading:
    """How one model's records are read. needs_time: whether a row without event time is of no use. labels: whether it
    is labels that are read."""

    model: str
    topics: frozenset[str]
    format: str
    layout: Layout
    needs_time: bool
    schemas: Schemas | None = None
    labels: bool = False

    @property
    def key(self) -> str:
        """Names what is read among all that records hold."""
        return key_of_labels(self.model) if self.labels else self.model

    def decoder(self) -> Decoder:
        """A decoder of the model's own."""
        made = REGISTRY[self.format](self.layout)
        if self.schemas is not None:
            made.look_up(self.schemas)
        return made


Reader = tuple[Reading, Decoder]


def key_of_labels(model: str) -> str:
    """The key of a model's labels; no model's name has a blank."""
    return f"{model} labels"


def decoded(readers: Sequence[Reader], records: Records, now_ms: int | None) -> dict[str, Batch]:
    """What these readers make of records, by their keys. now_ms: see `screened`."""
    found = {one.key: decoder.decode(records) for one, decoder in readers}
    for one, _ in readers:
        if one.labels and one.model in found:
            found[one.model], found[one.key] = parted(found[one.model], found[one.key])
        elif one.labels:
            found[one.key] = nameable(found[one.key], records)
    return {one.key: screened(found[one.key], records, now_ms, one.needs_time) for one, _ in readers}


def parted(rows: Batch, labels: Batch) -> tuple[Batch, Batch]:
    """Predictions and labels that come in one log, each without the other: both were read of the same records.

    A record is a label if it has an id, a label, and none of the model's columns.
    """
    named = (labels.keys != 0) & ~np.isnan(_values(labels))
    bare = (rows.cells == MISSING).all(axis=0)
    mine = bare & np.isin(rows.offsets, labels.offsets[named])
    others = ~(named & np.isin(labels.offsets, rows.offsets[mine]))
    return rows.without(mine), replace(labels, rejects=()).without(others)


def _values(labels: Batch) -> Floats:
    """The labels, NaN where there is none."""
    return labels.numbers[0] if labels.numbers.size else labels_of(labels.cells[0])


def nameable(batch: Batch, records: Records | None = None) -> Batch:
    """Labels without those that are none, or have no id to find their prediction by; they become rejects.

    records: of which the labels were read, where there are such.
    """
    nameless, empty = batch.keys == 0, np.isnan(_values(batch))
    rejects = []
    for row in np.flatnonzero(nameless | empty).tolist():
        offset = int(batch.offsets[row])
        head = b"" if records is None else _head(records, offset)
        rejects.append(Reject(batch.partition, offset, *(_NO_ID if nameless[row] else _NO_LABEL), head))
    return batch.without(nameless | empty, tuple(rejects))


def screened(batch: Batch, records: Records, now_ms: int | None, needs_time: bool) -> Batch:
    """The batch without rows whose event time is absent or cannot be; they become rejects.

    now_ms: the wall clock, None where the log is old and has no clock of its own.
    """
    if _plainly_in_time(batch, records, now_ms, needs_time):
        return batch
    logged_ms = records.timestamps_ms[np.searchsorted(records.offsets, batch.offsets)]
    latest_ms = np.where(logged_ms == NO_TIME, np.iinfo(np.int64).max - SKEW_MS, logged_ms)
    if now_ms is not None:
        latest_ms = np.minimum(latest_ms, now_ms)
    timeless = (batch.time_ms == NO_TIME) & needs_time
    future = batch.time_ms > latest_ms + SKEW_MS
    if not (timeless | future).any():
        return batch
    words = {
        True: ("no_event_time", "the record has no event time, and the log no timestamp"),
        False: ("future", f"the event time lies more than {SKEW_MS // 60_000} minutes after the record was logged"),
    }
    rejects = []
    for row in np.flatnonzero(timeless | future).tolist():
        offset = int(batch.offsets[row])
        rejects.append(Reject(batch.partition, offset, *words[bool(timeless[row])], _head(records, offset)))
    return batch.without(timeless | future, tuple(rejects))


def _plainly_in_time(batch: Batch, records: Records, now_ms: int | None, needs_time: bool) -> bool:
    """Whether all event times are there, and none lies after the earliest time of the log: so it is nearly always, and
    cheap to see."""
    if not batch.n_rows:
        return True
    earliest_ms = int(records.timestamps_ms.min())
    if earliest_ms == NO_TIME or (needs_time and int(batch.time_ms.min()) == NO_TIME):
        return False
    return int(batch.time_ms.max()) <= (earliest_ms if now_ms is None else min(earliest_ms, now_ms)) + SKEW_MS


def _head(records: Records, offset: int) -> bytes:
    """The first bytes of the record that lies there."""
    return records.head(int(np.searchsorted(records.offsets, offset)))
