"""One SQLite file that survives: a lock, a version, a check when it is opened, and transactions that are on the disk.

The journal is a WAL and every commit is synced before it counts. A file that is damaged is set aside and the last
backup takes its place. SQLite's errors come out as driftd's, and a full disk as one that may be tried again.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from monitor.errors import StoreDamaged, StoreError, StoreFull, StoreLocked, StoreNewer

log = logging.getLogger(__name__)

DATABASE: Final = "driftd.db"
BACKUP: Final = "driftd.backup.db"
LOCK: Final = "driftd.lock"
LOCK_SECONDS: Final = 1.0
"""How long a lock that is held is waited for: a look at it (`is_locked`) holds it for an instant."""


class Database:
    """The database of one state directory, for the one process that writes it.

    recovered_from: where a damaged file was set aside, None when nothing was wrong.
    """

    def __init__(self, directory: Path, schema: str, version: int) -> None:
        """Open or create. StoreLocked when another process has it, StoreNewer when a later driftd wrote it."""
        self.directory = directory
        self.recovered_from: Path | None = None
        self._lock = _locked(directory)
        try:
            self._connection = self._opened(schema, version)
        except BaseException:
            os.close(self._lock)
            raise

    def rows(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with _told(self.directory):
            return self._connection.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything in the block lands together, on the disk, or not at all."""
        with _told(self.directory):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.rollback()
                raise
            try:
                self._connection.commit()
            except sqlite3.Error:
                self._connection.rollback()
                raise

    @property
    def n_bytes(self) -> int:
        """Size of the database on the disk, its journal included."""
        files = (self.directory / f"{DATABASE}{ending}" for ending in ("", "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        """Let go of the file and the lock."""
        self._connection.close()
        os.close(self._lock)

    def _opened(self, schema: str, version: int) -> sqlite3.Connection:
        file = self.directory / DATABASE
        try:
            return _connected(file, schema, version)
        except StoreDamaged as fault:
            aside = self.directory / f"{DATABASE}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
            for ending in ("", "-wal", "-shm"):
                damaged = file.with_name(file.name + ending)
                if damaged.exists():
                    damaged.replace(aside.with_name(aside.name + ending))
            self.recovered_from = aside
            backup = self.directory / BACKUP
            log.error("%s; it was set aside as %s", fault, aside.name, extra={"event": "state.damaged", "aside": aside})
            if not backup.exists():
                raise StoreError(
                    f"{fault}; it was set aside as {aside.name} and there is no backup ({BACKUP}): starting again "
                    "now begins with an empty state and reads the topics from their beginning"
                ) from fault
            made = time.ctime(backup.stat().st_mtime)
            log.error("going on from the backup of %s", made, extra={"event": "state.restored"})
            restored = self.directory / f"{DATABASE}.new"
            restored.write_bytes(backup.read_bytes())
            _sync(restored)
            restored.replace(file)
            return _connected(file, schema, version)


def backup(directory: Path, to: Path | None = None) -> Path:
    """Copy the database while it is in use, and check the copy; it takes the place of the last one in one step.

    From any thread or process: the copy is one moment's state. StoreError when there is nothing to copy or no room.
    """
    target = to or directory / BACKUP
    aside = target.with_name(f"{target.name}.new")
    with _told(target.parent), contextlib.closing(read_only(directory)) as source:
        aside.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(aside)) as copy:
            source.backup(copy)
            if copy.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise StoreDamaged(f"{aside}: the copy is damaged; the last backup was left alone")
    _sync(aside)
    aside.replace(target)
    _sync(target.parent)
    return target


def read_only(directory: Path) -> sqlite3.Connection:
    """The database for a reader, while a daemon may be writing it. StoreError when there is none."""
    file = directory / DATABASE
    if not file.exists():
        raise StoreError(f"{file}: there is no database; `driftd run` makes it")
    with _told(directory):
        connection = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=10)
        connection.execute("SELECT count(*) FROM sqlite_schema")
        return connection


def _locked(directory: Path) -> int:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{directory}: {error.strerror}; the state directory must be writable") from error
    give_up_at = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if time.monotonic() < give_up_at:
                time.sleep(0.05)
                continue
            os.close(handle)
            told = f"{directory}: another driftd works on this state; stop it, or set another [state] directory"
            raise StoreLocked(told) from error
        return handle


def is_locked(directory: Path) -> bool:
    """Whether a process writes the database in this directory."""
    try:
        handle = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _connected(file: Path, schema: str, version: int) -> sqlite3.Connection:
    connection = None
    try:
        fresh = not file.exists() or file.stat().st_size == 0
        connection = sqlite3.connect(file, isolation_level=None, timeout=10, check_same_thread=False)
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found > version:
            raise StoreNewer(f"{file}: written by a later driftd (version {found}, this one reads {version}); upgrade")
        if not fresh and connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise StoreDamaged(f"{file}: the database is damaged")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
        if found == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {schema}; PRAGMA user_version = {version}; COMMIT;")
        return connection
    except sqlite3.Error as error:
        _closed(connection)
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StoreDamaged(f"{file}: the database is damaged ({error})") from error
        raise _as_store_error(file.parent, error) from error
    except BaseException:
        _closed(connection)
        raise


def _closed(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        connection.close()


@contextlib.contextmanager
def _told(directory: Path) -> Iterator[None]:
    """SQLite's errors as driftd's."""
    try:
        yield
    except sqlite3.Error as error:
        raise _as_store_error(directory, error) from error


def _as_store_error(directory: Path, error: sqlite3.Error) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return StoreFull(f"{directory}: the disk is full or fails ({error}); nothing was written")
    if code == sqlite3.SQLITE_READONLY:
        return StoreFull(f"{directory}: the disk has become read-only ({error}); nothing was written")
    return StoreError(f"{directory}: {type(error).__name__}: {error}")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
