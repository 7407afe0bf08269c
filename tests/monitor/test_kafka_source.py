"""KafkaSource against the embedded mock and against a real broker."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as Place
from realbroker import PASSWORDS, RealBroker

from monitor.batch import Partition, Records
from monitor.errors import SourceError
from monitor.sources import kafka as source_module
from monitor.sources.embedded import EmbeddedBroker
from monitor.sources.kafka import KafkaSource

Read = dict[Partition, list[tuple[int, bytes | None]]]
names = (f"topic-{number}" for number in itertools.count())


@pytest.fixture(params=["embedded_broker", "real_broker"])
def broker(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


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


def source(broker: Any, *topics: str, recheck_seconds: float = 0.3, **options: Any) -> Any:
    start = options.pop("start", "earliest")
    merged = {**broker.consumer_options, **options}
    return closing(KafkaSource(topics, merged, start=start, recheck_seconds=recheck_seconds))


def until(one: KafkaSource, done: Callable[[Read], bool], seconds: float = 40) -> Read:
    found: Read = {}
    deadline = time.monotonic() + seconds
    while not done(found):
        assert time.monotonic() < deadline, f"after {seconds} s only { ({p: len(r) for p, r in found.items()}) }"
        for records in one.poll(0.1):
            check(records)
            values = [None if value is None else bytes(value) for value in records.values]
            found.setdefault(records.partition, []).extend(zip(records.offsets.tolist(), values, strict=True))
    return found


def check(records: Records) -> None:
    assert len(records.values) == records.offsets.size == records.timestamps_ms.size > 0
    assert (records.offsets[1:] > records.offsets[:-1]).all()
    assert records.next_offset > records.offsets[-1]
    assert (abs(records.timestamps_ms / 1000 - time.time()) < 600).all()


def count(found: Read) -> int:
    return sum(len(records) for records in found.values())


def numbered(partition: int, first: int, last: int) -> list[bytes | None]:
    return [b"%d:%d" % (partition, index) for index in range(first, last)]


def test_reads_every_partition_in_order_and_catches_up(broker: Any, topic: str, produce: Any) -> None:
    broker.create_topic(topic, 4)
    sent = {partition: numbered(partition, 0, 500 + partition) for partition in range(4)}
    produce(broker, topic, sent)
    with source(broker, topic) as one:
        assert one.path == "batch"
        found = until(one, lambda found: count(found) == 2006)
        assert found == {Partition(topic, p): list(enumerate(values)) for p, values in sent.items()}
        until(one, lambda _: one.caught_up() == one.assigned() == frozenset(found))
        assert one.connected
        produce(broker, topic, {2: numbered(2, 502, 505)})
        assert until(one, count)[Partition(topic, 2)][0] == (502, b"2:502")
        assert one.losses() == []


def test_the_record_path_reads_the_same(broker: Any, topic: str, produce: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    broker.create_topic(topic, 4)
    sent = {0: [*numbered(0, 0, 100), None], 3: numbered(3, 0, 50)}
    produce(broker, topic, sent)
    monkeypatch.setattr(source_module, "batch_reader", lambda: None)
    with source(broker, topic) as one:
        assert one.path == "record"
        found = until(one, lambda found: count(found) == 151)
        assert found == {Partition(topic, p): list(enumerate(values)) for p, values in sent.items()}
        until(one, lambda _: one.caught_up() == one.assigned())


def test_seek_reads_again_exactly(broker: Any, topic: str, produce: Any) -> None:
    broker.create_topic(topic, 4)
    produce(broker, topic, {0: numbered(0, 0, 300), 1: numbered(1, 0, 300)})
    zero, one_ = Partition(topic, 0), Partition(topic, 1)
    with source(broker, topic) as one:
        first = until(one, lambda found: count(found) == 600)
        one.seek({zero: 123})
        assert zero not in one.caught_up()
        again = until(one, lambda found: count(found) == 177)
        assert again == {zero: first[zero][123:]}
        until(one, lambda _: zero in one.caught_up())
    with source(broker, topic) as later:
        later.seek({zero: 299, one_: 300})
        assert until(later, lambda _: later.caught_up() == later.assigned() != frozenset()) == {zero: first[zero][299:]}


def test_start_latest_skips_what_is_there(broker: Any, topic: str, produce: Any) -> None:
    broker.create_topic(topic, 4)
    produce(broker, topic, {0: numbered(0, 0, 50)})
    with source(broker, topic, start="latest") as one:
        assert until(one, lambda _: len(one.caught_up()) == 4) == {}
        produce(broker, topic, {0: numbered(0, 50, 60), 1: numbered(1, 0, 5)})
        found = until(one, lambda found: count(found) == 15)
        assert found[Partition(topic, 0)][0] == (50, b"0:50")


def test_an_empty_topic_is_caught_up(broker: Any, topic: str) -> None:
    broker.create_topic(topic, 4)
    with source(broker, topic) as one:
        assert until(one, lambda _: len(one.caught_up()) == 4) == {}


def test_a_topic_made_later_is_read_from_its_first_record(
    broker: Any, topic: str, produce: Any, caplog: pytest.LogCaptureFixture
) -> None:
    there = f"{topic}-there"
    broker.create_topic(there, 4)
    with source(broker, topic, there, start="latest") as one:
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            assert list(one.poll(0.1)) == []
        assert {partition.topic for partition in one.assigned()} == {there}
        waits = [r for r in caplog.records if r.name == "monitor.sources.kafka" and "waiting for it" in r.message]
        assert len(waits) == 1
        broker.create_topic(topic, 4)
        produce(broker, topic, {0: numbered(0, 0, 5)})
        assert count(until(one, count)) == 5


def test_tombstones_are_none(broker: Any, topic: str, produce: Any) -> None:
    broker.create_topic(topic, 4)
    produce(broker, topic, {0: [b"a", None, b"", None]})
    with source(broker, topic) as one:
        found = until(one, lambda found: count(found) == 4)
        assert [value for _, value in found[Partition(topic, 0)]] == [b"a", None, b"", None]


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_codec_of_another_client(codec: str, real_broker: RealBroker, topic: str, produce: Any) -> None:
    real_broker.create_topic(topic, 1)
    produce(real_broker, topic, {0: numbered(0, 0, 2000)}, **{"compression.type": codec})
    with source(real_broker, topic) as one:
        one.seek({Partition(topic, 0): 777})
        found = until(one, lambda found: count(found) == 1223)
        assert found[Partition(topic, 0)] == list(enumerate(numbered(0, 0, 2000)))[777:]


def test_partitions_added_while_running(real_broker: RealBroker, topic: str, produce: Any) -> None:
    real_broker.create_topic(topic, 1)
    produce(real_broker, topic, {0: numbered(0, 0, 5)})
    with source(real_broker, topic, start="latest") as one:
        until(one, lambda _: len(one.caught_up()) == 1)
        real_broker.add_partitions(topic, 3)
        produce(real_broker, topic, {0: numbered(0, 5, 6), 2: numbered(2, 0, 7)})
        found = until(one, lambda found: count(found) == 8)
        assert found[Partition(topic, 0)] == [(5, b"0:5")]
        assert len(found[Partition(topic, 2)]) == 7
        assert len(one.assigned()) == 3


def test_reading_goes_on_after_the_broker_was_killed(
    real_broker: RealBroker, topic: str, produce: Any, caplog: pytest.LogCaptureFixture
) -> None:
    real_broker.create_topic(topic, 2)
    produce(real_broker, topic, {0: numbered(0, 0, 50), 1: numbered(1, 0, 50)})
    with source(real_broker, topic) as one:
        until(one, lambda found: count(found) == 100)
        real_broker.kill()
        until(one, lambda _: not one.connected)
        assert one.caught_up() == frozenset()
        assert len(one.assigned()) == 2
        for _ in range(10):
            assert list(one.poll(0.1)) == []
        real_broker.restart()
        produce(real_broker, topic, {0: numbered(0, 50, 60)})
        found = until(one, lambda found: count(found) == 10)
        assert found == {Partition(topic, 0): list(enumerate(numbered(0, 0, 60)))[50:]}
        until(one, lambda _: len(one.caught_up()) == 2)
    said = [r.message for r in caplog.records if r.name == "monitor.sources.kafka"]
    assert len([text for text in said if "does not answer" in text]) == 1
    assert len([text for text in said if "is back" in text]) == 1


def test_started_before_the_broker(topic: str) -> None:
    with closing(KafkaSource([topic], {"bootstrap_servers": "127.0.0.1:1"})) as one:
        began = time.monotonic()
        assert list(one.poll(0.1)) == []
        assert time.monotonic() - began < 10
        assert not one.connected
        assert one.assigned() == one.caught_up() == frozenset()


def transact(broker: RealBroker, topic: str, values: list[bytes], commit: bool) -> None:
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap_servers, "transactional.id": f"{topic}-{next(names)}", "log_level": 0}
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, partition=0)
    producer.flush(30)
    (producer.commit_transaction if commit else producer.abort_transaction)(30)


@pytest.mark.parametrize(("level", "expected"), [("read_committed", "ac"), ("read_uncommitted", "abc")])
def test_transactions(level: str, expected: str, real_broker: RealBroker, topic: str) -> None:
    real_broker.create_topic(topic, 1)
    transact(real_broker, topic, [b"a"] * 40, commit=True)
    transact(real_broker, topic, [b"b"] * 40, commit=False)
    transact(real_broker, topic, [b"c"] * 40, commit=True)
    transact(real_broker, topic, [b"b"] * 40 if level == "read_committed" else [], commit=False)
    with source(real_broker, topic, isolation_level=level) as one:
        found = until(one, lambda found: count(found) == 40 * len(expected) and len(one.caught_up()) == 1)
        values = b"".join(value or b"" for _, value in found[Partition(topic, 0)]).decode()
        assert values == "".join(letter * 40 for letter in expected)


def test_records_deleted_before_they_were_read_are_reported(real_broker: RealBroker, topic: str, produce: Any) -> None:
    real_broker.create_topic(topic, 2)
    produce(real_broker, topic, {0: numbered(0, 0, 100), 1: numbered(1, 0, 10)})
    admin = real_broker.admin()
    admin.delete_records([Place(topic, 0, 60)])[Place(topic, 0)].result(30)
    with source(real_broker, topic) as one:
        one.seek({Partition(topic, 0): 20, Partition(topic, 1): 5})
        found = until(one, lambda found: count(found) == 45)
        assert [offset for offset, _ in found[Partition(topic, 0)]] == list(range(60, 100))
        assert [offset for offset, _ in found[Partition(topic, 1)]] == list(range(5, 10))
        assert one.losses() == [(Partition(topic, 0), 20, 60)]
        assert one.losses() == []


def test_a_topic_made_anew_is_read_from_its_beginning(real_broker: RealBroker, topic: str, produce: Any) -> None:
    real_broker.create_topic(topic, 1)
    produce(real_broker, topic, {0: numbered(0, 0, 100)})
    with source(real_broker, topic) as one:
        until(one, lambda found: count(found) == 100)
        admin = real_broker.admin()
        admin.delete_topics([topic])[topic].result(30)
        until(one, lambda _: not one.assigned())
        real_broker.create_topic(topic, 1)
        produce(real_broker, topic, {0: numbered(0, 0, 7)})
        assert count(until(one, count)) == 7
        assert one.losses() == [(Partition(topic, 0), 100, 0)]


def test_a_stuck_client_is_made_anew(
    embedded_broker: EmbeddedBroker, topic: str, produce: Any, caplog: pytest.LogCaptureFixture
) -> None:
    embedded_broker.create_topic(topic)
    with source(embedded_broker, topic) as one:
        until(one, lambda _: len(one.caught_up()) == 4)
        stuck = one._client.consumer
        stuck.pause(*stuck.assignment())
        produce(embedded_broker, topic, {0: numbered(0, 0, 5)})
        assert count(until(one, count)) == 5
        assert one._client.consumer is not stuck
    assert "do not move" in caplog.text


LOGIN = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_plain_username": "driftd"}


def test_the_right_password(real_broker: RealBroker, topic: str, produce: Any) -> None:
    real_broker.create_topic(topic, 1)
    produce(real_broker, topic, {0: numbered(0, 0, 3)})
    login = {**LOGIN, "bootstrap_servers": real_broker.sasl_servers, "sasl_plain_password": PASSWORDS["driftd"]}
    with source(real_broker, topic, **login) as one:
        assert count(until(one, count)) == 3


def test_a_wrong_password_is_an_error_that_says_so(real_broker: RealBroker, topic: str) -> None:
    login = {**LOGIN, "bootstrap_servers": real_broker.sasl_servers, "sasl_plain_password": "wrong"}
    with source(real_broker, topic, **login) as one:
        for _ in range(2):
            with pytest.raises(SourceError, match="refuses the login"):
                one.poll(0.1)
        assert not one.connected


def test_the_embedded_broker_says_what_it_cannot_do(embedded_broker: EmbeddedBroker, topic: str) -> None:
    with pytest.raises(ValueError, match="4 partitions"):
        embedded_broker.create_topic(topic, 3)
    producer = embedded_broker.producer(linger_ms=1)
    producer.produce(topic, b"x")
    assert producer.flush(10) == 0


def test_a_closed_embedded_broker_says_so() -> None:
    with EmbeddedBroker() as broker:
        assert len(broker.bootstrap_servers) == 1
    with pytest.raises(SourceError, match="closed"):
        broker.create_topic("t")


def test_warnings_are_errors_here_so_clients_must_be_let_go(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), EmbeddedBroker() as broker, source(broker, "t") as one:
        broker.create_topic("t")
        one.poll(0.1)
        one.close()
        one.close()
