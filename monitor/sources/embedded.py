"""A broker inside this process, for the demo and for tests: librdkafka's mock cluster.

It speaks enough of Kafka's protocol to be produced to and read from over loopback, and nothing needs installing or
starting. It is no Kafka: every topic is made on first use with 4 partitions, each partition silently keeps only its
newest 5 MiB of stored batches (compress, and keep a demo below that), nothing outlives the process, aborted
transactions are shown to everybody, and offsets cannot be looked up by time.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaException, Producer

from monitor.errors import SourceError

PARTITIONS = 4
PARTITION_BYTES = 5 * 1024 * 1024
READY_SECONDS = 10.0


class EmbeddedBroker:
    """A mock cluster of one broker; it lives until `close`, which forgets everything."""

    def __init__(self) -> None:
        # The first producer owns the cluster, so it must stay alive as long as anybody uses it.
        self._owner: Any = Producer({"bootstrap.servers": "", "test.mock.num.brokers": 1, "log_level": 0})
        self._producers: list[Any] = []
        brokers = self._metadata(None).brokers.values()
        self.bootstrap_servers = [f"{broker.host}:{broker.port}" for broker in brokers]

    @property
    def consumer_options(self) -> dict[str, Any]:
        """What kafka-python needs to read from here; asked for its versions, the mock promises more than it keeps."""
        return {"bootstrap_servers": list(self.bootstrap_servers), "api_version": (2, 0)}

    def create_topic(self, name: str, partitions: int = PARTITIONS) -> None:
        """Makes an empty topic. The mock knows one number of partitions, so any other is a ValueError."""
        if partitions != PARTITIONS:
            raise ValueError(f"the embedded broker makes topics of {PARTITIONS} partitions; {partitions} cannot be had")
        topic = self._metadata(name).topics[name]
        if topic.error is not None or len(topic.partitions) != PARTITIONS:
            raise SourceError(f"the embedded broker did not make topic {name}: {topic.error}")

    def producer(self, **options: Any) -> Any:
        """A confluent-kafka producer connected to this broker; options by librdkafka's names, dots as underscores."""
        named = {name.replace("_", "."): value for name, value in options.items()}
        servers = ",".join(self.bootstrap_servers)
        made = Producer(
            {"linger.ms": 5, "compression.type": "lz4", "log_level": 0, **named, "bootstrap.servers": servers}
        )
        self._producers.append(made)
        return made

    def close(self) -> None:
        """Flushes what producers still hold and ends the cluster."""
        for producer in self._producers:
            producer.flush(5)
        self._producers.clear()
        self._owner = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _metadata(self, topic: str | None) -> Any:
        if self._owner is None:
            raise SourceError("the embedded broker is closed")
        try:
            return self._owner.list_topics(topic, timeout=READY_SECONDS)
        except KafkaException as fault:
            raise SourceError(f"the embedded broker does not answer: {fault}") from fault
