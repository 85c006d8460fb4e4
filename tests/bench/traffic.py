"""Readings to measure with: one of every flow's counter in each step."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from streamer.core.types import Message, Partition, Record

STEP_S = 60
PARTITIONS = 4
START_S = 1_700_000_040  # the beginning of a step


def values_of(step: int, flows: int, batch: int) -> list[bytes]:
    """The readings of *flows* flows at *step*, in records of *batch* readings."""
    at = START_S + step * STEP_S
    lines = [
        b'{"flow":"edge%d/xe-0/0/%d/in","time":%d,"value":%d}'
        % (flow // 48, flow % 48, at, step * (1000 * flow + 60_000) + 7919 * step % 10_007)
        for flow in range(flows)
    ]
    return [b"\n".join(lines[first : first + batch]) for first in range(0, flows, batch)]


def messages(topic: str, step: int, flows: int, batch: int, partitions: int) -> list[Message]:
    """The same, as messages; a flow keeps its partition."""
    values = values_of(step, flows, batch)
    return [
        Message(topic, place % partitions, None, value, (), (START_S + step * STEP_S) * 1000)
        for place, value in enumerate(values)
    ]


def records(flows: int, batch: int, partition: Partition) -> Iterator[list[Record]]:
    """The same, as a log would hand it over, step after step."""
    for step in count():
        values = values_of(step, flows, batch)
        at_ms = (START_S + step * STEP_S) * 1000
        yield [
            Record(partition, step * len(values) + place, None, value, at_ms)
            for place, value in enumerate(values)
        ]
