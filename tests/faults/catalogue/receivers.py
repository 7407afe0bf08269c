"""Slack and the retraining job are away, slow, or answer nonsense."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from faults.fault import fault
from faults.judge import GivenUp
from faults.proxy import Proxy, free_port
from faults.scene import Daemon, Scene
from monitor.demo.standins import Fault as Trouble
from monitor.demo.standins import drop_after_receipt, hang, not_json, redirect, slack_error, status, well


def troubled(scene: Scene, slack: list[Trouble], job: list[Trouble]) -> int:
    """Receivers answer like this at first, while the incident opens and changes."""
    scene.slack.order(*slack)
    scene.job.order(*job)
    with scene.daemon() as daemon:
        for step in (0.45, 0.6, 1.0):
            scene.feed(step)
            scene.until(scene.settled, daemon)
        daemon.stop()
    return len(slack) + len(job) - len(scene.slack._faults) - len(scene.job._faults)


@fault()
def too_many_requests(scene: Scene) -> int:
    """429 with Retry-After, on the first message and on a later one."""
    return troubled(scene, [status(429, 1), status(429, 1), well(), status(429, 1)], [status(429, 1)])


@fault()
def server_errors(scene: Scene) -> int:
    """500, 502 and 503."""
    return troubled(scene, [status(500), status(502), well(), status(503)], [status(500), status(503)])


@fault(quick=True, may_repeat=True)
def dropped_after_receipt(scene: Scene) -> int:
    """The connection is closed when the request was taken and before the answer: it cannot be told from a failure."""
    return troubled(scene, [drop_after_receipt(), well(), drop_after_receipt()], [drop_after_receipt()])


@fault(may_repeat=True)
def no_answer_in_time(scene: Scene) -> int:
    """The request is taken and the answer comes too late."""
    return troubled(scene, [hang(3)], [hang(3)])


@fault()
def redirected(scene: Scene) -> int:
    """Slack answers with a redirect, which is not followed; a job that redirects is not called there either."""
    elsewhere = redirect("http://127.0.0.1:9/latest/meta-data")
    n_hits = troubled(scene, [elsewhere, elsewhere], [])
    assert all(request.path.startswith("/api/") for request in scene.slack.requests)
    return n_hits


@fault()
def html_in_place_of_json(scene: Scene) -> int:
    """200 with a proxy's welcome page."""
    return troubled(scene, [not_json(), not_json(), well(), not_json()], [])


@fault()
def slack_s_own_errors(scene: Scene) -> int:
    """200 with "ok": false: rate limits, and blocks that are refused."""
    errors = [slack_error("ratelimited"), slack_error("service_unavailable"), slack_error("invalid_blocks")]
    return troubled(scene, errors, [])


@fault()
def the_job_is_gone(scene: Scene) -> int:
    """410: the job is called no more and its trigger says so, the incident goes on, and the notice is kept as dead."""
    scene.job.order(status(410))
    with away(scene, scene.job.url) as (line, daemon):
        n_records = scene.feed(0.45)
        scene.until(lambda: scene.n_counted() == n_records, daemon)
        line.heal()
        scene.until(lambda: scene.query("SELECT 1 FROM triggers WHERE step = 'given_up'"), daemon)
        scene.until(scene.settled, daemon)
    ((state, reason),) = scene.query("SELECT state, reason FROM outbox WHERE channel = 'job'")
    assert state == "dead"
    scene.given_up = GivenUp(reason, n_records)
    return len(scene.job.requests)


@contextmanager
def away(scene: Scene, url: str) -> Iterator[tuple[Proxy, Daemon]]:
    """A daemon, and a receiver to which connections are refused until the line is healed; then the rest of the log."""
    front = free_port()
    scene.configure(**{url: f"http://127.0.0.1:{front}"})
    with Proxy(front, int(url.rpartition(":")[2])) as line, scene.daemon() as daemon:
        line.set(down=True)
        yield line, daemon
        scene.feed(1.0)
        scene.until(scene.settled, daemon)
        daemon.stop()


@fault(quick=True)
def slack_is_away(scene: Scene) -> int:
    """Connections to Slack are refused for a while; the retraining job is called all the same."""
    scene.feed(0.6)
    with away(scene, scene.slack.url) as (line, daemon):
        scene.until(lambda: scene.query("SELECT 1 FROM outbox WHERE attempts > 1"), daemon)
        scene.until(lambda: scene.job.runs, daemon)
        line.heal()
    return line.hits["down"]
