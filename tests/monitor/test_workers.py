"""Workers on a real broker: what they bring is what was produced, once, through a seek, a death and a fault."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Producer

from detectors import Bins
from monitor.batch import Partition, Records
from monitor.config import Fields
from monitor.decode import Layout, layout
from monitor.decode.reading import Reading
from monitor.errors import SourceError
from monitor.sources.kafka import KafkaSource, Pace
from monitor.sources.workers import Job, Workers

PARTITIONS = 4
Rows = dict[Partition, list[tuple[int, float]]]
names = (f"workers-{number}" for number in itertools.count())


def nothing() -> None:
    """What a process does first."""


def die() -> None:
    raise SystemExit(7)


def away(number: int) -> str:
    raise SourceError(f"schema {number} cannot be had")


@pytest.fixture(scope="module")
def places() -> Layout:
    return layout(
        Fields(), Bins.of({"x": np.random.default_rng(0).normal(size=4_000)}, {"plan": {"free": 1, "paid": 1}})
    )


@pytest.fixture
def topic(real_broker: Any) -> str:
    name = next(names)
    real_broker.create_topic(name, PARTITIONS)
    return name


def produce(broker: Any, topic: str, numbers: Sequence[int]) -> None:
    # Without idempotence a retry to a new topic's leader may put a later record before an earlier one.
    settings = {"bootstrap.servers": broker.bootstrap_servers, "log_level": 0, "enable.idempotence": True}
    producer = Producer(settings)
    for i in numbers:
        value = b"{broken" if i % 97 == 0 else json.dumps({"x": i, "plan": "paid"}).encode()
        producer.produce(topic, value, partition=i % PARTITIONS)
    assert producer.flush(30) == 0


@contextmanager
def workers(
    options: Any, topic: str, places: Layout, begin: Callable[[], object] = nothing, **more: Any
) -> Iterator[Any]:
    reading = Reading("m", frozenset([topic]), more.pop("format", "json"), places, needs_time=False, **more)
    made = partial(KafkaSource, [topic], options, pace=Pace(recheck_seconds=0.3, connect_seconds=1))
    source = Workers(Job(made, [reading], begin), 2)
    try:
        yield source
    finally:
        source.close()
        assert not multiprocessing.active_children()


def read(source: Workers, n_wanted: int, found: Rows, n_faults: int = 0) -> list[str]:
    """Read until there are so many rows and rejects; the faults on the way."""
    faults: list[str] = []
    deadline = time.monotonic() + 60
    while sum(map(len, found.values())) < n_wanted or len(faults) < n_faults:
        assert time.monotonic() < deadline, {at: len(rows) for at, rows in found.items()}
        try:
            for records in source.poll(0.2):
                take(records, found)
        except SourceError as fault:
            faults.append(str(fault))
    return faults


def take(records: Records, found: Rows) -> None:
    batch = records.decoded["m"]
    rows = [*zip(batch.offsets.tolist(), batch.numbers[0].tolist(), strict=True)]
    rejected = [(reject.offset, -1.0) for reject in batch.rejects]
    assert records.next_offset > records.offsets[-1]
    found.setdefault(records.partition, []).extend(sorted(rows + rejected))


def produced(topic: str, n: int) -> Rows:
    return {
        Partition(topic, p): [
            (offset, -1.0 if i % 97 == 0 else float(i)) for offset, i in enumerate(range(p, n, PARTITIONS))
        ]
        for p in range(PARTITIONS)
    }


def test_every_row_comes_once_and_in_order(real_broker: Any, topic: str, places: Layout):
    produce(real_broker, topic, range(4_000))
    with workers(real_broker.consumer_options, topic, places) as source:
        found: Rows = {}
        assert read(source, 4_000, found) == []
        assert found == produced(topic, 4_000)
        while source.caught_up() != source.assigned():
            source.poll(0.2)
        assert source.assigned() == found.keys()
        assert source.lag() == dict.fromkeys(found, 0)
        assert source.connected
        assert source.losses() == []


def test_nothing_is_given_away_before_all_have_said_what_they_read(real_broker: Any, topic: str, places: Layout):
    produce(real_broker, topic, range(400))
    with workers(real_broker.consumer_options, topic, places) as source:
        while not source.poll(0.2):
            pass
        assert len(source.assigned()) == PARTITIONS


def test_a_seek_passes_over_what_is_on_its_way(real_broker: Any, topic: str, places: Layout):
    produce(real_broker, topic, range(4_000))
    with workers(real_broker.consumer_options, topic, places) as source:
        first, second, again = Partition(topic, 0), Partition(topic, 1), dict[Partition, list[tuple[int, float]]]()
        source.seek({second: 990})
        found: Rows = {}
        read(source, 3_010, found)
        source.seek({first: 400})
        assert first not in source.caught_up()
        produce(real_broker, topic, range(4_000, 4_040))
        read(source, 600 + 40, again)
        assert [offset for offset, _ in found[second]] == list(range(990, 1_000))
        assert [offset for offset, _ in again[first]] == list(range(400, 1_010))


def test_what_is_held_stands_still_in_its_worker(real_broker: Any, topic: str, places: Layout):
    produce(real_broker, topic, range(400))
    with workers(real_broker.consumer_options, topic, places) as source:
        found: Rows = {}
        read(source, 400, found)
        held = frozenset({Partition(topic, 0), Partition(topic, 2)})
        source.seek(dict.fromkeys(held, 10))
        source.hold(held)
        produce(real_broker, topic, range(400, 800))
        fresh: Rows = {}
        read(source, 200, fresh)
        assert not fresh.keys() & held
        assert source.assigned() == found.keys()
        source.hold(frozenset())
        read(source, 200 + 2 * 190, fresh)
        assert {at: [offset for offset, _ in rows] for at, rows in fresh.items()} == {
            at: list(range(10 if at in held else 100, 200)) for at in found
        }


def test_a_worker_that_dies_is_a_fault_and_costs_nothing(real_broker: Any, topic: str, places: Layout):
    with workers(real_broker.consumer_options, topic, places) as source:
        found: Rows = {}
        for part in range(4):
            produce(real_broker, topic, range(part * 1_000, (part + 1) * 1_000))
            read(source, part * 1_000 + 1, found)
            victim = multiprocessing.active_children()[part % 2]
            victim.kill()
            (fault,) = read(source, (part + 1) * 1_000, found, n_faults=1)
            assert "has ended with status -9" in fault
        assert found == produced(topic, 4_000)


def test_a_worker_that_cannot_begin_is_a_fault_each_time(real_broker: Any, topic: str, places: Layout):
    with workers(real_broker.consumer_options, topic, places, begin=die) as source:
        faults = read(source, 0, {}, n_faults=3)
        assert all("has ended with status 7" in fault for fault in faults)
        assert not source.connected


def test_what_decoding_cannot_have_is_a_fault_until_it_can(real_broker: Any, topic: str, places: Layout):
    producer = Producer({"bootstrap.servers": real_broker.bootstrap_servers, "log_level": 0})
    producer.produce(topic, b"\0\0\0\0\7rest", partition=1)
    assert producer.flush(30) == 0
    with workers(real_broker.consumer_options, topic, places, format="avro", schemas=away) as source:
        found: Rows = {}
        assert read(source, 0, found, n_faults=2) == ["schema 7 cannot be had"] * 2
        assert Partition(topic, 1) not in source.caught_up()
        assert found == {}


def test_a_topic_made_anew_is_told_and_read_from_where_one_says(real_broker: Any, topic: str, places: Layout):
    produce(real_broker, topic, range(400))
    with workers(real_broker.consumer_options, topic, places) as source:
        read(source, 400, {})
        before, admin = dict(source.log_ids()), real_broker.admin()
        assert before.keys() == {topic}
        admin.delete_topics([topic])[topic].result(30)
        while topic in admin.list_topics(timeout=5).topics:
            time.sleep(0.05)
        real_broker.create_topic(topic, PARTITIONS)
        produce(real_broker, topic, range(1_000))
        deadline = time.monotonic() + 60
        while source.log_ids() == before:
            assert time.monotonic() < deadline
            source.poll(0.2)
        source.seek({Partition(topic, number): 0 for number in range(PARTITIONS)})
        found: Rows = {}
        read(source, 1_000, found)
        assert found == produced(topic, 1_000)


def test_without_a_broker_nothing_comes_and_it_can_be_stopped(places: Layout):
    with workers({"bootstrap_servers": "127.0.0.1:1"}, "t", places) as source:
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            assert source.poll(0.2) == []
        assert not source.connected
        assert source.assigned() == source.caught_up() == frozenset()
