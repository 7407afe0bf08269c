"""Arrays as bytes: named, versioned, checksummed, and the same for equal arrays."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_HEAD: Final = struct.Struct("<4sHI")
_MAGIC: Final = b"DRAR"
_VERSION: Final = 1

_SPARSE: Final = struct.Struct("<BI")

Arrays = Mapping[str, NDArray[Any]]
Integers = NDArray[np.int64]


def pack(facts: Mapping[str, Any], arrays: Arrays, *, level: int = 0) -> bytes:
    """Facts (as JSON) and arrays as bytes. level: of compression, 0 for none."""
    shapes = [[name, array.dtype.str.replace(">", "<"), array.shape] for name, array in arrays.items()]
    head = json.dumps([facts, level, shapes], ensure_ascii=True).encode()
    body = b"".join(np.ascontiguousarray(a, a.dtype.newbyteorder("<")).tobytes() for a in arrays.values())
    data = _HEAD.pack(_MAGIC, _VERSION, len(head)) + head + (zlib.compress(body, level) if level else body)
    return data + struct.pack("<I", zlib.crc32(data))


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what `pack` wrote; the arrays are read-only. ValueError says what is wrong."""
    if len(data) < _HEAD.size + 4 or data[:4] != _MAGIC:
        raise ValueError(f"not packed arrays: {len(data)} bytes that begin with {data[:4]!r}, wanted {_MAGIC!r}")
    view = memoryview(data)[:-4]
    if struct.unpack_from("<I", data, len(data) - 4)[0] != zlib.crc32(view):
        raise ValueError("damaged arrays: their checksum does not match their content")
    _, version, length = _HEAD.unpack_from(data)
    if version != _VERSION:
        raise ValueError(f"arrays of version {version}; this driftd reads version {_VERSION}")
    facts, level, shapes = json.loads(data[_HEAD.size : _HEAD.size + length])
    body = view[_HEAD.size + length :]
    if level:
        body = memoryview(zlib.decompress(body))
    arrays, at = {}, 0
    for name, dtype, shape in shapes:
        size = int(np.prod(shape))
        arrays[name] = np.frombuffer(body, dtype, size, at).reshape(shape)
        at += size * np.dtype(dtype).itemsize
    return facts, arrays


def sparse(numbers: NDArray[np.integer[Any]]) -> bytes:
    """Integers of any shape as bytes: how many, which of them are not 0, and these in as few bytes each as all fit in.

    Hardly longer than what compression makes of counts, in a fraction of the time.
    """
    flat = numbers.ravel()
    there = flat != 0
    kept = flat[there]
    low, high = (int(kept.min()), int(kept.max())) if kept.size else (0, 0)
    size = next(size for size in (1, 2, 4, 8) if -(1 << 8 * size - 1) <= low and high < 1 << 8 * size - 1)
    return b"".join((_SPARSE.pack(size, flat.size), np.packbits(there).tobytes(), kept.astype(f"<i{size}").tobytes()))


def dense(data: bytes, at: int = 0) -> tuple[Integers, int]:
    """Read what `sparse` wrote and stands at this place, and where it ends. ValueError when it ends too early."""
    size, n = _SPARSE.unpack_from(data, at)
    at += _SPARSE.size
    there = np.unpackbits(np.frombuffer(data, np.uint8, (n + 7) // 8, at), count=n).astype(np.bool_)
    at += (n + 7) // 8
    found = np.zeros(n, np.int64)
    found[there] = np.frombuffer(data, f"<i{size}", np.count_nonzero(there), at)
    return found, at + size * int(np.count_nonzero(there))
