"""Kafka's record batches -> offsets, times, values, with NumPy instead of a Python loop per record.

`Unpacking` goes in front of kafka-python's own class, so that its consumer hands out whole batches; `frame` splits
those into records. Both lean on inner parts of kafka-python, so they are not used where `batchpath` finds them wrong.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from kafka.errors import CorruptRecordError, KafkaError
from kafka.protocol.consumer import IsolationLevel
from kafka.record.util import decode_varint
from numpy.typing import NDArray

from monitor.batch import NO_TIME, Int64s, Value
from monitor.slices import Slices
from monitor.sources.answer import Batches
from monitor.sources.unpack import TooLarge, unpacked

_LOGGER: Final = logging.getLogger("driftd.source")

ZEROS: Final = 64
"""Zero bytes that a record has at most, on average, where its end is looked for among them: each takes 16 bytes."""

Frames = tuple[Int64s, Int64s, Sequence[Value]]
"""Offsets, timestamps in milliseconds, values: one entry a record."""


# ---- the client's batches, out of the client


@dataclass(frozen=True, slots=True)
class Packed:
    """One record batch of today's format, unpacked from its codec but not yet split into records.

    Its records lie between `start` and `end` of `payload`; those with offsets below `floor` were not asked for.
    """

    payload: bytearray | memoryview
    start: int
    end: int
    count: int
    base_offset: int
    base_ms: int
    append_time: bool
    floor: int
    next_offset: int


class Loose(NamedTuple):
    """Records of the formats before Kafka 0.11, which are read one by one."""

    offsets: list[int]
    timestamps_ms: list[int]
    values: list[Value]
    base_offset: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A batch that was not unpacked, and why: its records are passed over."""

    base_offset: int
    next_offset: int
    reason: str

    @classmethod
    def of(cls, batch: Any, reached: int, reason: object) -> Refused:
        """The client's batch, offsets before `reached` being no loss. Old formats name only the last of their own."""
        if batch.magic == 2:
            return cls(max(batch.base_offset, reached), batch.next_offset, str(reason))
        return cls(reached, max(batch.base_offset, reached) + 1, str(reason))

    @property
    def offset(self) -> int:
        """The last one, by which the client takes it for a record."""
        return self.next_offset - 1


Piece = Packed | Loose | Refused


class Unpacking:
    """Stands in front of the client's PartitionRecords so that it hands out batches where it would hand out records.

    A private seam: the two methods below are overridden and the attributes named here are used. What stays the
    library's: the check sums, positions, high water marks, and which transactions were aborted.
    """

    fetch_offset: int
    next_fetch_offset: int
    leader_epoch: int
    bytes_read: int
    records_read: int
    check_crcs: bool
    isolation_level: Any
    topic_partition: Any
    aborted_producer_ids: set[int]
    drain: Any
    _consume_aborted_transactions_up_to: Any
    _contains_abort_marker: Any
    _is_batch_aborted: Any

    def _maybe_skip_record(self, piece: Piece) -> bool:
        return piece.next_offset <= self.fetch_offset

    def _unpack_records(self, _tp: Any, records: Any, *_deserializers: Any) -> Iterator[Piece]:
        try:
            yield from self._pieces(Batches(records._buffer))
        except KafkaError as fault:
            # Draining makes the client ask again at the bad batch; left alone it would turn in circles on this one.
            self.drain()
            if not isinstance(fault, CorruptRecordError):
                raise
            where = f"{self.topic_partition.topic}[{self.topic_partition.partition}]"
            raise CorruptRecordError(f"{where}: {fault.args[0]}") from fault
        self.drain()

    def _pieces(self, records: Any) -> Iterator[Piece]:
        while (batch := self._next_batch(records)) is not None:
            piece = self._unpacked(batch)
            self.bytes_read += batch.size_in_bytes
            if piece is None:
                self.next_fetch_offset = batch.next_offset
                continue
            if isinstance(piece, Packed):
                self.records_read += piece.count
            elif isinstance(piece, Loose):
                self.records_read += len(piece.offsets)
            self.next_fetch_offset = max(piece.next_offset, self.next_fetch_offset)
            yield piece

    def _next_batch(self, records: Any) -> Any:
        try:
            batch = records.next_batch()
        except (struct.error, AssertionError) as fault:
            # Length and format of a batch lie outside its check sum.
            raise CorruptRecordError(f"what follows offset {self.next_fetch_offset} is no record batch") from fault
        if batch is not None and self.check_crcs and not batch.validate_crc():
            raise CorruptRecordError(f"the record batch at offset {batch.base_offset} fails its check sum")
        return batch

    def _unpacked(self, batch: Any) -> Piece | None:
        try:
            if batch.magic != 2:
                return _loose(batch, self.fetch_offset, self.check_crcs)
            self.leader_epoch = batch.leader_epoch
            return None if self._skipped(batch) else _packed(batch, self.fetch_offset)
        except TooLarge as fault:
            return Refused.of(batch, self.next_fetch_offset, fault)
        except (KafkaError, MemoryError):
            raise
        except Exception as fault:
            text = f"the record batch at offset {batch.base_offset} cannot be unpacked: {fault}"
            raise CorruptRecordError(text) from fault

    def _skipped(self, batch: Any) -> bool:
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch or batch.last_offset < self.fetch_offset or not batch.records_count)


def _packed(batch: Any, floor: int) -> Packed:
    payload, start, end = batch.answer, batch.begin + batch._pos, batch.begin + batch.size_in_bytes
    if codec := batch.compression_type:
        payload = unpacked(codec, bytes(payload[start:end]))
        start, end = 0, len(payload)
    append_time = bool(batch.timestamp_type)
    return Packed(
        payload=payload,
        start=start,
        end=end,
        count=batch.records_count,
        base_offset=batch.base_offset,
        base_ms=batch.max_timestamp if append_time else batch.first_timestamp,
        append_time=append_time,
        floor=floor,
        next_offset=batch.next_offset,
    )


def _loose(batch: Any, floor: int, check_crcs: bool) -> Loose:
    offsets: list[int] = []
    times: list[int] = []
    values: list[Value] = []
    base_offset = last = batch.base_offset
    for record in batch:
        if check_crcs and not record.validate_crc():
            raise CorruptRecordError(f"the record at offset {record.offset} fails its check sum")
        last = record.offset
        if last >= floor:
            offsets.append(last)
            times.append(_milliseconds(record.timestamp))
            values.append(record.value)
    return Loose(offsets, times, values, base_offset, last + 1)


def _milliseconds(timestamp: int | None) -> int:
    return NO_TIME if timestamp is None or timestamp == -1 else timestamp


# ---- batches -> records

Keep = Callable[[Int64s], NDArray[np.bool_]]


def everything(offsets: Int64s) -> NDArray[np.bool_]:
    """Wants all records."""
    return np.ones(offsets.size, np.bool_)


def frame(pieces: Sequence[Piece], keep: Keep = everything) -> Frames:
    """The records of one partition's batches, in order. CorruptRecordError when the bytes contradict themselves.

    A refused batch has none. keep: which records are wanted, by their offsets; the others are not taken out.
    """
    packed = [piece for piece in pieces if isinstance(piece, Packed)]
    if packed and len(packed) == len(pieces):
        return _frame_packed(packed, keep)
    parts = [
        _frame_packed([piece], keep) if isinstance(piece, Packed) else _kept(_frame_loose(piece), keep)
        for piece in pieces
        if not isinstance(piece, Refused)
    ]
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int64), []
    values = [value for part in parts for value in part[2]]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]), values


def sound(pieces: Sequence[Piece]) -> tuple[Sequence[Piece], CorruptRecordError | None]:
    """The pieces before the first one that `frame` refuses, and why it does."""
    for index, piece in enumerate(pieces):
        try:
            frame([piece])
        except CorruptRecordError as fault:
            return pieces[:index], fault
    return pieces, None


def record_frames(records: Sequence[Any], keep: Keep = everything) -> Frames:
    """The same as `frame`, from the client's own records."""
    records = [record for record in records if not isinstance(record, Refused)]
    offsets = np.array([record.offset for record in records], dtype=np.int64)
    times = np.array([_milliseconds(record.timestamp) for record in records], dtype=np.int64)
    return _kept((offsets, times, [record.value for record in records]), keep)


def _kept(frames: Frames, keep: Keep) -> Frames:
    offsets, times, values = frames
    wanted = keep(offsets)
    if wanted.all():
        return frames
    return offsets[wanted], times[wanted], [values[index] for index in np.flatnonzero(wanted).tolist()]


def _frame_loose(piece: Loose) -> Frames:
    return np.array(piece.offsets, dtype=np.int64), np.array(piece.timestamps_ms, dtype=np.int64), piece.values


def _frame_packed(batches: Sequence[Packed], keep: Keep) -> Frames:
    try:
        return _split(batches, keep)
    except (IndexError, ValueError) as fault:
        where = f"the record batch at offset {batches[0].base_offset}" + (" or a later one" if len(batches) > 1 else "")
        raise CorruptRecordError(f"{where} has a structure that cannot be: {fault}") from fault


def _split(batches: Sequence[Packed], keep: Keep) -> Frames:
    # Small batches are taken together: NumPy's fixed cost is then paid once per fetch, not once per batch.
    payload, starts, lasts = _together(batches)
    counts = [batch.count for batch in batches]
    data = np.frombuffer(payload, dtype=np.uint8)

    # Record: attributes int8, timestamp delta, offset delta, key, value, headers; lengths are zigzag varints.
    ends, at = _borders(data, starts, lasts, counts)
    time_delta, at = _varints(data, at + 1)
    offset_delta, at = _varints(data, at)
    key_size, at = _varints(data, at)
    value_size, at = _varints(data, at + np.maximum(key_size, 0))
    if (key_size < -1).any() or (value_size < -1).any():
        raise ValueError("a key or value of negative size")
    if (np.maximum(value_size, 0) >= ends - at).any():  # not `at + ... >= ends`, which a wild size could carry round
        raise ValueError("a value ends outside its record")

    offsets = offset_delta + np.repeat([batch.base_offset for batch in batches], counts)
    steps = np.diff(offset_delta, prepend=-1)
    steps[np.cumsum(counts)[:-1]] = 1  # from one batch to the next
    beyond = offsets >= np.repeat([batch.next_offset for batch in batches], counts)
    if (steps <= 0).any() or (offset_delta < 0).any() or beyond.any():
        raise ValueError("its offsets do not ascend, or lie outside it")
    times = np.repeat([batch.base_ms for batch in batches], counts)
    times += np.where(np.repeat([batch.append_time for batch in batches], counts), 0, time_delta)
    times[times == -1] = NO_TIME
    wanted = offsets >= np.repeat([batch.floor for batch in batches], counts)
    wanted[wanted] = keep(offsets[wanted])
    if not wanted.all():
        offsets, times, at, value_size = (some[wanted] for some in (offsets, times, at, value_size))
    return offsets, times, Slices(payload, at, at + value_size)


def _together(batches: Sequence[Packed]) -> tuple[memoryview, Int64s, Int64s]:
    """The memory that has the records of all batches, and where those of each begin and end in it.

    Batches of one answer are there already, one behind the other.
    """
    payload = batches[0].payload
    starts, lasts = np.array([(batch.start, batch.end) for batch in batches], np.int64).T
    if all(batch.payload is payload for batch in batches):
        begin = int(starts[0])
        return memoryview(payload)[begin : int(lasts[-1])], starts - begin, lasts - begin
    joined = bytearray().join(memoryview(batch.payload)[batch.start : batch.end] for batch in batches)
    ends = np.cumsum(lasts - starts)
    return memoryview(joined), ends - (lasts - starts), ends


def _borders(data: NDArray[np.uint8], starts: Int64s, lasts: Int64s, counts: Sequence[int]) -> tuple[Int64s, Int64s]:
    """Where each record ends in the batches' memory, and where it goes on behind its own length."""
    guessed = _guess(data, starts, lasts, np.cumsum(counts))
    if guessed is not None:
        begins, ends = guessed
        length, at = _varints(data, begins)
        if (at + length == ends).all():
            return ends, at
    begins = _walk(data, starts, lasts, counts)
    length, at = _varints(data, begins)
    if (length < 0).any():
        raise ValueError("a record of negative length")
    return at + length, at


def _guess(data: NDArray[np.uint8], starts: Int64s, lasts: Int64s, counts: Int64s) -> tuple[Int64s, Int64s] | None:
    """Where records begin and end if all of them end like the last one and have no headers, as JSON mostly does.

    It is right where each record's own length says the same: then each begins where the one before it ends.
    """
    zeros = data == 0
    if not zeros[-1] or not 0 < np.count_nonzero(zeros) <= ZEROS * counts[-1]:
        return None
    ends = np.flatnonzero(zeros) + 1
    ends = ends[data[ends - 2] == data[-2]]
    if ends.size != counts[-1] or (ends[counts - 1] != lasts).any():
        return None
    begins = np.append(0, ends[:-1])
    begins[np.append(0, counts[:-1])] = starts
    return begins, ends


def _walk(data: NDArray[np.uint8], starts: Int64s, lasts: Int64s, counts: Sequence[int]) -> Int64s:
    """Where each record begins, with its own length: from each to the next."""
    begins: list[int] = []
    note, payload = begins.append, data.data
    for start, last, count in zip(starts.tolist(), lasts.tolist(), counts, strict=True):
        position = start
        for _ in range(count):
            note(position)
            # One and two byte lengths (records under 8 KiB) are spelt out.
            size = payload[position]
            if size < 0x80:
                position += 1 + (size >> 1)
            elif (high := payload[position + 1]) < 0x80:
                position += 2 + (size >> 1 & 0x3F | high << 6)
            else:
                length, position = decode_varint(payload, position)
                position += length
        if position != last:
            raise ValueError(f"its {count} records end {position - last} bytes behind its end")
    return np.array(begins, np.int64)


def _varints(data: NDArray[np.uint8], at: Int64s) -> tuple[Int64s, Int64s]:
    """Decodes the zigzag varint at each position; the values, and the positions behind them."""
    byte = data[at]
    value = (byte & 0x7F).astype(np.uint64)
    after = at + 1
    open_ = np.flatnonzero(byte & 0x80)
    for shift in range(7, 64, 7):
        if not open_.size:
            break
        byte = data[after[open_]]
        value[open_] |= (byte & 0x7F).astype(np.uint64) << np.uint64(shift)
        after[open_] += 1
        open_ = open_[(byte & 0x80) != 0]
    if open_.size:
        raise ValueError("a number longer than 64 bits")
    return (value >> np.uint64(1)).view(np.int64) ^ -(value & np.uint64(1)).view(np.int64), after
