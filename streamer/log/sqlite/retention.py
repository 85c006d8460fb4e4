"""
What is kept in the SQLite log, and how the rest goes.

Records of a compacted topic that a newer one has superseded, and tombstones, are
written down as *doomed* when that becomes known, with the time that they go. To
compact is to work that list off from its head, and to read a table is to walk
the newest places only: neither ever looks at records that stay, or that are gone.

All of it is done within a transaction of the file, a few records at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from streamer.core.types import Message
from streamer.log import TopicConfig
from streamer.log.sqlite.database import File, Place, lane_of, place_of
from streamer.log.sqlite.settings import SqliteSettings


class Bounds(NamedTuple):
    """How old a record may be, and how much its lane may hold with it."""

    oldest_ms: int
    bytes_max: int

    def hold(self, published_ms: int, lane_bytes: int) -> bool:
        """Whether a record of that age stays in a lane that takes so many bytes."""
        return published_ms >= self.oldest_ms and lane_bytes <= self.bytes_max


class Keeping:
    """What the settings say of how long records stay."""

    def __init__(self, file: File, settings: SqliteSettings) -> None:
        self._file = file
        self._settings = settings

    def mark_superseded(
        self, lane: int, first: Place, queue: Sequence[Message], now_ms: int
    ) -> None:
        """Note where the last record of each key lies now, and doom the one before it."""
        superseded_due_ms = now_ms + round(self._settings.min_compaction_lag * 1000)
        tombstone_due_ms = now_ms + round(self._settings.delete_retention * 1000)
        newest: dict[bytes, Place] = {}
        doomed: list[tuple[int, Place]] = []
        for place, message in enumerate(queue, first):
            assert message.key is not None
            if message.key in newest:
                doomed.append((superseded_due_ms, newest[message.key]))
            if message.value is None:
                doomed.append((tombstone_due_ms, place))
            newest[message.key] = place
        # Superseded tombstones may be doomed twice: the second time finds nothing.
        self._file.write_all("INSERT OR IGNORE INTO doomed VALUES (?, ?)", doomed)
        self._file.write_all(
            "INSERT OR IGNORE INTO doomed SELECT ?, place FROM newest WHERE lane = ? AND key = ?",
            [(superseded_due_ms, lane, key) for key in newest],
        )
        self._file.write_all(
            "INSERT OR REPLACE INTO newest VALUES (?, ?, ?)",
            [(lane, key, place) for key, place in newest.items()],
        )

    def compact(self, records_max: int, now_ms: int) -> None:
        """Delete the doomed whose time has come."""
        due = self._file.query(
            "SELECT due_ms, place FROM doomed WHERE due_ms <= ? ORDER BY due_ms LIMIT ?",
            (now_ms, records_max),
        )
        if due:
            places = [place for _, place in due]
            self._forget(places)
            self._file.write_all(
                "UPDATE lanes SET bytes = bytes -"
                " ifnull((SELECT bytes FROM records WHERE place = ?), 0) WHERE id = ?",
                [(place, lane_of(place)) for place in places],
            )
            self._file.write_all("DELETE FROM records WHERE place = ?", [(p,) for p in places])
            self._file.write_all("DELETE FROM doomed WHERE due_ms = ? AND place = ?", due)

    def expire(self, lane: int, shape: TopicConfig, records_max: int, now_ms: int) -> None:
        """
        Delete from a lane's old end what is too old, or too much.

        What a known group has not read is deleted only where it is beyond the limits of the unread.
        """
        if shape.compact and shape.retention_s is None:
            return
        kept_s = self._settings.retention if shape.retention_s is None else shape.retention_s
        read = self._bounds(kept_s, self._settings.topic_bytes_max, shape, now_ms)
        unread = read
        unread_from: Place | None = None
        [(size,)] = self._file.query("SELECT bytes FROM lanes WHERE id = ?", (lane,))
        for look in (1, records_max):  # mostly the first one stays, and no other is looked at
            gone: list[Place] = []
            left = size
            for place, published_ms, record_bytes in self._file.query(
                "SELECT place, published_ms, bytes FROM records"
                " WHERE place >= ? AND place < ? ORDER BY place LIMIT ?",
                (place_of(lane, 0), place_of(lane + 1, 0), look),
            ):
                if read.hold(published_ms, left):
                    break
                if unread_from is None:
                    unread_from = self._unread_from(lane)
                    unread = self._unread_bounds(kept_s, shape, now_ms)
                if place >= unread_from and unread.hold(published_ms, left):
                    break
                gone.append(place)
                left -= record_bytes
            if not gone:
                return
        if shape.compact:
            self._forget(gone)
        self._file.write("UPDATE lanes SET bytes = ? WHERE id = ?", (left, lane))
        self._file.write("DELETE FROM records WHERE place >= ? AND place <= ?", (gone[0], gone[-1]))

    def _unread_bounds(self, kept_s: float, shape: TopicConfig, now_ms: int) -> Bounds:
        """Never tighter than those of the records that were read."""
        return self._bounds(
            max(kept_s, self._settings.unread_retention),
            max(self._settings.topic_bytes_max, self._settings.unread_bytes_max),
            shape,
            now_ms,
        )

    def _bounds(self, kept_s: float, bytes_max: int, shape: TopicConfig, now_ms: int) -> Bounds:
        return Bounds(now_ms - round(kept_s * 1000), bytes_max // shape.partitions)

    def _unread_from(self, lane: int) -> Place:
        """
        The first record that a group may still have to read.

        A group is known by the offset that it committed, or by a member that holds the lane; one
        that has committed nothing yet has to read everything.
        """
        [(offset,)] = self._file.query(
            "SELECT min(ifnull(o.next, 0)) FROM"
            " (SELECT team FROM offsets WHERE lane = :lane"
            "  UNION SELECT team FROM holdings WHERE lane = :lane) AS known"
            " LEFT JOIN offsets o ON o.team = known.team AND o.lane = :lane",
            {"lane": lane},
        )
        return place_of(lane + 1, 0) if offset is None else place_of(lane, offset)

    def _forget(self, places: Sequence[Place]) -> None:
        """Leave no key whose newest record is one of these, which are about to be deleted."""
        self._file.write_all(
            "DELETE FROM newest WHERE lane = ? AND place = ?"
            " AND key = (SELECT key FROM records WHERE place = ?)",
            [(lane_of(place), place, place) for place in places],
        )
