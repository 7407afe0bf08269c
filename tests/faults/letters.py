"""The topic of dead letters, against the records that can be no rows."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from broker.realbroker import RealBroker
from confluent_kafka import Consumer, TopicPartition

from faults.judge import Ruling

MODEL = "loan"
HEAD_BYTES = 200
Origin = tuple[str, int, int]
"""Topic, partition and offset."""
Letter = tuple[bytes | None, dict[str, Any]]
"""Key and value of a record in the topic of dead letters."""


def read(broker: RealBroker, topic: str) -> list[Letter]:
    """All that is in the topic."""
    settings = {"bootstrap.servers": broker.bootstrap_servers, "group.id": topic, "enable.auto.commit": False}
    consumer = Consumer({**settings, "enable.partition.eof": True, "log_level": 0})
    found: list[Letter] = []
    try:
        left = set(consumer.list_topics(topic, 30).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, number, 0) for number in left])
        while left:
            message = consumer.poll(30)
            assert message is not None, f"{topic} cannot be read to its end"
            if message.error() is not None:
                assert message.error().name() == "_PARTITION_EOF", message.error()
                left.discard(message.partition())
            else:
                found.append((message.key(), json.loads(message.value())))
    finally:
        consumer.close()
    return found


def compare(
    found: Sequence[Letter], wanted: Iterable[tuple[str, int, int, str]], values: Mapping[Origin, bytes], ruling: Ruling
) -> None:
    """Whether every record that became no row has its letter, which names where it is from and says what is wrong.

    values: what is written at each place. A letter that is there once more than it should be counts as repeated.
    """
    due = {(topic, number, offset): kind for topic, number, offset, kind in wanted}
    times = Counter[Origin]()
    for key, letter in found:
        origin = (letter["topic"], letter["partition"], letter["offset"])
        times[origin] += 1
        if key != f"{MODEL}/{origin[0]}/{origin[1]}/{origin[2]}".encode():
            ruling.wrong.append(f"a letter from {origin} has the key {key!r}")
        said = (letter["model"], letter["kind"], base64.b64decode(letter["head"]))
        right = (MODEL, due.get(origin), values.get(origin, b"")[:HEAD_BYTES])
        if said != right or not letter["reason"]:
            ruling.wrong.append(f"the letter from {origin} says {said} because of {letter['reason']!r}, not {right}")
    ruling.wrong += [f"there is no letter from {origin}" for origin in sorted(due.keys() - times.keys())]
    ruling.repeated += sum(n - 1 for n in times.values())
