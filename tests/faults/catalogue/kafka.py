"""The broker dies, stops or forgets; the topic changes under the reader."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from faults.fault import fault
from faults.ledger import FIRST_MS, STEP_MS
from faults.scene import Scene


@fault(quick=True)
def broker_killed(scene: Scene) -> int:
    """SIGKILL to the broker in the middle of the log; it comes back and the log goes on."""
    with scene.midway(0.5):
        scene.broker.kill()
        time.sleep(1.5)
        scene.broker.start()
    return 1


@fault()
def broker_restarted(scene: Scene) -> int:
    """The broker is stopped and started in good order."""
    with scene.midway(0.5):
        scene.broker.restart()
    return 1


@fault()
def broker_frozen(scene: Scene) -> int:
    """SIGSTOP to the broker for six seconds."""
    with scene.midway(0.5):
        scene.broker.freeze()
        time.sleep(6)
        scene.broker.thaw()
    return 1


@fault()
def broker_down_at_the_start(scene: Scene) -> int:
    """The daemon starts, and later starts again, before there is a broker."""
    scene.feed(0.5)
    for _ in range(2):
        scene.broker.kill()
        with scene.daemon() as daemon:
            scene.until(lambda: daemon.says("does not answer"), daemon)
            scene.broker.start()
            scene.until(scene.settled, daemon)
            daemon.stop()
        scene.feed(1.0)
    return 2


@fault(may_repeat=True)
def broker_and_daemon_killed(scene: Scene) -> int:
    """SIGKILL to both, twice."""
    for step in (1, 2):
        scene.feed(step * 0.3)
        with scene.daemon() as daemon:
            before = scene.n_read()
            scene.until_beyond(scene.n_read, before, daemon)
            scene.broker.kill()
            daemon.kill()
        scene.broker.start()
    scene.finish()
    return 2


@fault()
def partitions_added(scene: Scene) -> int:
    """The topic gets a fourth partition while the daemon runs, and rows in it."""
    scene.feed(0.5)
    with scene.daemon() as daemon:
        scene.until(scene.settled, daemon)
        scene.broker.add_partitions(scene.topic, 4)
        scene.until(lambda: daemon.says("reading 1 more partitions"), daemon)
        # A row that is late by the other partitions' clocks is not by the new one's; so it gets none of those.
        timely = [r.id % 4 == 0 and r.time_ms == FIRST_MS + r.id * STEP_MS for r in scene.records]
        moved = zip(scene.records, timely, strict=True)
        scene.records = [replace(r, partition=3) if on_time else r for r, on_time in moved]
        scene.new_producer()
        scene.feed(1.0)
        scene.until(scene.settled, daemon)
        daemon.stop()
    return 1


@fault(quick=True)
def retention_ran_past(scene: Scene) -> int:
    """Kafka deletes records before they were read: their number is known exactly, and nothing else is missing."""
    scene.feed(0.3)
    with scene.daemon() as daemon:
        scene.until(scene.settled, daemon)
        daemon.stop()
    scene.feed(0.7)
    cut = {0: 500, 1: 450}
    admin: AdminClient = scene.broker.admin()
    wanted = [TopicPartition(scene.topic, number, offset) for number, offset in cut.items()]
    for done in admin.delete_records(wanted).values():
        done.result(30)
    read = dict(scene.query("SELECT partition, next_offset FROM offsets"))
    for number, offset in cut.items():
        gone = range(read[number], offset)
        scene.ledger.lose(number, gone)
    scene.finish()
    return sum(offset - read[number] for number, offset in cut.items())


@fault()
def topic_made_anew(scene: Scene) -> int:
    """The topic is deleted and made again under a running daemon, and its offsets begin at 0 once more."""
    scene.feed(0.4)
    with scene.daemon() as daemon:
        scene.until(scene.settled, daemon)
        _make_anew(scene)
        scene.feed(0.6)
        scene.until(scene.settled, daemon)
        scene.feed(1.0)
        scene.until(scene.settled, daemon)
        daemon.stop()
    return 1


@fault()
def topic_made_anew_and_shorter(scene: Scene) -> int:
    """The topic is made anew while the daemon is down, and holds fewer records than were read of the old one."""
    return _anew_while_down(scene, 0.55, 0.7)


@fault(quick=True)
def topic_made_anew_and_longer(scene: Scene) -> int:
    """The topic is made anew while the daemon is down, and holds more records than were read of the old one."""
    return _anew_while_down(scene, 0.2, 0.8)


def _anew_while_down(scene: Scene, before: float, after: float) -> int:
    scene.feed(before)
    with scene.daemon() as daemon:
        scene.until(scene.settled, daemon)
        daemon.stop()
    _make_anew(scene)
    scene.feed(after)
    scene.finish()
    return 1


def _make_anew(scene: Scene) -> None:
    admin: AdminClient = scene.broker.admin()
    admin.delete_topics([scene.topic])[scene.topic].result(30)
    for _ in range(100):
        if scene.topic not in admin.list_topics(timeout=5).topics:
            break
        time.sleep(0.05)
    scene.broker.create_topic(scene.topic, scene.n_partitions)
    scene.ledger.n_anew += 1
    scene.new_producer()


@fault(kafka='isolation_level = "read_committed"')
def aborted_transactions(scene: Scene) -> int:
    """Between the rows lie those of transactions that were aborted, and the markers of all of them."""
    settings = {"bootstrap.servers": scene.broker.bootstrap_servers, "transactional.id": scene.topic, "log_level": 0}
    writer = Producer(settings)
    writer.init_transactions(30)
    n_aborted = 0
    with scene.daemon() as daemon:
        for step in range(1, 11):
            scene.feed(step / 11)
            writer.begin_transaction()
            for number, record in itertools.product(range(scene.n_partitions), scene.records[:7]):
                writer.produce(scene.topic, record.value, partition=number)
            writer.flush(30)
            writer.abort_transaction(30)
            n_aborted += 1
        scene.feed(1.0)
        scene.until(scene.settled, daemon)
        daemon.stop()
    return n_aborted
