"""
The file under the SQLite log: how it is laid out, opened and written.

One SQLite file in WAL mode, which several processes share. Whatever is written
is written in one transaction: a transaction that holds the only write_lock from its first
statement on, so nothing that it has read can change under it. It is durable
when the transaction returns (`synchronous = FULL`: the write-ahead log is flushed).

SQLite lets whoever asks first after a commit have the write_lock, and that is mostly
the one who has just put it down: beside a feeder in full flight a forecaster
was seen to wait for two seconds. So writers queue: who waits for the write_lock holds
the lock_queue, a lock on a file beside ours, and nobody can overtake it.

A record's *place* is its partition's lane and its offset in one integer, and
the row id of its row: so a partition is read in order by walking the table
itself, and no index has to be kept. Pages of 16 KiB were measured to be a fifth
to a third faster than SQLite's 4 KiB, for records of 60 bytes and of 96 kB.

Whatever SQLite reports is translated in one table, `REFUSALS`.
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

APPLICATION = int.from_bytes(b"strm")  # SQLite's application_id: how our own files are known
LAYOUT = 1  # SQLite's user_version: how the tables below are laid out
OFFSET_BITS = 40  # of a place; the lane's number is above them
PAGE_BYTES = 16_384
CHECKPOINT_PAGES = 1_000  # 16 MB of write-ahead log, then it goes home into the file
JOURNAL_BYTES_MAX = 64 << 20  # what the write-ahead log is cut back to
LOOK_S = 0.005  # how often a waiting reader looks for another process's commit
RETRY_S = 0.001  # how often a waiting writer looks whether the write_lock is free

INCREMENTAL = 2  # SQLite's auto_vacuum: pages that are free can be given back, a few at a time
RESERVE_PAGES = 256  # 4 MB of free pages stay for what comes next,
RESERVE_SHARE = 8  # or an eighth of the file, so that a steady load moves no page
SHRINK_PAGES = 64  # 1 MB at once: a few milliseconds in which nobody else can write

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
    A connection to the file, laid out if it was new.

    Raises PermanentError where the file is not ours to use, and Unavailable where it
    could not be read or written this time. Not for two threads at once.
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
        self._told_fixed = False  # that the file cannot shrink
        with self.translated():
            self._connection = sqlite3.connect(
                path,
                timeout=0,  # SQLite would sleep longer each time; we wait by ourselves
                isolation_level=None,  # transactions begin and end where we say so
                check_same_thread=False,
            )
        try:
            self._prepare()
        except LogError:
            self._connection.close()
            raise

    def query(self, sql: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """All rows that answer *sql*: nothing stays open that would hold back a checkpoint."""
        with self.translated():
            return self._execute(sql, values).fetchall()

    def rows(
        self, sql: str, values: Sequence[object] = ()
    ) -> Generator[tuple[Any, ...], None, None]:
        """The rows that answer *sql*, one by one: to be used up, or closed, at once."""
        with self.translated(), contextlib.closing(self._execute(sql, values)) as cursor:
            yield from cursor

    def write(self, sql: str, values: Sequence[object] = ()) -> int:
        """Within a transaction: change rows, and tell how many."""
        assert self._connection.in_transaction
        with self.translated():
            return self._connection.execute(sql, values).rowcount

    def write_all(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Within a transaction: do *sql* for each of *rows*."""
        assert self._connection.in_transaction
        with self.translated():
            self._connection.executemany(sql, rows)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside is written, durably, or none of it."""
        with self._turn(), self.translated():
            self._execute("BEGIN IMMEDIATE")
        try:
            yield
            with self.translated():
                self._connection.execute("COMMIT")
        except BaseException:
            # SQLite may have rolled back by itself; a second time would be an error.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def shrink(self) -> None:
        """Within a transaction: give back some of the room that nothing needs, beyond a reserve."""
        [(free,)] = self.query("PRAGMA freelist_count")
        [(pages,)] = self.query("PRAGMA page_count")
        surplus = free - max(RESERVE_PAGES, pages // RESERVE_SHARE)
        if surplus <= 0:
            return
        [(vacuum,)] = self.query("PRAGMA auto_vacuum")
        if vacuum == INCREMENTAL:
            for _ in range(min(surplus, SHRINK_PAGES)):
                self.query("PRAGMA incremental_vacuum(1)")  # Python's sqlite3 stops after one page
        elif not self._told_fixed:
            self._told_fixed = True
            log.warning(
                "file.not_shrinking",
                path=str(self.path),
                free_bytes=free * PAGE_BYTES,
                hint="an older version made it; while nothing uses the file, run"
                " sqlite3 FILE 'PRAGMA auto_vacuum = 2; VACUUM'",
            )

    def settle(self) -> None:
        """Outside of a transaction: checkpoint the write-ahead log, as far as readers allow."""
        self.query("PRAGMA wal_checkpoint(PASSIVE)")

    def version(self) -> int:
        """A number that changes when another connection has written."""
        return int(self.query("PRAGMA data_version")[0][0])

    def wait_for_commit(self, version: int, wait_s: float) -> None:
        """Sleep until another connection has written since *version* was told, or *wait_s*."""
        ends = time.monotonic() + wait_s
        while (left := ends - time.monotonic()) > 0 and self.version() == version:
            time.sleep(min(left, LOOK_S))

    def close(self) -> None:
        """Let go of the file; never raises."""
        self.closed = True
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        if self._turnstile is not None:
            self._turnstile.close()

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """SQLite's errors, as the log's own."""
        try:
            yield
        except sqlite3.ProgrammingError:  # our mistake, not the world's
            raise
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without its finer distinctions
            kind, reason = REFUSALS.get(code, (Misconfigured, "SQLite refuses it"))
            raise kind(f"{self.path}: {reason} ({error})") from error

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Be the next one who gets the write_lock."""
        if self._turnstile is None:
            try:
                self._turnstile = Path(f"{self.path}-turn").open("ab")  # noqa: SIM115 - ours until we close
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
        """Do *sql*, as soon as others let us."""
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
        if not self._is_ours():
            self._lay_out()
        self.query("PRAGMA synchronous = FULL")
        self.query(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        self.query(f"PRAGMA journal_size_limit = {JOURNAL_BYTES_MAX}")

    def _is_ours(self) -> bool:
        """Whether it has our tables; False if empty. Raises PermanentError if it is foreign."""
        [(application,)] = self.query("PRAGMA application_id")
        [(layout,)] = self.query("PRAGMA user_version")
        if application == APPLICATION:
            if layout > LAYOUT:
                raise Misconfigured(
                    f"{self.path}: a newer streamer has written it (layout {layout}, "
                    f"this one knows {LAYOUT}): use that one, or another file"
                )
            return True
        [(tables,)] = self.query("SELECT count(*) FROM sqlite_master")
        if application or layout or tables:
            raise Misconfigured(f"{self.path}: it is a SQLite file, but not one of streamer's")
        return False

    def _lay_out(self) -> None:
        self.query(f"PRAGMA page_size = {PAGE_BYTES}")
        self.query(f"PRAGMA auto_vacuum = {INCREMENTAL}")  # before the first table, or never
        self.query("PRAGMA journal_mode = WAL")
        with self.transaction():
            if not self._is_ours():  # somebody may have been faster
                for statement in TABLES.split(";")[:-1]:
                    self.write(statement)
                self.write(f"PRAGMA application_id = {APPLICATION}")
                self.write(f"PRAGMA user_version = {LAYOUT}")


def place_of(lane: int, offset: int) -> Place:
    """Where the record of this offset lies, or would."""
    return lane << OFFSET_BITS | offset


def lane_of(place: Place) -> int:
    """The lane of the record that lies there."""
    return place >> OFFSET_BITS


def offset_of(place: Place) -> int:
    """The offset of the record that lies there."""
    return place & ((1 << OFFSET_BITS) - 1)
