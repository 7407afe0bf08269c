"""What stands in for kafka-python's own buffer of an answer does what that does."""

from __future__ import annotations

import random
import socket
import struct
from contextlib import closing, nullcontext
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.errors import KafkaConnectionError
from kafka.protocol import parser as protocol
from kafka.protocol.frame import KafkaBytes

from monitor.sources.kafkaclient import RECEIVE_BYTES, Answer, receiver


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
