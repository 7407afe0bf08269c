"""Labels come later than their predictions, in a topic of their own, and something dies meanwhile."""

from __future__ import annotations

import signal
import time
from functools import partial

from faults import labels
from faults.catalogue.network import severed
from faults.catalogue.process import killed, shot
from faults.fault import fault
from faults.scene import Scene

labelled = partial(fault, labelled=True)
killing = partial(labelled, may_repeat=True)
JOIN = "monitor.join:Join"


@killing()
def killed_after_predictions(scene: Scene) -> int:
    """SIGKILL when predictions wait for their labels in memory, and nothing of it is on the disk."""
    return killed(scene, f"{JOIN}.predicted", "after", 1, 5, 12)


@killing(quick=True)
def killed_after_labels(scene: Scene) -> int:
    """SIGKILL when labels were joined in memory and made losses."""
    return killed(scene, f"{JOIN}.labelled", "after", 1, 5, 12)


@killing()
def killed_while_what_waits_is_written(scene: Scene) -> int:
    """SIGKILL inside a commit, when what waits for its label is written and the windows are not."""
    return killed(scene, "monitor.transaction:apply_waiting")


@killing()
def killed_between_predictions_and_labels(scene: Scene) -> int:
    """SIGKILL when all is read and written; the labels of the predictions that wait come while the daemon is down."""
    for step in (0.2, 0.45, 0.7):
        scene.feed(step)
        with scene.daemon() as daemon:
            scene.until(scene.settled, daemon)
            assert scene.query("SELECT 1 FROM waiting WHERE side = 'predictions'")
            daemon.kill()
    scene.finish()
    return 3


@killing()
def killed_at_random_among_labels(scene: Scene) -> int:
    """SIGKILL from outside at five moments that nobody chose, while labels lie in Kafka far ahead of predictions."""
    scene.feed_labels(0.6)
    return shot(scene)


@labelled()
def labels_that_come_twice(scene: Scene) -> int:
    """Every label comes again half a minute later, with another value; the broker is restarted meanwhile."""
    scene.later = labels.twice(scene.later, 30_000)
    with scene.midway(0.5):
        scene.broker.restart()
    return 1


@labelled()
def labels_before_their_predictions(scene: Scene) -> int:
    """The whole log of labels is there before the first prediction; the broker is killed in the middle."""
    n_early = scene.feed_labels(1.0)
    with scene.midway(0.5):
        scene.broker.kill()
        time.sleep(1.5)
        scene.broker.start()
    return n_early


@labelled()
def labels_that_never_come(scene: Scene) -> int:
    """The topic of labels stays empty: nothing waits for it, and the broker is restarted meanwhile."""
    scene.later = []
    with scene.midway(0.5):
        scene.broker.restart()
    return 1


@labelled()
def broker_killed_among_labels(scene: Scene) -> int:
    """SIGKILL to the broker, three times; both topics go on as soon as it is back."""
    with scene.midway(0.25):
        for step in (0.45, 0.65, 0.85):
            scene.broker.kill()
            time.sleep(0.5)
            scene.broker.start()
            scene.feed(step)
    return 3


@labelled(kafka="max_poll_records = 1")
def frozen_among_labels(scene: Scene) -> int:
    """SIGSTOP and SIGCONT, four times; much of both topics is there when it goes on, and comes in many small pieces."""
    with scene.midway(0.15) as daemon:
        for step in range(1, 5):
            scene.until(scene.settled, daemon)
            daemon.send(signal.SIGSTOP)
            scene.feed(0.15 + step * 0.2)
            daemon.send(signal.SIGCONT)
    return 4


@killing(kafka="workers = 2")
def killed_among_labels_with_two_workers(scene: Scene) -> int:
    """SIGKILL when all is read and written, four times; two processes read, each some predictions and some labels."""
    for step in range(1, 5):
        with scene.daemon() as daemon:
            for part in range(1, 5):
                scene.feed((step - 1 + part / 4) * 0.22)
                scene.until(scene.settled, daemon)
            daemon.kill()
    scene.finish()
    return 4


@labelled(behind_proxy=True)
def labels_on_a_bad_line(scene: Scene) -> int:
    """All connections are reset, ten times over, while both topics are written."""
    return severed(scene, "reset")
