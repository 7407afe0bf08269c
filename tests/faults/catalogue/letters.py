"""Dead letters on their way to a topic, and something dies meanwhile."""

from __future__ import annotations

import random
import time
from functools import partial

from faults.catalogue.process import killed
from faults.child import Harm
from faults.fault import fault
from faults.ledger import N_PARTITIONS, poison
from faults.scene import Scene

producing = partial(fault, letters=True)
killing = partial(producing, may_repeat=True)
"""What Kafka had confirmed and was not marked yet comes again, under the same key."""
BOX, STORE = "monitor.sources.letters:Letterbox", "monitor.store:Store"


def littered(scene: Scene, n: int = 300) -> None:
    """Put records that are no rows between the others."""
    rng, records = random.Random(scene.seed + 4), list(scene.records)
    values = (b"{broken %d" * 40, b"[]", b"\xff", b"not JSON at all")
    kinds = ("not_json", "not_an_object", "not_json", "not_json")
    for number in range(n):
        which = rng.randrange(len(values))
        strange = poison(1_000_000 + number, rng.randrange(N_PARTITIONS), values[which], kinds[which])
        records.insert(rng.randrange(len(records)), strange)
    scene.records = records


@killing()
def killed_before_letters_are_produced(scene: Scene) -> int:
    """SIGKILL when letters were asked for and none of them is on its way."""
    littered(scene)
    return killed(scene, f"{BOX}._produce", "before", 1, 2, 2)


@killing(quick=True)
def killed_when_kafka_has_the_letters(scene: Scene) -> int:
    """SIGKILL when Kafka has confirmed letters and that is not written down."""
    littered(scene)
    return killed(scene, f"{BOX}._produce", "after", 1, 2, 2)


@killing()
def killed_after_letters_were_marked(scene: Scene) -> int:
    """SIGKILL right after it was written down which letters Kafka has."""
    littered(scene)
    return killed(scene, f"{STORE}.produced", "after", 1, 2, 2)


@killing()
def killed_at_random_among_letters(scene: Scene) -> int:
    """SIGKILL from outside at five moments that nobody chose, while letters are produced."""
    littered(scene, 1_000)
    n_kills = 0
    for step in range(1, 6):
        scene.feed(step * 0.18)
        with scene.daemon() as daemon:
            before = scene.n_produced()
            scene.until_beyond(scene.n_produced, before, daemon)
            time.sleep(scene.rng.uniform(0, 1.0))
            daemon.kill()
            n_kills += 1
    scene.finish()
    return n_kills


@producing()
def stopped_when_kafka_has_the_letters(scene: Scene) -> int:
    """SIGTERM when Kafka has confirmed letters and that is not written down, four times: none of them comes again."""
    littered(scene)
    for step in range(1, 5):
        before = scene.hits()
        scene.feed(step * 0.21)
        with scene.daemon(Harm(f"{BOX}._produce", "after", 1, "sleep", 1.0)) as daemon:
            scene.until_beyond(scene.hits, before, daemon)
            daemon.stop()
    scene.finish()
    return scene.hits()


@producing(may_repeat=True)
def broker_killed_while_letters_are_produced(scene: Scene) -> int:
    """SIGKILL to the broker, three times, when letters were handed to the producer a moment ago."""
    littered(scene, 1_000)
    scene.feed(0.3)
    with scene.daemon(Harm(f"{BOX}._produce", "before", 1, "sleep", 0.2, always=True)) as daemon:
        for step in (0.5, 0.7, 0.9):
            before = scene.hits()
            scene.feed(step)
            scene.until_beyond(scene.hits, before, daemon)
            time.sleep(scene.rng.uniform(0.15, 0.3))
            scene.broker.kill()
            time.sleep(1.0)
            scene.broker.start()
        scene.feed(1.0)
        scene.until(scene.settled, daemon)
        daemon.stop()
    return scene.hits()


@producing()
def broker_restarted_among_letters(scene: Scene) -> int:
    """The broker is stopped and started in good order, while letters wait."""
    littered(scene)
    with scene.midway(0.5):
        scene.broker.restart()
    return 1
