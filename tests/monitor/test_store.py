"""The database: one transaction, one writer, an outbox in order, and a way back from damage."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from detectors import Bins, Profile
from monitor.alert import Change, Episode, Seen, State
from monitor.batch import Partition, Reject, Severity
from monitor.channels import Attempt
from monitor.check import Judged
from monitor.database import BACKUP, DATABASE, is_locked, read_only
from monitor.decision import Outcome, Verdict
from monitor.desk import Outcomes
from monitor.engine import Commit
from monitor.errors import StoreError, StoreFull, StoreLocked, StoreNewer
from monitor.frozen import unchecked
from monitor.history import History
from monitor.line import Counts, LineState, ModelCommit
from monitor.message import Notice, Purpose
from monitor.message import notice as queued
from monitor.outbox import Dead, Delivered, Pending
from monitor.rowsample import RowSample, lots
from monitor.store import Store, backup
from monitor.tally import Tally
from monitor.transaction import N_DEAD_LETTERS
from monitor.window import Window
from tests.bodies import make_alert, make_notice
from tests.monitor.test_retrain import opened, trigger

BINS = Bins.of({"x": np.arange(10.0)}, {})
AT = Partition("t", 0)


def commit(offset: int, notices: list[Notice] | None = None, now_ms: int = 1_000, **changes: object) -> Commit:
    part = ModelCommit(
        model="m", state=LineState("shape", counts=Counts(rows=offset)), offsets={AT: offset}, open={},
        gone=frozenset(), memories={}, judged=(), out=Outcomes(notices=notices or []), rejects=(),
    )  # fmt: skip
    for name, value in changes.items():
        object.__setattr__(part, name, value)
    return Commit(now_ms, (part,))


def window(n_rows: int) -> Window:
    numbers = np.linspace(0, 9, n_rows)[None]
    profile = Profile.of(BINS, numbers, BINS.cells(numbers, np.empty((0, n_rows), np.uint8)))
    fresh = Window.fresh(BINS, "all", 0, 100)
    return fresh.with_rows(Tally(profile))


def row_sample(n_rows: int) -> RowSample:
    offsets = np.arange(n_rows)
    numbers = offsets[None] / 2
    cells = BINS.cells(numbers, np.empty((0, n_rows), np.uint8))
    return RowSample(
        BINS, 9, lots(AT, offsets), (AT,), np.zeros(n_rows, np.int32), offsets, offsets, numbers, cells
    ).lowest()


@pytest.fixture
def store(tmp_path: Path):
    opened = Store(tmp_path / "state")
    yield opened
    opened.close()


def notice(number: int, incident: str = "inc", channel: str = "ops") -> Notice:
    return make_notice(make_alert(incident=incident), id=f"{incident}/{channel}/{number}", channel=channel)


def test_a_commit_that_fails_leaves_no_trace(store: Store):
    store.apply(commit(5, [notice(1)]))
    broken = commit(9, [notice(2)], open={("all", 0): object()})
    with pytest.raises(AttributeError):
        store.apply(broken)
    assert store.load("m", "shape", BINS).offsets == {AT: 5}
    assert [due.notice.id for due in store.due(10_000)] == ["inc/ops/1"]


def test_the_outbox_gives_each_incidents_notices_in_order_and_one_at_a_time(store: Store):
    store.apply(commit(1, [notice(1), notice(2), notice(1, "other"), notice(1, channel="mail")]))
    first = [due.notice.id for due in store.due(10_000)]
    assert first == ["inc/ops/1", "other/ops/1", "inc/mail/1"]
    store.settle([("inc/ops/1", Pending(20.0, "HTTP 503")), ("other/ops/1", Dead("gone"))], 10_000)
    assert [due.notice.id for due in store.due(19_999)] == ["inc/mail/1"]
    (again,) = [due for due in store.due(20_000) if due.notice.channel == "ops"]
    assert (again.notice.id, again.attempts, again.parent) == ("inc/ops/1", 1, None)
    store.settle([("inc/ops/1", Delivered("C1/17.5"))], 21_000)
    (second,) = [due for due in store.due(22_000) if due.notice.channel == "ops"]
    assert (second.notice.id, second.parent) == ("inc/ops/2", "C1/17.5")
    assert second.notice == msgspec.structs.replace(notice(2), id="inc/ops/2")


def test_what_the_job_calls_its_run_is_told_with_its_trigger(store: Store, tmp_path: Path):
    one = trigger(opened(1))
    called = queued(one.id, "job", Purpose.RETRAIN, one.body)
    store.apply(commit(1, out=Outcomes(triggers=[one], notices=[called])))
    history = History(tmp_path / "state")
    assert [entry.run for entry in history.triggers()] == [None]
    store.settle([(one.id, Delivered("https://github.com/acme/models/actions/runs/7"))], 2_000)
    assert [entry.run for entry in history.triggers(one.id)] == ["https://github.com/acme/models/actions/runs/7"]
    history.close()


def test_a_notice_is_queued_once_however_often_it_is_committed(store: Store):
    store.apply(commit(1, [notice(1)]))
    store.settle([("inc/ops/1", Delivered(""))], 2_000)
    store.apply(commit(1, [notice(1)]))
    assert store.due(10_000) == []


def test_a_notice_that_was_on_its_way_when_the_process_died_may_repeat(store: Store):
    """A claim is the mark; what is settled afterwards says whether any attempt may have got through."""
    store.apply(commit(1, [notice(1)]))
    (fresh,) = store.due(10_000)
    assert fresh.attempt == Attempt(None, 1, False, fresh.queued_ms / 1000)
    store.claim(["inc/ops/1"])
    (again,) = store.due(10_000)
    assert (again.attempt.ambiguous, again.attempt.number) == (True, 1)
    store.settle([("inc/ops/1", Pending(0.0, "HTTP 429"))], 1_000)
    assert store.due(10_000)[0].attempt == Attempt(None, 2, False, fresh.queued_ms / 1000)
    store.settle([("inc/ops/1", Pending(0.0, "timeout", ambiguous=True))], 1_000)
    assert store.due(10_000)[0].attempt == Attempt(None, 3, True, fresh.queued_ms / 1000)
    store.settle([("inc/ops/1", Pending(0.0, "held back", ambiguous=True, tried=False))], 1_000)
    assert store.due(10_000)[0].attempt == Attempt(None, 3, True, fresh.queued_ms / 1000)


def test_dead_letters_are_kept_by_offset_and_bounded(store: Store):
    rejects = tuple(Reject(AT, i, "not_json", "not JSON: x", b"{") for i in range(N_DEAD_LETTERS + 50))
    assert store.apply(commit(1, rejects=rejects[:100])) == 0
    assert store.apply(commit(1, rejects=rejects[50:])) == 50
    assert store.apply(commit(1, rejects=rejects)) == 50  # the others are there already
    ((n, first, last),) = store.database.rows(
        "SELECT count(*), min(record_offset), max(record_offset) FROM dead_letters"
    )
    assert n <= N_DEAD_LETTERS
    assert last == N_DEAD_LETTERS + 49
    assert first > 0


def test_incidents_keep_every_change(store: Store):
    episode = Episode("m-1", State.FIRING, 0, Severity.WARNING, Seen(1, 0, 100, 50), 1, n_changes=1)
    opened = Change("opened", episode, "all", "drift in x")
    resolved = msgspec.structs.replace(
        opened, change="resolved", episode=msgspec.structs.replace(episode, state=State.RESOLVED, n_changes=2)
    )
    store.apply(commit(1, out=Outcomes(changes=[opened])))
    store.apply(commit(2, now_ms=9_000, out=Outcomes(changes=[resolved])))
    assert store.database.rows("SELECT state, opened_ms, changed_ms FROM incidents") == [("resolved", 1_000, 9_000)]
    assert store.database.rows("SELECT count(*) FROM changes") == [(2,)]


def test_a_second_writer_is_refused_and_readers_are_not(store: Store):
    directory = store.database.directory
    assert is_locked(directory)
    with pytest.raises(StoreLocked, match="another driftd"):
        Store(directory)
    store.apply(commit(3))
    reader = read_only(directory)
    assert reader.execute("SELECT next_offset FROM offsets").fetchall() == [(3,)]
    reader.close()


def test_a_later_version_is_refused_and_left_alone(tmp_path: Path):
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / DATABASE) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreNewer, match="version 99"):
        Store(tmp_path)
    assert not list(tmp_path.glob("*corrupt*"))
    assert not is_locked(tmp_path)


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[4096:12288] = os.urandom(8192)
    file.write_bytes(content)


def test_a_damaged_database_is_set_aside_and_the_backup_goes_on_from_its_own_offsets(tmp_path: Path):
    store = Store(tmp_path)
    store.apply(commit(5, [notice(1)]))
    backup(tmp_path)
    store.apply(commit(9, [notice(2)]))
    store.close()
    damage(tmp_path / DATABASE)
    again = Store(tmp_path)
    assert again.load("m", "shape", BINS).offsets == {AT: 5}
    assert [due.notice.id for due in again.due(10_000)] == ["inc/ops/1"]
    assert again.database.recovered_from is not None
    assert again.database.recovered_from.exists()
    again.close()


def test_damage_without_a_backup_stops_once_and_says_what_the_next_start_does(tmp_path: Path):
    store = Store(tmp_path)
    store.apply(commit(5))
    store.close()
    damage(tmp_path / DATABASE)
    with pytest.raises(StoreError, match="set aside"):
        Store(tmp_path)
    fresh = Store(tmp_path)
    assert fresh.load("m", "shape", BINS).offsets == {}
    fresh.close()
    assert len(list(tmp_path.glob(f"{DATABASE}.corrupt-*"))) >= 1
    assert not (tmp_path / BACKUP).exists()


def test_a_full_disk_takes_nothing_and_goes_on_once_there_is_room(store: Store):
    (pages,) = store.database.rows("PRAGMA page_count")[0]
    store.apply(commit(1))
    store.database.rows(f"PRAGMA max_page_count = {pages}")
    rejects = tuple(Reject(AT, i, "not_json", "x" * 2_000, b"y" * 200) for i in range(200))
    with pytest.raises(StoreFull, match="disk is full"):
        store.apply(commit(2, rejects=rejects))
    assert store.load("m", "shape", BINS).offsets == {AT: 1}
    store.database.rows("PRAGMA max_page_count = 100000")
    store.apply(commit(2, rejects=rejects))
    assert store.load("m", "shape", BINS).offsets == {AT: 2}


def test_a_flipped_bit_in_a_window_is_noticed(store: Store):
    store.apply(commit(1, open={("all", 0): window(50)}))
    ((body,),) = store.database.rows("SELECT body FROM open_windows")
    flipped = body[:60] + bytes([body[60] ^ 1]) + body[61:]
    with store.database.transaction() as db:
        db.execute("UPDATE open_windows SET body = ?", (flipped,))
    with pytest.raises(StoreError, match="check sum"):
        store.load("m", "shape", BINS)


def test_old_windows_are_forgotten_and_younger_ones_kept(store: Store):
    for number, now_ms in ((0, 1_000), (1, 9_000)):
        store.apply(commit(number, now_ms=now_ms, judged=(Judged(window(50).closed(number), ()),)))
    assert store.prune(5_000) == 1
    assert store.database.rows("SELECT number FROM windows") == [(1,)]


def test_a_clock_that_jumps_ahead_makes_nothing_old_at_once(tmp_path: Path):
    store = Store(tmp_path)
    assert store.paced(1_000, 20) == 1_000
    assert store.paced(1_010, 20) == 1_010
    assert store.paced(900_000, 20) == 1_030
    store.close()
    store = Store(tmp_path)
    assert store.paced(900_010, 20) == 1_050
    assert store.paced(1_040, 20) == 1_040
    assert store.paced(900, 20) == 900
    store.close()


def test_windows_that_close_while_the_clock_is_behind_are_not_old_when_it_is_right_again(store: Store):
    store.paced(900_000, 20)
    store.apply(commit(0, now_ms=5_000, judged=(Judged(window(50).closed(0), ()),)))
    assert store.prune(store.paced(900_020, 20) - 100_000) == 0
    assert store.prune(900_001) == 1


def test_what_is_new_in_an_open_windows_sample_is_added_and_goes_with_it(store: Store):
    sample = row_sample(7)
    first, rest = sample.beyond(row_sample(3)), row_sample(3)
    store.apply(commit(1, open={("all", 0): window(4)}, samples={0: first}))
    store.apply(commit(2, open={("all", 0): window(7)}, samples={0: rest}))
    store.apply(commit(3, open={("all", 0): window(8)}))
    loaded = store.load("m", "shape", BINS).open["all", 0].sample
    assert (first.n_rows, loaded and loaded.to_bytes()) == (4, sample.to_bytes())
    closed = replace(window(8).closed(3), sample=sample)
    store.apply(commit(3, gone=frozenset({("all", 0)}), judged=(Judged(closed, ()),)))
    store.apply(commit(4, judged=(Judged(closed.amended(Tally.empty(BINS)), ()),)))
    assert store.database.rows("SELECT * FROM open_samples") == []
    ((number, body),) = store.database.rows("SELECT number, body FROM samples")
    assert (number, unchecked(body)) == (3, sample.to_bytes())


def test_samples_of_calm_windows_are_forgotten_first(store: Store):
    for number in range(2):
        outcome = Outcome.DRIFT if number else Outcome.OK
        drifts = (Verdict(column="x", outcome=outcome, n_reference=9, n_current=5, measure="psi", reason=""),)
        closed = replace(window(5).closed(number), sample=row_sample(5))
        store.apply(commit(number, now_ms=1_000, judged=(Judged(closed, drifts),)))
    store.prune(500, 2_000)
    assert store.database.rows("SELECT number FROM samples") == [(1,)]
    assert store.database.rows("SELECT count(*) FROM windows") == [(2,)]
    store.prune(2_000, 2_000)
    assert store.database.rows("SELECT number FROM samples") == []


KILLED = """
import sys
from pathlib import Path
from tests.monitor.test_store import Store, commit, notice
store = Store(Path(sys.argv[1]))
for offset in range(1, 10_000):
    store.apply(commit(offset, [notice(offset)]))
    print(offset, flush=True)
"""


def test_what_was_acknowledged_survives_a_kill_and_commits_are_whole(tmp_path: Path):
    for _ in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        assert child.stdout is not None
        for _ in range(30):
            acknowledged = int(child.stdout.readline())
        child.kill()
        child.wait()
        child.stdout.close()
        store = Store(tmp_path)
        offset = store.load("m", "shape", BINS).offsets[AT]
        assert offset >= acknowledged
        assert store.database.rows("SELECT count(*) FROM outbox") == [(offset,)]
        store.close()
        for file in tmp_path.iterdir():
            file.unlink()


def test_a_database_that_is_only_being_made_is_none_yet(tmp_path: Path):
    with closing(sqlite3.connect(tmp_path / DATABASE)) as made:
        made.execute("PRAGMA journal_mode = WAL")
    with pytest.raises(StoreError, match="nothing in it yet"):
        read_only(tmp_path)
