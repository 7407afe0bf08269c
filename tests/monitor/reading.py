"""What tests of KafkaSource have in common."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from monitor.batch import Partition, Records
from monitor.sources.kafka import KafkaSource, Pace

# kafka-python leaves the socket of a connection that was refused, or not trusted, to the garbage collector.
lets_sockets_go = pytest.mark.filterwarnings("ignore:unclosed <(socket.socket|ssl.SSLSocket):ResourceWarning")
leaves_sockets = pytest.mark.usefixtures("sockets_collected")

Read = dict[Partition, list[tuple[int, bytes | None]]]


def source(broker: Any, *topics: str, **options: Any) -> Any:
    start, pace = options.pop("start", "earliest"), options.pop("pace", Pace(recheck_seconds=0.3))
    merged = {**broker.consumer_options, "fetch_max_wait_ms": 100, **options}
    return closing(KafkaSource(topics, merged, start=start, pace=pace))


def until(one: KafkaSource, done: Callable[[Read], bool], seconds: float = 40, found: Read | None = None) -> Read:
    found = {} if found is None else found
    deadline = time.monotonic() + seconds
    while not done(found):
        assert time.monotonic() < deadline, f"after {seconds} s only { ({p: len(r) for p, r in found.items()}) }"
        for records in one.poll(0.1):
            check(records)
            values = [None if value is None else bytes(value) for value in records.values]
            found.setdefault(records.partition, []).extend(zip(records.offsets.tolist(), values, strict=True))
    return found


def connect(one: KafkaSource) -> None:
    """Polls until the first attempt to connect has failed or succeeded."""
    one.poll(0.1)
    while one._attempt is not None:
        one.poll(0.1)


def check(records: Records) -> None:
    assert len(records.values) == records.offsets.size == records.timestamps_ms.size > 0
    assert (records.offsets[1:] > records.offsets[:-1]).all()
    assert records.next_offset > records.offsets[-1]
    assert (abs(records.timestamps_ms / 1000 - time.time()) < 600).all()


def count(found: Read) -> int:
    return sum(len(records) for records in found.values())


def at_least(wanted: int) -> Callable[[Read], bool]:
    """One poll need not bring all that is there."""
    return lambda found: count(found) >= wanted


def numbered(partition: int, first: int, last: int) -> list[bytes | None]:
    return [b"%d:%d" % (partition, index) for index in range(first, last)]
