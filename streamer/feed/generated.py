"""Generated traffic as readings, as collectors would send them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streamer.core.wire.parsed import Reading
from streamer.synthetic import Counters


def generated(counters: Counters) -> Iterator[Sequence[Reading]]:
    """A batch of readings for each step, endlessly."""
    bits = [32 if each == 32 else 64 for each in counters.bits.tolist()]
    for step in counters:
        yield [
            Reading(counters.names[flow], time_s, value, "counter", "B", bits=bits[flow])
            for time_s, flow, value in zip(
                step.time.tolist(), step.flow.tolist(), step.value.tolist(), strict=True
            )
        ]
