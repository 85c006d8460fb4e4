"""
Readings in our own format, one a record, whose key is the flow.

Each has its kind, unit and bits, so that no default of a reader changes it, and the timestamp
of the record that it was found in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from streamer.core.types import PART, Kind, Message
from streamer.core.wire import Decoded
from streamer.core.wire.parsed import KindName, Reading

KINDS: dict[int, KindName] = {
    Kind.COUNTER: "counter",
    Kind.DELTA: "delta",
    Kind.GAUGE: "gauge",
}
ENCODER = msgspec.json.Encoder()


def messages(
    decoded: Decoded, times_ms: list[int], topic: str, place: Callable[[str], int]
) -> Iterator[Message]:
    """
    A message of each reading, in order.

    *times_ms* are the timestamps of the records that were decoded, -1 where there is none; *place*
    gives a flow's partition.
    """
    readings = decoded.readings
    labels = readings.labels or [None] * len(readings)
    for record, each, its in zip(decoded.record.tolist(), readings.each(), labels, strict=True):
        flow, unit, time, value, count, kind, bits, capacity = each
        is_part = kind == Kind.DELTA and bits == PART
        reading = Reading(
            flow,
            time,
            count if kind == Kind.COUNTER else value,
            KINDS[kind],
            unit.decode(),
            capacity or None,
            0 if is_part or kind == Kind.DELTA else bits,  # type: ignore[arg-type]  # 0, 32 or 64
            is_part,
            None if its is None else its.known(),
        )
        time_ms = times_ms[record]
        key = flow.encode(errors="replace")
        yield Message(
            topic, place(flow), key, encoded(reading), (), time_ms if time_ms >= 0 else None
        )


def encoded(reading: Reading) -> bytes:
    """A reading as JSON; half of a surrogate pair in its name is replaced."""
    try:
        return ENCODER.encode(reading)
    except UnicodeError:
        flow = reading.flow.encode(errors="replace").decode()
        return ENCODER.encode(msgspec.structs.replace(reading, flow=flow))
