"""What lies between driftd and Kafka is slow, cut, or gone."""

from __future__ import annotations

import time
from functools import partial

from faults.fault import fault
from faults.scene import Scene

behind = partial(fault, behind_proxy=True)
SHORT = "request_timeout_ms = 3000"


def troubled(scene: Scene, name: str, seconds: float, **trouble: object) -> int:
    """This is wrong with the line for a while in the middle of the log; how often it was felt."""
    before = scene.proxy.hits[name]
    with scene.midway(0.3):
        scene.proxy.set(**trouble)
        scene.feed(0.8)
        time.sleep(seconds)
        scene.proxy.heal()
    return scene.proxy.hits[name] - before


@behind()
def a_slow_line(scene: Scene) -> int:
    """Every piece on its way to or from Kafka waits for a third of a second."""
    return troubled(scene, "latency", 3, latency=0.3)


@behind()
def a_narrow_line(scene: Scene) -> int:
    """20 kB a second."""
    return troubled(scene, "bandwidth", 3, bandwidth=20_000)


@behind()
def a_line_that_is_down(scene: Scene) -> int:
    """Connections are refused for two seconds."""
    return troubled(scene, "down", 2, down=True)


@behind(quick=True, kafka=SHORT)
def a_line_that_swallows(scene: Scene) -> int:
    """Connections stand and nothing comes back; what was asked meanwhile is never answered."""
    return troubled(scene, "swallow", 2, swallow=True)


@behind()
def a_line_in_slices(scene: Scene) -> int:
    """Kafka's answers come in pieces of 50 bytes."""
    return troubled(scene, "slice", 1, slice=50)


@behind()
def answers_cut_off(scene: Scene) -> int:
    """Every connection is reset after 30 kB, in the middle of an answer."""
    return troubled(scene, "limit", 4, limit=30_000)


@behind()
def connections_that_close_slowly(scene: Scene) -> int:
    """A closed connection's other side stays open for a second; all are closed three times."""
    scene.feed(0.2)
    before = scene.proxy.hits["slow_close"]
    with scene.daemon() as daemon:
        scene.until(lambda: scene.n_windows() > 2, daemon)
        scene.proxy.set(slow_close=1.0)
        for step in range(3):
            scene.proxy.cut()
            scene.feed(0.4 + 0.2 * step)
            time.sleep(0.7)
        scene.proxy.heal()
        scene.feed(1.0)
        scene.until(scene.settled, daemon)
        daemon.stop()
    return scene.proxy.hits["slow_close"] - before


def severed(scene: Scene, how: str) -> int:
    """All connections end, ten times, while records flow."""
    before = scene.proxy.hits[how]
    with scene.daemon() as daemon:
        for step in range(1, 11):
            scene.feed(step / 11)
            scene.until(lambda: scene.n_read() > 0, daemon)
            time.sleep(scene.rng.uniform(0, 0.3))
            getattr(scene.proxy, how)()
        scene.feed(1.0)
        scene.until(scene.settled, daemon)
        daemon.stop()
    return scene.proxy.hits[how] - before


@behind()
def connections_cut(scene: Scene) -> int:
    """All connections are closed, ten times over."""
    return severed(scene, "cut")


@behind(quick=True)
def connections_reset(scene: Scene) -> int:
    """All connections are reset, ten times over."""
    return severed(scene, "reset")


@behind(may_repeat=True)
def killed_on_a_bad_line(scene: Scene) -> int:
    """Connections are reset all the while, and the daemon is killed three times."""
    n_kills = 0
    for step in range(1, 4):
        scene.feed(step * 0.25)
        with scene.daemon() as daemon:
            before = scene.n_read()
            scene.until_beyond(scene.n_read, before, daemon)
            scene.proxy.reset()
            time.sleep(scene.rng.uniform(0, 0.3))
            daemon.kill()
            n_kills += 1
    scene.finish()
    return n_kills
