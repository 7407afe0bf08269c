"""The configuration is wrong, or what it names changes under the running service."""

from __future__ import annotations

import shutil
import signal
from functools import partial

from faults.fault import fault
from faults.scene import Daemon, Scene


def _running(scene: Scene, daemon: Daemon, n: int) -> bool:
    return daemon.log.read_text().count("driftd is running") >= n


def _n_refused(daemon: Daemon) -> int:
    """Configurations that were not taken up."""
    return daemon.log.read_text().count("was not reloaded")


@fault()
def a_bad_configuration(scene: Scene) -> int:
    """SIGHUP with a configuration that is wrong, three times: the old one stays in force."""
    good = scene.config.read_text()
    bad = (
        good.replace("[[model]]", "[[modell]]"),
        good.replace('window = "60000ms"', 'window = "soon"'),
        good.replace(f'reference = "{scene.reference}"', 'reference = "nowhere"'),
    )
    with scene.daemon() as daemon:
        for step, text in enumerate(bad, start=1):
            scene.feed(0.2 * step)
            scene.until(scene.settled, daemon)
            scene.config.write_text(text)
            daemon.send(signal.SIGHUP)
            scene.until_beyond(partial(_n_refused, daemon), step - 1, daemon)
        scene.config.write_text(good)
        scene.feed(1.0)
        scene.until(scene.settled, daemon)
        daemon.stop()
    return len(bad)


@fault(quick=True)
def reloads_all_the_time(scene: Scene) -> int:
    """SIGHUP eight times in the middle of windows, with a configuration that is right."""
    n_reloads = 8
    with scene.daemon() as daemon:
        scene.until(lambda: _running(scene, daemon, 1), daemon)
        for step in range(1, n_reloads + 1):
            scene.feed(step / (n_reloads + 1))
            daemon.send(signal.SIGHUP)
            scene.until(partial(_running, scene, daemon, step + 1), daemon)
        scene.feed(1.0)
        scene.until(scene.settled, daemon)
        daemon.stop()
    return n_reloads


@fault()
def a_secret_rotated(scene: Scene) -> int:
    """Slack's token is another one from some moment on; a reload takes it up."""
    scene.feed(0.45)
    with scene.daemon() as daemon:
        scene.until(scene.settled, daemon)
        (scene.home / "slack_token").write_text("xoxb-canary-rotated")
        daemon.send(signal.SIGHUP)
        scene.until(lambda: _running(scene, daemon, 2), daemon)
        scene.slack._token = "xoxb-canary-rotated"
        scene.feed(1.0)
        scene.until(scene.settled, daemon)
        daemon.stop()
    assert not daemon.says("xoxb-canary"), "a token is in the log"
    return sum(b"xoxb-canary-rotated" in str(request.headers).encode() for request in scene.slack.applied)


@fault()
def a_reference_half_replaced(scene: Scene) -> int:
    """SIGHUP while the sealed reference is written anew: the one that is in force stays, in memory and on disk."""
    mine = scene.home / "reference"
    shutil.copytree(scene.reference, mine)
    scene.reference = mine
    scene.configure()
    scene.feed(0.45)
    with scene.daemon() as daemon:
        scene.until(scene.settled, daemon)
        whole = (mine / "profile.bin").read_bytes()
        for step, part in enumerate((whole[:100], b"", whole[:-1] + b"?"), start=1):
            (mine / "profile.bin").write_bytes(part)
            daemon.send(signal.SIGHUP)
            scene.until_beyond(partial(_n_refused, daemon), step - 1, daemon)
            scene.feed(0.45 + step * 0.1)
            scene.until(scene.settled, daemon)
        (mine / "profile.bin").write_bytes(whole)
        daemon.send(signal.SIGHUP)
        scene.until(lambda: _running(scene, daemon, 2), daemon)
        scene.feed(1.0)
        scene.until(scene.settled, daemon)
        daemon.stop()
    return 3
