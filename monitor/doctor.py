"""A synthetic drift through the whole path, hop by hop, with the time that each took.

Records are drawn from the reference, drift in one column, are encoded as the service logs them, and go through the
model's own decoder, windows, decision, incident and channels. Nothing is written to the state or to Kafka, no
retraining job is called, and every message is marked as a test.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from detectors.cells import FIRST
from monitor.assembly import Prepared, prepare
from monitor.batch import NO_TIME, Batch, Partition, Records
from monitor.channels import TOOLS, Attempt, Channel, Refused, Retry, Tools
from monitor.check import Reference
from monitor.config import Config, Model, Rows
from monitor.decode import Layout
from monitor.errors import DriftdError, SourceError
from monitor.line import Line, ModelCommit, Saved
from monitor.message import AlertBody, Notice
from monitor.scenario import BEGIN_MS, MINUTE_MS, Feed, drawn
from monitor.sources.kafka import KafkaSource

N_ROWS: Final = 2_000
N_WINDOWS: Final = 4
"""The budget believes no single window, however strange."""
CONNECT_SECONDS: Final = 15.0
AT: Final = Partition("driftd doctor", 0)


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of the way: what it was, whether it worked, what came of it, and how long it took."""

    name: str
    works: bool
    words: str
    milliseconds: float


class _Clock:
    def __init__(self) -> None:
        self._began = time.monotonic()

    def hop(self, name: str, works: bool, words: str) -> Hop:
        """A step that ends now; the next one begins."""
        now = time.monotonic()
        taken, self._began = (now - self._began) * 1000, now
        return Hop(name, works, words, taken)


def examine(file: Path, config: Config, *, send: bool) -> Iterator[Hop]:
    """Go the whole way, model by model. send: whether alert channels get the message."""
    clock = _Clock()
    try:
        prepared = prepare(file, config)
    except DriftdError as fault:
        yield clock.hop("configuration, references, secrets", False, str(fault))
        return
    yield clock.hop("configuration, references, secrets", True, f"{len(config.model)} models")
    yield _kafka(prepared, clock)
    for model in config.model:
        yield from _model(prepared, model, clock, send=send)


def _kafka(prepared: Prepared, clock: _Clock) -> Hop:
    topics = sorted({topic for model in prepared.config.model for topic in model.all_topics})
    try:
        source = KafkaSource(topics, prepared.kafka, start="latest")
        try:
            deadline = time.monotonic() + CONNECT_SECONDS
            while time.monotonic() < deadline and {at.topic for at in source.assigned()} != set(topics):
                source.poll(0.2)
            found = {topic: sum(at.topic == topic for at in source.assigned()) for topic in topics}
        finally:
            source.close()
    except SourceError as fault:
        return clock.hop("Kafka", False, str(fault))
    return clock.hop("Kafka", all(found.values()), ", ".join(f"{name}: {n} partitions" for name, n in found.items()))


def _model(prepared: Prepared, model: Model, clock: _Clock, *, send: bool) -> Iterator[Hop]:
    reference = prepared.references[model.name]
    model = model.model_copy(update={"window": Rows(n_rows=N_ROWS // N_WINDOWS)})  # whatever it is, as quickly
    line = Line(prepared.config.unsampled, model, reference, Saved(), lambda *_: None)
    column, made = _drifting(reference)
    if model.format == "json":
        line.step(encoded(reference, line.layout, made))
        what = f"{model.name}: {N_ROWS:,} records decoded, counted, judged"
    else:
        line.add(made)
        what = f"{model.name}: {N_ROWS:,} rows counted, judged (records of format {model.format} are not made up)"
    commit = line.finish()
    rejected = sum(commit.state.counts.rejected.values()) if commit else N_ROWS
    yield clock.hop(what, not rejected, f"{rejected} rejected" if rejected else f"drift put into {column}")
    changes = [change for change in commit.out.changes if change.told] if commit else []
    found = {drifting.verdict.column for change in changes for drifting in change.episode.columns}
    yield clock.hop(f"{model.name}: incident", column in found, ", ".join(sorted(found)) or "none opened")
    for notice in _alerts(commit):
        yield clock.hop(f"{model.name}: {notice.channel}", *_sent(prepared.channels[notice.channel], notice, send))


def _drifting(reference: Reference) -> tuple[str, Batch]:
    """The column into which drift is put, and rows in which it is."""
    bins = reference.bins
    numeric = [column for column in bins.numeric if column.deviation > 0]
    column = numeric[0].name if numeric else bins.names[0]
    hour_ms = 60 * MINUTE_MS
    shift, missing = ({column: 3.0}, {}) if numeric else ({}, {column: 0.5})
    feed = Feed.model_validate({"until": "1h", "shift": shift, "missing": missing})
    numbers, cells = drawn(reference, N_ROWS, feed, np.random.default_rng(0))
    times = BEGIN_MS + np.arange(N_ROWS, dtype=np.int64) * hour_ms // N_ROWS
    return column, Batch(AT, np.arange(N_ROWS, dtype=np.int64), times, numbers, cells, N_ROWS)


def encoded(reference: Reference, layout: Layout, batch: Batch) -> Records:
    """The rows as driftd's own JSON."""
    bins = reference.bins
    words = [{FIRST + i: word for i, word in enumerate(column.vocabulary)} for column in bins.categorical]
    values = []
    for row in range(batch.n_rows):
        document: dict[str, Any] = {}
        for i, path in enumerate(layout.paths):
            if i < bins.n_numeric:
                number = float(batch.numbers[i, row])
                value: Any = None if np.isnan(number) else number
            else:
                value = words[i - bins.n_numeric].get(int(batch.cells[i, row]))
            _put(document, path, value)
        if layout.timestamp is not None:
            _put(document, layout.timestamp, int(batch.time_ms[row]))
        values.append(msgspec.json.encode(document))
    logged = batch.time_ms if layout.timestamp is None else np.full(batch.n_rows, NO_TIME)
    return Records(AT, batch.offsets, logged, values, batch.next_offset)


def _put(document: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        document = document.setdefault(key, {})
    document[path[-1]] = value


def _alerts(commit: ModelCommit | None) -> Iterator[Notice]:
    """The alerts, marked as tests and with names of their own; calls to retraining jobs are left out."""
    for notice in commit.out.notices if commit else ():
        if isinstance(notice.body, AlertBody):
            identity = f"doctor-{time.time_ns()}"
            body = msgspec.structs.replace(notice.body, test=True, incident=identity)
            yield msgspec.structs.replace(notice, id=identity, incident=identity, body=body)


def _sent(opened: Callable[[Tools], Channel], notice: Notice, send: bool) -> tuple[bool, str]:
    if not send:
        return True, "not sent"
    channel = opened(TOOLS)
    try:
        outcome = channel.send(notice, Attempt(queued_at=time.time()))
    finally:
        channel.close()
    if isinstance(outcome, Retry | Refused):
        return False, outcome.reason
    return True, "sent, marked as a test"
