"""Which records of a log are looked at when not all are: the same ones at every reading, whoever reads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from monitor.batch import Int64s, Partition
from monitor.rowsample import lots

Bools = NDArray[np.bool_]


class Sample:
    """A share of all records: those of the lowest lots.

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
        return np.asarray(lots(partition, offsets) < np.uint64(self._below))
