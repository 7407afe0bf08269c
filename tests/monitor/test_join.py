"""Labels that come later: whatever order two topics are read in, and through crashes, each label makes one loss."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import Bins, Profile
from detectors.cells import FIRST
from monitor.batch import Moment, Partition
from monitor.check import Reference
from monitor.decode.reading import decoded
from monitor.engine import Engine
from monitor.join import Run, _Pool, _row_type
from monitor.line import Line, Saved, shape
from monitor.loss import LOSS, Loss
from monitor.sources.frames import frozen, thawed
from monitor.store import Store
from monitor.window import WHOLE
from tests.monitor.labels import (
    ALL,
    BEGIN,
    LABELS,
    LAG,
    MINUTE,
    NEVER,
    PREDICTIONS,
    Log,
    Memory,
    Row,
    config,
    logs,
    made,
    mixed,
    records,
    run,
)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return made()


def by_hand(found: Log, reference: Reference, closed: set[tuple[str, int]]) -> dict[tuple[str, int], np.ndarray]:
    """The losses that every closed window should have, from a dictionary of all predictions."""
    predictions: dict[str, tuple[int, dict[str, Any]]] = {}
    for at in PREDICTIONS:
        newest = 0
        for _, row in found[at]:
            newest = max(newest, row["ts"])
            predictions.setdefault(row["id"], (max(row["ts"], newest - 10_000), row))
    values: dict[tuple[str, int], list[float]] = defaultdict(list)
    seen: set[str] = set()
    for at in LABELS:
        for at_ms, body in found[at]:
            known_ms, row = predictions.get(body["id"], (0, None))
            start_ms = at_ms - at_ms % MINUTE
            new = body["id"] not in seen
            seen.add(body["id"])
            if row is not None and new and known_ms < start_ms + MINUTE and at_ms - known_ms <= LAG:
                for segment in (WHOLE, f"plan={row['plan']}"):
                    values[segment, start_ms].append(abs(body["truth"]["label"] - row["score"]))
    own = Bins((reference.bins.numeric[1],), ())
    return {
        key: Profile.of(own, np.array([losses]), own.cells(np.array([losses]), np.empty((0, 1), np.uint8))).counts[0]
        for key, losses in values.items()
        if key in closed
    }


def test_losses_are_those_of_a_dictionary_and_neither_order_nor_crashes_change_a_window(reference: Reference):
    settings, found = config(), logs(3_000, 1_800)
    plain = run(settings, reference, found, 0, crashes=False)
    wanted = by_hand(found, reference, set(plain.windows))
    assert len(wanted) > 15
    assert {key: counts.tolist() for key, counts in plain.losses().items()} == {
        key: counts.tolist() for key, counts in wanted.items()
    }
    counts = plain.saved.state.labelled
    assert counts.repeated > 40
    assert counts.joined < counts.labels < counts.predictions
    for seed, crashes, order in [(1, False, "t"), (2, False, "outcomes"), (3, True, "any"), (4, True, "outcomes")]:
        again = run(settings, reference, found, seed, crashes, order)
        assert again.first == plain.first
        assert again.notices == plain.notices
        assert again.saved.state.labelled == counts


def by_hand_of_one_topic(found: Log) -> dict[int, list[float]]:
    """The losses by their windows, label by label; the predictions before it in its partition are its clock."""
    predictions: dict[str, tuple[int, float]] = {}
    for rows in found.values():
        newest = 0
        for _, row in rows:
            if "score" in row:
                newest = max(newest, row["ts"])
                predictions.setdefault(row["id"], (max(row["ts"], newest - 10_000), row["score"]))
    losses: dict[int, list[float]] = defaultdict(list)
    for rows in found.values():
        newest, seen = 0, set()
        for at_ms, row in rows:
            newest = max(newest, row.get("ts", 0))
            end_ms = at_ms - at_ms % MINUTE + MINUTE
            if "score" in row or row["id"] in seen or newest - 10_000 >= end_ms:
                continue
            seen.add(row["id"])
            known_ms, score = predictions.get(row["id"], (end_ms, 0.0))
            if known_ms < end_ms and at_ms - known_ms <= LAG:
                losses[end_ms - MINUTE].append(abs(row["truth"]["label"] - score))
    return losses


def test_labels_among_the_predictions_make_the_losses_of_a_dictionary_through_crashes(reference: Reference):
    settings, found = config(labels={"label": "truth.label", "lag": "150s"}), mixed(logs(3_000, 1_800))
    plain = run(settings, reference, found, 0, crashes=False)
    wanted, losses = by_hand_of_one_topic(found), plain.losses()
    closed = [start_ms for segment, start_ms in plain.windows if segment == WHOLE]
    assert len(closed) > 7
    for start_ms in closed:
        counts = losses.get((WHOLE, start_ms), np.zeros(1))
        assert counts.sum() == len(wanted.get(start_ms, ())), start_ms
        told = Loss.of(plain.windows[WHOLE, start_ms][0].tally.profile)
        assert (0.0 if told is None else told.mean) == pytest.approx(np.mean(wanted.get(start_ms) or [0.0]), abs=1e-4)
    counts = plain.saved.state.counts
    n_predictions = sum("score" in row for rows in found.values() for _, row in rows)
    assert (counts.rows, counts.rejected) == (n_predictions, {})
    assert plain.saved.state.labelled.joined > 1_000
    for seed, crashes in [(1, False), (2, False), (3, True), (4, True)]:
        again = run(settings, reference, found, seed, crashes)
        assert again.first == plain.first
        assert again.notices == plain.notices
        assert again.saved.state.labelled == plain.saved.state.labelled


@pytest.mark.parametrize(
    ("body", "is_label"),
    [
        ({"id": 1, "truth": {"label": 1}}, True),
        ({"id": 1, "truth": {"label": 1}, "ts": BEGIN, "model": "m"}, True),
        ({"id": 1, "truth": {"label": 1}, "plan": "free"}, False),
        ({"id": 1, "truth": {"label": 1}, "score": 0.5}, False),
        ({"id": 1, "truth": {"label": None}}, False),
        ({"id": 1, "truth": {"label": "one"}}, False),
        ({"truth": {"label": 1}}, False),
        ({"id": 1}, False),
    ],
)
def test_a_label_among_predictions_has_an_id_a_label_and_no_column(
    reference: Reference, body: dict[str, Any], is_label: bool
):
    settings = config(labels={"label": "truth.label"})
    line = Line(settings, settings.model[0], reference, Saved(), lambda *_: None)
    found = records(PREDICTIONS[0], [(BEGIN, {"id": 1, "ts": BEGIN, "score": 0.5, "plan": "free"}), (BEGIN, body)], 0)
    readers = [(reading, line.decoders[reading.key]) for reading in line.readings]
    batches = decoded(readers, found, NEVER)
    sent = thawed(frozen(found, batches), line.readings).decoded
    assert {key: batch.offsets.tolist() for key, batch in sent.items()} == {
        "m": [0] if is_label else [0, 1], "m labels": [1] if is_label else [],
    }  # fmt: skip
    line.step(replace(found, values=(), decoded=sent), NEVER)
    commit = line.tick(Moment(0, frozenset(PREDICTIONS)))
    assert (commit.state.labelled.labels, commit.state.counts.rows) == (int(is_label), 1 if is_label else 2)
    assert commit.state.counts.rejected == {}


def test_labels_among_predictions_break_no_silence(reference: Reference):
    settings = config(labels={"label": "truth.label"}, silent_after="1h")
    line = Line(settings, settings.model[0], reference, Saved(), lambda *_: None)
    line.step(records(PREDICTIONS[0], [(BEGIN, {"id": 1, "score": 0.5, "plan": "free", "ts": BEGIN})], 0), BEGIN)
    later = BEGIN + 7_200_000
    line.step(records(PREDICTIONS[0], [(later, {"id": 1, "truth": {"label": 1}})], 1), later)
    commit = line.tick(Moment(later, frozenset(PREDICTIONS), frozenset(PREDICTIONS)))
    assert [change.episode.state for change in commit.out.changes] == ["nodata"]


def test_the_loss_of_late_labels_alone_opens_an_incident_and_what_it_rests_on_is_named(reference: Reference):
    settings = config(decision="family", segments=())
    memory = run(settings, reference, logs(3_000, 1_800), 0, crashes=False)
    verdicts = [verdict for window, said in memory.windows.values() if window.n_rows > 100 for verdict in said]
    drifting = {verdict.column for verdict in verdicts if verdict.outcome == "drift"}
    assert drifting == {LOSS}
    topics = {at.topic for (window, _) in memory.windows.values() for at in window.tally.extents}
    assert topics == {"t", "outcomes"}


def test_rows_are_counted_by_the_columns_that_every_row_has():
    bins = Bins.of({LOSS: np.array([0.0, 1.0])}, {"said": {"no": 5, "yes": 4}}, {LOSS: "said"})
    numbers = np.array([[0.0, 1.0, 1.0]])
    alone = Profile.of(Bins((bins.numeric[0],), ()), numbers, bins.cells(numbers, np.full((1, 3), FIRST, np.uint8))[:1])
    rows = np.array([[np.nan]])
    profile = Profile.of(bins, rows, bins.cells(rows, np.full((1, 1), FIRST, np.uint8))) + alone.within(bins, 0)
    assert (profile.n_rows, Loss.of(profile).n, Loss.of(profile).mean) == (1, 3, pytest.approx(2 / 3))


WORDS = Bins.of({LOSS: np.array([0.0, 1.0])}, {"said": {"no": 5, "yes": 4}}, {LOSS: "said"})


@pytest.mark.parametrize(
    ("prediction", "label", "loss"),
    [
        ({"id": 7, "said": "no"}, {"id": "7", "label": "no"}, 0.0),
        ({"id": "7", "said": "no"}, {"id": 7.0, "label": "yes"}, 1.0),
        ({"id": 7, "said": "no"}, {"id": 7, "label": None}, None),
        ({"id": 7, "said": "no"}, {"id": 7, "label": [1]}, None),
        ({"id": 7, "said": "no"}, {"label": "no"}, None),
        ({"said": "no"}, {"id": 7, "label": "no"}, None),
        ({"id": 7, "said": None}, {"id": 7, "label": "no"}, None),
        ({"id": 7, "said": "new"}, {"id": 7, "label": "newer"}, None),
        ({"id": 7, "said": "no", "label": "no"}, {"id": 7, "label": "yes"}, 0.0),
    ],
    ids=["right", "wrong", "null", "no word", "no id", "no id of the prediction", "no output", "alike", "inline"],
)
@pytest.mark.parametrize("label_first", [False, True])
def test_words_ids_and_what_is_no_label(
    prediction: dict[str, Any], label: dict[str, Any], loss: float | None, label_first: bool
):
    fields = {"id": "id", "prediction": "said", "label": "label"}
    settings = config(fields=fields, labels={"topic": "outcomes"}, segments=())
    line = Line(settings, settings.model[0], Reference("r", WORDS, Profile.empty(WORDS)), Saved(), lambda *_: None)
    both = [(PREDICTIONS[0], prediction), (LABELS[0], label)]
    for at, body in reversed(both) if label_first else both:
        line.step(records(at, [(BEGIN, body)], 0), NEVER)
    commit = line.tick(ALL)
    found = commit.open[WHOLE, BEGIN - BEGIN % MINUTE].tally.profile
    told = Loss.of(found)
    assert (None if told is None else told.mean, found.n_rows) == (loss, 1)
    usable = "id" in label and isinstance(label["label"], str)
    assert sum(commit.state.counts.rejected.values()) == (0 if usable else 1)
    assert [reject.head for reject in commit.rejects] == ([] if usable else [json.dumps(label).encode()])
    assert commit.state.counts.rows == 1


def test_what_waits_comes_back_from_the_database_and_goes_with_another_reference(reference: Reference, tmp_path: Path):
    settings, found = config(), logs(1_000, 5_000)
    model = settings.model[0]
    store = Store(tmp_path / "state")
    line = Line(settings, model, reference, Saved(), lambda *_: None)
    engine = Engine([line])
    for at in (*PREDICTIONS, *LABELS):
        engine.step(records(at, found[at][:300], 0), NEVER)
        store.apply(engine.tick(ALL))
    loaded, mine = store.load("m", shape(model, reference), reference.bins), line._committed
    assert {key: run.to_bytes() for key, run in loaded.waiting.items()} == {
        key: run.to_bytes() for key, run in mine.waiting.items()
    }
    assert {key.side for key in loaded.waiting} == {"predictions", "labels"}
    assert loaded.state.labelled == mine.state.labelled
    other = store.load("m", shape(model, replace(reference, id="other")), reference.bins)
    assert (dict(other.waiting), store.database.rows("SELECT count(*) FROM waiting")) == ({}, [(0,)])
    assert other.offsets[LABELS[0]] < loaded.offsets[LABELS[0]]
    store.close()


def test_a_damaged_run_is_refused():
    run_ = Run.of(np.zeros(3, _row_type(2)), (PREDICTIONS[0],))
    data = bytearray(run_.to_bytes())
    data[-1] ^= 1
    with pytest.raises(ValueError, match="check sum"):
        Run.from_bytes(bytes(data))


def test_labels_hold_no_silence_back_and_are_none(reference: Reference):
    settings = config(silent_after="1h")
    line = Line(settings, settings.model[0], reference, Saved(), lambda *_: None)
    line.step(records(PREDICTIONS[0], [(BEGIN, {"id": 1, "score": 0.5, "plan": "free", "ts": BEGIN})], 0), BEGIN)
    line.step(records(LABELS[0], [(BEGIN, {"id": 1, "truth": {"label": 1}})], 0), BEGIN + 7_200_000)
    commit = line.tick(Moment(BEGIN + 7_200_000, ALL.assigned, frozenset(PREDICTIONS)))
    assert [change.episode.state for change in commit.out.changes] == ["nodata"]


keys = st.lists(st.integers(1, 40), max_size=20)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(keys, max_size=12), st.integers(1, 60))
def test_a_pool_finds_what_waits_and_forgets_the_oldest(batches: list[list[int]], most: int):
    pool, known = _Pool("predictions", 0), dict[int, tuple[Partition, int]]()
    for time_ms, batch in enumerate(batches):
        at = PREDICTIONS[time_ms % 2]
        fresh = [key for key in dict.fromkeys(batch) if key not in known]
        rows = np.zeros(len(fresh), _row_type(0))
        rows["key"], rows["time_ms"] = fresh, time_ms
        pool.add(at, rows)
        known |= dict.fromkeys(fresh, (at, time_ms))
        asked = np.arange(1, 41, dtype=np.uint64)
        found, waiting, origin = pool.find(asked)
        assert set(asked[found].tolist()) == set(known)
        for where, mine in origin:
            for row in waiting[mine]:
                assert known[int(row["key"])] == (where, int(row["time_ms"]))
        assert [key.number for key in pool.runs] == sorted(key.number for key in pool.runs)
        assert len(pool.runs) <= 1 + np.log2(max(pool.n_rows, 1))
    n_before = pool.n_rows
    n_forgotten = pool.forget(0, most)
    assert pool.n_rows <= most
    assert n_forgotten == n_before - pool.n_rows
    assert pool.forget(len(batches), most) == pool.n_rows == 0


def at(seconds: float, *ids: str, **more: Any) -> list[Row]:
    """A prediction for each of these ids, or a label where `more` holds one."""
    time_ms = BEGIN + round(seconds * 1_000)
    return [(time_ms, {"id": one, **({"ts": time_ms, "score": 0.5, "plan": "free"} | more)}) for one in ids]


def truth(seconds: float, *ids: str) -> list[Row]:
    return at(seconds, *ids, truth={"label": 1})


def read_in(steps: Sequence[tuple[Partition, list[Row]]], reference: Reference) -> Memory:
    """These records in these steps, with a commit after each."""
    memory, read = Memory(), dict.fromkeys((PREDICTIONS[0], LABELS[0]), 0)
    engine = Engine([Line(config(), config().model[0], reference, memory.saved, memory.recall)])
    for where, rows in steps:
        engine.step(records(where, rows, read[where]), NEVER)
        read[where] += len(rows)
        memory.apply(engine.tick(Moment(0, frozenset(read))))
    return memory


def test_what_is_counted_does_not_depend_on_what_was_forgotten_meanwhile(reference: Reference):
    first = (PREDICTIONS[0], at(0, *(f"p{i}" for i in range(100))))
    rest = [(PREDICTIONS[0], at(second, f"later{second}")) for second in range(10, 600, 10)]
    before, late = (LABELS[0], truth(395, "nobody")), (LABELS[0], truth(400, "p0"))
    remembered = read_in([first, late, before, *rest], reference)
    forgotten = read_in([first, *rest, before, late], reference)
    assert remembered.saved.state.labelled == forgotten.saved.state.labelled


def test_a_second_label_is_no_second_loss_though_the_first_came_long_before(reference: Reference):
    steps = [
        (LABELS[0], truth(1, "p0", *(f"nobody{i}" for i in range(40)))),
        (PREDICTIONS[0], at(50, "p0")),
        *((LABELS[0], truth(second, f"somebody{second}")) for second in (120, 180, 239)),
        (PREDICTIONS[0], at(239, "now")),
        (LABELS[0], truth(190, "p0")),
        (LABELS[0], truth(400, "end")),
        (PREDICTIONS[0], at(400, "end of predictions")),
    ]
    counts = read_in(steps, reference).saved.state.labelled
    assert counts.joined == 1


@pytest.mark.parametrize("decision", ["family", "budget"])
def test_labels_are_judged_though_no_prediction_came_in_their_window(
    reference: Reference, tmp_path: Path, decision: str
):
    labels = {"topic": "outcomes", "label": "truth.label", "lag": "7d"}
    settings, store = config(decision=decision, labels=labels, segments=()), Store(tmp_path / "state")
    line = Line(settings, settings.model[0], reference, Saved(), lambda *_: None)
    engine, later, at = Engine([line]), BEGIN + 10 * MINUTE, (PREDICTIONS[0], LABELS[0])
    rows = [(BEGIN + i * 100, {"id": i, "ts": BEGIN + i * 100, "score": 0.5, "plan": "free"}) for i in range(400)]
    end = (later + MINUTE * 9, {"id": "end", "ts": later + MINUTE * 9, "score": 0.5, "truth": {"label": 1}})
    engine.step(records(at[0], [*rows, end], 0), NEVER)
    engine.step(records(at[1], [*((later + i, {"id": i, "truth": {"label": 1}}) for i in range(300)), end], 0), NEVER)
    commit = engine.tick(Moment(0, frozenset(at)))
    store.apply(commit)
    store.close()
    judged = commit.models[0].judged[-1]
    said = {verdict.column: verdict for verdict in judged.verdicts}
    assert (judged.window.n_rows, said[LOSS].n_current, line._desk.state.toll.n_labels) == (0, 300, 300)
    assert line._desk.state.toll.total == pytest.approx(300 * (0.5 - reference.bins.numeric[1].mean), rel=0.01)
    assert "→" not in said["score"].reason
