"""Settings of the SQLite log."""

from __future__ import annotations

from typing import Annotated

import msgspec

from streamer.config.types import Duration, Settings

SESSION_MIN_S = 0.1
BUSY_MAX_S = 86400.0


class SqliteSettings(Settings, frozen=True, kw_only=True):
    """The SQLite log: session timeout, lock timeout, retention."""

    session_timeout: Duration = Duration(
        10
    )  # a member without a sign of life for longer loses its partitions
    busy_timeout: Duration = Duration(10)  # how long a write waits for another process
    retention: Duration = Duration(7 * 86_400)  # default for topics without their own retention
    # divided equally among the partitions
    topic_bytes_max: Annotated[int, msgspec.Meta(ge=1, le=2**60)] = 4 << 30
    # Records that a group has not read are kept longer and may take more room. Beyond these
    # limits they are lost, and the reader logs and counts them (`input.offset_out_of_range`).
    unread_retention: Duration = Duration(28 * 86_400)
    # limit of a topic's size, including unread records
    unread_bytes_max: Annotated[int, msgspec.Meta(ge=1, le=2**60)] = 16 << 30
    # how long a follower can still read superseded records
    min_compaction_lag: Duration = Duration(60)
    delete_retention: Duration = Duration(86_400)  # how long a follower can still read tombstones
    # what is read at once, by one poll or batch
    read_bytes_max: Annotated[int, msgspec.Meta(ge=1, le=2**60)] = 64 << 20

    def __post_init__(self) -> None:
        if self.session_timeout < SESSION_MIN_S:
            raise ValueError(f"session_timeout: must be at least 100ms, is {self.session_timeout}")
        if self.busy_timeout > BUSY_MAX_S:
            raise ValueError(f"busy_timeout: must be at most 1d, is {self.busy_timeout}")
