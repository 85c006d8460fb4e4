"""What can be set of the SQLite log."""

from __future__ import annotations

from typing import Annotated

import msgspec

from streamer.config.types import Duration, Settings


class SqliteSettings(Settings, frozen=True, kw_only=True):
    """The SQLite log: who holds what for how long, and what is kept."""

    session_timeout: Duration = Duration(
        10
    )  # a member that is silent for longer loses its partitions
    busy_timeout: Duration = Duration(10)  # how long another process may keep us from writing
    retention: Duration = Duration(7 * 86_400)  # of topics that do not say otherwise
    topic_bytes_max: Annotated[int, msgspec.Meta(ge=1)] = (
        4 << 30
    )  # each partition may take an equal share
    # What a group has not read yet stays longer and may take more room; then it is lost, and its
    # reader logs and counts it (`input.offset_out_of_range`).
    unread_retention: Duration = Duration(28 * 86_400)
    unread_bytes_max: Annotated[int, msgspec.Meta(ge=1)] = 16 << 30  # of a topic, unread or not
    min_compaction_lag: Duration = Duration(60)  # how long a follower can still see a record's past
    delete_retention: Duration = Duration(
        86_400
    )  # how long a follower can still see that a key went
    read_bytes_max: Annotated[int, msgspec.Meta(ge=1)] = (
        64 << 20
    )  # what is read at once, in one delivery or batch

    def __post_init__(self) -> None:
        if self.session_timeout <= 0:
            raise ValueError("session_timeout: must be more than zero")
