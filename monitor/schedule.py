"""Housekeeping by the clock: retention, backups, the daily digest. Never window ends, retries or watchdogs.

Jobs run late rather than not at all, one run stands for all that were missed, and times are UTC. When each ran last is
remembered in the state, so that what fell due while the service was down is done soon after it starts. A job only asks
for work: whatever writes to the state is done by the loop, which alone writes there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED
from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

log = logging.getLogger(__name__)

SOON_SECONDS: Final = 60
_OUTCOMES: Final = {
    EVENT_JOB_EXECUTED: "ok",
    EVENT_JOB_ERROR: "failed",
    EVENT_JOB_MISSED: "missed",
    EVENT_JOB_MAX_INSTANCES: "still_running",
}


@dataclass(frozen=True, slots=True)
class Job:
    """Something to be done again and again.

    every_ms: how often; or daily: at this time of day, UTC, as "08:00". deadline_seconds: a run that takes longer is
    told of; it cannot be stopped, but keeps neither other jobs from running nor, from then on, its own next run.
    """

    name: str
    work: Callable[[], object]
    every_ms: int = 0
    daily: str = ""
    deadline_seconds: float = 600.0


class Housekeeping:
    """Runs jobs in threads of its own. ran: told of every run, its outcome and when, in epoch milliseconds."""

    def __init__(
        self, jobs: list[Job], last_ms: Mapping[str, int], ran: Callable[[str, str, int], None], now_ms: int
    ) -> None:
        self._jobs = {job.name: job for job in jobs}
        self._ran = ran
        leases = {job.name: job.deadline_seconds for job in jobs}
        # A job that was late is done once, however late it is.
        defaults = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        self._scheduler = BackgroundScheduler(
            timezone=UTC, executors={"default": _Threads(leases)}, job_defaults=defaults
        )
        self._scheduler.add_listener(self._heard, sum(_OUTCOMES))
        for job in jobs:
            trigger = _trigger(job)
            first = _first_run(job, last_ms.get(job.name, 0), now_ms)
            self._scheduler.add_job(self._timed(job), trigger, id=job.name, next_run_time=first)

    def start(self) -> None:
        """Begin; jobs that fell due meanwhile run within a minute or so."""
        self._scheduler.start()

    def stop(self) -> None:
        """End without waiting: a job that hangs must not hold up the service's end."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def _timed(self, job: Job) -> Callable[[], None]:
        def run() -> None:
            began = time.monotonic()
            job.work()
            taken = time.monotonic() - began
            if taken > job.deadline_seconds:
                text = "job %s took %.0f s, more than the %.0f s it should"
                slow = {"event": "job.slow", "job": job.name, "seconds": taken}
                log.warning(text, job.name, taken, job.deadline_seconds, extra=slow)

        return run

    def _heard(self, event: Any) -> None:
        outcome = _OUTCOMES[event.code]
        if outcome != "ok":
            failed = {"event": "job.failed", "job": event.job_id, "outcome": outcome}
            log.error("job %s: %s %s", event.job_id, outcome, getattr(event, "exception", "") or "", extra=failed)
        self._ran(event.job_id, outcome, int(time.time() * 1000))


class _Threads(BaseExecutor):  # type: ignore[misc]
    """A thread for each run. The library's pools would be waited for at the end of the process, hung jobs included.

    leases: seconds after which a run that has not ended does not count as running any more, by job.
    """

    def __init__(self, leases: Mapping[str, float]) -> None:
        super().__init__()
        self._leases = leases
        self._begun: dict[str, float] = {}

    def submit_job(self, job: Any, run_times: list[datetime]) -> None:
        now = time.monotonic()
        if now - self._begun.get(job.id, now) > self._leases[job.id]:
            with self._lock:
                self._instances.pop(job.id, None)
        super().submit_job(job, run_times)
        self._begun[job.id] = now

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        def run() -> None:
            try:
                events = run_job(job, job._jobstore_alias, run_times, self._logger.name)
            except BaseException as fault:  # noqa: BLE001  # told as the outcome of the job
                self._run_job_error(job.id, fault, fault.__traceback__)
            else:
                self._run_job_success(job.id, events)

        threading.Thread(target=run, name=f"job-{job.id}", daemon=True).start()


def _trigger(job: Job) -> IntervalTrigger | CronTrigger:
    if job.daily:
        hour, minute = job.daily.split(":")
        return CronTrigger(hour=int(hour), minute=int(minute), timezone=UTC)
    return IntervalTrigger(seconds=job.every_ms / 1000, timezone=UTC)


def _first_run(job: Job, last_ms: int, now_ms: int) -> datetime:
    """When a job runs first: when it is due, or soon if that was while nobody was there."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    soon = now + timedelta(seconds=SOON_SECONDS)
    if not job.daily:
        due = datetime.fromtimestamp((last_ms + job.every_ms) / 1000, UTC) if last_ms else soon
        return max(due, soon)
    following = _trigger(job).get_next_fire_time(None, now)
    missed = last_ms and following - timedelta(days=1) > datetime.fromtimestamp(last_ms / 1000, UTC)
    return soon if missed else following
