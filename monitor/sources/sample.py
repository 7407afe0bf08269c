"""Which records of a log are looked at when not all are: the same ones at every reading, whoever reads."""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from monitor.batch import Int64s, Partition

Bools = NDArray[np.bool_]
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX: Final = ((30, np.uint64(0xBF58476D1CE4E5B9)), (27, np.uint64(0x94D049BB133111EB)))


class Sample:
    """A share of all records, chosen by a hash (SplitMix64) of topic, partition and offset.

    What a smaller share chooses, a larger one chooses too. The payload takes no part: it is not even looked at.

    >>> tenth = Sample(0.1).chosen(Partition("predictions", 0), np.arange(100_000))
    >>> round(float(tenth.mean()), 2)
    0.1
    """

    def __init__(self, share: float) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"a sample of {share}; it must lie above 0 and not above 1")
        self._below = int(share * 2**64)

    def chosen(self, partition: Partition, offsets: Int64s) -> Bools:
        """True for the records that are looked at."""
        if self._below >= 2**64:
            return np.ones(offsets.size, np.bool_)
        place = f"{partition.topic}\0{partition.number}".encode()
        seed = int.from_bytes(hashlib.blake2b(place, digest_size=8).digest(), "little")
        hashed = offsets.astype(np.uint64) * _STEP + np.uint64(seed)
        for shift, factor in _MIX:
            hashed = (hashed ^ (hashed >> np.uint64(shift))) * factor
        return np.asarray((hashed ^ (hashed >> np.uint64(31))) < np.uint64(self._below))
