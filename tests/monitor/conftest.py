"""Topics, and records in them."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from confluent_kafka import Producer

names = (f"topic-{number}" for number in itertools.count())


@pytest.fixture
def sockets_collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    return f"{request.node.originalname}-{next(names)}".replace("_", "-")


@pytest.fixture
def produce() -> Iterator[Callable[..., None]]:
    """produce(broker, topic, {partition: values}) waits until the broker has them."""
    made: list[Any] = []

    def send(broker: Any, topic: str, values: Mapping[int, list[bytes | None]], **options: Any) -> None:
        servers = broker.bootstrap_servers
        joined = servers if isinstance(servers, str) else ",".join(servers)
        producer = Producer({"bootstrap.servers": joined, "compression.type": "lz4", "log_level": 0, **options})
        made.append(producer)
        for partition, batch in values.items():
            for value in batch:
                producer.produce(topic, value, key=b"k", partition=partition)
        assert producer.flush(30) == 0

    yield send
    made.clear()
