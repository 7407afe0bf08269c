"""The disk is full, fails, is slow; the database on it is damaged."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from faults.child import Harm
from faults.fault import fault
from faults.scene import Scene
from monitor.demo.standins import status

SOURCE = Path(__file__).parents[1] / "badio.c"


@functools.cache
def badio() -> tuple[str, str]:
    """The library that makes writing fail, or why there is none."""
    if shutil.which("gcc") is None:
        return "", "there is no gcc on the PATH"
    library = Path(tempfile.mkdtemp(prefix="driftd-badio-")) / "badio.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return ("", f"gcc failed: {done.stderr[-300:]}") if done.returncode else (str(library), "")


@functools.cache
def no_mount() -> str:
    """Why no file system can be mounted here, or ""."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "driftd-faults", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return f"a file system of its own cannot be mounted: {done.stderr.strip()}" if done.returncode else ""


failing = partial(fault, needs=lambda: badio()[1])


def failed(scene: Scene, word: str, seconds: float) -> int:
    """Writing goes wrong for a while in the middle of the log."""
    control, hits = scene.home / "badio", scene.home / "badio-hits"
    control.write_text("")
    scene.environment |= {"LD_PRELOAD": badio()[0], "BADIO": str(control), "BADIO_HITS": str(hits)}
    with scene.midway(0.3) as daemon:
        control.write_text(word)
        scene.feed(0.8)
        scene.until(hits.exists, daemon)
        time.sleep(seconds)
        control.write_text("")
    return hits.read_text().count("\n")


@failing(quick=True)
def writing_fails(scene: Scene) -> int:
    """Every write and sync of the state fails with EIO for a while."""
    return failed(scene, "eio", 2)


@failing()
def no_space(scene: Scene) -> int:
    """Every write of the state fails with ENOSPC for a while."""
    return failed(scene, "enospc", 2)


@failing()
def read_only(scene: Scene) -> int:
    """Every write of the state fails with EROFS for a while, as after a remount."""
    return failed(scene, "erofs", 2)


@failing()
def slow_syncs(scene: Scene) -> int:
    """Every sync takes 300 ms."""
    return failed(scene, "slow", 2)


@contextmanager
def small_disk(scene: Scene) -> Iterator[Path]:
    """The state directory on a file system of 8 MB."""
    scene.state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "driftd-faults", str(scene.state)], check=True)
    try:
        yield scene.state
    finally:
        kept = scene.home / "kept"
        shutil.copytree(scene.state, kept)
        # The kernel may let go of a process's files a moment after the process has ended.
        scene.until(lambda: not subprocess.run(["umount", str(scene.state)], check=False).returncode, seconds=30)
        shutil.copytree(kept, scene.state, dirs_exist_ok=True)


@fault(quick=True, needs=no_mount)
def disk_full(scene: Scene) -> int:
    """Something else fills the disk of the state, and is deleted again later."""
    with small_disk(scene) as disk:
        scene.feed(0.3)
        with scene.daemon() as daemon:
            scene.until(scene.settled, daemon)
            _fill(scene, disk / "ballast")
            scene.feed(0.8)
            scene.until(lambda: daemon.says("the disk is full or fails"), daemon)
            (disk / "ballast").unlink()
            scene.feed(1.0)
            scene.until(scene.settled, daemon)
            daemon.stop()
    return 1


@fault(needs=no_mount, may_repeat=True)
def disk_full_at_a_stop(scene: Scene) -> int:
    """The disk is full when the daemon is told to stop; what it could not write is read again at the next start, and a
    message that was sent and could not be written down is sent again."""
    with small_disk(scene) as disk:
        scene.feed(0.3)
        with scene.daemon() as daemon:
            scene.until(scene.settled, daemon)
            _fill(scene, disk / "ballast")
            scene.feed(0.8)
            scene.until(lambda: daemon.says("the disk is full or fails"), daemon)
            daemon.send(signal.SIGTERM)
            daemon.died()
        (disk / "ballast").unlink()
        scene.finish()
    return 1


def _fill(scene: Scene, ballast: Path) -> None:
    """Take every block that is free, and those that the log of changes keeps for later."""
    db = sqlite3.connect(scene.database, timeout=10)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    db.close()
    with ballast.open("wb", buffering=0) as file:
        size = 65_536
        while size:
            try:
                file.write(b"\0" * size)
            except OSError:
                size //= 2


# ---- damage


def half_read(scene: Scene, *, backup: bool) -> None:
    """A stopped daemon's state in the middle of the log, with incidents told and windows open, and perhaps a backup
    that is older."""
    scene.feed(0.45)
    with scene.daemon() as daemon:
        scene.until(scene.settled, daemon)
        daemon.stop()
    if backup:
        scene.run("backup")
        scene.feed(0.6)
        with scene.daemon() as daemon:
            scene.until(scene.settled, daemon)
            daemon.stop()


def recovered(scene: Scene) -> int:
    """Go on after damage with the backup; whether it was that which the daemon did."""
    scene.finish()
    return len(list(scene.state.glob("*.corrupt-*")))


restored = partial(fault, may_repeat=True)
"""What was told since the backup is told again, under the same ids: the second of the documented cases."""


@restored(quick=True)
def a_page_overwritten(scene: Scene) -> int:
    """Random pages of the database hold noise; there is a backup."""
    half_read(scene, backup=True)
    size = scene.database.stat().st_size
    with scene.database.open("r+b") as file:
        for _ in range(3):
            file.seek(scene.rng.randrange(1, size // 4096) * 4096)
            file.write(scene.rng.randbytes(4096))
    return recovered(scene)


@restored()
def the_first_page_overwritten(scene: Scene) -> int:
    """The file does not even begin like a database; there is a backup."""
    half_read(scene, backup=True)
    with scene.database.open("r+b") as file:
        file.write(scene.rng.randbytes(4096))
    return recovered(scene)


@restored()
def the_database_cut_short(scene: Scene) -> int:
    """The file ends some pages early; there is a backup."""
    half_read(scene, backup=True)
    os.truncate(scene.database, scene.database.stat().st_size - 4096 * scene.rng.randrange(1, 8))
    return recovered(scene)


@restored()
def the_last_bytes_missing(scene: Scene) -> int:
    """The file ends a few bytes early, which SQLite's own check calls "ok"; there is a backup."""
    half_read(scene, backup=True)
    os.truncate(scene.database, scene.database.stat().st_size - scene.rng.randrange(1, 100))
    return recovered(scene)


def flipped(scene: Scene, table: str, column: str, where: str = "1") -> int:
    """One bit of one value is another, in the file itself."""
    half_read(scene, backup=True)
    values = [bytes(value) for (value,) in scene.query(f"SELECT {column} FROM {table} WHERE {where}")]
    content = bytearray(scene.database.read_bytes())
    n_flipped = 0
    # A value that is long lies in several pages; its beginning is in one piece.
    for value in scene.rng.sample(values, len(values)):
        place = content.find(value[:200])
        if place >= 0:
            content[place + scene.rng.randrange(4, min(len(value), 200))] ^= 1 << scene.rng.randrange(8)
            n_flipped = 1
            break
    scene.database.write_bytes(content)
    return n_flipped


@restored()
def a_bit_of_the_progress_flipped(scene: Scene) -> int:
    """One bit of what a model goes on from is another; there is a backup."""
    return flipped(scene, "lines", "state") and recovered(scene)


@restored()
def a_bit_of_an_open_window_flipped(scene: Scene) -> int:
    """One bit of a window that is still open is another; there is a backup."""
    return flipped(scene, "open_windows", "body") and recovered(scene)


@restored()
def a_bit_of_a_memory_flipped(scene: Scene) -> int:
    """One bit of what the decision remembers is another; there is a backup."""
    return flipped(scene, "memories", "body") and recovered(scene)


@restored()
def a_bit_of_a_closed_window_flipped(scene: Scene) -> int:
    """One bit of a closed window, which late rows will still amend, is another; there is a backup."""
    return flipped(scene, "windows", "body", "end_ms > (SELECT max(end_ms) FROM windows) - 120000") and recovered(scene)


@restored()
def a_bit_of_an_offset_flipped(scene: Scene) -> int:
    """A stored offset is another one; there is a backup."""
    half_read(scene, backup=True)
    scene.execute("UPDATE offsets SET next_offset = next_offset - 64 WHERE partition = 1")
    return recovered(scene)


@restored()
def a_bit_of_a_notice_flipped(scene: Scene) -> int:
    """One bit of a message that waits to be sent is another; there is a backup."""
    scene.slack.order(*[status(503)] * 50)
    scene.feed(0.45)
    with scene.daemon() as daemon:
        scene.until(lambda: scene.query("SELECT 1 FROM outbox WHERE state = 'pending' AND attempts > 0"), daemon)
        daemon.stop()
    scene.run("backup")
    scene.execute("UPDATE outbox SET body = replace(body, 'firing', 'fired!') WHERE state = 'pending'")
    scene.slack.forgive()
    return recovered(scene)


@restored()
def a_damaged_database_without_a_backup(scene: Scene) -> int:
    """The database is damaged and there is no backup: the daemon says so and ends; the next start begins anew."""
    half_read(scene, backup=False)
    with scene.database.open("r+b") as file:
        file.seek(4096)
        file.write(scene.rng.randbytes(4096 * 3))
    with scene.daemon() as daemon:
        assert daemon.died() == 1
        assert daemon.says("there is no backup")
    return recovered(scene)


@restored()
def a_damaged_database_and_backup(scene: Scene) -> int:
    """The database is damaged and so is its backup: neither is believed."""
    half_read(scene, backup=True)
    for file in (scene.database, scene.state / "driftd.backup.db"):
        content = bytearray(file.read_bytes())
        content[4096 : 4096 * 3] = scene.rng.randbytes(4096 * 2)
        file.write_bytes(content)
    with scene.daemon() as daemon:
        assert daemon.died() == 1
        assert daemon.says("backup")
    return recovered(scene)


@restored()
def the_journal_missing(scene: Scene) -> int:
    """SIGKILL, and the write-ahead log is deleted: the newest commits are gone and are made again."""
    n_gone = 0
    for step in (1, 2, 3):
        scene.feed(step * 0.25)
        with scene.daemon() as daemon:
            scene.until(scene.settled, daemon)
            daemon.kill()
        journal = scene.database.with_name(f"{scene.database.name}-wal")
        n_gone += journal.exists()
        journal.unlink(missing_ok=True)
        scene.database.with_name(f"{scene.database.name}-shm").unlink(missing_ok=True)
    scene.finish()
    return n_gone


@restored()
def restored_by_hand(scene: Scene) -> int:
    """Somebody goes back to an older copy of the database: the log is rewound with it."""
    scene.feed(0.3)
    with scene.daemon() as daemon:
        scene.until(lambda: scene.n_windows() > 2, daemon)
        scene.run("backup")
        scene.feed(0.6)
        scene.until(scene.settled, daemon)
        daemon.stop()
    (scene.state / "driftd.backup.db").replace(scene.database)
    for ending in ("-wal", "-shm"):
        scene.database.with_name(scene.database.name + ending).unlink(missing_ok=True)
    scene.finish()
    return 1


@restored()
def the_database_deleted(scene: Scene) -> int:
    """The database is deleted: the log is read from its beginning, and gives the same."""
    half_read(scene, backup=False)
    scene.database.unlink()
    scene.finish()
    return 1


@fault(may_repeat=True)
def killed_while_it_makes_a_backup(scene: Scene) -> int:
    """SIGKILL in the middle of a backup, half of which is then there; the last good one stays."""
    scene.feed(0.45)
    with scene.daemon() as daemon:
        scene.until(scene.settled, daemon)
        scene.run("backup")
        good = (scene.state / "driftd.backup.db").read_bytes()
        scene.run("backup", harm=Harm("monitor.database:_sync", "before"), code=-signal.SIGKILL)
        assert (scene.state / "driftd.backup.db").read_bytes() == good
        daemon.stop()
    os.truncate(scene.database, 4096 * 2)
    return recovered(scene) and scene.hits()
