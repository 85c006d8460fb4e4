"""Generated traffic as readings, as if collectors had told it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streamer.core.wire.parsed import Reading
from streamer.synthetic import Counters


def generated(counters: Counters) -> Iterator[Sequence[Reading]]:
    """A batch of readings for each step, endlessly."""
    bits = [32 if each == 32 else 64 for each in counters.bits.tolist()]
    for told in counters:
        yield [
            Reading(counters.names[flow], time_s, value, "counter", "B", bits=bits[flow])
            for time_s, flow, value in zip(
                told.time.tolist(), told.flow.tolist(), told.value.tolist(), strict=True
            )
        ]
