"""
Records that made a turn fail, and what is done about them.

A turn that raises is forgotten, and its records are halved until the one that raises
is alone. First its flows are started anew: a damaged row may be the cause. If it raises
again the record is rejected. Both are saved with the turn that takes the record, so
that a replay does the same.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from streamer.core.types import Partition


class Action(enum.StrEnum):
    """What is done about a record that made a turn fail."""

    RESET = "reset"  # its flows start anew, then it is taken
    REJECT = "reject"  # it goes to the dead-letter topic


class Failure(msgspec.Struct, frozen=True):
    """What a record raised, and what is done about it."""

    action: Action
    error: str  # the exception's name


Failures = Mapping[Partition, Mapping[int, Failure]]  # by partition and offset
