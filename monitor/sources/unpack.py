"""Kafka's codecs undone, up to a size: a batch of a kilobyte may claim to hold gigabytes.

The pieces of each library that stop in time are used, never those that make room for all that is claimed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from typing import Any, Final

import kafka.codec
from kafka.record import default_records, legacy_records

MAX_BYTES: Final = 128 << 20
"""Of one batch, unpacked. Brokers take batches of 1 MiB by default, and real records shrink ten to thirty fold."""
_STEP: Final = 1 << 20
_XERIAL_HEADER: Final = 16


class TooLarge(Exception):
    """More bytes than a batch may have."""


def unpacked(codec: int, data: bytes, limit: int = MAX_BYTES) -> bytearray:
    """The bytes of a batch. TooLarge as soon as there are more than `limit`; damaged bytes raise as their library does.

    codec: by Kafka's number, from 1: gzip, snappy, lz4, zstd.
    """
    made = bytearray()
    for part in _PARTS[codec](data, limit):
        made += part
        if len(made) > limit:
            raise TooLarge(f"it unpacks to more than {limit >> 20} MiB")
    return made


def bound_library() -> None:
    """Make the client's own reading stop in time as well: its decoders raise TooLarge too from here on."""
    for codec, name in enumerate(("gzip_decode", "snappy_decode", "lz4_decode", "zstd_decode"), 1):
        for module in (kafka.codec, default_records, legacy_records):
            if hasattr(module, name):
                setattr(module, name, partial(unpacked, codec))


def _gzip(data: bytes, _: int) -> Iterator[bytes]:
    while data:
        member = zlib.decompressobj(31)
        while not member.eof:
            part = member.decompress(data, _STEP)
            if not part and not member.eof:
                raise EOFError("the compressed data end too early")
            data = member.unconsumed_tail
            yield part
        data = member.unused_data.lstrip(b"\0")  # padding, as the standard allows


def _snappy(data: bytes, limit: int) -> Iterator[bytes]:
    for block in _snappy_blocks(data):
        size = shift = 0
        for byte in block[:5]:
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if size > limit:  # before any room is made for it
            raise TooLarge(f"it claims {size} bytes")
        yield kafka.codec.snappy.decompress(block)


def _snappy_blocks(data: bytes) -> Iterator[bytes]:
    if not kafka.codec._detect_xerial_stream(data):
        yield data
        return
    at = _XERIAL_HEADER
    while at < len(data):
        (size,) = struct.unpack_from(">i", data, at)
        if size < 0 or at + 4 + size > len(data):
            raise ValueError("a block that ends outside its batch")
        yield data[at + 4 : at + 4 + size]
        at += 4 + size


def _lz4(data: bytes, _: int) -> Iterator[bytes]:
    reader = kafka.codec.lz4.LZ4FrameDecompressor()
    while not reader.eof:
        part = reader.decompress(data, _STEP)
        if not part and not reader.eof and reader.needs_input:
            raise EOFError("the compressed data end too early")
        data = b""
        yield part


def _zstd(data: bytes, _: int) -> Iterator[bytes]:
    with kafka.codec.zstd.ZstdDecompressor().stream_reader(BytesIO(data), read_across_frames=True) as reader:
        while part := reader.read(_STEP):
            yield part


_PARTS: Final[dict[int, Callable[[bytes, int], Iterator[Any]]]] = {1: _gzip, 2: _snappy, 3: _lz4, 4: _zstd}
