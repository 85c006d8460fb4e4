"""Settings of the SQLite log."""

from __future__ import annotations

from typing import Annotated

import msgspec

from streamer.config.types import Duration, Settings


class SqliteSettings(Settings, frozen=True, kw_only=True):
    """The SQLite log: session timeout, lock timeout, retention."""

    session_timeout: Duration = Duration(
        10
    )  # a member without a sign of life for longer loses its partitions
    busy_timeout: Duration = Duration(10)  # how long a write waits for another process
    retention: Duration = Duration(7 * 86_400)  # default for topics without their own retention
    topic_bytes_max: Annotated[int, msgspec.Meta(ge=1)] = (
        4 << 30
    )  # divided equally among the partitions
    # Records that a group has not read are kept longer and may take more room. Beyond these
    # limits they are lost, and the reader logs and counts them (`input.offset_out_of_range`).
    unread_retention: Duration = Duration(28 * 86_400)
    # limit of a topic's size, including unread records
    unread_bytes_max: Annotated[int, msgspec.Meta(ge=1)] = 16 << 30
    # how long a follower can still read superseded records
    min_compaction_lag: Duration = Duration(60)
    delete_retention: Duration = Duration(86_400)  # how long a follower can still read tombstones
    read_bytes_max: Annotated[int, msgspec.Meta(ge=1)] = (
        64 << 20
    )  # what is read at once, by one poll or batch

    def __post_init__(self) -> None:
        if self.session_timeout <= 0:
            raise ValueError("session_timeout: must be more than zero")
