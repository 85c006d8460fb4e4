"""
What is kept in the embedded log, and how the rest goes.

Records of a compacted topic that a newer one has superseded, and tombstones, are
written down as *doomed* when that becomes known, with the time that they go. To
compact is to work that list off from its head, and to read a table is to walk
the newest places only: neither ever looks at records that stay, or that are gone.

All of it is done within a stroke of the file, a few records at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

from streamer.core.facts import Message
from streamer.edge.embedded_file import File, Place, lane_of, place_of
from streamer.edge.embedded_settings import EmbeddedSettings
from streamer.log import TopicShape


class Keeping:
    """What the settings say of how long records stay."""

    def __init__(self, file: File, settings: EmbeddedSettings) -> None:
        self._file = file
        self._settings = settings

    def supersede(self, lane: int, first: Place, queue: Sequence[Message], now_ms: int) -> None:
        """Note where the last record of each key lies now, and doom the one before it."""
        superseded_due_ms = now_ms + round(self._settings.superseded_keep * 1000)
        tombstone_due_ms = now_ms + round(self._settings.tombstone_keep * 1000)
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

    def expire(self, lane: int, shape: TopicShape, records_max: int, now_ms: int) -> None:
        """Delete from a lane's old end what is too old, or too much."""
        if shape.compact and shape.retention_s is None:
            return
        kept_s = self._settings.retention if shape.retention_s is None else shape.retention_s
        oldest_ms = now_ms - round(kept_s * 1000)
        [(size,)] = self._file.query("SELECT bytes FROM lanes WHERE id = ?", (lane,))
        size_max = self._settings.topic_bytes_max // shape.partitions
        for look in (1, records_max):  # mostly the first one stays, and no other is looked at
            gone: list[Place] = []
            left = size
            for place, published_ms, record_bytes in self._file.query(
                "SELECT place, published_ms, bytes FROM records"
                " WHERE place >= ? AND place < ? ORDER BY place LIMIT ?",
                (place_of(lane, 0), place_of(lane + 1, 0), look),
            ):
                if published_ms >= oldest_ms and left <= size_max:
                    break
                gone.append(place)
                left -= record_bytes
            if not gone:
                return
        if shape.compact:
            self._forget(gone)
        self._file.write("UPDATE lanes SET bytes = ? WHERE id = ?", (left, lane))
        self._file.write("DELETE FROM records WHERE place >= ? AND place <= ?", (gone[0], gone[-1]))

    def _forget(self, places: Sequence[Place]) -> None:
        """Leave no key whose newest record is one of these, which are about to be deleted."""
        self._file.write_all(
            "DELETE FROM newest WHERE lane = ? AND place = ?"
            " AND key = (SELECT key FROM records WHERE place = ?)",
            [(lane_of(place), place, place) for place in places],
        )
