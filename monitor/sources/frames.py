"""What ingest processes and the main one say to each other, over a pipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from monitor.batch import Batch, Partition, Records, Reject
from monitor.decode.reading import Reading


class FrozenBatch(msgspec.Struct, frozen=True, array_like=True):
    """A batch; arrays as their bytes."""

    offsets: memoryview
    time_ms: memoryview
    numbers: memoryview
    cells: memoryview
    rejects: list[tuple[int, str, str, bytes, int]]
    inspected: memoryview
    unknown: tuple[tuple[int, str], ...]
    keys: memoryview


class FrozenRecords(msgspec.Struct, frozen=True, array_like=True):
    """Records, decoded."""

    at: Partition
    offsets: memoryview
    timestamps_ms: memoryview
    next_offset: int
    n_passed: int
    n_lost: int
    decoded: dict[str, FrozenBatch]


class Place(msgspec.Struct, frozen=True, array_like=True):
    """One partition that is read. next_offset, n_unread: None while they are not known."""

    at: Partition
    next_offset: int | None
    n_unread: int | None
    caught_up: bool


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """What one poll brought. age: the orders that the worker had followed by then; said: what is to be logged."""

    age: int
    looked: bool
    connected: bool
    places: list[Place]
    records: list[FrozenRecords]
    losses: list[tuple[Partition, int, int]]
    logs: dict[str, str]
    said: list[tuple[str, int, str, dict[str, Any]]]
    fault: str = ""


class Order(msgspec.Struct, frozen=True, array_like=True):
    """Go on, and read these partitions from these offsets on. held: those that nothing is read of for now."""

    age: int
    offsets: list[tuple[Partition, int]] = []
    held: frozenset[Partition] = frozenset()


def _raw(values: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(values).data.cast("B") if values.size else memoryview(b"")


def frozen(records: Records, batches: Mapping[str, Batch]) -> FrozenRecords:
    """Records and what each reader made of them, by its key, for the way; arrays are not copied."""
    decoded = {
        key: FrozenBatch(
            _raw(batch.offsets), _raw(batch.time_ms), _raw(batch.numbers), _raw(batch.cells),
            [(reject.offset, reject.kind, reject.reason, reject.head, reject.row) for reject in batch.rejects],
            _raw(batch.inspected), batch.unknown, _raw(batch.keys),
        )
        for key, batch in batches.items()
    }  # fmt: skip
    return FrozenRecords(
        records.partition, _raw(records.offsets), _raw(records.timestamps_ms), records.next_offset, records.n_passed,
        records.n_lost, decoded,
    )  # fmt: skip


def thawed(found: FrozenRecords, readings: Sequence[Reading]) -> Records:
    """What `frozen` made, as it was. readings: of all models."""
    layouts = {reading.key: reading.layout for reading in readings if found.at.topic in reading.topics}
    decoded = {}
    for key, batch in found.decoded.items():
        bins, offsets = layouts[key].bins, np.frombuffer(batch.offsets, np.int64)
        decoded[key] = Batch(
            found.at, offsets, np.frombuffer(batch.time_ms, np.int64),
            np.frombuffer(batch.numbers, np.float64).reshape(bins.n_numeric, offsets.size),
            np.frombuffer(batch.cells, np.uint8).reshape(bins.n_columns, offsets.size),
            found.next_offset, tuple(Reject(found.at, *reject) for reject in batch.rejects),
            np.frombuffer(batch.inspected, np.int64), batch.unknown, np.frombuffer(batch.keys, np.uint64),
        )  # fmt: skip
    times = np.frombuffer(found.timestamps_ms, np.int64)
    return Records(
        found.at, np.frombuffer(found.offsets, np.int64), times, (), found.next_offset, found.n_passed, found.n_lost,
        decoded,
    )  # fmt: skip
