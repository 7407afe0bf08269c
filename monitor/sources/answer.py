"""A broker's answer, from the socket to the record batches in it, which are left where they lie.

kafka-python copies all of it several times on this way. What is here stands in for the parts of it that do.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import numpy as np
from kafka.errors import KafkaConnectionError
from kafka.protocol import parser
from kafka.protocol.consumer import FetchResponse
from kafka.protocol.schemas.fields.codecs.types import Bytes, UnsignedVarInt32
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecords

RECEIVE_BYTES: Final = 1 << 18
"""So many at most before the library is given what came."""


def stand_in() -> None:
    """Stand in for the library's parts, in every connection that this process makes from now on."""
    parser.KafkaBytes = Answer
    with suppress(AttributeError, KeyError):  # a library that has it elsewhere copies, which is only slower
        partitions = FetchResponse._struct.fields["responses"].array_of.fields["partitions"]
        partitions.array_of.fields["records"]._type = _Uncopied


def receiver(transport: Any) -> Callable[[], tuple[memoryview, KafkaConnectionError | None]]:
    """Takes what has come from a socket, in large pieces, where the library takes 4 KiB at a time.

    What belongs to a long answer goes straight to its place, but for the end, by which the library notices that it is
    there; all else always into the same memory, as the library copies it at once. A broker that refuses a login says so
    and hangs up; the library would throw away what came with the hang-up.
    """
    buffer = memoryview(bytearray(RECEIVE_BYTES))

    def received() -> tuple[memoryview, KafkaConnectionError | None]:
        size, fault = 0, None
        coming = getattr(getattr(transport._protocol, "parser", None), "_rbuffer", None)
        answer = coming if isinstance(coming, Answer) else Answer(0)
        while size < RECEIVE_BYTES:
            straight = not size and len(answer.room) > RECEIVE_BYTES
            room = answer.room[:-RECEIVE_BYTES] if straight else buffer[size:]
            try:
                more = transport._sock.recv_into(room)
            except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except OSError as error:
                fault = KafkaConnectionError(error)
                break
            if not more:
                fault = KafkaConnectionError("socket disconnected")
                break
            if straight:
                answer.seek(answer.tell() + more)
            else:
                size += more
        return buffer[:size], None if size else fault

    return received


class Answer:
    """A broker's answer while it comes in, in the place of the library's own class, which copies it more often."""

    def __init__(self, size: int) -> None:
        self._bytes = memoryview(np.empty(size, np.uint8).data)
        self._at = 0

    def __len__(self) -> int:
        return len(self._bytes)

    def read(self, size: int | None = None) -> bytes | memoryview:
        """The next bytes; all that are left are not copied."""
        begin, self._at = self._at, min(len(self._bytes), self._at + (len(self._bytes) if size is None else size))
        found = self._bytes[begin : self._at]
        return found if size is None else bytes(found)

    @property
    def room(self) -> memoryview:
        """Where the bytes go that are still to come."""
        return self._bytes[self._at :]

    def write(self, data: bytes | memoryview) -> None:
        """The next bytes have come."""
        self._bytes[self._at : self._at + len(data)] = data
        self._at += len(data)

    def seek(self, at: int) -> None:
        """Go on at this place."""
        self._at = at

    def tell(self) -> int:
        """The place that is next."""
        return self._at


class _Uncopied(Bytes):  # type: ignore[misc]  # the library has no types
    """Records within an answer, as a view of it; the library's own class copies them."""

    @classmethod
    def emit_decode_from(cls, ctx: Any, var_name: str, indent: str, compact: bool = False) -> None:
        """Writes the Python that reads them, as the library does for each type."""
        size = ctx.next_var("size")
        if compact:
            UnsignedVarInt32.emit_decode_from(ctx, size, indent)
            ctx.emit(indent, f"{size} -= 1")
        else:
            ctx.emit(indent, f"{size} = unpack_from('>i', data, pos)[0]")
            ctx.emit(indent, "pos += 4")
        ctx.emit(indent, f"{var_name} = data[pos : pos + {size}] if {size} >= 0 else None")
        ctx.emit(indent, f"pos += max(0, {size})")


class Batches(MemoryRecords):  # type: ignore[misc]  # the library has no types
    """A partition's batches in one answer, left where they lie; the library's own copies each."""

    __slots__ = ()

    def __init__(self, answer: bytes | bytearray | memoryview) -> None:
        whole = memoryview(answer)
        super().__init__(memoryview(bytearray(whole)) if whole.readonly else whole)

    def next_batch(self) -> Any:
        """The next one; None at the end."""
        batch, end = self._next_slice, self._pos
        if batch is None or len(batch) < Batch.HEADER_STRUCT.size or not 2 <= batch[self.MAGIC_OFFSET] < 0x80:
            return super().next_batch()
        self._cache_next()
        return Batch(self._buffer, end - len(batch), end)


class Batch(DefaultRecordBatch):  # type: ignore[misc]  # the library has no types
    """A batch of today's format that begins and ends so in the answer."""

    __slots__ = ("answer", "begin")

    def __init__(self, answer: memoryview, begin: int, end: int) -> None:
        super().__init__(answer[begin : begin + self.HEADER_STRUCT.size])
        self._buffer = answer[begin:end]  # type: ignore[misc]  # a slot of the library's class
        self.answer, self.begin = answer, begin
