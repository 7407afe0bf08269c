"""CPU per record from Kafka to profiles, beside the ways in which one would read the same topic by hand.

Against a real Apache Kafka where it can be had, else the embedded broker. Every way runs in a process of its own, in
the environment as it is and in the one that `driftd tune` finds for this machine, and the better one counts for each.
CPU seconds of the process, all its threads, from before the first connection to after the last record; the least of
several readings of the whole topic, the ways taking turns. A way is a generator that stops once, before the clock runs.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition
from kafka import KafkaConsumer
from kafka import TopicPartition as Place

from detectors import Bins, Profile
from monitor.batch import Moment
from monitor.check import Reference
from monitor.cli import read_config
from monitor.line import Line, Saved
from monitor.sources.embedded import EmbeddedBroker
from monitor.sources.kafka import KafkaSource
from monitor.tune import settle, trials
from tests.broker.realbroker import RealBroker, available

WORDS = ["north", "south", "east", "west", "abroad"]
PARTITIONS = 4
FLOOR = "of that, reading and msgspec alone"
RUNS = 2


@dataclass(frozen=True)
class Shape:
    """A kind of record, and its goals: CPU µs per record, and how many times plain kafka-python's speed."""

    n_numeric: int
    n_words: int
    micros: float
    ratio: float

    @property
    def numbers(self) -> list[str]:
        return [f"feature_{j}" for j in range(self.n_numeric)]

    @property
    def words(self) -> list[str]:
        return [f"category_{j}" for j in range(self.n_words)]

    def record(self, rng: random.Random, i: int) -> bytes:
        digits = 3 if self.n_words else 2
        features: dict[str, Any] = {name: round(rng.gauss(j, 1 + j / 7), digits) for j, name in enumerate(self.numbers)}
        features |= {name: rng.choice(WORDS) for name in self.words}
        document = {"ts": 1_700_000_000_000 + i, "score": round(rng.random(), 3), "features": features}
        return json.dumps(document if self.n_words else {"id": f"{i:06x}", **document}).encode()

    def line(self) -> Line:
        rng = np.random.default_rng(0)
        numbers = {name: rng.normal(j, 1 + j / 7, 20_000) for j, name in enumerate(self.numbers)}
        numbers["score"] = rng.random(20_000)
        bins = Bins.of(numbers, {name: dict.fromkeys(WORDS, 4_000) for name in self.words})
        with TemporaryDirectory() as folder:
            file = Path(folder) / "driftd.toml"
            file.write_text(
                '[[model]]\nname = "m"\ntopics = ["t"]\nreference = "r"\nwindow = "1h"\n'
                '[model.fields]\nid = "id"\ntimestamp = "ts"\nscore = "score"\nfeatures = "features"\n'
            )
            config = read_config(file)
        return Line(config, config.model[0], Reference("bench", bins, Profile.empty(bins)), Saved(), lambda *_: None)


SHAPES = {"25 features": Shape(20, 5, micros=5.0, ratio=5.0), "4 features": Shape(4, 0, micros=1.8, ratio=1.0)}


def driftd(servers: Sequence[str], topic: str, n_records: int, shape: Shape) -> Iterator[None]:
    """The daemon's way: records to profiles of open windows."""
    line, source = shape.line(), KafkaSource([topic], options(servers))
    settle()
    yield
    while sum(line.offsets.values()) < n_records:
        for records in source.poll(0.5):
            line.step(records)
    line.tick(Moment(0, source.assigned()))
    source.close()


def floor(servers: Sequence[str], topic: str, n_records: int, shape: Shape) -> Iterator[None]:
    """What driftd cannot go below: its source, check sums and all, and msgspec into a type, thrown away."""
    decode, source, seen = typed(shape), KafkaSource([topic], options(servers)), 0
    settle()
    yield
    while seen < n_records:
        for records in source.poll(0.5):
            seen += records.n_read
            for value in records.values:
                assert value is not None
                decode(value)
    source.close()


def poll_loads(servers: Sequence[str], topic: str, n_records: int, _: Shape) -> Iterator[None]:
    """kafka-python's poll and json.loads, and the result thrown away."""
    yield
    for values in polled(servers, topic, n_records):
        for value in values:
            json.loads(value)


def poll_loads_count(servers: Sequence[str], topic: str, n_records: int, shape: Shape) -> Iterator[None]:
    """The same, and histograms: what a first version of such a daemon does."""
    count = Histograms(shape)
    yield
    for values in polled(servers, topic, n_records):
        documents = [json.loads(value) for value in values]
        count([document["features"] for document in documents], [document["score"] for document in documents])


def consume_msgspec(servers: Sequence[str], topic: str, n_records: int, shape: Shape) -> Iterator[None]:
    """librdkafka's consume and msgspec into a type, and the result thrown away."""
    decode = typed(shape)
    yield
    for values in consumed(servers, topic, n_records):
        for value in values:
            decode(value)


def consume_msgspec_count(servers: Sequence[str], topic: str, n_records: int, shape: Shape) -> Iterator[None]:
    """The same, and histograms."""
    decode, count = typed(shape), Histograms(shape)
    yield
    for values in consumed(servers, topic, n_records):
        rows = [decode(value) for value in values]
        count([msgspec.structs.asdict(row.features) for row in rows], [row.score for row in rows])


WAYS: dict[str, Callable[[Sequence[str], str, int, Shape], Iterator[None]]] = {
    "driftd: Kafka to profiles": driftd,
    FLOOR: floor,
    "kafka-python poll + json.loads": poll_loads,
    "kafka-python poll + json.loads + histograms": poll_loads_count,
    "confluent-kafka consume + msgspec": consume_msgspec,
    "confluent-kafka consume + msgspec + histograms": consume_msgspec_count,
}


class Histograms:
    """NumPy's histogram of every numeric column and the counts of every word."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._counts = {name: np.zeros(20, np.int64) for name in [*shape.numbers, "score"]}
        self._words: dict[str, dict[str, int]] = {name: {} for name in shape.words}

    def __call__(self, features: list[dict[str, Any]], scores: list[float]) -> None:
        columns = {name: np.array([row[name] for row in features]) for name in self._shape.numbers}
        for name, column in {**columns, "score": np.array(scores)}.items():
            self._counts[name] += np.histogram(column, 20, (-10, 40))[0]
        for name, counts in self._words.items():
            for row in features:
                counts[row[name]] = counts.get(row[name], 0) + 1


def typed(shape: Shape) -> Callable[[bytes | memoryview], Any]:
    inner = msgspec.defstruct("F", [*((name, float) for name in shape.numbers), *((name, str) for name in shape.words)])
    return msgspec.json.Decoder(msgspec.defstruct("R", [("ts", int), ("score", float), ("features", inner)])).decode


def options(servers: Sequence[str]) -> dict[str, Any]:
    return {"bootstrap_servers": list(servers), **({} if available() is None else {"api_version": (2, 0)})}


def polled(servers: Sequence[str], topic: str, n_records: int) -> Iterator[list[bytes]]:
    settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "group_id": None}
    consumer = KafkaConsumer(**options(servers), **settings)
    consumer.assign([Place(topic, number) for number in range(PARTITIONS)])
    seen = 0
    while seen < n_records:
        for records in consumer.poll(timeout_ms=500, max_records=5_000).values():
            yield [found.value for found in records]
            seen += len(records)
    consumer.close()


def consumed(servers: Sequence[str], topic: str, n_records: int) -> Iterator[list[bytes]]:
    settings = {"bootstrap.servers": ",".join(servers), "group.id": "none", "log_level": 0}
    consumer = Consumer({**settings, "enable.auto.commit": False, "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    seen = 0
    while seen < n_records:
        found = consumer.consume(5_000, 0.5)
        if found:
            yield [value for message in found if (value := message.value()) is not None]
        seen += len(found)
    consumer.close()


@contextmanager
def broker() -> Iterator[Any]:
    with RealBroker() if available() is None else EmbeddedBroker() as running:
        yield running


def fill(running: Any, topic: str, values: Sequence[bytes]) -> list[str]:
    """Produce values into the partitions of a new topic in turn; the broker's addresses."""
    servers = list(running.consumer_options["bootstrap_servers"])
    running.create_topic(topic, PARTITIONS)
    settings = {"bootstrap.servers": ",".join(servers), "log_level": 0, "batch.size": 300_000, "linger.ms": 50}
    producer = Producer({**settings, "queue.buffering.max.messages": len(values)})
    for i, value in enumerate(values):
        producer.produce(topic, value, partition=i % PARTITIONS)
    producer.flush(120)
    return servers


def child(way: str, topic: str, shape: str, n_records: int, servers: Sequence[str], tuned: Mapping[str, str]) -> float:
    """CPU µs per record of one way, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.ingest", way, topic, shape, str(n_records), *servers]
    done = subprocess.run(command, env={**os.environ, **tuned}, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def compare(topic: str, name: str, n_records: int, servers: Sequence[str], tuned: Mapping[str, str]) -> None:
    met: bool | None
    best = {way: [float("inf"), float("inf")] for way in WAYS}
    for _ in range(RUNS):
        for way, taken in best.items():
            for i, environment in enumerate(({}, tuned)):
                taken[i] = min(taken[i], child(way, topic, name, n_records, servers, environment))
    shape = SHAPES[name]
    ours = min(best["driftd: Kafka to profiles"])
    print(f"{'CPU µs per record, ' + name:50} {'as it is':>9} {'tuned':>9} {'driftd is':>10} {'goal':>9}")
    for way, (plain, with_tune) in best.items():
        other = min(plain, with_tune)
        if way == FLOOR:
            shown, goal, met = f"{other / ours:.0%}", "", None
        elif way.startswith("driftd"):
            shown, goal, met = "", f"<= {shape.micros} µs", ours <= shape.micros
        else:
            wanted = shape.ratio if "json.loads" in way else 1.0
            shown, goal, met = f"{other / ours:.1f}x", f">= {wanted:.0f}x", other / ours >= wanted
        verdict = "" if met is None else "met" if met else "MISSED"
        print(f"{way:50} {plain:9.2f} {with_tune:9.2f} {shown:>10} {goal:>9}  {verdict}".rstrip(), flush=True)


def main() -> None:
    tuned = {key: value for trial in trials() if trial.taken for key, value in trial.variables.items()}
    with broker() as running:
        for name, shape in SHAPES.items():
            n_records = 400_000 if available() is None else 25_000
            rng = random.Random(1)
            values = [shape.record(rng, i) for i in range(n_records)]
            topic = name.replace(" ", "-")
            servers = fill(running, topic, values)
            size = sum(map(len, values)) / n_records
            print(f"broker: {type(running).__name__}, {n_records:,} records of {size:.0f} bytes")
            compare(topic, name, n_records, servers, tuned)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        way, topic, name, n_records, *servers = sys.argv[1:]
        work = WAYS[way](servers, topic, int(n_records), SHAPES[name])
        next(work)
        began = time.process_time()
        next(work, None)
        print((time.process_time() - began) / int(n_records) * 1e6)
