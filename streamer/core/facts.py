"""
What passes between the rooms of the house: frozen values, no behaviour.

An offset is always the *next* one to read, never the last one read. Times are
epoch seconds of the readings' own clock unless a name says otherwise.

Records, messages and readings are named tuples and structs rather than frozen
dataclasses, because some ten thousand of them are made in a second.
"""

from __future__ import annotations

from typing import NamedTuple


class Partition(NamedTuple):
    """One lane of an input topic; records keep their order within it."""

    topic: str
    number: int


class Record(NamedTuple):
    """A message as the log hands it over: bytes and where they lay."""

    partition: Partition
    offset: int  # its own; the next one to read is one more
    key: bytes | None
    value: bytes | None
    time_ms: int  # the record's timestamp, -1 where it has none
    headers: tuple[tuple[str, bytes], ...] = ()


class Message(NamedTuple):
    """What is to be published: bytes and where they shall lie."""

    topic: str
    partition: int | None  # None: the log chooses by the key
    key: bytes | None
    value: bytes | None  # None: a tombstone, the key's end
    headers: tuple[tuple[str, bytes], ...] = ()
    time_ms: int | None = None  # None: the time of publishing
