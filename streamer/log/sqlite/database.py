"""
The SQLite log's file: layout, connection, transactions, errors.

Several processes share one SQLite file in WAL mode. Every write is part of a transaction that
holds SQLite's only write lock from its first statement on, so nothing that it has read can
change before it ends. A transaction is durable when it returns (`synchronous = FULL`: the
write-ahead log is flushed).

SQLite's write lock is unfair: the last writer usually reacquires it. Beside a feeder at full
speed, a forecaster was measured to wait for two seconds. Waiting writers therefore queue on the
lock queue, an `flock` on a second file next to the database.

A record's *place* combines the lane of its partition and its offset in one integer, which is
the row id. A partition is therefore read in order without an index. Pages of 16 KiB were
measured to be a fifth to a third faster than SQLite's 4 KiB, for records of 60 bytes and of 96
kB.

One table, `REFUSALS`, translates SQLite's errors.
"""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import structlog

from streamer.log import LogError, Misconfigured, PermanentError, TooLarge, Unavailable
from streamer.log.sqlite.tables import TABLES

log = structlog.get_logger()

APPLICATION = int.from_bytes(b"strm")  # SQLite's application_id: identifies our files
LAYOUT = 1  # SQLite's user_version: the version of the table layout
OFFSET_BITS = 40  # the low bits of a place; the high bits are the lane
PAGE_BYTES = 16_384
CHECKPOINT_PAGES = 1_000  # 16 MB of write-ahead log, after which SQLite checkpoints it
JOURNAL_BYTES_MAX = 64 << 20  # size to which the write-ahead log is truncated
LOOK_S = 0.005  # how often a waiting reader checks for another process's commit
RETRY_S = 0.001  # how often a waiting writer retries the write lock

INCREMENTAL = 2  # SQLite's auto_vacuum mode that returns free pages a few at a time
RESERVE_PAGES = 256  # 4 MB of free pages are kept for new records, …
RESERVE_SHARE = 8  # … or an eighth of the file, so that a steady load moves no page
SHRINK_PAGES = 64  # 1 MB at once: blocks other writers for a few milliseconds

REFUSALS: dict[int, tuple[type[LogError], str]] = {
    sqlite3.SQLITE_BUSY: (Unavailable, "another process has held it for too long"),
    sqlite3.SQLITE_LOCKED: (Unavailable, "another process has held it for too long"),
    sqlite3.SQLITE_PROTOCOL: (Unavailable, "another process has held it for too long"),
    sqlite3.SQLITE_FULL: (Unavailable, "there is no room left for it"),
    sqlite3.SQLITE_IOERR: (Unavailable, "the disk does not read or write it"),
    sqlite3.SQLITE_NOMEM: (Unavailable, "there is not memory enough"),
    sqlite3.SQLITE_CANTOPEN: (PermanentError, "it cannot be opened"),
    sqlite3.SQLITE_READONLY: (PermanentError, "we may not write to it"),
    sqlite3.SQLITE_PERM: (PermanentError, "we may not write to it"),
    sqlite3.SQLITE_NOTADB: (Misconfigured, "it is no SQLite file"),
    sqlite3.SQLITE_CORRUPT: (Misconfigured, "it is damaged"),
    sqlite3.SQLITE_TOOBIG: (TooLarge, "a record is longer than SQLite can hold"),
}


Place = int
Values = Sequence[object] | Mapping[str, object]


class File:
    """
    A connection to the file; creates the tables in a new file.

    Raises PermanentError if the file is not usable, and Unavailable if it could not be read or
    written this time. Not thread-safe.
    """

    def __init__(self, path: Path, busy_timeout_s: float) -> None:
        self.path = path
        self.closed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PermanentError(f"{path}: its folder cannot be made: {error.strerror}") from error
        self._busy_timeout_s = busy_timeout_s
        self._turnstile: IO[bytes] | None = None
        self._fixed_size_logged = False  # whether the warning `file.not_shrinking` was logged
        with self.translated():
            self._connection = sqlite3.connect(
                path,
                timeout=0,  # SQLite's retry interval grows; we retry at a fixed one
                isolation_level=None,  # we begin and end transactions explicitly
                check_same_thread=False,
            )
        try:
            self._prepare()
        except LogError:
            self._connection.close()
            raise

    def query(self, sql: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """Return all rows of *sql*. The cursor is closed, so it does not hold back a checkpoint."""
        with self.translated():
            return self._execute(sql, values).fetchall()

    def rows(
        self, sql: str, values: Sequence[object] = ()
    ) -> Generator[tuple[Any, ...], None, None]:
        """Yield the rows of *sql* one by one. The caller exhausts or closes the iterator."""
        with self.translated(), contextlib.closing(self._execute(sql, values)) as cursor:
            yield from cursor

    def write(self, sql: str, values: Sequence[object] = ()) -> int:
        """Within a transaction: execute *sql*, and return the number of changed rows."""
        assert self._connection.in_transaction
        with self.translated():
            return self._connection.execute(sql, values).rowcount

    def write_all(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Within a transaction: execute *sql* for each of *rows*."""
        assert self._connection.in_transaction
        with self.translated():
            self._connection.executemany(sql, rows)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything written inside, durably, or nothing of it."""
        with self._turn(), self.translated():
            self._execute("BEGIN IMMEDIATE")
        try:
            yield
            with self.translated():
                self._connection.execute("COMMIT")
        except BaseException:
            # SQLite may already have rolled back; a second rollback raises an error.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def shrink(self) -> None:
        """Within a transaction: return some free pages beyond the reserve to the file system."""
        [(free,)] = self.query("PRAGMA freelist_count")
        [(pages,)] = self.query("PRAGMA page_count")
        surplus = free - max(RESERVE_PAGES, pages // RESERVE_SHARE)
        if surplus <= 0:
            return
        [(vacuum,)] = self.query("PRAGMA auto_vacuum")
        if vacuum == INCREMENTAL:
            for _ in range(min(surplus, SHRINK_PAGES)):
                self.query("PRAGMA incremental_vacuum(1)")  # Python's sqlite3 stops after one page
        elif not self._fixed_size_logged:
            self._fixed_size_logged = True
            log.warning(
                "file.not_shrinking",
                path=str(self.path),
                free_bytes=free * PAGE_BYTES,
                hint="an older version made it; while nothing uses the file, run"
                " sqlite3 FILE 'PRAGMA auto_vacuum = 2; VACUUM'",
            )

    def settle(self) -> None:
        """Outside a transaction: checkpoint the write-ahead log, as far as readers allow."""
        self.query("PRAGMA wal_checkpoint(PASSIVE)")

    def version(self) -> int:
        """Return a number that changes when another connection commits."""
        return int(self.query("PRAGMA data_version")[0][0])

    def wait_for_commit(self, version: int, wait_s: float) -> None:
        """Sleep until another connection has committed since *version*, at most *wait_s*."""
        ends = time.monotonic() + wait_s
        while (left := ends - time.monotonic()) > 0 and self.version() == version:
            time.sleep(min(left, LOOK_S))

    def close(self) -> None:
        """Close the file; never raises."""
        self.closed = True
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        if self._turnstile is not None:
            self._turnstile.close()

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Raise SQLite's errors as LogErrors."""
        try:
            yield
        except sqlite3.ProgrammingError:  # a bug in our code
            raise
        except sqlite3.Error as error:
            # the primary result code, without the extended one
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            kind, reason = REFUSALS.get(code, (Misconfigured, "SQLite refuses it"))
            raise kind(f"{self.path}: {reason} ({error})") from error

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait in the lock queue, and hold it inside."""
        if self._turnstile is None:
            try:
                self._turnstile = Path(f"{self.path}-turn").open("ab")  # noqa: SIM115 - closed in `close`
            except OSError as error:
                _, reason = REFUSALS[sqlite3.SQLITE_READONLY]
                raise PermanentError(f"{self.path}: {reason} ({error.strerror})") from error
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                fcntl.flock(self._turnstile, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    kind, reason = REFUSALS[sqlite3.SQLITE_BUSY]
                    raise kind(f"{self.path}: {reason}") from error
                time.sleep(RETRY_S)
        try:
            yield
        finally:
            fcntl.flock(self._turnstile, fcntl.LOCK_UN)

    def _execute(self, sql: str, values: Values = ()) -> sqlite3.Cursor:
        """Execute *sql*; retry while another process holds the lock."""
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                return self._connection.execute(sql, values)
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_S)

    def _prepare(self) -> None:
        if not self._has_tables():
            self._lay_out()
        self.query("PRAGMA synchronous = FULL")
        self.query(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        self.query(f"PRAGMA journal_size_limit = {JOURNAL_BYTES_MAX}")

    def _has_tables(self) -> bool:
        """Return whether it has our tables; False if empty. Raises Misconfigured if foreign."""
        [(application,)] = self.query("PRAGMA application_id")
        [(layout,)] = self.query("PRAGMA user_version")
        if application == APPLICATION:
            if layout > LAYOUT:
                raise Misconfigured(
                    f"{self.path}: a newer streamer has written it (layout {layout}, "
                    f"this one reads {LAYOUT}): use that one, or another file"
                )
            return True
        [(tables,)] = self.query("SELECT count(*) FROM sqlite_master")
        if application or layout or tables:
            raise Misconfigured(f"{self.path}: it is a SQLite file, but not one of streamer's")
        return False

    def _lay_out(self) -> None:
        self.query(f"PRAGMA page_size = {PAGE_BYTES}")
        self.query(f"PRAGMA auto_vacuum = {INCREMENTAL}")  # must precede the first table
        self.query("PRAGMA journal_mode = WAL")
        with self.transaction():
            if not self._has_tables():  # another process may have created the tables meanwhile
                for statement in TABLES.split(";")[:-1]:
                    self.write(statement)
                self.write(f"PRAGMA application_id = {APPLICATION}")
                self.write(f"PRAGMA user_version = {LAYOUT}")


def place_of(lane: int, offset: int) -> Place:
    """Return the place of a record, which may or may not exist."""
    return lane << OFFSET_BITS | offset


def lane_of(place: Place) -> int:
    """Return the lane of a place."""
    return place >> OFFSET_BITS


def offset_of(place: Place) -> int:
    """Return the offset of a place."""
    return place & ((1 << OFFSET_BITS) - 1)
