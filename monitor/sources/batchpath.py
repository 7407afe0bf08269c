"""Whether records may be read by whole batches here: that path must agree with the library's own.

It leans on inner parts of kafka-python. So it proves itself on batches the library builds, once per process, and stays
out of use when anything differs.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import struct
from typing import Any, Final

import kafka.codec
import numpy as np
from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.record import MemoryRecords
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.record.util import calc_crc32c, crc32c_c

from monitor.sources.recordbatch import Frames, Unpacking, frame, record_frames

_LOGGER: Final = logging.getLogger("driftd.source")

_CRC_AT: Final = 17
_ATTRIBUTES_AT: Final = 21


@functools.cache
def batch_reader() -> type | None:
    """The class that makes the client hand out batches; None, with one warning, where it cannot be trusted."""
    if crc32c_c is None:
        text = "the crc32c package is not installed: check sums in pure Python make reading 8 times slower"
        _LOGGER.warning(text, extra={"event": "kafka.slow_checksums"})
    try:
        reader = type("BatchPartitionRecords", (Unpacking, Fetcher.PartitionRecords), {})
        self_test(reader)
    except Exception as fault:  # noqa: BLE001 - whatever a changed library does here, the record path still works
        text = "reading Kafka record by record, which is slower: the batch path failed its self-test (%s)"
        _LOGGER.warning(text, fault, extra={"event": "kafka.record_by_record"})
        return None
    return reader


def self_test(reader: type) -> None:
    """Reads batches built by kafka-python on both paths. ValueError when they differ.

    With every codec that is installed: null and empty keys and values, headers, begins within a batch, a control batch
    between others; and a damaged batch, which both must refuse.
    """
    for codec, present in enumerate((True, True, *(_has(name) for name in ("snappy", "lz4", "zstd")))):
        if not present:
            continue
        log_bytes = _sample_batch(codec, 100, 3) + _as_control(_sample_batch(0, 103, 1)) + _sample_batch(codec, 107, 40)
        for start in (100, 101, 105, 110):
            theirs = record_frames(take(Fetcher.PartitionRecords, log_bytes, start))
            ours = frame(take(reader, log_bytes, start))
            if not same(ours, theirs):
                raise ValueError(f"codec {codec} from offset {start}: the two paths disagree")
        damaged = bytearray(_sample_batch(codec, 100, 3))
        damaged[-1] ^= 1
        for kind in (Fetcher.PartitionRecords, reader):
            with contextlib.suppress(CorruptRecordError):
                take(kind, bytes(damaged), 100)
                raise ValueError(f"codec {codec}: a batch whose check sum is wrong is taken for whole")


def take(reader: type, log_bytes: bytes, start: int) -> list[Any]:
    """What one fetch that answered with `log_bytes` gives the client when it had asked for offset `start`."""
    pieces: list[Any] = reader(start, TopicPartition("self-test", 0), MemoryRecords(log_bytes)).take()
    return pieces


def same(one: Frames, other: Frames) -> bool:
    return np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1]) and list(one[2]) == list(other[2])


def _has(codec: str) -> bool:
    return bool(getattr(kafka.codec, f"has_{codec}")())


def _as_control(batch: bytes) -> bytes:
    """The batch marked as one of Kafka's own about transactions; its check sum holds."""
    changed = bytearray(batch)
    changed[_ATTRIBUTES_AT + 1] |= 0x20
    struct.pack_into(">I", changed, _CRC_AT, calc_crc32c(bytes(changed[_ATTRIBUTES_AT:])))
    return bytes(changed)


def _sample_batch(codec: int, offset: int, count: int) -> bytes:
    builder = MemoryRecordsBuilder(2, codec, 1 << 20, offset=offset)
    for index in range(count):
        value = None if index % 5 == 1 else b"v" * (index * index)
        key = None if index % 2 else b"k" * index
        headers = [("name", b"value"), ("none", None)] if index % 3 == 2 else []
        builder.append(1_700_000_000_000 - 1000 * index, key, value, headers)
    builder.close()
    return bytes(builder.buffer())
