"""What stands in for kafka-python's own buffer of an answer does what that does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kafka.protocol.frame import KafkaBytes

from monitor.sources.kafkaclient import Answer


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
