"""One SQLite file that survives: a lock, a version, checks, and transactions that are on the disk.

The journal is a WAL and every commit is synced before it counts. SQLite itself keeps no check sums, so what the service
goes on from carries its own. A file that is damaged is set aside and the last backup takes its place. SQLite's errors
come out as driftd's, and a full disk as one that may be tried again.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from monitor.errors import StoreDamaged, StoreError, StoreFenced, StoreFull, StoreLocked, StoreNewer
from monitor.frozen import unchecked

log = logging.getLogger(__name__)

DATABASE: Final = "driftd.db"
BACKUP: Final = "driftd.backup.db"
LOCK: Final = "driftd.lock"
IDENTITY: Final = "driftd.id"
LOCK_SECONDS: Final = 1.0
"""How long a lock that is held is waited for: a look at it (`is_locked`) holds it for an instant."""
VACUUM_PAGES: Final = 2_000
"""Free pages that are given back to the file system at a time."""


@dataclass(frozen=True, slots=True)
class Design:
    """What a database holds.

    version: of the schema. steps: by version, what makes of a file of the version before one of this, beyond new tables
    and columns (those get the schema's defaults). sound: by table, what must be true of every row; there `crc(...)` is
    the check sum of its arguments, and `sound(blob)` says whether a blob carries its own.
    """

    schema: str
    version: int
    steps: Mapping[int, str]
    sound: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Turn:
    """Of a daemon that takes turns with others on one state. generation: later turns have higher ones; holder: names
    the process."""

    generation: int
    holder: str


class Database:
    """The database of one state directory, for the one process that writes it.

    recovered_from: where a damaged file was set aside, None when nothing was wrong.
    """

    def __init__(self, directory: Path, design: Design, turn: Turn | None = None) -> None:
        """Open or create. StoreLocked when another process has it, StoreNewer when a later driftd wrote it.

        turn: None for a process that has the state to itself. A process with a turn takes over from one whose turn was
        before, which may still run and not know: every later transaction of that one is refused.
        """
        self.directory = directory
        self.recovered_from: Path | None = None
        self._design = design
        self._turn = turn
        self._lock, alone = _locked(directory, shared=turn is not None)
        try:
            self._connection = self._opened()
            self._take_over(alone)
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
                self.check_turn()
                yield self._connection
            except BaseException:
                self._connection.rollback()
                raise
            try:
                self._connection.commit()
            except sqlite3.Error:
                self._connection.rollback()
                raise

    def check_turn(self) -> None:
        """StoreFenced when another process has taken over."""
        if self._turn is not None:
            found = self.rows("SELECT holder FROM turns")
            if found != [(self._turn.holder,)]:
                raise StoreFenced(f"{self.directory}: another daemon of the group works on this state by now")

    @property
    def n_bytes(self) -> int:
        """Size of the database on the disk, its journal included."""
        files = (self.directory / f"{DATABASE}{ending}" for ending in ("", "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def give_back(self) -> None:
        """Return some of the space that deleted rows have left to the file system."""
        with _told(self.directory):
            self._connection.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()

    def recover(self, fault: StoreDamaged) -> None:
        """Set the damaged file aside and go on from the last backup. StoreError when there is none that is sound."""
        self._connection.close()
        self._set_aside(fault)
        self._connection = _connected(self.directory / DATABASE, self._design)
        self._take_over(alone=True)  # a backup tells of turns that are over

    def close(self) -> None:
        """Let go of the file and the lock."""
        self._connection.close()
        os.close(self._lock)

    def _opened(self) -> sqlite3.Connection:
        file = self.directory / DATABASE
        try:
            return _connected(file, self._design)
        except StoreDamaged as fault:
            self._set_aside(fault)
            return _connected(file, self._design)

    def _take_over(self, alone: bool) -> None:
        """Note whose turn it is. alone: no other process has the state open, so whatever turn was noted is over."""
        if self._turn is None:
            return
        with _told(self.directory):
            table = "CREATE TABLE IF NOT EXISTS turns (one INTEGER PRIMARY KEY CHECK (one = 1), generation INTEGER NOT "
            self._connection.execute(f"{table} NULL, holder TEXT NOT NULL)")
            self._connection.execute(
                """INSERT INTO turns VALUES (1, ?1, ?2) ON CONFLICT (one) DO UPDATE SET generation = ?1, holder = ?2
                WHERE ?3 OR generation < ?1 OR holder = ?2""",
                (self._turn.generation, self._turn.holder, alone),
            )
        try:
            self.check_turn()
        except StoreFenced as fault:
            self._connection.close()
            raise StoreLocked(str(fault)) from None

    def _set_aside(self, fault: StoreDamaged) -> None:
        file, backup = self.directory / DATABASE, self.directory / BACKUP
        aside = _aside(file)
        self.recovered_from = aside
        restored = self.directory / f"{DATABASE}.new"
        unsound = self._unsound(backup, restored)
        # Until the last step the damaged file stays where it is: a crash in between finds it damaged once more.
        os.link(file, aside)
        for ending in ("-wal", "-shm"):
            if (journal := file.with_name(file.name + ending)).exists():
                journal.replace(aside.with_name(aside.name + ending))
        log.error("%s; it was set aside as %s", fault, aside.name, extra={"event": "state.damaged", "aside": aside})
        if unsound:
            file.unlink()
            raise StoreError(
                f"{fault}; it was set aside as {aside.name} and {unsound}: starting again now begins with an empty "
                "state and reads the topics from their beginning"
            ) from fault
        made = time.ctime(backup.stat().st_mtime)
        log.error("going on from the backup of %s", made, extra={"event": "state.restored"})
        restored.replace(file)
        _sync(self.directory)

    def _unsound(self, backup: Path, restored: Path) -> str:
        """Copy the backup to where it can be opened; why it cannot be used, or ""."""
        if not backup.exists():
            return f"there is no backup ({BACKUP})"
        restored.write_bytes(backup.read_bytes())
        _sync(restored)
        try:
            with contextlib.closing(_connected(restored, self._design)) as copy:
                verify(copy, self._design)
                copy.execute("PRAGMA journal_mode = DELETE")
        except (StoreError, sqlite3.Error) as fault:
            backup.replace(_aside(backup))
            return f"its backup is no better ({fault}; it was set aside too)"
        return ""


def verify(connection: sqlite3.Connection, design: Design) -> None:
    """Look at every page and every check sum. StoreDamaged when one is not right."""
    if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise StoreDamaged("the database is damaged")
    for table, condition in design.sound.items():
        (n_bad,) = connection.execute(f"SELECT count(*) FROM {table} WHERE NOT ({condition})").fetchone()  # noqa: S608
        if n_bad:
            raise StoreDamaged(f"the database is damaged: the check sums of {n_bad} {table} do not match")


def backup(directory: Path, design: Design, to: Path | None = None) -> Path:
    """Copy the database while it is in use, and check the copy; it takes the place of the last one in one step.

    From any thread or process: the copy is one moment's state. StoreError when there is nothing to copy or no room.
    """
    target = to or directory / BACKUP
    # Of two backups at the same time the later one stays.
    aside = target.with_name(f"{target.name}.{os.getpid()}-{time.monotonic_ns()}")
    try:
        with (
            _told(target.parent),
            contextlib.closing(read_only(directory)) as source,
            contextlib.closing(sqlite3.connect(aside)) as copy,
        ):
            source.backup(copy)
            _equip(copy)
            verify(copy, design)
        _sync(aside)
        aside.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise StoreError(f"{target}: {error.strerror}; the last backup was left alone") from error
    finally:
        aside.unlink(missing_ok=True)
    return target


def read_only(directory: Path) -> sqlite3.Connection:
    """The database for a reader, while a daemon may be writing it. StoreError when there is none."""
    file = directory / DATABASE
    if not file.exists():
        raise StoreError(f"{file}: there is no database; `driftd run` makes it")
    with _told(directory):
        connection = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=10)
        (n_parts,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if not n_parts:  # its file is there a moment before the one transaction that fills it
        connection.close()
        raise StoreError(f"{file}: there is nothing in it yet; `driftd run` makes it")
    return connection


def _locked(directory: Path, shared: bool) -> tuple[int, bool]:
    """A handle that holds the lock, and whether nobody else does. shared: with others that take turns."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{directory}: {error.strerror}; the state directory must be writable") from error
    give_up_at = time.monotonic() + LOCK_SECONDS
    while True:
        if _flock(handle, fcntl.LOCK_EX):
            if shared:
                _flock(handle, fcntl.LOCK_SH)
            return handle, True
        if shared and _flock(handle, fcntl.LOCK_SH):
            return handle, False
        if time.monotonic() < give_up_at:
            time.sleep(0.05)
            continue
        os.close(handle)
        told = f"{directory}: another driftd works on this state; stop it, or set another [state] directory"
        raise StoreLocked(told)


def _flock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(directory: Path) -> bool:
    """Whether a process writes the database in this directory."""
    try:
        handle = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # A daemon that takes turns lets a shared lock in, but no exclusive one.
        return not (_flock(handle, fcntl.LOCK_SH) and _flock(handle, fcntl.LOCK_EX))
    finally:
        os.close(handle)


def identity(directory: Path) -> str:
    """A name for the state in this directory that no other has; made when it is asked for the first time."""
    file = directory / IDENTITY
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(FileExistsError):
            fresh = directory / f"{IDENTITY}.{os.getpid()}"
            fresh.write_text(os.urandom(8).hex())
            try:
                os.link(fresh, file)
            finally:
                fresh.unlink()
        return file.read_text()
    except OSError as error:
        raise StoreError(f"{directory}: {error.strerror}; the state directory must be writable") from error


def _connected(file: Path, design: Design) -> sqlite3.Connection:
    connection = None
    try:
        fresh = not file.exists() or file.stat().st_size == 0
        connection = sqlite3.connect(file, isolation_level=None, timeout=10, check_same_thread=False)
        _equip(connection)
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found > design.version:
            told = f"written by a later driftd (version {found}, this one reads {design.version}); upgrade"
            raise StoreNewer(f"{file}: {told}")
        if not fresh:
            _looked_at(file, connection)
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
        if found < design.version:
            _brought_up(file, connection, found, design)
        return connection
    except sqlite3.Error as error:
        _closed(connection)
        raise _as_store_error(file.parent, error) from error
    except BaseException:
        _closed(connection)
        raise


def _looked_at(file: Path, connection: sqlite3.Connection) -> None:
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    # SQLite takes a last page that is cut short for one that ends in zeros.
    if file.stat().st_size % page_size or connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise StoreDamaged(f"{file}: the database is damaged")


def _brought_up(file: Path, connection: sqlite3.Connection, found: int, design: Design) -> None:
    """Make of a database of this version, or of an empty one, one of the present version, in one transaction."""
    old = connection.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'table'").fetchone() != (0,)
    if old:
        kept = file.with_name(f"{file.name}.v{found}")
        with contextlib.closing(sqlite3.connect(kept)) as copy:
            connection.backup(copy)
        _sync(kept)
        text = "%s: bringing version %d up to %d; the old one is kept as %s"
        log.warning(text, file, found, design.version, kept, extra={"event": "state.migrated"})
    with contextlib.closing(sqlite3.connect(":memory:")) as model:
        model.executescript(design.schema)
        statements = list(_missing(model, connection))
    statements += [design.steps[version] for version in sorted(design.steps) if old and found < version]
    joined = ";\n".join(statements)
    connection.executescript(f"BEGIN IMMEDIATE; {joined}; PRAGMA user_version = {design.version}; COMMIT;")
    if old:
        connection.execute("VACUUM")  # only now may space be given back in pieces


def _missing(model: sqlite3.Connection, connection: sqlite3.Connection) -> Iterator[str]:
    """What makes tables, columns and indexes that are in the model and not in the database."""
    known = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    for name, kind, statement in model.execute(
        "SELECT name, type, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type = 'index', rowid"
    ):
        if name not in known:
            yield statement
        elif kind == "table":
            columns = {column for _, column, *_ in connection.execute(f"PRAGMA table_info({name})")}
            for _, column, affinity, needed, default, _ in model.execute(f"PRAGMA table_info({name})"):
                if column not in columns:
                    empty = default or {"TEXT": "''", "BLOB": "x''"}.get(affinity, "0")
                    rule = f"NOT NULL DEFAULT {empty}" if needed else ""
                    yield f"ALTER TABLE {name} ADD COLUMN {column} {affinity} {rule}"


def _equip(connection: sqlite3.Connection) -> None:
    connection.create_function("crc", -1, _crc, deterministic=True)
    connection.create_function("sound", 1, _is_sound, deterministic=True)


def _crc(*values: object) -> int:
    """One number for several values; what each is and where it ends is part of it."""
    sum_ = 0
    for value in values:
        body = value if isinstance(value, bytes) else str(value).encode()
        sum_ = zlib.crc32(body, zlib.crc32(f"{type(value).__name__}{len(body)}:".encode(), sum_))
    return sum_


def _is_sound(blob: object) -> bool:
    try:
        return isinstance(blob, bytes) and unchecked(blob) is not None
    except ValueError:
        return False


def _aside(file: Path) -> Path:
    """A name for a damaged file that no other has."""
    stem = f"{file.name}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    names = (file.with_name(f"{stem}{ending}") for ending in ("", *(f"-{n}" for n in range(1, 1000))))
    return next(name for name in names if not name.exists())


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
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreDamaged(f"{directory / DATABASE}: the database is damaged ({error})")
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
