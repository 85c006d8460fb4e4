"""The parsed content of one record: readings, refusals, and the number of skipped elements."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgspec

from streamer.core.types import Reason

KindName = Literal["counter", "delta", "gauge"]


class Reading(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A counter, a delta or a gauge of a flow at an instant, as a collector reports it."""

    flow: str
    time: float  # epoch seconds
    value: int | float | str  # text contains digits
    kind: KindName | None = None  # None: as configured
    unit: str | None = None  # of the value, not of the rate
    capacity: float | None = None  # of the link, in units per second
    bits: Literal[0, 32, 64] = 0  # of the counter; 0 if unknown
    part: bool = False  # of a delta: equal ones of one time are several, not duplicates
    labels: Any = None  # an object of texts, by the names of `types.Labels`; others are left out


class KeyedPart(Reading, frozen=True, gc=False, omit_defaults=True):
    """A part of a delta under a key that has no bound."""

    other: str = ""  # the flow that it counts for if its key has no place


def without_other(reading: Reading) -> Reading:
    """A reading as others read it: its key has a flow of its own."""
    if not isinstance(reading, KeyedPart):
        return reading
    return Reading(**{name: getattr(reading, name) for name in Reading.__struct_fields__})


class Refusal(NamedTuple):
    """A part of a record that is not a reading, and the reason."""

    reason: Reason
    element: bytes | None = None  # None: the whole record
    detail: str = ""


class Found(NamedTuple):
    """The content of one record."""

    readings: list[Reading]
    refusals: list[Refusal]
    skipped: int = 0  # valid elements that contain no traffic counters


class Unfit(ValueError):
    """An element is not a reading, with the reason; it becomes a refusal."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(detail or str(reason))
        self.reason = reason
