"""Kafka record by record, as kafka-python reads it, where whole batches cannot be read; what unpacks to too much is
passed over here too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kafka.consumer.fetcher import Fetcher

from monitor.sources.recordbatch import Refused
from monitor.sources.unpack import TooLarge


class Recordwise(Fetcher.PartitionRecords):  # type: ignore[misc]
    """The library's own, with a `Refused` among its records where a batch was too large; see `unpack.bound_library`."""

    next_fetch_offset: int

    def _unpack_records(self, tp: Any, records: Any, *deserializers: Any) -> Iterator[Any]:
        watched = _Watched(records)
        while True:
            try:
                yield from super()._unpack_records(tp, watched, *deserializers)
            except TooLarge as fault:
                refused = Refused.of(watched.last, self.next_fetch_offset, fault)
                self.next_fetch_offset = refused.next_offset
                yield refused  # the next turn goes on behind it
            else:
                return


class _Watched:
    """Batches as they come, of which the last one is remembered."""

    def __init__(self, records: Any) -> None:
        self._records = records
        self.last: Any = None

    def next_batch(self) -> Any:
        self.last = self._records.next_batch()
        return self.last
