"""The engine: whatever is cut, crashed or interleaved, the same log gives the same windows, verdicts and notices."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from detectors import Bins, Profile
from monitor.batch import Moment, Partition, Records
from monitor.check import Judged, Reference
from monitor.cli import read_config
from monitor.config import Config
from monitor.decode.reading import SKEW_MS
from monitor.engine import Engine
from monitor.frozen import freeze, thaw
from monitor.line import Line, Saved, shape
from monitor.store import Store
from monitor.window import WHOLE, Window
from tests.monitor.database import Database

P = [Partition("t", number) for number in range(2)]
ALL = Moment(0, frozenset(P))
CONFIG = """
[[model]]
name = "m"
topics = ["t"]
reference = "r"
window = "1m"
lateness = "10s"
segments = ["plan"]
[model.fields]
timestamp = "ts"
[[channel]]
name = "log"
kind = "log"
[[channel]]
name = "job"
kind = "log"
[[retrain]]
model = "m"
channel = "job"
mode = "auto"
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    file = tmp_path / "driftd.toml"
    file.write_text(CONFIG)
    return read_config(file)


@pytest.fixture(scope="module")
def reference() -> Reference:
    rng = np.random.default_rng(0)
    bins = Bins.of({"x": rng.normal(size=4000)}, {"plan": {"free": 3000, "paid": 1000}})
    words = np.where(rng.random((1, 4000)) < 0.75, 3, 4).astype(np.uint8)
    numbers = rng.normal(size=(1, 4000))
    return Reference("ref", bins, Profile.of(bins, numbers, bins.cells(numbers, words)))


def log(n_rows: int, drift_from: int) -> dict[Partition, list[bytes]]:
    """Two partitions, in time order except for rows that come late; x drifts from some row on.

    For two minutes nothing comes in time, so that some windows are made by late rows alone.
    """
    rng = random.Random(5)
    logs: dict[Partition, list[bytes]] = {at: [] for at in P}
    for i in range(n_rows):
        gap_ms = 130_000 if i >= 1_000 else 0
        time_ms = 1_700_000_000_000 + i * 100 + gap_ms - (rng.randrange(150_000) if rng.random() < 0.05 else 0)
        x = rng.gauss(1.0 if i >= drift_from else 0.0, 1.0)
        row = {"ts": time_ms, "x": x, "plan": rng.choice(["free", "free", "free", "paid"])}
        logs[P[i % 2]].append(b"{broken" if rng.random() < 0.01 else json.dumps(row).encode())
    return logs


def records(at: Partition, values: Sequence[bytes], first: int) -> Records:
    offsets = np.arange(first, first + len(values), dtype=np.int64)
    return Records(at, offsets, np.full(len(values), 1_800_000_000_000), list(values), first + len(values))


class Memory(Database):
    """Also keeps what was judged first, and the windows' samples."""

    def __init__(self) -> None:
        super().__init__()
        self.samples: dict[int, bytes] = {}
        self.judged: list[Judged] = []

    def keep(self, judged: Judged) -> None:
        super().keep(judged)
        self.judged.append(judged)
        if judged.window.sample is not None:
            self.samples[judged.window.start_ms] = judged.window.sample.to_bytes()

    def result(self) -> tuple[Any, ...]:
        """The windows with their final content and verdicts, their samples, first verdicts, and notices."""
        final = {key: (freeze(_plain(window)), list(verdicts)) for key, (window, verdicts) in self.windows.items()}
        first = {(j.window.segment, j.window.index): list(j.verdicts) for j in self.judged if not j.window.revision}
        return final, self.samples, first, self.notices


def _sample(window: Window) -> bytes | None:
    return None if window.sample is None else window.sample.to_bytes()


def _plain(window: Window) -> Window:
    """In how many revisions late rows came is a matter of when they were read."""
    return replace(window, revision=0)


def run(config: Config, reference: Reference, logs: dict[Partition, list[bytes]], seed: int, crashes: bool) -> Memory:
    """Read the logs to their ends in pieces of random size; crash (forget all but the memory) at random, if asked."""
    rng, memory = random.Random(seed), Memory()

    def start() -> tuple[Engine, dict[Partition, int]]:
        engine = Engine([Line(config, config.model[0], reference, memory.saved, memory.recall)])
        return engine, {at: engine.positions().get(at, 0) for at in logs}

    engine, read = start()
    while any(read[at] < len(values) for at, values in logs.items()):
        at = rng.choice(P)
        piece = logs[at][read[at] : read[at] + rng.randrange(1, 400)]
        engine.step(records(at, piece, read[at]), 2_000_000_000_000)
        read[at] += len(piece)
        if engine.ready(ALL) or rng.random() < 0.2:
            commit = engine.tick(ALL)
            if crashes and rng.random() < 0.3:
                engine, read = start()
                continue
            memory.apply(commit)
        if crashes and rng.random() < 0.1:
            engine, read = start()
    memory.apply(engine.tick(ALL))
    return memory


def test_crashes_and_cuts_change_nothing(config: Config, reference: Reference):
    logs = log(6_000, 3_000)
    undisturbed = run(config, reference, logs, 0, crashes=False)
    windows, samples, first, notices = whole = undisturbed.result()
    assert len(windows) > 20
    assert len(samples) == sum(segment == WHOLE for segment, index in first if index >= 0)
    assert any(window.index < 0 for window, _ in undisturbed.windows.values())
    assert any(window.n_late and window.index >= 0 for window, _ in undisturbed.windows.values())
    assert {notice.purpose for notice in notices.values()} == {"alert", "retrain"}
    for seed in range(1, 6):
        assert run(config, reference, logs, seed, crashes=False).result() == whole
        assert run(config, reference, logs, seed, crashes=True).result() == whole


def test_every_record_is_counted_once_or_rejected(config: Config, reference: Reference):
    logs = log(3_000, 1_000)
    memory = run(config, reference, logs, 3, crashes=True)
    counts = memory.saved.state.counts
    closed = sum(window.n_rows for (segment, _), (window, _) in memory.windows.items() if segment == WHOLE)
    still_open = sum(w.n_rows + w.waiting.n_rows for (segment, _), w in memory.saved.open.items() if segment == WHOLE)
    broken = sum(value == b"{broken" for values in logs.values() for value in values)
    assert counts.rows == closed + still_open == 3_000 - broken
    assert counts.rejected == {"not_json": broken}


def test_what_the_store_loads_is_what_the_line_went_on_with(config: Config, reference: Reference, tmp_path: Path):
    store = Store(tmp_path / "state")
    model = config.model[0]
    line = Line(config, model, reference, Saved(), lambda *_: None)
    engine = Engine([line])
    logs = log(2_000, 500)
    for at in P:
        engine.step(records(at, logs[at], 0), 2_000_000_000_000)
        commit = engine.tick(ALL)
        assert commit is not None
        store.apply(commit)
    loaded = store.load("m", shape(model, reference), reference.bins)
    mine = line._committed
    assert (loaded.state, loaded.offsets, loaded.memories) == (mine.state, mine.offsets, mine.memories)
    assert {key: (freeze(window), _sample(window)) for key, window in loaded.open.items()} == {
        key: (freeze(window), _sample(window)) for key, window in mine.open.items()
    }
    kept = {start_ms for (start_ms,) in store.database.rows("SELECT start_ms FROM open_samples")}
    assert kept == {start_ms for segment, start_ms in mine.open if segment == WHOLE}
    last = {(j.window.segment, j.window.start_ms): j for j in commit.models[0].judged}
    for window, verdicts in ((judged.window, judged.verdicts) for judged in last.values()):
        known = store.recall({"m": reference.bins}, "m", window.segment, window.start_ms)
        assert known is not None
        assert (freeze(known[0]), tuple(known[1])) == (freeze(window), verdicts)
    store.close()


def test_another_reference_reads_the_rows_of_open_windows_again_and_no_others(
    config: Config, reference: Reference, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    logs = log(3_000, 10_000)
    undisturbed = run(config, reference, logs, 0, crashes=False)
    store, model = Store(tmp_path / "state"), config.model[0]
    other = Reference("other", reference.bins, reference.profile)
    normal, read = reference, dict.fromkeys(P, 0)
    recall = partial(store.recall, {"m": reference.bins})
    for part in range(3):
        saved = store.load("m", shape(model, normal), normal.bins)
        engine = Engine([Line(config, model, normal, saved, recall)])
        read = {at: engine.positions().get(at, 0) for at in P}
        for at in P:
            values = logs[at][read[at] : (part + 1) * len(logs[at]) // 3]
            engine.step(records(at, values, read[at]), 2_000_000_000_000)
            commit = engine.tick(ALL)
            if commit is not None:
                store.apply(commit)
        normal = other if normal is reference else reference
    assert "are read again" in caplog.text
    kept = [thaw(body, reference.bins) for (body,) in store.database.rows("SELECT body FROM windows")]
    wanted = {key: window.tally.profile for key, (window, _) in undisturbed.windows.items()}
    found = {(window.segment, window.start_ms): window.tally.profile for window in kept}
    assert found == wanted
    assert engine.lines[0]._counts.rows == undisturbed.saved.state.counts.rows
    store.close()


@pytest.mark.parametrize(
    ("time_ms", "logged_ms", "kind"),
    [
        (1_700_000_000_000, 1_700_000_000_000 - SKEW_MS - 1, "future"),
        (1_700_000_000_000, 1_700_000_000_000 - SKEW_MS, None),
        (None, np.iinfo(np.int64).min, "no_event_time"),
        (None, 1_700_000_000_000, None),
    ],
)
def test_rows_that_no_window_could_hold_are_rejected(config, reference, time_ms, logged_ms, kind):
    line = Line(config, config.model[0], reference, Saved(), lambda *_: None)
    value = json.dumps({"ts": time_ms, "x": 1.0}).encode()
    stamped = records(P[0], [value], 7)
    line.step(replace(stamped, timestamps_ms=np.array([logged_ms])), now_ms=2_000_000_000_000)
    commit = line.tick(ALL)
    assert commit is not None
    assert [(reject.kind, reject.offset) for reject in commit.rejects] == ([(kind, 7)] if kind else [])
    assert commit.state.counts.rows == (0 if kind else 1)


def test_two_models_read_one_topic_each_from_its_own_offset(config: Config, reference: Reference):
    def line(name: str, offset: int) -> Line:
        model = config.model[0].model_copy(update={"name": name})
        return Line(config, model, reference, Saved(offsets={P[0]: offset}), lambda *_: None)

    engine = Engine([line("a", 3), line("b", 6)])
    assert engine.positions() == {P[0]: 3}
    engine.step(records(P[0], [b"{}"] * 10, 0), 0)
    commit = engine.tick(ALL)
    assert commit is not None
    assert {part.model: part.state.counts.rows + len(part.rejects) for part in commit.models} == {"a": 7, "b": 4}
    assert Engine([line("a", 3), Line(config, config.model[0], reference, Saved(), lambda *_: None)]).positions() == {}


def test_a_jump_in_the_log_is_counted_and_followed(config: Config, reference: Reference):
    engine = Engine([Line(config, config.model[0], reference, Saved(offsets={P[0]: 5}), lambda *_: None)])
    engine.jump(P[0], 12)
    commit = engine.tick(ALL)
    assert commit is not None
    assert (commit.models[0].offsets, commit.models[0].state.counts.lost) == ({P[0]: 12}, 7)
    engine.jump(P[0], 0)
    engine.step(records(P[0], [b'{"x": 1, "ts": 1}'], 0), 0)
    again = engine.tick(ALL)
    assert again is not None
    assert (again.models[0].offsets, again.models[0].state.counts.rows) == ({P[0]: 1}, 1)


def test_a_topic_made_anew_is_read_from_its_start_by_whoever_read_the_old_one(config: Config, reference: Reference):
    def line(name: str, saved: Saved) -> Line:
        model = config.model[0].model_copy(update={"name": name})
        return Line(config, model, reference, saved, lambda *_: None)

    old = line("old", Saved(offsets={P[0]: 5, P[1]: 3}))
    assert Engine([old]).recognise({"t": "first", "unread": "first"}) == []
    told = old.tick(ALL)
    assert told is not None  # remembered before anything is read, or a later change could not be told
    assert (told.offsets, told.state.logs) == ({}, (("t", "first"),))
    assert old.tick(ALL) is None

    again, other = line("old", Saved(told.state, {P[0]: 5, P[1]: 3})), line("other", Saved(told.state))
    engine = Engine([again, other, line("new", Saved())])
    assert engine.recognise({"t": "second"}) == ["t"]
    assert engine.recognise({"t": "second"}) == []
    assert Engine([again]).positions() == {P[0]: 0, P[1]: 0}
    commit = engine.tick(ALL)
    assert commit is not None
    assert {part.model: (part.state.counts.anew, part.state.counts.lost) for part in commit.models} == {
        "old": (1, 0), "other": (0, 0), "new": (0, 0),
    }  # fmt: skip


def test_rows_of_a_new_log_are_not_taken_for_old_ones_that_a_window_holds(config: Config, reference: Reference):
    def line(saved: Saved) -> Line:
        return Line(config, config.model[0], reference, saved, lambda *_: None)

    first = line(Saved())
    first.step(records(P[0], [b'{"x": 1, "ts": 1}'], 0))
    commit = first.tick(ALL)
    assert commit is not None
    state = msgspec.structs.replace(
        commit.state, fences=(("t", 0, 9),), closed_until=60_000, logs=(("t", "first"),)
    )  # fmt: skip
    for log, n_rows in (("first", 1), ("second", 2)):
        fenced = line(Saved(state, {P[0]: 0 if log == "first" else 9}))
        fenced.recognise("t", log)
        fenced.step(records(P[0], [b'{"x": 1, "ts": 1}'], 0))
        after = fenced.tick(ALL)
        assert after is not None
        assert after.state.counts.rows == n_rows


def test_a_refused_batch_is_counted_as_lost_and_what_is_around_it_as_ever(config: Config, reference: Reference):
    engine = Engine([Line(config, config.model[0], reference, Saved(), lambda *_: None)])
    around = replace(
        records(P[0], [b'{"x": 1, "ts": 1}'] * 4, 0), offsets=np.array([0, 1, 5, 6]), next_offset=7, n_lost=3
    )
    for _ in range(2):  # read again, it changes nothing
        engine.step(around, 0)
    alone = replace(records(P[0], [], 7), next_offset=9, n_lost=2)
    engine.step(alone, 0)
    assert alone.first_offset == 9
    commit = engine.tick(ALL)
    assert commit is not None
    counts = commit.models[0].state.counts
    assert (commit.models[0].offsets, counts.rows, counts.lost) == ({P[0]: 9}, 4, 5)


def test_no_word_of_a_row_reaches_the_state(config: Config, reference: Reference, tmp_path: Path):
    """Windows keep samples of their rows; ids, texts and words that the reference does not know are not among them."""
    store = Store(tmp_path / "state")
    engine = Engine([Line(config, config.model[0], reference, Saved(), lambda *_: None)])
    rows = [
        {"ts": 1_700_000_000_000 + i * 1_000, "id": f"canary-{i}", "x": "canary-x", "plan": f"canary-{i % 7}"}
        for i in range(200)
    ]
    engine.step(records(P[0], [json.dumps(row).encode() for row in rows], 1), 2_000_000_000_000)
    moment = Moment(0, frozenset({P[0]}))
    commit = engine.tick(moment)
    assert commit is not None
    store.apply(commit)
    assert store.database.rows("SELECT count(*) FROM samples")[0][0] >= 2
    assert store.database.rows("SELECT count(*) FROM open_samples")[0][0] >= 1
    store.close()
    written = b"".join(file.read_bytes() for file in (tmp_path / "state").iterdir())
    assert len(written) > 10_000
    assert b"canary" not in written
