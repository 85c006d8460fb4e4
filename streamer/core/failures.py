"""
Records that made a turn fail, and how they are handled.

The result of a turn that raises is dropped, and its records are bisected until the record that
raises is alone. First its flows are reset, because a damaged row may be the cause. If the record
raises again, it is rejected. Both actions are saved with the turn that takes the record, so
that a replay does the same.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from streamer.core.types import Partition


class Action(enum.StrEnum):
    """The action on a record that made a turn fail."""

    RESET = "reset"  # its flows are reset, then it is taken
    REJECT = "reject"  # it goes to the dead-letter topic


class Failure(msgspec.Struct, frozen=True):
    """The exception that a record raised, and the action on the record."""

    action: Action
    error: str  # the exception's name


Failures = Mapping[Partition, Mapping[int, Failure]]  # by partition and offset
