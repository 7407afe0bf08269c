"""What Prometheus scrapes: counted from the values that pass through the loop, never asked of the stages.

Labels come from the configuration alone, with two exceptions that are capped: the drift of single columns, where what
does not fit is counted in driftd_series_dropped_total, and what receivers answer, where it is "other". Names follow
Prometheus' own rules.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from monitor import __version__
from monitor.alert import Change, State
from monitor.batch import NO_TIME, Partition, Records
from monitor.check import Judged
from monitor.decision import Outcome
from monitor.engine import Commit
from monitor.line import ModelCommit
from monitor.outbox import Dead, Delivered, Fate
from monitor.store import OutboxFacts
from monitor.window import WHOLE

N_SERIES: Final = 2_000
N_REASONS: Final = 100
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """All of driftd's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._columns: set[tuple[str, str]] = set()
        self._reasons: set[tuple[str, str]] = set()
        registry = self.registry

        def counter(name: str, words: str, *labels: str) -> Counter:
            return Counter(f"driftd_{name}", words, labels, registry=registry)

        def gauge(name: str, words: str, *labels: str) -> Gauge:
            return Gauge(f"driftd_{name}", words, labels, registry=registry)

        def histogram(name: str, words: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"driftd_{name}", words, labels, registry=registry, buckets=buckets)

        Info("driftd_build", "The version that runs", registry=registry).info({"version": __version__})
        self._reload_ok = gauge("config_last_reload_successful", "Whether the last reload was taken (1) or refused (0)")
        self._reload_time = gauge("config_last_reload_success_timestamp_seconds", "When a configuration was taken last")
        self._records = counter("kafka_records_consumed", "Records read", "topic")
        self._lag = gauge("kafka_consumer_lag_records", "Records known to be unread", "topic", "partition")
        self._logged = gauge("kafka_last_record_timestamp_seconds", "When the newest record was logged", "topic")
        self._batch_path = gauge("kafka_batch_path", "Whether whole batches are read; 0 is record by record, slower")
        self._connected = gauge("kafka_connected", "Whether a broker's connection stands")
        self._anew = counter("topics_made_anew", "Topics found deleted and made anew under the same name", "topic")
        self._letters = counter("dead_letters_produced", "Dead letters that Kafka has taken")
        self._forgotten = counter("dead_letters_forgotten", "Dead letters that newer ones have pushed out of the state")
        self._lost = counter("records_lost", "Records that Kafka deleted before they were read", "topic")
        self._rejected = counter("records_rejected", "Records that became no row", "model", "reason")
        self._late = counter("late_records", "Rows that came after their window had closed", "model")
        self._rows = counter("rows", "Rows counted into windows", "model")
        self._labels = gauge(
            "labels", "Labels that come later, and what waits for them, by outcome", "model", "outcome"
        )
        self._coverage = gauge("label_coverage_ratio", "Share of the predictions that have got their label", "model")
        self._windows = counter("windows_closed", "Windows that closed", "model")
        self._delay = histogram(
            "window_close_delay_seconds", "From a window's end to its verdict, by the wall clock",
            (1, 5, 30, 60, 300, 600, 1800, 3600, 21600, 86400), "model",
        )  # fmt: skip
        self._checks = histogram(
            "check_duration_seconds", "Time to judge the windows that closed together, all models and detectors",
            (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
        )  # fmt: skip
        self._open = gauge("open_windows", "Windows that are not complete", "model")
        self._score = gauge("drift_effect", "Size of the change in the last window", "model", "feature")
        self._status = gauge("column_status", "Columns by verdict in the last window", "model", "verdict")
        self._errors = counter("check_errors", "Columns on which a detector failed", "model")
        self._reference = gauge("reference_info", "The reference in force", "model", "reference")
        self._incidents = gauge("alerts", "Incidents by state", "model", "state")
        self._notified = counter("notifications", "Notices delivered", "receiver")
        self._failed = counter("notifications_failed", "Attempts that did not deliver", "receiver", "reason")
        self._suppressed = counter("notifications_suppressed", "Changes that nobody was told of", "reason")
        self._latency = histogram(
            "notification_latency_seconds", "From queueing to delivery",
            (0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600), "receiver",
        )  # fmt: skip
        self._pending = gauge("outbox_pending", "Notices that wait to be delivered")
        self._oldest = gauge("outbox_oldest_age_seconds", "Age of the oldest notice that waits")
        self._dead = gauge("outbox_dead", "Notices that were given up")
        self._circuit = gauge("circuit_open", "Whether a receiver failed so often that it is left alone", "target")
        self._triggers = counter("triggers", "Steps of retraining triggers", "target", "outcome")
        self._db_bytes = gauge("state_db_bytes", "Size of the database")
        self._commits = histogram(
            "state_commit_seconds", "Time of one commit", (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
        )
        self._recovered = counter("state_recovered", "Starts from a backup because the database was damaged")
        self._full = counter("state_write_failures", "Commits that the disk did not take")
        self._jobs = counter("scheduler_runs", "Runs of housekeeping jobs", "job", "outcome")
        self._progress = gauge("loop_last_progress_timestamp_seconds", "When the loop came round last")
        self._dropped = counter("series_dropped", "Columns left out of driftd_drift_effect because there were too many")

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def configured(self, models: Mapping[str, str]) -> None:
        """A configuration is in force. models: each one's reference."""
        self._reload_ok.set(1)
        self._reload_time.set(time.time())
        self._reference.clear()
        self._circuit.clear()
        for model, reference in models.items():
            self._reference.labels(model, reference).set(1)
            for state in (State.FIRING, State.NODATA, State.ERROR):
                self._incidents.labels(model, state).set(0)

    def reads_batches(self, yes: bool) -> None:
        """Which way Kafka is read."""
        self._batch_path.set(yes)

    def refused(self) -> None:
        """A reload was refused."""
        self._reload_ok.set(0)

    def recovered(self) -> None:
        """The database was restored from a backup."""
        self._recovered.inc()

    def came_round(self, lag: Mapping[Partition, int], connected: bool) -> None:
        """The loop made progress."""
        self._progress.set(time.time())
        self._connected.set(connected)
        for at, n_unread in lag.items():
            self._lag.labels(at.topic, at.number).set(n_unread)

    def read(self, records: Records) -> None:
        """Records came."""
        topic = records.partition.topic
        self._records.labels(topic).inc(records.n_read)
        if records.n_lost:
            self.jumped(records.partition, records.n_lost)
        logged_ms = int(records.timestamps_ms.max(initial=NO_TIME))
        if logged_ms != NO_TIME:
            self._logged.labels(topic).set(logged_ms / 1000)

    def jumped(self, at: Partition, n_lost: int) -> None:
        """Records are gone."""
        self._lost.labels(at.topic).inc(max(n_lost, 0))

    def judged(self, commit: Commit, seconds: float) -> None:
        """The engine came to a commit; counted where windows closed."""
        if any(part.judged for part in commit.models):
            self._checks.observe(seconds)

    def made_anew(self, topic: str) -> None:
        """A topic is another one than before."""
        self._anew.labels(topic).inc()

    def forgotten(self, n_letters: int) -> None:
        """There was no more room for dead letters."""
        self._forgotten.inc(n_letters)

    def produced(self, n_letters: int) -> None:
        """Dead letters were produced."""
        self._letters.inc(n_letters)

    def committed(self, commit: Commit, seconds: float) -> None:
        """A commit is on the disk."""
        self._commits.observe(seconds)
        for part in commit.models:
            self._model(part, commit.now_ms)

    def not_written(self) -> None:
        """The disk did not take a commit."""
        self._full.inc()

    def settled(self, channel: str, fate: Fate, queued_ms: int) -> None:
        """An attempt at delivery ended."""
        if isinstance(fate, Delivered):
            self._notified.labels(channel).inc()
            self._latency.labels(channel).observe(max(0.0, time.time() - queued_ms / 1000))
            return
        words = fate.detail or fate.reason if isinstance(fate, Dead) else fate.reason
        reason = words.split(":")[0][:40]
        if len(self._reasons) >= N_REASONS and (channel, reason) not in self._reasons:
            reason = "other"
        self._reasons.add((channel, reason))
        self._failed.labels(channel, reason).inc()

    def outbox(self, facts: OutboxFacts, failing: Mapping[str, bool]) -> None:
        """How the outbox stands. failing: of each receiver, whether it is left alone."""
        for target, is_open in failing.items():
            self._circuit.labels(target).set(is_open)
        self._pending.set(facts.n_pending)
        self._oldest.set(facts.oldest_seconds)
        self._dead.set(facts.n_dead)
        self._db_bytes.set(facts.n_bytes)

    def job(self, name: str, outcome: str) -> None:
        """A housekeeping job ran: ok, failed, missed or still_running."""
        self._jobs.labels(name, outcome).inc()

    def _model(self, part: ModelCommit, now_ms: int) -> None:
        model = part.model
        self._rows.labels(model).inc(part.n_rows)
        self._late.labels(model).inc(part.n_late)
        for reject in part.rejects:
            self._rejected.labels(model, reject.kind).inc()
        self._open.labels(model).set(part.n_open)
        if (coverage := part.state.labelled.coverage) is not None:
            self._coverage.labels(model).set(coverage)
            for outcome, n in msgspec.structs.asdict(part.state.labelled).items():
                self._labels.labels(model, outcome).set(n)
        for judged in part.judged:
            if judged.window.segment == WHOLE and judged.window.revision == 0:
                self._window(model, judged, now_ms)
        for change in part.out.changes:
            self._change(model, change)
        for trigger in part.out.triggers:
            self._triggers.labels(trigger.channel, trigger.step).inc()

    def _window(self, model: str, judged: Judged, now_ms: int) -> None:
        self._windows.labels(model).inc()
        if judged.window.end_ms != NO_TIME and now_ms:
            self._delay.labels(model).observe(max(0.0, (now_ms - judged.window.end_ms) / 1000))
        for outcome in Outcome:
            self._status.labels(model, outcome).set(sum(v.outcome is outcome for v in judged.verdicts))
        self._errors.labels(model).inc(sum("failed:" in verdict.reason for verdict in judged.verdicts))
        for verdict in judged.verdicts:
            if verdict.effect is not None and self._has_room(model, verdict.column):
                self._score.labels(model, verdict.column).set(verdict.effect)

    def _has_room(self, model: str, column: str) -> bool:
        if (model, column) not in self._columns:
            if len(self._columns) >= N_SERIES:
                self._dropped.inc()
                return False
            self._columns.add((model, column))
        return True

    def _change(self, model: str, change: Change) -> None:
        for state in (State.FIRING, State.NODATA, State.ERROR):
            self._incidents.labels(model, state).set(change.episode.state is state)
        if not change.told:
            self._suppressed.labels(_suppression(change.notice)).inc()


def _suppression(notice: str) -> str:
    """The kind of a reason not to tell: silenced, inhibited, acknowledged, snoozed, pending, never told."""
    return notice.split(" by ", maxsplit=1)[0].split(":", maxsplit=1)[0]
