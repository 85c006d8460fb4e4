"""
Retention and compaction in the SQLite log.

When a record of a compacted topic is superseded, or is a tombstone, it is listed as *doomed*
with the time of its deletion. Compaction works through the head of that list, and reading a
table visits only the newest place of each key: neither visits records that stay or are already
deleted.

Everything runs within a transaction of the file, a few records at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from streamer.core.types import Message
from streamer.log import TopicConfig
from streamer.log.sqlite.database import File, Place, lane_of, place_of
from streamer.log.sqlite.settings import SqliteSettings


class Bounds(NamedTuple):
    """The maximum age of a record, and the maximum size of its lane."""

    oldest_ms: int
    bytes_max: int

    def hold(self, published_ms: int, lane_bytes: int) -> bool:
        """Return whether a record of that age stays in a lane of *lane_bytes* bytes."""
        return published_ms >= self.oldest_ms and lane_bytes <= self.bytes_max


class Keeping:
    """Applies the retention settings."""

    def __init__(self, file: File, settings: SqliteSettings) -> None:
        self._file = file
        self._settings = settings

    def mark_superseded(
        self, lane: int, first: Place, queue: Sequence[Message], now_ms: int
    ) -> None:
        """Note the place of each key's last record, and doom the previous one."""
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
        # A superseded tombstone may be doomed twice: the second deletion finds nothing.
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
        """Delete doomed records that are due."""
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
        Delete from a lane's old end the records that are too old, or exceed its size.

        Records that a known group has not read are deleted only beyond the limits for unread
        records.
        """
        if shape.compact and shape.retention_s is None:
            return
        kept_s = self._settings.retention if shape.retention_s is None else shape.retention_s
        read = self._bounds(kept_s, self._settings.topic_bytes_max, shape, now_ms)
        unread = read
        unread_from: Place | None = None
        [(size,)] = self._file.query("SELECT bytes FROM lanes WHERE id = ?", (lane,))
        # usually the first record stays, and the others need not be checked
        for look in (1, records_max):
            removed: list[Place] = []
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
                removed.append(place)
                left -= record_bytes
            if not removed:
                return
        if shape.compact:
            self._forget(removed)
        self._file.write("UPDATE lanes SET bytes = ? WHERE id = ?", (left, lane))
        self._file.write(
            "DELETE FROM records WHERE place >= ? AND place <= ?", (removed[0], removed[-1])
        )

    def _unread_bounds(self, kept_s: float, shape: TopicConfig, now_ms: int) -> Bounds:
        """Return the bounds of unread records, which are never tighter than those of read ones."""
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
        Return the place of the first record that a group may still have to read.

        A group is known if it has committed an offset, or if a member holds the lane; a group
        without a committed offset has to read all records.
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
        """Remove the keys whose newest record is at one of *places*, which are to be deleted."""
        self._file.write_all(
            "DELETE FROM newest WHERE lane = ? AND place = ?"
            " AND key = (SELECT key FROM records WHERE place = ?)",
            [(lane_of(place), place, place) for place in places],
        )
