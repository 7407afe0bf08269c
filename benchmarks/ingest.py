"""CPU per record from Kafka to profiles, beside the ways in which one would read the same topic by hand.

Against a real Apache Kafka where it can be had, else the embedded broker. CPU seconds of this process, all its threads;
the topic is read several times by each way in turn, and the median counts.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition
from kafka import KafkaConsumer
from kafka import TopicPartition as Place

from benchmarks.clock import line
from detectors import Bins, Profile
from monitor.batch import Moment
from monitor.check import Reference
from monitor.cli import read_config
from monitor.line import Line, Saved
from monitor.sources.embedded import EmbeddedBroker
from monitor.sources.kafka import KafkaSource
from tests.broker.realbroker import RealBroker, available

N_NUMERIC, N_CATEGORICAL = 20, 5
WORDS = ["north", "south", "east", "west", "abroad"]
PARTITIONS = 4
GOAL = 2.0


def record(rng: random.Random, i: int) -> bytes:
    """About 584 bytes: an id, a time, a score, 20 numbers and 5 words."""
    features: dict[str, Any] = {f"feature_{j:02d}": round(rng.gauss(j, 1 + j / 7), 4) for j in range(N_NUMERIC)}
    features |= {f"category_{j}": rng.choice(WORDS) for j in range(N_CATEGORICAL)}
    document = {"id": f"{i:012d}", "ts": 1_700_000_000_000 + i, "score": round(rng.random(), 4), "features": features}
    return json.dumps(document).encode()


def reference() -> Reference:
    rng = np.random.default_rng(0)
    numbers = {f"feature_{j:02d}": rng.normal(j, 1 + j / 7, 20_000) for j in range(N_NUMERIC)}
    numbers["score"] = rng.random(20_000)
    bins = Bins.of(numbers, {f"category_{j}": dict.fromkeys(WORDS, 4_000) for j in range(N_CATEGORICAL)})
    return Reference("bench", bins, Profile.empty(bins))


@contextmanager
def topic(n_records: int) -> Iterator[tuple[dict[str, Any], str, float]]:
    """A filled topic: options for kafka-python, its name, and the bytes per record."""
    rng = random.Random(1)
    values = [record(rng, i) for i in range(n_records)]
    with RealBroker() if available() is None else EmbeddedBroker() as broker:
        broker.create_topic("bench", PARTITIONS)
        options = dict(broker.consumer_options)
        settings = {"bootstrap.servers": ",".join(options["bootstrap_servers"]), "log_level": 0, "batch.size": 300_000}
        producer = Producer({**settings, "linger.ms": 50, "queue.buffering.max.messages": n_records})
        for i, value in enumerate(values):
            producer.produce("bench", value, partition=i % PARTITIONS)
        producer.flush(60)
        print(f"broker: {type(broker).__name__}, {n_records:,} records of {np.mean([*map(len, values)]):.0f} bytes")
        yield options, "bench", 0.0


def by_hand(options: dict[str, Any], name: str, n_records: int) -> None:
    """kafka-python's poll and json.loads: what a first version of such a daemon does. Counts nothing."""
    consumer = KafkaConsumer(**options, auto_offset_reset="earliest", enable_auto_commit=False, group_id=None)
    consumer.assign([Place(name, number) for number in range(PARTITIONS)])
    seen = 0
    while seen < n_records:
        for records in consumer.poll(timeout_ms=500, max_records=5_000).values():
            for found in records:
                json.loads(found.value)
            seen += len(records)
    consumer.close()


def confluent(options: dict[str, Any], name: str, n_records: int) -> None:
    """librdkafka's consume and msgspec into a type: the fast way by hand. Counts nothing."""
    features = [(f"feature_{j:02d}", float) for j in range(N_NUMERIC)]
    features += [(f"category_{j}", str) for j in range(N_CATEGORICAL)]
    inner = msgspec.defstruct("Features", features)
    decoder = msgspec.json.Decoder(msgspec.defstruct("Row", [("ts", int), ("score", float), ("features", inner)]))
    settings = {"bootstrap.servers": ",".join(options["bootstrap_servers"]), "group.id": "none", "log_level": 0}
    consumer = Consumer({**settings, "enable.auto.commit": False, "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(name, number, 0) for number in range(PARTITIONS)])
    seen = 0
    while seen < n_records:
        found = consumer.consume(5_000, 0.5)
        for message in found:
            decoder.decode(message.value())
        seen += len(found)
    consumer.close()


def ours(options: dict[str, Any], name: str, n_records: int, fresh: Callable[[], Line]) -> None:
    """The daemon's way: records to profiles of open windows."""
    line_, source = fresh(), KafkaSource([name], options)
    while sum(line_.offsets.values()) < n_records:
        for records in source.poll(0.5):
            line_.step(records)
    line_.tick(Moment(0, source.assigned()))
    source.close()


def main() -> None:
    normal = reference()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "driftd.toml"
        file.write_text(
            '[[model]]\nname = "m"\ntopics = ["bench"]\nreference = "r"\nwindow = "1h"\n'
            '[model.fields]\nid = "id"\ntimestamp = "ts"\nscore = "score"\nfeatures = "features"\n'
        )
        config = read_config(file)
    n_records = 100_000 if available() is None else 25_000
    with topic(n_records) as (options, name, _):
        ways: dict[str, Callable[[], None]] = {
            "driftd: Kafka to profiles": lambda: ours(
                options, name, n_records, lambda: Line(config, config.model[0], normal, Saved(), lambda *_: None)
            ),
            "kafka-python poll + json.loads": lambda: by_hand(options, name, n_records),
            "confluent-kafka consume + msgspec": lambda: confluent(options, name, n_records),
        }
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(5):
            for way, work in ways.items():
                began = time.process_time()
                work()
                taken[way].append((time.process_time() - began) / n_records * 1e6)
    medians = {way: statistics.median(values) for way, values in taken.items()}
    print(f"{'CPU µs per record':56} {'ours':>8} {'other':>8} {'ratio':>8} {'goal':>6}")
    mine = medians.pop("driftd: Kafka to profiles")
    for way, other in medians.items():
        line(way, mine, other, GOAL if "json" in way else 1.0)


if __name__ == "__main__":
    main()
