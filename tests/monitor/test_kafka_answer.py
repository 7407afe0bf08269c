"""What stands in for kafka-python's own buffer of an answer does what that does."""

from __future__ import annotations

import random
import socket
import struct
from contextlib import closing, nullcontext
from types import SimpleNamespace
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.errors import KafkaConnectionError
from kafka.protocol import parser as protocol
from kafka.protocol.consumer import FetchResponse
from kafka.protocol.frame import KafkaBytes
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from monitor.sources.answer import RECEIVE_BYTES, Answer, Batches, receiver, stand_in


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(0, 30), max_size=8), st.integers(0, 60))
def test_it_reads_what_was_written_like_the_librarys(pieces: list[bytes], sizes: list[int], again: int) -> None:
    size = sum(map(len, pieces))
    ours, theirs = Answer(size), KafkaBytes(size)
    for buffer in (ours, theirs):
        for piece in pieces:
            buffer.write(memoryview(piece))
        assert (len(buffer), buffer.tell()) == (size, size)
        buffer.seek(0)
    for n in sizes:
        assert (ours.read(n), ours.tell()) == (theirs.read(n), theirs.tell())
    for buffer in (ours, theirs):
        buffer.seek(min(again, size))
    assert bytes(ours.read()) == theirs.read() == b"".join(pieces)[again:]


@pytest.mark.parametrize("size", [0, 5, RECEIVE_BYTES - 4, RECEIVE_BYTES, 3 * RECEIVE_BYTES + 7])
def test_what_comes_in_any_pieces_is_the_answer_and_no_byte_of_the_next(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """A long answer goes straight to its place, in whatever pieces the network has it; the library sees its end."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    monkeypatch.setattr(protocol, "KafkaBytes", Answer)
    parser = protocol.KafkaProtocol(receive_message_max_bytes=1 << 30)
    taken: list[bytes] = []
    parser._process_response = lambda buffer: taken.append(bytes(buffer.read()))
    transport = SimpleNamespace(_sock=ours, _protocol=SimpleNamespace(parser=parser))
    received = receiver(transport)
    answers = [random.Random(size + n).randbytes(size) for n in range(3)]
    sent = b"".join(struct.pack(">i", len(answer)) + answer for answer in answers)
    pieces = random.Random(size)
    while sent:
        piece, sent = sent[: (n := pieces.choice([1, 3, 70_000, 1 << 17]))], sent[n:]
        with closing(theirs) if not sent else nullcontext():
            theirs.sendall(piece)
        while True:
            data, fault = received()
            assert fault is None or (not sent and isinstance(fault, KafkaConnectionError))
            parser.receive_bytes(data)
            if not len(data):
                break
    assert taken == answers
    ours.close()


@pytest.mark.parametrize("version", [0, 4, 11, 12, FetchResponse.max_version])
def test_records_are_left_where_the_answer_has_them(monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    """With and without compact sizes; what there is none of stays none, and what follows is found behind it."""
    monkeypatch.setattr(FetchResponse._struct, "_compiled_encoders", {})
    stand_in()
    several = (b"abc" * 50_000, None, b"", b"z")
    partition, topic = FetchResponse.FetchableTopicResponse.PartitionData, FetchResponse.FetchableTopicResponse
    partitions = [
        partition(
            version=version, partition_index=number, error_code=0, high_watermark=number, last_stable_offset=7,
            log_start_offset=0, aborted_transactions=None, preferred_read_replica=-1, records=records,
        )
        for number, records in enumerate(several)
    ]  # fmt: skip
    responses = [topic(version=version, topic="t", topic_id=UUID(int=5), partitions=partitions)]
    sent = FetchResponse(version=version, throttle_time_ms=0, error_code=0, session_id=0, responses=responses)
    answer = np.frombuffer(sent.encode(), np.uint8)
    taken = FetchResponse.decode(memoryview(answer), version=version).responses[0].partitions
    assert [(part.partition_index, part.high_watermark, part.records) for part in taken] == [
        (number, number, records) for number, records in enumerate(several)
    ]
    assert np.shares_memory(np.frombuffer(taken[0].records, np.uint8), answer)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9)), max_size=5), st.integers(0, 90))
def test_batches_left_in_place_are_the_librarys_own(kinds: list[tuple[int, int]], cut: int) -> None:
    """Of every format, and where the last one is not all there, as brokers send it."""
    data, offset = bytearray(), 0
    for magic, n_records in kinds:
        builder = MemoryRecordsBuilder(magic, 0, 1 << 20, offset=offset)
        for n in range(n_records):
            builder.append(1_700_000_000_000 + n, None, b"v" * n)
        builder.close()
        data += builder.buffer()
        offset += n_records
    data = data[: max(0, len(data) - cut)]
    ours, theirs = Batches(data), MemoryRecords(bytes(data))
    while (batch := theirs.next_batch()) is not None:
        mine = ours.next_batch()
        assert mine.validate_crc() == batch.validate_crc() is True
        assert (mine.magic, mine.base_offset, mine.size_in_bytes) == (
            batch.magic, batch.base_offset, batch.size_in_bytes,
        )  # fmt: skip
        assert [(record.offset, record.value) for record in mine] == [(each.offset, each.value) for each in batch]
    assert ours.next_batch() is None
    assert ours.valid_bytes() == theirs.valid_bytes()
