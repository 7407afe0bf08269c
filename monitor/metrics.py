"""What Prometheus scrapes: counted from the values that pass through the loop, never asked of the stages.

Labels come from the configuration alone, with two exceptions that are capped: single columns, of which each model's
worst are shown and the others counted in driftd_series_dropped_total, and what receivers answer, where it is "other".
Names follow Prometheus' own rules.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
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
"""Of columns' effects, and of their scores, each."""
N_REASONS: Final = 100
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Watched:
    """One model as it is configured. reference: its short id; sealed_at: when that was made, in epoch seconds.
    limits: what its columns' statistics are held against, by detector, by column."""

    reference: str
    sealed_at: float
    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class _Maker:
    """Makes metrics, all in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"driftd_{name}", words, labels, registry=self._registry)

    def gauge(self, name: str, words: str, *labels: str) -> Gauge:
        return Gauge(f"driftd_{name}", words, labels, registry=self._registry)

    def histogram(self, name: str, words: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"driftd_{name}", words, labels, registry=self._registry, buckets=buckets)


class _Reading:
    """What is shown of Kafka and its records."""

    def __init__(self, make: _Maker) -> None:
        self.records = make.counter("kafka_records_consumed", "Records read", "topic")
        self.lag = make.gauge("kafka_consumer_lag_records", "Records known to be unread", "topic", "partition")
        self.logged = make.gauge("kafka_last_record_timestamp_seconds", "When the newest record was logged", "topic")
        self.batch_path = make.gauge(
            "kafka_batch_path", "Whether whole batches are read; 0 is record by record, slower"
        )
        self.connected = make.gauge("kafka_connected", "Whether a broker's connection stands")
        self.waiting = make.gauge("kafka_partitions_waiting", "Partitions that wait because too many windows are open")
        self.rebalanced = make.counter("kafka_rebalances", "Times that the group decided whose turn it is")
        self.anew = make.counter("topics_made_anew", "Topics found deleted and made anew under the same name", "topic")
        self.letters = make.counter("dead_letters_produced", "Dead letters that Kafka has taken")
        self.forgotten = make.counter(
            "dead_letters_forgotten", "Dead letters that newer ones have pushed out of the state"
        )
        self.lost = make.counter("records_lost", "Records that Kafka deleted before they were read", "topic")
        self.rejected = make.counter("records_rejected", "Records that became no row", "model", "reason")


class _Models:
    """What is shown of models and their windows."""

    def __init__(self, make: _Maker) -> None:
        self.late = make.counter("late_records", "Rows that came after their window had closed", "model")
        self.rows = make.counter("rows", "Rows counted into windows", "model")
        self.labels = make.gauge(
            "labels", "Labels that come later, and what waits for them, by outcome", "model", "outcome"
        )
        self.coverage = make.gauge(
            "label_coverage_ratio", "Share of the predictions that have got their label", "model"
        )
        self.windows = make.counter("windows_closed", "Windows that closed", "model")
        self.delay = make.histogram(
            "window_close_delay_seconds", "From a window's end to its verdict, by the wall clock",
            (1, 5, 30, 60, 300, 600, 1800, 3600, 21600, 86400), "model",
        )  # fmt: skip
        self.checks = make.histogram(
            "check_duration_seconds", "Time that a detector, or a decision beside its detectors, took for a window",
            (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5), "detector",
        )  # fmt: skip
        self.open = make.gauge("open_windows", "Windows that are not complete", "model")
        self.status = make.gauge(
            "column_status", "Columns by verdict in the last window: ok, drift or unknown", "model", "verdict"
        )
        self.errors = make.counter("check_errors", "Columns on which a detector failed", "model", "detector")
        self.incidents = make.gauge("alerts", "Incidents by state", "model", "state")


class _Telling:
    """What is shown of notices and of calls to jobs."""

    def __init__(self, make: _Maker) -> None:
        self.notified = make.counter("notifications", "Notices delivered", "receiver")
        self.failed = make.counter("notifications_failed", "Attempts that did not deliver", "receiver", "reason")
        self.suppressed = make.counter("notifications_suppressed", "Changes that nobody was told of", "reason")
        self.latency = make.histogram(
            "notification_latency_seconds", "From queueing to delivery",
            (0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600), "receiver",
        )  # fmt: skip
        self.pending = make.gauge("outbox_pending", "Notices that wait to be delivered")
        self.oldest = make.gauge("outbox_oldest_age_seconds", "Age of the oldest notice that waits")
        self.dead = make.gauge("outbox_dead", "Notices that were given up and neither sent again nor forgotten since")
        self.circuit = make.gauge("circuit_open", "Whether a receiver failed so often that it is left alone", "target")
        self.triggers = make.counter("triggers", "Steps of retraining triggers", "target", "outcome")


class _State:
    """What is shown of the configuration, the state and the loop."""

    def __init__(self, make: _Maker) -> None:
        self.reload_ok = make.gauge(
            "config_last_reload_successful", "Whether the last reload was taken (1) or refused (0)"
        )
        self.reload_time = make.gauge(
            "config_last_reload_success_timestamp_seconds", "When a configuration was taken last"
        )
        self.db_bytes = make.gauge("state_db_bytes", "Size of the database")
        self.commits = make.histogram(
            "state_commit_seconds", "Time of one commit", (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
        )
        self.recovered = make.counter("state_recovered", "Starts from a backup because the database was damaged")
        self.full = make.counter("state_write_failures", "Commits that the disk did not take")
        self.jobs = make.counter("scheduler_runs", "Runs of housekeeping jobs", "job", "outcome")
        self.progress = make.gauge("loop_last_progress_timestamp_seconds", "When the loop came round last")


class _Columns:
    """Gauges whose last label is a column: of every group of the labels before it the worst columns, as many as there
    is room for."""

    def __init__(self, dropped: Counter, *gauges: Gauge) -> None:
        self._dropped = dropped
        self._gauges = gauges
        self._shown: dict[tuple[str, ...], set[str]] = {}
        self._room = N_SERIES

    def make_room(self, n_groups: int) -> None:
        """Begin anew, with so many groups."""
        self._room = N_SERIES // max(n_groups, 1)
        self._shown = {}
        for gauge in self._gauges:
            gauge.clear()

    def show(self, group: tuple[str, ...], columns: Mapping[str, tuple[float | None, ...]]) -> None:
        """A group's columns: of each one value per gauge, or None; the largest first value is the worst."""
        worst = sorted(columns, key=lambda name: -abs(columns[name][0] or 0.0))[: self._room]
        self._dropped.inc(len(columns) - len(worst))
        for name in self._shown.get(group, set()).difference(worst):
            for gauge in self._gauges:
                gauge.remove(*group, name)
        for name in worst:
            for gauge, value in zip(self._gauges, columns[name], strict=True):
                if value is not None:
                    gauge.labels(*group, name).set(value)
        self._shown[group] = set(worst)


class _References:
    """What is shown of references."""

    def __init__(self, make: _Maker) -> None:
        self._info = make.gauge("reference_info", "The reference in force", "model", "reference")
        self._age = make.gauge("reference_age_seconds", "Time since the reference in force was made", "model")
        self.outdated = make.gauge(
            "reference_outdated", "Whether the disk holds another reference than the one in force, or none", "model"
        )

    def configured(self, models: Mapping[str, Watched]) -> None:
        """See `Metrics.configured`."""
        for gauge in (self._info, self._age, self.outdated):
            gauge.clear()
        for model, watched in models.items():
            self._info.labels(model, watched.reference).set(1)
            self._age.labels(model).set_function(partial(_seconds_since, watched.sealed_at))
            self.outdated.labels(model).set(0)


class _Features:
    """What is shown of single columns."""

    def __init__(self, make: _Maker) -> None:
        by_column = ("model", "detector", "feature")
        words = "Columns that were not shown in a window because there were too many"
        dropped = make.counter("series_dropped", words)
        effect = make.gauge("drift_effect", "Size of the change in the last window", "model", "feature")
        words = "A detector's statistic in the last window, of the detectors that [http] scores names"
        score = make.gauge("drift_score", words, *by_column)
        words = "What the statistic in driftd_drift_score is held against, where it is"
        limit = make.gauge("drift_threshold", words, *by_column)
        self._effects, self._scores = _Columns(dropped, effect), _Columns(dropped, score, limit)
        self._watched: Mapping[str, Watched] = {}

    def configured(self, models: Mapping[str, Watched], n_scores: int) -> None:
        """See `Metrics.configured`."""
        self._watched = models
        self._effects.make_room(len(models))
        self._scores.make_room(len(models) * n_scores)

    def show(self, model: str, judged: Judged) -> None:
        """A model's window."""
        effects = ((verdict.column, verdict.effect) for verdict in judged.verdicts)
        self._effects.show((model,), {column: (effect,) for column, effect in effects if effect is not None})
        for detector, found in judged.statistics.items():
            limits = self._watched[model].limits.get(detector, {})
            self._scores.show((model, detector), {name: (found[name], limits.get(name)) for name in found})


class Metrics:
    """All of driftd's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._reasons: set[tuple[str, str]] = set()
        Info("driftd_build", "The version that runs", registry=self.registry).info({"version": __version__})
        make = _Maker(self.registry)
        self._reading, self._models, self._telling = _Reading(make), _Models(make), _Telling(make)
        self._state, self._references, self._features = _State(make), _References(make), _Features(make)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def configured(self, models: Mapping[str, Watched], n_scores: int) -> None:
        """A configuration is in force. n_scores: detectors whose statistics are shown."""
        self._features.configured(models, n_scores)
        self._state.reload_ok.set(1)
        self._state.reload_time.set(time.time())
        self._references.configured(models)
        self._telling.circuit.clear()
        for model in models:
            for state in (State.FIRING, State.NODATA, State.ERROR):
                self._models.incidents.labels(model, state).set(0)

    def reads_batches(self, yes: bool) -> None:
        """Which way Kafka is read."""
        self._reading.batch_path.set(yes)

    def refused(self) -> None:
        """A reload was refused."""
        self._state.reload_ok.set(0)

    def recovered(self) -> None:
        """The database was restored from a backup."""
        self._state.recovered.inc()

    def came_round(self, lag: Mapping[Partition, int], connected: bool) -> None:
        """The loop made progress."""
        self._state.progress.set(time.time())
        self._reading.connected.set(connected)
        for at, n_unread in lag.items():
            self._reading.lag.labels(at.topic, at.number).set(n_unread)

    def read(self, records: Records) -> None:
        """Records came."""
        topic = records.partition.topic
        self._reading.records.labels(topic).inc(records.n_read)
        if records.n_lost:
            self.jumped(records.partition, records.n_lost)
        logged_ms = int(records.timestamps_ms.max(initial=NO_TIME))
        if logged_ms != NO_TIME:
            self._reading.logged.labels(topic).set(logged_ms / 1000)

    def jumped(self, at: Partition, n_lost: int) -> None:
        """Records are gone."""
        self._reading.lost.labels(at.topic).inc(max(n_lost, 0))

    def outdated(self, model: str, yes: bool) -> None:
        """Whether a model's reference on the disk is not the one in force."""
        self._references.outdated.labels(model).set(yes)

    def waiting(self, n_partitions: int) -> None:
        """So many partitions are not read on for now."""
        self._reading.waiting.set(n_partitions)

    def rebalanced(self) -> None:
        """The group has decided whose turn it is."""
        self._reading.rebalanced.inc()

    def made_anew(self, topic: str) -> None:
        """A topic is another one than before."""
        self._reading.anew.labels(topic).inc()

    def forgotten(self, n_letters: int) -> None:
        """There was no more room for dead letters."""
        self._reading.forgotten.inc(n_letters)

    def produced(self, n_letters: int) -> None:
        """Dead letters were produced."""
        self._reading.letters.inc(n_letters)

    def committed(self, commit: Commit, seconds: float) -> None:
        """A commit is on the disk."""
        self._state.commits.observe(seconds)
        for part in commit.models:
            self._model(part, commit.now_ms)

    def not_written(self) -> None:
        """The disk did not take a commit."""
        self._state.full.inc()

    def settled(self, channel: str, fate: Fate, queued_ms: int) -> None:
        """An attempt at delivery ended."""
        if isinstance(fate, Delivered):
            self._telling.notified.labels(channel).inc()
            self._telling.latency.labels(channel).observe(max(0.0, time.time() - queued_ms / 1000))
            return
        words = fate.detail or fate.reason if isinstance(fate, Dead) else fate.reason
        reason = words.split(":")[0][:40]
        if len(self._reasons) >= N_REASONS and (channel, reason) not in self._reasons:
            reason = "other"
        self._reasons.add((channel, reason))
        self._telling.failed.labels(channel, reason).inc()

    def outbox(self, facts: OutboxFacts, failing: Mapping[str, bool]) -> None:
        """How the outbox stands. failing: of each receiver, whether it is left alone."""
        for target, is_open in failing.items():
            self._telling.circuit.labels(target).set(is_open)
        self._telling.pending.set(facts.n_pending)
        self._telling.oldest.set(facts.oldest_seconds)
        self._telling.dead.set(facts.n_dead)
        self._state.db_bytes.set(facts.n_bytes)

    def job(self, name: str, outcome: str) -> None:
        """A housekeeping job ran: ok, failed, missed or still_running."""
        self._state.jobs.labels(name, outcome).inc()

    def _model(self, part: ModelCommit, now_ms: int) -> None:
        model = part.model
        self._models.rows.labels(model).inc(part.n_rows)
        self._models.late.labels(model).inc(part.n_late)
        for reject in part.rejects:
            self._reading.rejected.labels(model, reject.kind).inc()
        self._models.open.labels(model).set(part.n_open)
        if (coverage := part.state.labelled.coverage) is not None:
            self._models.coverage.labels(model).set(coverage)
            for outcome, n in msgspec.structs.asdict(part.state.labelled).items():
                self._models.labels.labels(model, outcome).set(n)
        for judged in part.judged:
            for detector, seconds in judged.seconds.items():
                self._models.checks.labels(detector).observe(seconds)
            for detector, n in judged.n_failed.items():
                self._models.errors.labels(model, detector).inc(n)
            if judged.window.segment == WHOLE and judged.window.revision == 0:
                self._window(model, judged, now_ms)
        for change in part.out.changes:
            self._change(model, change)
        for trigger in part.out.triggers:
            self._telling.triggers.labels(trigger.channel, trigger.step).inc()

    def _window(self, model: str, judged: Judged, now_ms: int) -> None:
        self._models.windows.labels(model).inc()
        if judged.window.end_ms != NO_TIME and now_ms:
            self._models.delay.labels(model).observe(max(0.0, (now_ms - judged.window.end_ms) / 1000))
        for outcome in Outcome:
            self._models.status.labels(model, outcome).set(sum(v.outcome is outcome for v in judged.verdicts))
        self._features.show(model, judged)

    def _change(self, model: str, change: Change) -> None:
        for state in (State.FIRING, State.NODATA, State.ERROR):
            self._models.incidents.labels(model, state).set(change.episode.state is state)
        if not change.told:
            self._telling.suppressed.labels(_suppression(change.notice)).inc()


def _seconds_since(at: float) -> float:
    return max(0.0, time.time() - at)


def _suppression(notice: str) -> str:
    """The kind of a reason not to tell: silenced, inhibited, acknowledged, snoozed, pending, never told."""
    return notice.split(" by ", maxsplit=1)[0].split(":", maxsplit=1)[0]
