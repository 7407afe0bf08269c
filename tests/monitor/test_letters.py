"""Dead letters that are produced to a topic: each at least once, whatever dies, and nobody waits for them."""

from __future__ import annotations

import base64
import itertools
import json
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from broker.realbroker import RealBroker
from confluent_kafka import Consumer

from monitor.batch import Letter, Partition, Reject
from monitor.cli import read_config
from monitor.errors import ConfigError
from monitor.sources import letters as module
from monitor.sources.letters import Letterbox, key
from monitor.store import Store
from tests.monitor.test_store import commit

# kafka-python leaves the socket of a connection that was refused to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket.socket:ResourceWarning")

AT = Partition("predictions", 3)
names = (f"dead-letters-{number}" for number in itertools.count())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "state")) as one:
        yield one


class Loop:
    """What works on the store, in the test's own thread as the daemon does."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._chores: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self.n_produced = 0
        self.forgets = False

    def waiting(self, limit: int) -> Future[Sequence[Letter]]:
        found: Future[Sequence[Letter]] = Future()
        self._chores.put(lambda: found.set_result(self._store.letters(limit)))
        return found

    def produced(self, letters: Sequence[int]) -> None:
        self.n_produced += len(letters)
        if not self.forgets:
            self._chores.put(lambda: self._store.produced(letters))

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not done():
            assert time.monotonic() < deadline
            try:
                self._chores.get(timeout=0.05)()
            except queue.Empty:
                continue


def keep(store: Store, offsets: range) -> None:
    store.apply(commit(1, rejects=tuple(Reject(AT, i, "not_json", "not JSON: x", b"{\xff%d" % i) for i in offsets)))


def read(broker: RealBroker, topic: str, n_wanted: int) -> list[tuple[bytes, Any]]:
    settings = {"bootstrap.servers": broker.bootstrap_servers, "group.id": topic, "auto.offset.reset": "earliest"}
    found: list[tuple[bytes, Any]] = []
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    deadline = time.monotonic() + 60
    while len(found) < n_wanted:
        assert time.monotonic() < deadline, len(found)
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            found.append((message.key(), json.loads(message.value())))
    consumer.close()
    return found


def test_every_letter_gets_there_under_its_key(real_broker: RealBroker, store: Store):
    topic, loop, n = next(names), Loop(store), module.AT_ONCE + 20
    real_broker.create_topic(topic, 2)
    keep(store, range(n))
    with closing(Letterbox(topic, real_broker.consumer_options, loop.waiting, loop.produced)):
        loop.until(lambda: loop.n_produced == n and not store.letters(1))
        keep(store, range(n, n + 3))  # what comes later is found
        loop.until(lambda: loop.n_produced == n + 3 and not store.letters(1))
    found = dict(read(real_broker, topic, n + 3))
    assert found.keys() == {b"m/predictions/3/%d" % i for i in range(n + 3)}
    said = found[b"m/predictions/3/7"]
    assert base64.b64decode(said.pop("head")) == b"{\xff7"
    assert said.pop("seen_ms") >= 0
    assert said == {
        "model": "m", "topic": "predictions", "partition": 3, "offset": 7, "kind": "not_json", "reason": "not JSON: x",
    }  # fmt: skip


def test_what_was_not_marked_before_a_death_comes_again_under_the_same_key(real_broker: RealBroker, store: Store):
    topic, loop = next(names), Loop(store)
    real_broker.create_topic(topic, 1)
    keep(store, range(5))
    loop.forgets = True
    with closing(Letterbox(topic, real_broker.consumer_options, loop.waiting, loop.produced)):
        loop.until(lambda: loop.n_produced >= 5)
    again = Loop(store)
    with closing(Letterbox(topic, real_broker.consumer_options, again.waiting, again.produced)):
        again.until(lambda: again.n_produced == 5 and not store.letters(1))
    wanted = [b"m/predictions/3/%d" % i for i in range(5)]
    assert [found for found, _ in read(real_broker, topic, 10)][:10] == wanted * 2


@pytest.mark.usefixtures("sockets_collected")
def test_letters_wait_while_kafka_is_away_and_nobody_waits_for_them(
    real_broker: RealBroker, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(module, "PAUSES", (0.1,))
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.3)
    loop = Loop(store)
    keep(store, range(3))
    away = Letterbox("t", {"bootstrap_servers": "127.0.0.1:1"}, loop.waiting, loop.produced)
    loop.until(lambda: caplog.text.count("dead letters cannot be produced to t") > 1)
    assert len(store.letters(10)) == 3
    before = time.monotonic()
    away.close()
    assert time.monotonic() - before < module.CLOSE_SECONDS + 10  # not the time that a producer's patience takes
    topic = next(names)
    real_broker.create_topic(topic, 1)
    with closing(Letterbox(topic, real_broker.consumer_options, loop.waiting, loop.produced)):
        loop.until(lambda: not store.letters(1))
    assert [found for found, _ in read(real_broker, topic, 3)] == [b"m/predictions/3/%d" % i for i in range(3)]


def test_another_record_at_the_same_place_is_another_letter(store: Store):
    def says(now_ms: int, *heads: bytes) -> list[tuple[int, bytes]]:
        store.apply(commit(5, now_ms=now_ms, rejects=tuple(Reject(AT, 4, "not_json", "?", head) for head in heads)))
        letters = store.letters(10)
        store.produced([letter.n for letter in letters])
        return [(letter.offset, letter.head) for letter in letters]

    assert says(1, b"old", b"of the same record") == [(4, b"old")]
    assert says(2, b"old") == []  # read a second time
    assert says(3, b"new") == [(4, b"new")]  # the topic was made anew


def test_keys_tell_letters_apart():
    one = Letter(1, "m", "t", 0, 5, "k", "r", b"", 0)
    assert key(one) == b"m/t/0/5"


def test_a_topic_that_a_model_reads_takes_no_dead_letters(tmp_path: Path):
    file, model = tmp_path / "driftd.toml", '[[model]]\nname = "m"\ntopics = ["t"]\nreference = "r"\n'
    file.write_text(f'[kafka]\nbootstrap_servers = ["b"]\ndead_letter_topic = "t"\n{model}')
    with pytest.raises(ConfigError, match=r"dead_letter_topic: found 't', which model m reads; wanted a topic of its"):
        read_config(file)
