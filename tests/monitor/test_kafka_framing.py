"""The batch path must read every log exactly as kafka-python's own record path does."""

from __future__ import annotations

import logging
import struct
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import kafka.codec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError, KafkaError
from kafka.protocol.consumer import IsolationLevel
from kafka.record import MemoryRecords, default_records, legacy_records
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.record.util import calc_crc32c, encode_varint

from monitor.batch import NO_TIME
from monitor.sources import batchpath, recordbatch, unpack
from monitor.sources.batchpath import batch_reader, same
from monitor.sources.recordbatch import Frames, Packed, Refused, frame, record_frames, sound
from monitor.sources.recordwise import Recordwise
from monitor.sources.unpack import TooLarge, unpacked

ATTRIBUTES_AT, CRC_AT = 21, 17
APPEND_TIME, CONTROL = 0x08, 0x20
WHERE = TopicPartition("t", 0)

payloads = st.one_of(
    st.none(), st.binary(max_size=20), st.integers(0, 300).map(lambda n: b"v" * n), st.just(b"w" * 9000)
)
headers = st.lists(st.tuples(st.text(max_size=5), st.one_of(st.none(), st.binary(max_size=9))), max_size=3)
times = st.one_of(st.just(-1), st.integers(0, 2**41), st.integers(1_700_000_000_000, 1_700_000_100_000))
records = st.tuples(times, payloads, payloads, headers)
batches = st.fixed_dictionaries(
    {
        "codec": st.integers(0, 4),
        "records": st.lists(records, min_size=1, max_size=12),
        "gaps": st.lists(st.integers(0, 2), min_size=12, max_size=12),
        "before": st.integers(0, 3),
        "kind": st.sampled_from(["plain", "plain", "append", "empty", "committed", "aborted", "old", "older"]),
    }
)


def v2(batch: dict[str, Any], offset: int, producer: int = -1) -> tuple[bytes, int]:
    epoch, sequence = (0, 0) if producer >= 0 else (-1, -1)
    builder = MemoryRecordsBuilder(2, batch["codec"], 1 << 24, offset, producer >= 0, producer, epoch, sequence)
    for (time, key, value, head), gap in zip(batch["records"], batch["gaps"], strict=False):
        builder.append(time, key, value, head)
        builder.skip(gap)
    builder.close()
    return bytes(builder.buffer()), builder.next_offset()


def resealed(batch: bytes, attributes: int = 0, count: int | None = None, tail: bytes | None = None) -> bytes:
    """The batch with bits set in its attributes, another record count, or other records; the check sum holds."""
    changed = bytearray(batch if tail is None else batch[:61] + tail)
    struct.pack_into(">i", changed, 8, len(changed) - 12)
    old = struct.unpack_from(">h", changed, ATTRIBUTES_AT)[0]
    struct.pack_into(">h", changed, ATTRIBUTES_AT, old | attributes)
    if count is not None:
        struct.pack_into(">i", changed, 57, count)
    struct.pack_into(">I", changed, CRC_AT, calc_crc32c(bytes(changed[ATTRIBUTES_AT:])))
    return bytes(changed)


def marker(offset: int, producer: int, commit: bool) -> bytes:
    control = {"codec": 0, "records": [(5, struct.pack(">hh", 0, int(commit)), b"\0" * 6, [])], "gaps": [0]}
    return resealed(v2(control, offset, producer)[0], CONTROL)


def legacy(batch: dict[str, Any], offset: int, magic: int) -> tuple[bytes, int]:
    codec = min(batch["codec"], 2 + magic)  # no zstd then, and LZ4 in a frame of its own kind
    builder = MemoryRecordsBuilder(magic, codec, 1 << 24, offset)
    for time, key, value, _ in batch["records"]:
        builder.append(None if magic == 0 else max(time, 0), key, value)
    builder.close()
    return bytes(builder.buffer()), builder.next_offset()


def written(plan: list[dict[str, Any]]) -> tuple[bytes, int, list[Any]]:
    """The log's bytes, its end, and the aborted transactions a broker would name with it."""
    content, offset, aborted = b"", 100, []
    for producer, batch in enumerate(plan):
        offset += batch["before"]
        match batch["kind"]:
            case "old" | "older":
                part, end = legacy(batch, offset, 1 if batch["kind"] == "old" else 0)
            case "committed" | "aborted":
                part, end = v2(batch, offset, producer)
                part += marker(end, producer, commit=batch["kind"] == "committed")
                if batch["kind"] == "aborted":
                    aborted.append(SimpleNamespace(producer_id=producer, first_offset=offset))
                end += 1
            case "empty":
                part, end = v2({**batch, "codec": 0}, offset)
                part = resealed(part, count=0, tail=b"")
            case kind:
                part, end = v2(batch, offset)
                part = resealed(part, APPEND_TIME) if kind == "append" else part
        content, offset = content + part, end
    return content, offset, aborted


def read(kind: Any, content: bytes, start: int, aborted: list[Any], level: int) -> tuple[list[Any], Any]:
    reader = kind(start, WHERE, MemoryRecords(content), isolation_level=level, aborted_transactions=aborted)
    return reader.take(), reader


def both(content: bytes, start: int, aborted: Sequence[Any] = (), level: int = 0) -> Any:
    theirs, their_reader = read(Fetcher.PartitionRecords, content, start, list(aborted), level)
    ours, our_reader = read(batch_reader(), content, start, list(aborted), level)
    frames = frame(ours) if ours else record_frames([])
    assert same(frames, record_frames(theirs))
    assert our_reader.next_fetch_offset == their_reader.next_fetch_offset
    assert not our_reader
    return frames


@settings(max_examples=150, derandomize=True, deadline=None)
@given(plan=st.lists(batches, min_size=1, max_size=5), skipped=st.integers(0, 12), committed_only=st.booleans())
def test_random_logs_read_alike(plan: list[dict[str, Any]], skipped: int, committed_only: bool) -> None:
    content, end, aborted = written(plan)
    level = IsolationLevel.READ_COMMITTED if committed_only else IsolationLevel.READ_UNCOMMITTED
    both(content, min(100 + skipped, end), aborted, level)


@pytest.mark.parametrize("codec", range(5))
def test_every_codec_in_small_and_large_batches(codec: int) -> None:
    rows = [(1_700_000_000_000 + i, b"k", b'{"x": %d}' % i, []) for i in range(700)]
    large = {"codec": codec, "records": rows, "gaps": [0] * 700}
    content, offset = v2(large, 0)
    for _ in range(20):
        small, offset = v2({**large, "records": rows[:25]}, offset)
        content += small
    offsets, _, values = both(content, 13)
    assert offsets.tolist() == list(range(13, 1200))
    assert bytes(values[0]) == b'{"x": 13}'


def test_values_are_views_and_tombstones_are_none() -> None:
    rows = [(-1, None, b"a", []), (7, b"k", None, []), (8, None, b"", [])]
    content, _ = v2({"codec": 0, "records": rows, "gaps": [0] * 3}, 5)
    offsets, times_ms, values = both(content, 5)
    assert offsets.tolist() == [5, 6, 7]
    assert times_ms.tolist() == [NO_TIME, 7, 8]
    assert isinstance(values[0], memoryview)
    assert values[1] is None
    assert values[2] == b""


def test_a_flipped_byte_is_an_error_after_what_is_whole() -> None:
    rows = [(1, None, b"a" * 50, [])] * 3
    whole, end = v2({"codec": 0, "records": rows, "gaps": [0] * 3}, 0)
    damaged = bytearray(v2({"codec": 0, "records": rows, "gaps": [0] * 3}, end)[0])
    damaged[90] ^= 1
    taken, reader = read(batch_reader(), whole + bytes(damaged), 0, [], 0)
    assert frame(taken)[0].tolist() == [0, 1, 2]
    assert reader.next_fetch_offset == end
    for kind in (batch_reader(), Fetcher.PartitionRecords):
        with pytest.raises(CorruptRecordError):
            read(kind, bytes(damaged), end, [], 0)


def impossible_tails() -> dict[str, bytes]:
    def number(value: int) -> bytes:
        out = bytearray()
        encode_varint(value, out.append)
        return bytes(out)

    head = b"\0" + number(0) + number(0)
    good = head + number(-1) + number(3) + b"abc" + number(0)
    endless = head + number(-1) + b"\xfe" + b"\xff" * 8 + b"\x01" + b"\0"
    return {
        "left over": number(len(good)) + good + b"?",
        "record ends beyond its batch": number(len(good) + 1) + good,
        "record ends before it begins": number(-len(good)) + good,
        "value ends beyond its record": number(len(good) - 3) + good[:-3],
        "negative size": number(9) + head + number(-5) + b"12345",
        "number of too many bytes": number(14) + b"\0" + b"\xff" * 12 + b"\x01",
        "value larger than any memory": number(len(endless)) + endless,
        "nothing at all": b"",
    }


@pytest.mark.parametrize("tail", impossible_tails().values(), ids=impossible_tails().keys())
def test_impossible_structure_behind_a_right_check_sum(tail: bytes) -> None:
    whole, _ = v2({"codec": 0, "records": [(1, None, b"abc", [])], "gaps": [0]}, 0)
    content = resealed(whole, count=1, tail=tail)
    with pytest.raises(CorruptRecordError, match="offset 0"):
        frame(read(batch_reader(), content, 0, [], 0)[0])
    assert outcome(Fetcher.PartitionRecords, content)[1]


def test_a_bad_structure_is_parted_from_what_precedes_it() -> None:
    whole, end = v2({"codec": 0, "records": [(1, None, b"abc", [])], "gaps": [0]}, 0)
    good = read(batch_reader(), whole, 0, [], 0)[0]
    bad = Packed(bytearray(b"\x08\0"), 0, 2, 1, base_offset=end, base_ms=0, append_time=False, floor=0, next_offset=2)
    with pytest.raises(CorruptRecordError):
        frame([*good, bad])
    before, fault = sound([*good, bad, *good])
    assert before == good
    assert f"offset {end} " in str(fault)
    assert sound(good) == (good, None)


def outcome(kind: Any, content: bytes) -> tuple[Frames, Exception | None]:
    """All that can be read of a log, and the fault that ended reading."""
    library = kind is Fetcher.PartitionRecords
    reader = kind(0, WHERE, MemoryRecords(content))
    taken: list[Any] = []
    ended: Exception | None = None
    try:
        while reader:
            taken += reader.take()
        reader._maybe_raise_next_inline_exception()  # a drained reader is not taken from again, but asked for anew
    except KafkaError as fault:
        ended = fault
    except (struct.error, AssertionError, UnicodeDecodeError) as fault:
        if not library:
            raise
        ended = fault
    if library:
        return record_frames(taken), ended
    good, fault = sound(taken)
    if fault is not None:
        with pytest.raises(CorruptRecordError):
            frame(taken)
    return frame(good) if good else record_frames([]), ended or fault


@settings(max_examples=300, derandomize=True, deadline=None)
@given(codec=st.integers(0, 4), where=st.integers(0, 2**16), mask=st.integers(1, 255))
def test_any_flipped_byte_is_met_as_the_library_meets_it(codec: int, where: int, mask: int) -> None:
    parts, end = [], 0
    for size in (1, 3, 2):
        rows = [(1_700_000_000_000 + n, b"k" * n, b"value" * n, []) for n in range(size)]
        part, end = v2({"codec": codec, "records": rows, "gaps": [0] * size}, end)
        parts.append(part)
    damaged = bytearray(b"".join(parts))
    where %= len(damaged)
    damaged[where] ^= mask
    theirs, their_fault = outcome(Fetcher.PartitionRecords, bytes(damaged))
    ours, our_fault = outcome(batch_reader(), bytes(damaged))
    starts = (0, len(parts[0]), len(parts[0] + parts[1]))
    if any(start <= where < start + 8 for start in starts):
        return  # an offset that no check sum covers and only the broker can know; it must not break anything else
    assert same(ours, theirs)
    assert (our_fault is None) == (their_fault is None)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(where=st.integers(0, 2**16), mask=st.integers(1, 255))
def test_any_flipped_byte_of_a_record_behind_a_right_check_sum(where: int, mask: int) -> None:
    rows = [(1_700_000_000_000 + n, b"k" * n, b"value" * n, []) for n in range(6)]
    whole, _ = v2({"codec": 0, "records": rows, "gaps": [0] * 6}, 0)
    tail = bytearray(whole[61:])
    where %= len(tail)
    begin = 0
    while begin < len(tail):  # the attributes are one byte, whatever the library reads into them; nobody uses them
        if where == begin + 1:
            mask &= 0x7F
        begin += 1 + (tail[begin] >> 1)
    tail[where] ^= mask
    content = resealed(whole, tail=bytes(tail)) + v2({"codec": 0, "records": rows, "gaps": [0] * 6}, 6)[0]
    theirs, their_fault = outcome(Fetcher.PartitionRecords, content)
    ours, our_fault = outcome(batch_reader(), content)
    if their_fault is not None:  # the batch path gives up on whole batches, and never looks at headers
        assert our_fault is not None or list(ours[2])[: len(theirs[2])] == list(theirs[2])
    elif theirs[0].tolist() != list(range(12)):  # the library hands on offsets that no log can have
        assert our_fault is not None
    elif our_fault is not None:  # the library takes any negative size for "nothing"
        assert "negative size" in str(our_fault)
    else:
        assert same(ours, theirs)


def test_a_failed_self_test_leaves_the_batch_path_alone_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(reader: type) -> None:
        raise AttributeError("_unpack_records is gone")

    monkeypatch.setattr(batchpath, "self_test", wrong)
    batch_reader.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert batch_reader() is None
            assert batch_reader() is None
    finally:
        batch_reader.cache_clear()
    (said,) = [record.message for record in caplog.records]
    assert "record by record" in said
    assert "_unpack_records is gone" in said


def test_the_self_test_sees_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = batch_reader()
    assert reader is not None
    true_frame = batchpath.frame

    def late(pieces: Any, *keep: Any) -> Any:
        offsets, times_ms, values = true_frame(pieces, *keep)
        return offsets, times_ms + np.int64(1), values

    monkeypatch.setattr(batchpath, "frame", late)
    with pytest.raises(ValueError, match="disagree"):
        batchpath.self_test(reader)


def test_the_self_test_sees_a_reader_that_checks_no_sums() -> None:
    reader = batch_reader()
    assert reader is not None
    blind = type("Blind", (reader,), {"check_crcs": property(lambda self: False, lambda self, value: None)})
    with pytest.raises(ValueError, match="check sum"):
        batchpath.self_test(blind)


def test_the_self_test_sees_a_reader_that_gives_out_control_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = batch_reader()
    assert reader is not None
    greedy = type("Greedy", (reader,), {"_skipped": lambda self, batch: batch.last_offset < self.fetch_offset})
    with pytest.raises(ValueError, match="disagree"):
        batchpath.self_test(greedy)


# Bombs

CODECS = {
    1: kafka.codec.gzip_encode,
    2: kafka.codec.snappy_encode,
    3: kafka.codec.lz4_encode,
    4: kafka.codec.zstd_encode,
}


@pytest.mark.parametrize("codec", CODECS)
@given(data=st.one_of(st.binary(min_size=1, max_size=400), st.integers(1, 100_000).map(lambda n: b"v" * n)))
def test_what_was_packed_comes_out_again_up_to_the_limit(codec: int, data: bytes):
    packed = bytes(CODECS[codec](data))
    assert unpacked(codec, packed, len(data)) == data
    with pytest.raises(TooLarge):
        unpacked(codec, packed, len(data) - 1)


@pytest.mark.parametrize("codec", [1, 3])
@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
def test_packed_bytes_that_end_too_early_are_damaged(codec: int, left: float):
    packed = bytes(CODECS[codec](bytes(range(256)) * 100))
    with pytest.raises((EOFError, RuntimeError)):
        unpacked(codec, packed[: max(1, int(len(packed) * left))])


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 1 MiB at most, on every path; the library as it was afterwards."""
    for module in (kafka.codec, default_records, legacy_records):
        for name in ("gzip_decode", "snappy_decode", "lz4_decode", "zstd_decode"):
            monkeypatch.setattr(module, name, getattr(module, name, None), raising=False)
    monkeypatch.setattr(unpack, "unpacked", partial(unpack.unpacked, limit=1 << 20))
    monkeypatch.setattr(recordbatch, "unpacked", unpack.unpacked)
    unpack.bound_library()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("reader_of", [batch_reader, lambda: Recordwise], ids=["batches", "records"])
def test_a_bomb_is_passed_over_without_room_for_it(codec: int, reader_of: Callable[[], type], tight: None):
    small = {"codec": codec, "records": [(5, None, b"v", [])], "gaps": [0]}
    bomb = {"codec": codec, "records": [(5, None, b"\0" * (3 << 20), []), (6, None, b"x", [])], "gaps": [0, 0]}
    contents = v2(small, 100)[0] + v2(bomb, 101)[0] + v2(small, 103)[0] + v2(bomb, 104)[0]
    pieces, reader = read(reader_of(), contents, 100, [], 0)
    refused = [(piece.base_offset, piece.next_offset) for piece in pieces if isinstance(piece, Refused)]
    assert refused == [(101, 103), (104, 106)]
    frames = record_frames(pieces) if reader_of() is Recordwise else frame(pieces)
    assert frames[0].tolist() == [100, 103]
    assert frames[2] == [b"v", b"v"]
    assert frame([piece for piece in pieces if isinstance(piece, Refused)])[2] == []
    assert reader.next_fetch_offset == 106
    if reader_of() is not Recordwise:
        assert sound(pieces) == (pieces, None)
    # Asked for from its middle on, only the rest is lost.
    (first, *_), _ = read(reader_of(), contents[len(v2(small, 100)[0]) :], 102, [], 0)
    assert (first.base_offset, first.next_offset) == (102, 103)


@pytest.mark.parametrize("codec", [1, 2, 3])
@pytest.mark.parametrize("reader_of", [batch_reader, lambda: Recordwise], ids=["batches", "records"])
def test_a_bomb_of_an_old_format_is_passed_over_too(codec: int, reader_of: Callable[[], type], tight: None):
    small = {"codec": codec, "records": [(5, None, b"v", [])]}
    bomb = {"codec": codec, "records": [(5, None, b"\0" * (3 << 20), []), (6, None, b"x", [])]}
    for magic in (1, *([0] if codec < 3 else [])):
        contents = b""
        for batch, first, last in ((small, 100, 100), (bomb, 101, 102), (small, 103, 103)):
            # A broker gives a packed message the last offset in it.
            contents += struct.pack(">q", last) + legacy(batch, first, magic)[0][8:]
        pieces, reader = read(reader_of(), contents, 100, [], 0)
        (refused,) = (piece for piece in pieces if isinstance(piece, Refused))
        assert (refused.base_offset, refused.next_offset) == (101, 103)
        frames = record_frames(pieces) if reader_of() is Recordwise else frame(pieces)
        assert frames[0].tolist() == [100, 103]
        assert reader.next_fetch_offset == 104


def test_a_size_that_is_only_claimed_gets_no_room():
    claim = bytes([0xFF, 0xFF, 0xFF, 0xFF, 0x0F]) + b"\0" * 10
    with pytest.raises(TooLarge, match="claims 4294967295 bytes"):
        unpacked(2, claim)


def test_values_of_zeros_take_no_more_room_than_they_have() -> None:
    """A record's end is looked for among zero bytes, and every place found takes sixteen."""
    value = bytes(4 << 20)
    batch = Packed(*record_of(value), base_offset=0, base_ms=0, append_time=False, floor=0, next_offset=1)
    tracemalloc.start()
    try:
        _, _, values = frame([batch])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert values[0] == value
    assert peak < 2 * len(value)


def record_of(value: bytes) -> tuple[bytearray, int, int, int]:
    """A payload of one record without key and headers, where it begins and ends, and how many it has."""
    size = bytearray()
    encode_varint(len(value), size.append)
    body = b"\0\0\0\1" + bytes(size) + value + b"\0"
    head = bytearray()
    encode_varint(len(body), head.append)
    payload = head + body
    return payload, 0, len(payload), 1
