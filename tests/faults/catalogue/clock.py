"""The wall clock is wrong, or becomes so."""

from __future__ import annotations

import time

from faults.fault import fault
from faults.scene import Scene

HOUR, YEAR = 3_600, 365 * 86_400


def stepped(scene: Scene, seconds: float) -> int:
    """The clock jumps in the middle of the log, and is wrong over a restart, and comes back."""
    scene.clock_file.write_text("0")
    scene.feed(0.3)
    with scene.daemon() as daemon:
        scene.until(scene.settled, daemon)
        scene.clock_file.write_text(str(seconds))
        time.sleep(0.5)
        scene.feed(0.55)
        scene.until(scene.settled, daemon)
        daemon.stop()
    with scene.daemon() as daemon:
        scene.feed(0.7)
        scene.until(scene.settled, daemon)
        scene.clock_file.write_text("0")
        time.sleep(0.5)
        scene.feed(1.0)
        scene.until(scene.settled, daemon)
        daemon.stop()
    return 1


@fault()
def an_hour_forward(scene: Scene) -> int:
    """The clock jumps forward by an hour, and back later."""
    return stepped(scene, HOUR)


@fault()
def an_hour_back(scene: Scene) -> int:
    """The clock jumps back by an hour, and forward later."""
    return stepped(scene, -HOUR)


@fault(quick=True)
def a_year_forward(scene: Scene) -> int:
    """The clock jumps forward by a year, and back later."""
    return stepped(scene, YEAR)


@fault()
def a_year_back(scene: Scene) -> int:
    """The clock jumps back by a year: rows that are of today by their log are not of the future."""
    return stepped(scene, -YEAR)


@fault()
def a_clock_that_wanders(scene: Scene) -> int:
    """The clock jumps by random amounts ten times over."""
    scene.clock_file.write_text("0")
    with scene.daemon() as daemon:
        for step in range(1, 11):
            scene.feed(step / 11)
            scene.until(lambda: scene.n_read() > 0, daemon)
            scene.clock_file.write_text(str(scene.rng.choice((-1, 1)) * scene.rng.uniform(2, 30) * 86_400))
            time.sleep(0.25)
        scene.clock_file.write_text("0")
        scene.feed(1.0)
        scene.until(scene.settled, daemon)
        daemon.stop()
    return 10
