"""Records that are no rows, rows that are odd, and an order that is none."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from confluent_kafka import Producer

from faults.fault import fault
from faults.ledger import FIRST_MS, N_PARTITIONS, STEP_MS, WINDOW_MS, Record, poison, row
from faults.scene import Scene

large = partial(fault, topic={"max_message_bytes": "8000000"})


def mixed_in(scene: Scene, strange: Callable[[int, int], Record], n: int = 60) -> int:
    """Strange records between the others, made from an id and a partition; the daemon stops once in the middle."""
    rng = random.Random(scene.seed + 1)
    records = list(scene.records)
    for number in range(n):
        records.insert(rng.randrange(len(records)), strange(1_000_000 + number, rng.randrange(N_PARTITIONS)))
    scene.records = records
    scene.feed(0.5)
    with scene.daemon() as daemon:
        scene.until(scene.settled, daemon)
        daemon.stop()
    scene.finish()
    return n


def poisoned(scene: Scene, values: Sequence[bytes | None], kind: str, n: int = 60) -> int:
    return mixed_in(scene, lambda i, at: poison(i, at, values[i % len(values)], kind), n)


@fault(quick=True)
def not_json(scene: Scene) -> int:
    """Records that are cut short, binary, empty, or two objects in one."""
    return poisoned(scene, [b'{"ts": 17040', b"\xff\xfe\x00", b"", b"{} {}", b'"\xc3"'], "not_json")


@fault()
def no_objects(scene: Scene) -> int:
    """Records that are JSON, and no object."""
    return poisoned(scene, [b"[]", b"17", b"null", b'"text"', b"true", b"NaN"], "not_an_object")


@fault()
def tombstones(scene: Scene) -> int:
    """Records without a value."""
    return poisoned(scene, [None], "tombstone")


@large()
def five_megabytes(scene: Scene) -> int:
    """Rows of 5 MB, most of it in a field that no column is made of."""

    def bulky(identity: int, partition: int) -> Record:
        record = row(identity, partition, FIRST_MS + (identity - 1_000_000) * 20_000, x=1.0, y=1, plan="free")
        assert record.value is not None
        return replace(record, value=record.value.replace(str(identity).encode(), b'"%s"' % (b"x" * 5_000_000), 1))

    return mixed_in(scene, bulky, 6)


@fault()
def deep_nesting(scene: Scene) -> int:
    """Records of 100,000 brackets, on their own and inside a row."""
    depth = 100_000
    values = [b"[" * depth, b'{"a":' * depth, b'{"ts": 1, "x": ' + b"[" * depth + b"]" * depth + b"}"]
    return poisoned(scene, values, "not_json", n=9)


@fault()
def no_event_time(scene: Scene) -> int:
    """Event times that are none: words, objects, NaN, years that never come."""
    times = ['"yesterday"', "{}", "[]", "true", "1e300", '"2024-13-01T00:00:00Z"', "-1e30"]
    return poisoned(scene, [f'{{"ts": {text}, "x": 1}}'.encode() for text in times], "event_time")


@fault()
def far_future(scene: Scene) -> int:
    """Rows from next year and from the year 9999: rejected, and the clocks of windows are not moved."""
    years = [4_102_444_800_000, "9999-01-01T00:00:00Z", "2100-01-01T00:00:00Z"]
    return poisoned(scene, [json.dumps({"ts": year, "x": 0.0}).encode() for year in years], "future")


@fault()
def far_past(scene: Scene) -> int:
    """Rows from years ago: too late for any window that is kept, counted as dropped."""

    def old(identity: int, partition: int) -> Record:
        return row(identity, partition, FIRST_MS - (100 + identity % 3_000) * 86_400_000, x=0.0, y=1, plan="free")

    return mixed_in(scene, old)


@fault()
def spread_over_months(scene: Scene) -> int:
    """Late rows each in a window of its own, over the last 80 days: every one of them is found in its window."""

    def old(identity: int, partition: int) -> Record:
        return row(identity, partition, FIRST_MS - (identity % 1_000) * 6_900_000, x=0.0, y=1, plan="free")

    return mixed_in(scene, old, 300)


@fault(quick=True)
def wrong_types(scene: Scene) -> int:
    """Rows whose values are of other kinds than the reference's: counted in cells of their own."""
    odd = ("words", [1, 2], {"a": 1}, "12", "")

    def strange(identity: int, partition: int) -> Record:
        value = odd[identity % len(odd)]
        time_ms = FIRST_MS + (identity - 1_000_000) * 20_000
        plan = value if not isinstance(value, str) else "trial"
        return row(identity, partition, time_ms, x=value, y=value, plan=plan)

    return mixed_in(scene, strange)


@fault()
def a_compression_bomb(scene: Scene) -> int:
    """Batches, small on the line and huge unpacked: they cost the room they need for a while, and only themselves."""
    scene.feed(0.5)
    settings = {"bootstrap.servers": scene.broker.bootstrap_servers, "log_level": 0, "message.max.bytes": 100_000_000}
    value = b"\0" * 60_000_000
    with scene.daemon() as daemon:
        scene.until(scene.settled, daemon)
        before_kb = daemon.peak_kb()
        for number, codec in enumerate(("gzip", "zstd")):
            bomb = poison(1_000_000 + number, number, value, "not_json")
            scene.ledger.produce(Producer({**settings, "compression.type": codec}), [bomb])
        scene.feed(1.0)
        scene.until(scene.settled, daemon)
        grown_mb = (daemon.peak_kb() - before_kb) // 1024
        daemon.stop()
    assert grown_mb < 600, f"it grew by {grown_mb} MB"
    return 2


@fault()
def duplicates(scene: Scene) -> int:
    """A producer that sends what it sent before: every record counts as often as it is in the log."""
    rng = random.Random(scene.seed)
    again = [replace(record, id=record.id + 2_000_000) for record in scene.records if rng.random() < 0.2]
    places = [(record.id % 1_000_000 + 40, record) for record in again]
    merged = sorted([*((float(r.id), r) for r in scene.records), *places], key=lambda place: place[0])
    scene.records = [record for _, record in merged]
    return _whole(scene) and len(again)


@fault(quick=True)
def disorder(scene: Scene) -> int:
    """The log is shuffled in stretches of several windows."""
    rng, mixed = random.Random(scene.seed), list(scene.records)
    size = 3 * WINDOW_MS // STEP_MS
    for begin in range(0, len(mixed), size):
        mixed[begin : begin + size] = rng.sample(mixed[begin : begin + size], len(mixed[begin : begin + size]))
    scene.records = mixed
    return _whole(scene)


@fault()
def one_partition_far_behind(scene: Scene) -> int:
    """One partition's whole log comes only when the others came to their end: nothing closes before it is there."""
    order = sorted(scene.records, key=lambda record: record.partition == 1)
    scene.records = list(order)
    with scene.daemon() as daemon:
        scene.feed(2 / 3)
        scene.until(scene.settled, daemon)
        assert scene.n_windows() == 0
        daemon.stop()
    scene.finish()
    return 1


def _whole(scene: Scene) -> int:
    for step in (0.4, 0.7):
        scene.feed(step)
        with scene.daemon() as daemon:
            scene.until(scene.settled, daemon)
            daemon.stop()
    scene.finish()
    return 1
