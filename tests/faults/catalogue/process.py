"""The process dies, stops, or is there twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from functools import partial

from faults.child import Harm
from faults.fault import fault
from faults.scene import SECONDS, Scene

SOURCE, ENGINE, STORE = "monitor.sources.kafka:KafkaSource", "monitor.engine:Engine", "monitor.store:Store"
killing = partial(fault, may_repeat=True)
"""A kill may fall between a receiver's answer and its being written down, wherever else it was aimed at."""
SLACK, JOB = "monitor.channels.slack:SlackChannel.send", "monitor.channels.webhook:WebhookChannel.send"


def killed(scene: Scene, point: str, when: str = "after", *nth: int) -> int:
    """SIGKILL at this point, several times over, each time at another call; records keep coming all the while."""
    counts = nth or (1, 2, 4)
    for step, count in enumerate(counts, start=1):
        with scene.daemon(Harm(point, when, count)) as daemon:
            scene.feed_until_dead(daemon, step / (len(counts) + 1))
            assert daemon.died() == -signal.SIGKILL, daemon.tail()
    scene.finish()
    return scene.hits(point)


@killing()
def killed_after_a_poll(scene: Scene) -> int:
    """SIGKILL when records have come from Kafka and nothing was done with them."""
    return killed(scene, f"{SOURCE}.poll", "after", 1, 3, 6)


@killing()
def killed_after_a_step(scene: Scene) -> int:
    """SIGKILL when records were counted into windows in memory."""
    return killed(scene, f"{ENGINE}.step")


@killing()
def killed_after_a_tick(scene: Scene) -> int:
    """SIGKILL when windows have closed and were judged, and nothing of it is on the disk."""
    return killed(scene, f"{ENGINE}.tick")


@killing()
def killed_before_the_transaction(scene: Scene) -> int:
    """SIGKILL before a commit is written."""
    return killed(scene, f"{STORE}.apply", "before")


@killing()
def killed_inside_the_transaction(scene: Scene) -> int:
    """SIGKILL when half of a commit is written: offsets and windows are, incidents and notices are not."""
    return killed(scene, "monitor.transaction:apply_window", "after", 1, 7, 20)


@killing(quick=True)
def killed_after_the_transaction(scene: Scene) -> int:
    """SIGKILL when a commit is on the disk and nobody was told yet."""
    return killed(scene, f"{STORE}.apply")


@killing()
def killed_before_a_message_is_sent(scene: Scene) -> int:
    """SIGKILL when a message to Slack is about to be sent."""
    return killed(scene, SLACK, "before", 1, 1, 1)


@killing(quick=True)
def killed_when_slack_has_answered(scene: Scene) -> int:
    """SIGKILL when Slack has the message and that is not written down."""
    return killed(scene, SLACK, "after", 1, 1, 1)


@killing()
def killed_when_the_job_has_answered(scene: Scene) -> int:
    """SIGKILL when the retraining job was called and that is not written down."""
    scene.feed(0.6)
    with scene.daemon(Harm(JOB)) as daemon:
        assert daemon.died() == -signal.SIGKILL, daemon.tail()
    scene.finish()
    assert len(scene.job.runs) == 1, "the job ran twice"
    return scene.hits(JOB)


@killing()
def killed_before_an_answer_is_written(scene: Scene) -> int:
    """SIGKILL when a receiver's answer is about to be written down."""
    return killed(scene, f"{STORE}.settle", "before", 1, 1, 1)


@killing()
def killed_after_an_answer_is_written(scene: Scene) -> int:
    """SIGKILL right after a receiver's answer was written down."""
    return killed(scene, f"{STORE}.settle", "after", 1, 1, 1)


@killing()
def killed_while_the_database_is_made(scene: Scene) -> int:
    """SIGKILL at the first start, before and after the tables are there."""
    scene.feed(0.4)
    for point, when in (("monitor.database:_connected", "before"), ("monitor.database:_connected", "after")):
        with scene.daemon(Harm(point, when)) as daemon:
            assert daemon.died() == -signal.SIGKILL, daemon.tail()
    scene.finish()
    return scene.hits()


@killing()
def killed_while_it_drains(scene: Scene) -> int:
    """SIGTERM, and SIGKILL while the last commit is written."""
    scene.feed(0.5)
    with scene.daemon(Harm("monitor.outbox:Courier.close", "before")) as daemon:
        scene.until(lambda: scene.n_windows() > 2, daemon)
        scene.feed(0.6)
        daemon.send(signal.SIGTERM)
        assert daemon.died() == -signal.SIGKILL
    scene.finish()
    return scene.hits()


@killing()
def killed_while_it_reloads(scene: Scene) -> int:
    """SIGHUP, and SIGKILL between the old configuration and the new one."""
    scene.feed(0.5)
    with scene.daemon(Harm("monitor.service:assemble", "before", 2)) as daemon:
        scene.until(lambda: scene.n_windows() > 2, daemon)
        scene.feed(0.6)
        daemon.send(signal.SIGHUP)
        assert daemon.died() == -signal.SIGKILL
    scene.finish()
    return scene.hits()


def shot(scene: Scene) -> int:
    """SIGKILL from outside at five moments that nobody chose; records keep coming all the while."""
    n_kills = 0
    for step in range(1, 6):
        scene.feed(step * 0.18)
        with scene.daemon() as daemon:
            time.sleep(1.0 + scene.rng.uniform(0, 0.8))
            if daemon.process.poll() is None:
                daemon.kill()
                n_kills += 1
    scene.finish()
    return n_kills


@killing(quick=True)
def killed_at_random(scene: Scene) -> int:
    """SIGKILL from outside at five moments that nobody chose."""
    return shot(scene)


@fault(quick=True)
def stopped_in_the_middle_of_a_window(scene: Scene) -> int:
    """SIGTERM while windows are half full, four times."""
    for step in range(1, 5):
        scene.feed(step * 0.21)
        with scene.daemon() as daemon:
            before = scene.n_read()
            scene.until_beyond(scene.n_read, before, daemon)
            daemon.stop()
    scene.finish()
    return 4


@fault()
def frozen_for_a_minute(scene: Scene) -> int:
    """SIGSTOP in the middle of the log, SIGCONT when far more of it is there; partitions are idle after a minute.

    No row is late by that: it was the daemon that was quiet, not the partitions.
    """
    # What is idle while the daemon works closes windows, which the judge, who knows event time alone, does not foresee.
    # A message on its way when the daemon froze is tried again after half a minute; that long it takes to settle.
    scene.configure(**{'idle_timeout = "1h"': 'idle_timeout = "60s"'})
    with scene.midway(0.3) as daemon:
        daemon.send(signal.SIGSTOP)
        scene.feed(0.8)
        time.sleep(75)
        daemon.send(signal.SIGCONT)
    return 1


@fault()
def started_twice(scene: Scene) -> int:
    """A second daemon on the same state directory: it is refused, and the first one works on."""
    with scene.midway(0.4):
        second = subprocess.run(
            [sys.executable, "-m", "monitor", "run", "--config", str(scene.config)], capture_output=True, text=True,
            check=False, timeout=SECONDS,
        )  # fmt: skip
        assert second.returncode == 1, second.stderr
        assert "another driftd works on this state" in second.stderr
    return 1
