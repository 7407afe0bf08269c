"""What Prometheus scrapes is right by its own tool's rules, follows what happened, and stays bounded."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from monitor import metrics as module
from monitor.alert import Change, Episode, Seen, State
from monitor.batch import Partition, Records, Reject, Severity
from monitor.desk import Outcomes
from monitor.engine import Commit
from monitor.health import STUCK_SECONDS, Health
from monitor.join import Labelled
from monitor.line import LineState, ModelCommit
from monitor.metrics import Metrics, Watched
from monitor.outbox import Dead, Delivered, Pending
from monitor.store import OutboxFacts
from tests.monitor.test_alert import HOUR, judged

AT = Partition("predictions", 3)
TOOK = {"ks": 0.01, "rules": 0.02}


def values(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Samples by name and sorted label values."""
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def lived() -> Metrics:
    """Metrics of a service to which everything has happened once."""
    metrics = Metrics()
    metrics.configured({"m": Watched("abc", time.time() - 100, {"psi": {"a": 0.2}})}, 1)
    metrics.rebalanced()
    metrics.outdated("m", True)
    metrics.refused()
    metrics.recovered()
    metrics.came_round({AT: 7}, True)
    metrics.read(Records(AT, np.arange(2), np.array([1_000, 2_000]), [b"", b""], 2))
    metrics.jumped(AT, 4)
    episode = Episode("m-1", State.FIRING, 0, Severity.WARNING, Seen(1, 0, 100, 50), 1)
    told = Change("opened", episode, "all", "drift in x", told=True, notice="first notification")
    held = Change("updated", episode, "all", "more", notice="silenced by ana: known (s1)")
    seen: dict[str, Any] = {"statistics": {"psi": {"a": 0.3, "y": 0.1}}, "seconds": TOOK, "n_failed": {"ks": 2}}
    part = ModelCommit(
        model="m", state=LineState("s", labelled=Labelled(predictions=4, joined=3)), offsets={}, open={},
        gone=frozenset(), memories={}, judged=(replace(judged(1, "a"), **seen),), out=Outcomes(changes=[told, held]),
        rejects=(Reject(AT, 1, "not_json", "", b""),),
        n_rows=50, n_late=2, n_open=3,
    )  # fmt: skip
    metrics.committed(Commit(3 * HOUR, (part,)), 0.02)
    metrics.not_written()
    queued_ms = int(time.time() * 1000) - 200
    metrics.settled("slack", Delivered(""), queued_ms)
    metrics.settled("slack", Pending(0.0, "HTTP 503"), queued_ms)
    metrics.settled("ci", Dead("expired", "HTTP 500: busy"), queued_ms)
    metrics.outbox(OutboxFacts(2, 1, 5.0, 4096), {"slack": True, "ci": False})
    metrics.job("backup", "ok")
    return metrics


def test_what_happened_is_counted():
    found = values(lived())
    assert found["driftd_kafka_records_consumed_total", "predictions"] == 2
    assert found["driftd_kafka_consumer_lag_records", "3", "predictions"] == 7
    assert found["driftd_kafka_last_record_timestamp_seconds", "predictions"] == 2
    assert found["driftd_records_lost_total", "predictions"] == 4
    assert found["driftd_records_rejected_total", "m", "not_json"] == 1
    assert found["driftd_rows_total", "m"] == 50
    assert found["driftd_late_records_total", "m"] == 2
    assert (found["driftd_label_coverage_ratio", "m"], found["driftd_labels", "m", "predictions"]) == (0.75, 4)
    assert found["driftd_windows_closed_total", "m"] == 1
    assert found["driftd_window_close_delay_seconds_sum", "m"] == 3600
    assert found["driftd_drift_effect", "a", "m"] == 0.5
    assert found["driftd_column_status", "drift", "m"] == 1
    assert found["driftd_alerts", "firing", "m"] == 1
    assert found["driftd_notifications_suppressed_total", "silenced"] == 1
    assert found["driftd_notifications_total", "slack"] == 1
    assert found["driftd_notifications_failed_total", "HTTP 503", "slack"] == 1
    assert found["driftd_notifications_failed_total", "HTTP 500", "ci"] == 1
    assert found["driftd_outbox_pending",] == 2
    assert (found["driftd_circuit_open", "slack"], found["driftd_circuit_open", "ci"]) == (1, 0)
    assert {key[1]: value for key, value in found.items() if key[0] == "driftd_check_duration_seconds_sum"} == TOOK
    assert found["driftd_check_errors_total", "ks", "m"] == 2
    assert (found["driftd_drift_score", "a", "m", "psi"], found["driftd_drift_score", "m", "psi", "y"]) == (0.3, 0.1)
    assert [value for key, value in found.items() if key[0] == "driftd_drift_threshold"] == [0.2]
    assert found["driftd_reference_age_seconds", "m"] == pytest.approx(100, abs=50)
    assert found["driftd_kafka_rebalances_total",] == 1
    assert found["driftd_reference_outdated", "m"] == 1
    assert found["driftd_config_last_reload_successful",] == 0
    assert found["driftd_scheduler_runs_total", "backup", "ok"] == 1


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of Debian's package prometheus, is not here")
def test_promtool_has_nothing_to_say():
    done = subprocess.run(["promtool", "check", "metrics"], input=lived().text(), capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_columns_beyond_the_cap_are_counted_and_not_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "N_SERIES", 3)
    metrics = Metrics()
    part = ModelCommit(
        model="m", state=LineState("s"), offsets={}, open={}, gone=frozenset(), memories={},
        judged=(judged(1, *"abcde"),), out=Outcomes(), rejects=(),
    )  # fmt: skip
    for _ in range(2):
        metrics.committed(Commit(0, (part,)), 0.0)
    found = values(metrics)
    assert sum(name[0] == "driftd_drift_effect" for name in found) == 3
    assert found["driftd_series_dropped_total",] == 4


def test_beyond_the_cap_each_model_and_detector_shows_its_worst_columns(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "N_SERIES", 8)
    metrics = Metrics()

    def sorted_labels(columns: str, *detectors: str) -> set[tuple[str, ...]]:
        return {tuple(sorted((column, "m", detector))) for column in columns for detector in detectors}

    def shown(now: dict[str, float]) -> set[tuple[str, ...]]:
        statistics = {"psi": now, "ks": {name: -value for name, value in now.items()}}
        part = ModelCommit(
            model="m", state=LineState("s"), offsets={}, open={}, gone=frozenset(), memories={},
            judged=(replace(judged(1), statistics=statistics),), out=Outcomes(), rejects=(),
        )  # fmt: skip
        metrics.committed(Commit(0, (part,)), 0.0)
        return {name[1:] for name in values(metrics) if name[0] == "driftd_drift_score"}

    limits = {"psi": dict.fromkeys("abcd", 0.2)}
    metrics.configured({name: Watched(name, 0.0, limits) for name in ("m", "n")}, 2)
    assert shown({"a": 1.0, "b": 0.5, "c": 2.0}) == sorted_labels("ac", "psi", "ks")
    assert shown({"a": 1.0, "b": 3.0, "c": 2.0}) == sorted_labels("bc", "psi", "ks")
    found = values(metrics)
    assert {name[1:] for name in found if name[0] == "driftd_drift_threshold"} == sorted_labels("bc", "psi")
    assert found["driftd_series_dropped_total",] == 4
    metrics.configured({"n": Watched("n", 0.0)}, 2)
    assert not any(name[0] in {"driftd_drift_score", "driftd_drift_threshold"} for name in values(metrics))


def test_what_receivers_answer_makes_no_endless_series(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "N_REASONS", 3)
    metrics = Metrics()
    for i in range(10):
        metrics.settled("slack", Pending(0.0, f"no such thing {i}"), 0)
        metrics.settled("slack", Pending(0.0, "no such thing 0"), 0)
    found = {name: n for name, n in values(metrics).items() if name[0] == "driftd_notifications_failed_total"}
    reasons = {name[1] if name[2] == "slack" else name[2]: n for name, n in found.items()}
    assert reasons == {"no such thing 0": 11, "no such thing 1": 1, "no such thing 2": 1, "other": 7}


def test_the_flow_of_records_is_that_of_the_last_minute(monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    health = Health()
    assert health.flow() == (0, 0.0)
    for second in range(1, 201):
        now[0] += 1
        health.came_round(4, True, 7, 10 * second if second <= 100 else 1_000 + 30 * (second - 100))
    assert health.flow() == (7, pytest.approx(30))
    now[0] += 0.5
    health.came_round(4, True, 0, 5)
    assert health.flow() == (0, 0.0)  # a loop that has just begun


def test_health_follows_the_loop_kafka_and_the_disk(monkeypatch: pytest.MonkeyPatch):
    health = Health()
    assert health.alive().ok
    assert not health.ready().ok
    health.came_round(4, True)
    assert health.ready().ok
    health.configuration("1 problem")
    assert health.ready().ok
    assert "1 problem" in health.ready().checks["configuration"]
    health.disk("the disk is full")
    assert health.ready().checks["disk"] == "the disk is full"
    health.disk()
    health.came_round(4, False)
    assert (health.alive().ok, health.ready().checks["kafka"]) == (True, "not connected")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + STUCK_SECONDS + 1)
    assert not health.alive().ok
    assert "no progress" in health.alive().checks["loop"]
