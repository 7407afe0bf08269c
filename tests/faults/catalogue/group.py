"""Several daemons take turns on one state, and the turn passes from one to another in the middle of windows."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from functools import partial

from faults.fault import fault
from faults.scene import Daemon, Scene

QUICK_TO_NOTICE = 'mode = "group"\nsession_timeout_ms = 6000\nheartbeat_interval_ms = 300\n'
members = partial(fault, kafka=QUICK_TO_NOTICE)


class Group:
    """Daemons on one state."""

    def __init__(self, scene: Scene, stack: ExitStack) -> None:
        self._scene = scene
        self._stack = stack
        self.daemons: list[Daemon] = []

    def join(self) -> Daemon:
        """One more."""
        made = self._scene.daemon(name=f"member{len(self.daemons)}")
        self.daemons.append(self._stack.enter_context(made))
        return self.daemons[-1]

    def worker(self, *, but: Daemon | None = None) -> Daemon:
        """The one that works, once there is one; another than `but`."""

        def working() -> list[Daemon]:
            running = [daemon for daemon in self.daemons if daemon.process.poll() is None]
            return [daemon for daemon in running if daemon is not but and daemon.works()]

        self._scene.until(working)
        return working()[0]

    def progress(self) -> None:
        """Wait until somebody gets on with what was fed."""
        before = self._scene.n_read()
        self._scene.until_beyond(self._scene.n_read, before)

    def end(self) -> None:
        """Feed what is left, see it through, and stop all that run."""
        self._scene.feed(1.0)
        self._scene.until(self._scene.settled)
        for daemon in self.daemons:
            if daemon.process.poll() is None:
                daemon.stop()


def handed_on(scene: Scene, n_members: int, number: signal.Signals) -> int:
    """Whoever works gets this signal in the middle of windows, one after the other, until the last one is alone."""
    with ExitStack() as stack:
        group = Group(scene, stack)
        for _ in range(n_members):
            group.join()
        for step in range(1, n_members):
            scene.feed(step / (n_members + 1))
            worker = group.worker()
            group.progress()
            worker.send(number)
            worker.died()
        group.worker()
        group.end()
    return n_members - 1


@members()
def one_of_two_stopped(scene: Scene) -> int:
    """SIGTERM to the daemon of two that works."""
    return handed_on(scene, 2, signal.SIGTERM)


@members()
def two_of_three_stopped(scene: Scene) -> int:
    """SIGTERM to whichever of three daemons works, twice."""
    return handed_on(scene, 3, signal.SIGTERM)


@members(may_repeat=True)
def one_of_two_killed(scene: Scene) -> int:
    """SIGKILL to the daemon of two that works; the other takes over when the session has timed out."""
    return handed_on(scene, 2, signal.SIGKILL)


@members(may_repeat=True)
def two_of_three_killed(scene: Scene) -> int:
    """SIGKILL to whichever of three daemons works, twice."""
    return handed_on(scene, 3, signal.SIGKILL)


@members(may_repeat=True, quick=True)
def a_member_that_wakes_up_too_late(scene: Scene) -> int:
    """SIGSTOP to the one that works until another has taken over: what it does after SIGCONT is refused.

    Not in the middle of a message: what is half sent would be sent to its end, over what the other has said since.
    """
    with ExitStack() as stack:
        group = Group(scene, stack)
        group.join()
        first = group.worker()
        group.join()
        scene.feed(0.4)
        group.progress()
        scene.until(scene.settled)
        first.send(signal.SIGSTOP)
        scene.feed(0.7)
        second = group.worker(but=first)
        group.progress()
        first.send(signal.SIGCONT)
        scene.until(lambda: not first.works(), first)
        assert second.works()
        group.end()
    return 1


@members()
def members_come_and_go(scene: Scene) -> int:
    """Two more daemons join and leave again, three times over; the one that works is not disturbed."""
    with ExitStack() as stack:
        group = Group(scene, stack)
        first = group.join()
        group.worker()
        for step in range(1, 4):
            others = [group.join(), group.join()]
            scene.feed(step / 5)
            group.progress()
            for other in others:
                scene.until(lambda other=other: other.says("standing by"), other)
                other.stop()
        assert first.log.read_text().count("it is this daemon's turn") == 1
        group.end()
    return 6


@fault(kafka=QUICK_TO_NOTICE.replace("6000", "30000") + 'instance = "the-one"\n')
def a_member_with_a_name_of_its_own(scene: Scene) -> int:
    """A static member is stopped and started again within its session: it has its turn at once, three times over."""
    for step in range(1, 4):
        scene.feed(step / 4)
        with scene.daemon() as daemon:
            scene.until(daemon.works, daemon)
            before = scene.n_read()
            scene.until_beyond(scene.n_read, before, daemon)
            daemon.stop()
    scene.finish()
    return 3
