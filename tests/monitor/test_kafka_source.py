"""KafkaSource against the embedded mock and against a real broker."""

from __future__ import annotations

import itertools
import logging
import socket
import threading
import time
from contextlib import closing
from typing import Any, Literal

import pytest
from broker.realbroker import RealBroker
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as Place
from kafka import TopicPartition
from kafka.errors import LogTruncationError
from kafka.protocol.producer import ProduceRequest
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.record.util import calc_crc32c
from kafka.structs import OffsetAndMetadata

from monitor.batch import Partition
from monitor.errors import SourceError
from monitor.sources import kafka as source_module
from monitor.sources.embedded import EmbeddedBroker
from monitor.sources.kafka import BLIND_SECONDS, KafkaSource, Pace
from monitor.sources.kafkaclient import Client, client_options
from monitor.sources.kafkawatch import LogIds, StallGuard
from monitor.sources.unpack import MAX_BYTES
from tests.monitor.reading import (
    Read,
    at_least,
    connect,
    count,
    leaves_sockets,
    lets_sockets_go,
    numbered,
    source,
    until,
)

pytestmark = lets_sockets_go
names = (f"writer-{number}" for number in itertools.count())


@pytest.fixture(params=["embedded_broker", "real_broker"])
def broker(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


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


def test_what_is_held_stands_still_and_goes_on_where_it_was(
    broker: Any, topic: str, produce: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.create_topic(topic, 4)
    produce(broker, topic, {p: numbered(p, 0, 300) for p in range(4)})
    first, second, third, last = (Partition(topic, p) for p in range(4))
    asked: set[int] = set()
    with source(broker, topic, max_poll_records=50) as one:
        found = until(one, at_least(200))
        fetcher = one._client.consumer._fetcher
        fetchable = fetcher._fetchable_partitions

        def noted() -> list[Any]:
            wanted = fetchable()
            asked.update(key.partition for key in wanted)
            return wanted

        monkeypatch.setattr(fetcher, "_fetchable_partitions", noted)
        one.seek({first: 20, second: 0})
        one.hold(frozenset({first, second, last}))
        asked.clear()
        produce(broker, topic, {2: numbered(2, 300, 400)})
        held = until(one, lambda found: found and asked and third in one.caught_up())
        assert held.keys() == {third}
        assert asked == {2}  # nothing is fetched of the others only to be thrown away
        assert one.assigned() == {first, second, third, last}
        assert one.caught_up() == {third}
        one.hold(one.assigned())
        produce(broker, topic, {2: numbered(2, 400, 410)})
        assert one.poll(0.3) == []
        one.hold(frozenset({second, last}))
        again = until(one, at_least(280 + 10))
        assert again[first] == list(enumerate(numbered(0, 0, 300)))[20:]
        one.hold(frozenset({last}))
        assert until(one, at_least(300)) == {second: list(enumerate(numbered(1, 0, 300)))}
        assert [*found.get(third, []), *held[third], *again[third]] == list(enumerate(numbered(2, 0, 410)))
        assert one.losses() == []


def test_what_was_written_before_the_records_that_came_is_no_end(
    real_broker: RealBroker, topic: str, produce: Any
) -> None:
    """Windows close on the word that labels were read to their end; it must be as new as the predictions are."""
    real_broker.create_topic(topic, 3)
    early, late, other = (Partition(topic, number) for number in range(3))
    found: Read = {early: [], late: [], other: []}
    with source(real_broker, topic, max_poll_records=1) as one:
        until(one, lambda _: len(one.caught_up()) == 3)
        # Kafka answers first of those that had nothing to say for longest; the last request is on its way for `other`.
        for at in (late, early):
            produce(real_broker, topic, {at.number: [b"x"]})
            until(one, lambda _, at=at: found[at], found=found)
        produce(real_broker, topic, {other.number: [b"x"]})
        time.sleep(0.5)
        produce(real_broker, topic, {early.number: numbered(0, 1, 15)})
        for first in range(1, 101, 10):  # so many batches; the client gives few of them at a time
            produce(real_broker, topic, {late.number: numbered(0, first, first + 10)})
        while len(found[late]) < 101:
            for records in one.poll(0.1):
                found[records.partition] += [(offset, b"") for offset in records.offsets.tolist()]
            assert len(found[late]) == 1 or len(found[early]) == 15 or early not in one.caught_up()


def test_ends_that_were_forgotten_are_told_again_though_nothing_is_new(broker: Any, topic: str, produce: Any) -> None:
    broker.create_topic(topic, 4)
    produce(broker, topic, {0: numbered(0, 0, 5)})
    with source(broker, topic) as one:
        until(one, lambda found: count(found) == 5 and len(one.caught_up()) == 4)
        one._client.forget_ends()  # as when the connection was lost
        until(one, lambda _: len(one.caught_up()) == 4)
        assert one.lag() == dict.fromkeys(one.assigned(), 0)


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
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            assert list(one.poll(0.1)) == []
        assert {partition.topic for partition in one.assigned()} == {there}
        waits = [r for r in caplog.records if r.name == "driftd.source" and "waiting for it" in r.message]
        assert len(waits) == 1
        broker.create_topic(topic, 4)
        produce(broker, topic, {0: numbered(0, 0, 5)})
        assert count(until(one, at_least(5))) == 5


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


@leaves_sockets
def test_reading_goes_on_after_the_broker_was_killed(
    real_broker: RealBroker, topic: str, produce: Any, caplog: pytest.LogCaptureFixture
) -> None:
    real_broker.create_topic(topic, 2)
    produce(real_broker, topic, {0: numbered(0, 0, 50), 1: numbered(1, 0, 50)})
    with source(real_broker, topic, reconnect_backoff_max_ms=500) as one:
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
    away, back = [r.message for r in caplog.records if r.levelno >= logging.WARNING]
    assert "does not answer" in away
    assert "is back" in back


@leaves_sockets
@pytest.mark.parametrize("options", [{}, {"api_version": [2, 0]}])
def test_no_attempt_to_connect_is_for_ever(options: dict[str, Any], topic: str) -> None:
    options = {"bootstrap_servers": "127.0.0.1:1", **options}
    with closing(KafkaSource([topic], options, pace=Pace(connect_seconds=0.5))) as one:
        began = time.monotonic()
        connect(one)
        assert time.monotonic() - began < 5


@leaves_sockets
def test_closing_does_not_wait_for_a_connection(topic: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = {"bootstrap_servers": f"127.0.0.1:{silent.getsockname()[1]}"}
        one = KafkaSource([topic], options, pace=Pace(connect_seconds=2))
        assert list(one.poll(0.1)) == []
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "kafka-connect"]
        began = time.monotonic()
        one.close()
        assert time.monotonic() - began < 0.5
        thread.join(10)
        assert not thread.is_alive()


@leaves_sockets
def test_started_before_the_broker(topic: str, caplog: pytest.LogCaptureFixture) -> None:
    with closing(KafkaSource([topic], {"bootstrap_servers": "127.0.0.1:1"}, pace=Pace(connect_seconds=0.5))) as one:
        began = time.monotonic()
        assert list(one.poll(0.1)) == []
        assert time.monotonic() - began < 0.4, "a poll does not wait for the connection"
        connect(one)
        assert not one.connected
        assert one.assigned() == one.caught_up() == frozenset()
    (said,) = [r.message for r in caplog.records if r.levelno >= logging.WARNING]
    assert "does not answer" in said
    assert "ECONNREFUSED" in said


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


@pytest.mark.parametrize("rule", ["latest", "stop"])
def test_what_to_do_about_deleted_records_can_be_chosen(
    rule: Literal["latest", "stop"], real_broker: RealBroker, topic: str, produce: Any
) -> None:
    real_broker.create_topic(topic, 1)
    produce(real_broker, topic, {0: numbered(0, 0, 100)})
    at, admin = Partition(topic, 0), real_broker.admin()
    admin.delete_records([Place(topic, 0, 60)])[Place(topic, 0)].result(30)
    pace = Pace(recheck_seconds=0.3)
    with closing(KafkaSource([topic], real_broker.consumer_options, out_of_range=rule, pace=pace)) as one:
        one.seek({at: 20})
        if rule == "latest":
            until(one, lambda _: one.lag().get(at) == 0)
            assert one.losses() == [(at, 20, 100)]
            produce(real_broker, topic, {0: numbered(0, 100, 105)})
            assert [offset for offset, _ in until(one, at_least(5))[at]] == list(range(100, 105))
            return
        for _ in range(2):  # it stays so until somebody decides
            with pytest.raises(SourceError, match=r"offset 20 is not in the log .* the next would be 60.*\"stop\""):
                until(one, at_least(1))
        assert one.losses() == []


@pytest.mark.parametrize("path", ["batch", "record"])
def test_a_bomb_is_passed_over_and_counted_as_lost(
    real_broker: RealBroker, topic: str, produce: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path == "record":
        monkeypatch.setattr(source_module, "batch_reader", lambda: None)
    real_broker.create_topic(topic, 1)
    produce(real_broker, topic, {0: numbered(0, 0, 10)})
    large = {"message.max.bytes": 500_000_000, "compression.type": "zstd", "queue.buffering.max.kbytes": 500_000}
    produce(real_broker, topic, {0: [b"\0" * (MAX_BYTES + 1)]}, **large)
    produce(real_broker, topic, {0: numbered(0, 11, 20)})
    with source(real_broker, topic) as one:
        offsets: list[int] = []
        n_lost, deadline = 0, time.monotonic() + 60
        while len(offsets) < 19 and time.monotonic() < deadline:
            for records in one.poll(0.1):
                offsets += records.offsets.tolist()
                n_lost += records.n_lost
        assert offsets == [*range(10), *range(11, 20)]
        assert n_lost == 1
        assert one.losses() == []  # nothing to go back to or on from: it lies between what was read


def make_anew(broker: RealBroker, topic: str) -> None:
    admin = broker.admin()
    admin.delete_topics([topic])[topic].result(30)
    while topic in admin.list_topics(timeout=5).topics:
        time.sleep(0.05)
    broker.create_topic(topic, 1)


@pytest.mark.parametrize("n_records", [7, 300])
def test_a_topic_made_anew_is_told_before_its_records_come(
    n_records: int, real_broker: RealBroker, topic: str, produce: Any
) -> None:
    real_broker.create_topic(topic, 1)
    produce(real_broker, topic, {0: numbered(0, 0, 100)})
    with source(real_broker, topic, pace=Pace(recheck_seconds=600)) as one:
        until(one, lambda found: count(found) == 100)
        before = dict(one.log_ids())
        assert before.keys() == {topic}
        make_anew(real_broker, topic)
        found: Read = {}
        if n_records > 100:  # nobody polls while it grows beyond what was read of the old one
            produce(real_broker, topic, {0: numbered(0, 0, n_records)})
            time.sleep(BLIND_SECONDS)
            until(one, lambda found: bool(found) or one.log_ids() != before, found=found)
        else:
            until(one, lambda _: one.log_ids() != before)
            produce(real_broker, topic, {0: numbered(0, 0, n_records)})
        assert one.log_ids() != before
        one.seek({Partition(topic, 0): 0})
        assert until(one, at_least(n_records))[Partition(topic, 0)] == list(enumerate(numbered(0, 0, n_records)))
        assert one.losses() == []


def test_where_brokers_have_no_ids_a_topic_made_anew_and_shorter_is_still_noticed(
    real_broker: RealBroker, topic: str, produce: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.sources.kafkaclient._log", lambda _: "")
    real_broker.create_topic(topic, 1)
    produce(real_broker, topic, {0: numbered(0, 0, 100)})
    with source(real_broker, topic) as one:
        until(one, lambda found: count(found) == 100)
        admin = real_broker.admin()
        admin.delete_topics([topic])[topic].result(30)
        until(one, lambda _: not one.assigned())
        real_broker.create_topic(topic, 1)
        produce(real_broker, topic, {0: numbered(0, 0, 7)})
        assert count(until(one, at_least(7))) == 7
        assert one.log_ids() == {}
        assert one.losses() == [(Partition(topic, 0), 100, 0)]


def test_a_log_that_was_left_does_not_come_back() -> None:
    ids = LogIds()
    for log in ("a", "", "b", "a", "b"):
        ids.note({"t": log})
    assert ids.known == {"t": "b"}


def test_a_stuck_client_is_made_anew(
    embedded_broker: EmbeddedBroker, topic: str, produce: Any, caplog: pytest.LogCaptureFixture
) -> None:
    embedded_broker.create_topic(topic)
    with source(embedded_broker, topic, pace=Pace(recheck_seconds=0.3, stall_seconds=0.7)) as one:
        until(one, lambda _: len(one.caught_up()) == 4)
        stuck = one._client.consumer
        stuck.pause(*stuck.assignment())
        produce(embedded_broker, topic, {0: numbered(0, 0, 5)})
        assert count(until(one, at_least(5))) == 5
        assert one._client.consumer is not stuck
    assert "do not move" in caplog.text


def test_only_a_partition_that_stands_before_known_records_is_stuck() -> None:
    idle, busy, stuck, unknown = (Partition("t", number) for number in range(4))
    ends = {idle: 7, busy: 99, stuck: 9, unknown: 1}
    guard = StallGuard(30.0)

    def check(now: float, polls: int) -> set[Partition]:
        for _ in range(polls):
            guard.polled()
        positions = {idle: 7, busy: int(now), stuck: 3, unknown: None}
        return guard.check(now, positions, lambda asked: {partition: ends[partition] for partition in asked})

    assert check(0, 5) == set()
    assert check(31, 50) == set()  # from here on it is known that they have records
    assert check(60, 50) == set()  # too early to tell
    assert check(62, 50) == {stuck, unknown}
    assert check(93, 4) == set()  # hardly polled, so there was no reason to move


def test_a_record_that_comes_just_before_the_check_is_no_stall() -> None:
    where = Partition("t", 0)
    guard = StallGuard(30.0)
    for now, at, end in ((0, 5, 5), (31, 5, 6), (62, 6, 7), (93, 6, 6), (124, 6, 7), (155, 7, 7)):
        for _ in range(5):
            guard.polled()
        assert guard.check(now, {where: at}, lambda _, end=end: {where: end}) == set()


# ---- damaged logs


def batch(values: list[bytes], wrong_structure: bool = False, wrong_sum: bool = False) -> bytes:
    builder = MemoryRecordsBuilder(2, 0, 1 << 20)
    for value in values:
        builder.append(int(time.time() * 1000), None, value, [])
    builder.close()
    content = bytearray(builder.buffer())
    if wrong_structure:
        content[61] += 2  # the first record claims a byte more than it has
        content[17:21] = calc_crc32c(bytes(content[21:])).to_bytes(4, "big")
    if wrong_sum:
        content[-3] ^= 1
    return bytes(content)


def append(broker: EmbeddedBroker, topic: str, partition: int, content: bytes) -> None:
    """Puts bytes into a log as they are; the mock does not look into them."""
    part = ProduceRequest.TopicProduceData.PartitionProduceData(index=partition, records=content)
    data = ProduceRequest.TopicProduceData(name=topic, partition_data=[part])
    request = ProduceRequest(transactional_id=None, acks=-1, timeout_ms=5000, topic_data=[data], max_version=7)
    with closing(Client(client_options(broker.consumer_options), 3.0, None)) as client:

        async def send() -> Any:
            return await client._manager.send(request)

        (answer,) = client._manager.run(send).responses
        assert answer.partition_responses[0].error_code == 0


@pytest.mark.parametrize("wrong", ["wrong_structure", "wrong_sum"])
def test_a_damaged_batch_stops_its_partition_alone(
    wrong: str, embedded_broker: EmbeddedBroker, topic: str, produce: Any
) -> None:
    embedded_broker.create_topic(topic)
    for number, damage in enumerate([{}, {wrong: True}, {}]):
        append(embedded_broker, topic, 0, batch([b"a%d" % number, b"b%d" % number], **damage))
    produce(embedded_broker, topic, {1: numbered(1, 0, 50)})
    zero, one_ = Partition(topic, 0), Partition(topic, 1)
    found: Read = {}
    with source(embedded_broker, topic) as one:
        for round_ in range(2):
            with pytest.raises(SourceError, match=rf"{topic}\[0\]: .* offset 2 .*seek beyond"):
                found = until(one, lambda _: False, found=found)
            if round_ == 0:
                produce(embedded_broker, topic, {1: numbered(1, 50, 60)})
        one.seek({zero: 4})
        found = until(one, lambda found: count(found) == 64, found=found)
    assert found[zero] == [(0, b"a0"), (1, b"b0"), (4, b"a2"), (5, b"b2")]
    assert found[one_] == list(enumerate(numbered(1, 0, 60)))


@pytest.mark.parametrize("where", ["framing", "prefetching"])
def test_an_unforeseen_fault_neither_loses_nor_repeats(
    where: str, embedded_broker: EmbeddedBroker, topic: str, produce: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded_broker.create_topic(topic)
    sent = {partition: numbered(partition, 0, 30) for partition in range(4)}
    produce(embedded_broker, topic, sent)
    owner, name = (source_module, "frame") if where == "framing" else (Client, "poll")
    true_call, calls = getattr(owner, name), itertools.count()

    def faulty(*arguments: Any) -> Any:
        if where == "prefetching" and arguments[1] > 0:  # only the look for more, after records were found
            return true_call(*arguments)
        if next(calls) == 1:
            raise RuntimeError("out of the blue")
        return true_call(*arguments)

    monkeypatch.setattr(owner, name, faulty)
    found: Read = {}
    with source(embedded_broker, topic, max_poll_records=1) as one:
        with pytest.raises(SourceError, match="out of the blue"):
            until(one, lambda _: False, found=found)
        until(one, lambda found: count(found) == 120 and len(one.caught_up()) == 4, found=found)
    assert found == {Partition(topic, p): list(enumerate(values)) for p, values in sent.items()}


def test_a_new_leader_with_a_shorter_log(
    embedded_broker: EmbeddedBroker, topic: str, produce: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an unclean election makes the client raise; to have a real one takes a cluster that loses data."""
    embedded_broker.create_topic(topic)
    produce(embedded_broker, topic, {0: numbered(0, 0, 10), 1: numbered(1, 0, 10)})
    zero, one_ = Partition(topic, 0), Partition(topic, 1)
    with source(embedded_broker, topic) as one:
        until(one, lambda found: count(found) == 20)
        true_poll = one._client.consumer.poll

        def cut(**options: Any) -> Any:
            monkeypatch.setattr(one._client.consumer, "poll", true_poll)
            raise LogTruncationError({TopicPartition(*zero): OffsetAndMetadata(7, "", 1), TopicPartition(*one_): None})

        monkeypatch.setattr(one._client.consumer, "poll", cut)
        assert until(one, at_least(3)) == {zero: list(enumerate(numbered(0, 0, 10)))[7:]}
        assert one.losses() == [(zero, 10, 7)]
