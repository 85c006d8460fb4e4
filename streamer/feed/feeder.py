"""
The feed: readings into a topic, at a pace.

Every reading of a flow goes to the partition that Kafka's own clients would
choose for a record with the flow as its key. So feeds with and without batches,
and other producers, keep each flow in one partition, and it keeps its order.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from streamer.core.types import Message
from streamer.core.wire.parsed import Reading
from streamer.log import Client, TopicMissing
from streamer.log.partitioner import partition_of

SEND_MAX = 1_000  # messages that are handed over at once
FLOWS_MAX = 1_000_000  # whose partitions are remembered
SLICE_S = 0.25  # how long a pace sleeps at once
EARLY_S = 0.05  # by how much a reading may be early: no more than twenty pauses a second


@dataclass(slots=True)
class FeedProgress:
    """What was sent so far."""

    readings: int = 0
    records: int = 0
    value_bytes: int = 0
    flows: int = 0
    time_s: float = math.nan  # of the latest reading
    took_s: float = 0.0


class Pace:
    """
    Readings at *speed* times the pace of their own time stamps; infinity: all at once.

    With *never_early* none goes out before its time has come: a history that
    grows into the present goes on at the present's pace.
    """

    def __init__(
        self,
        speed: float,
        *,
        never_early: bool = False,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        assert speed > 0
        self._speed = speed
        self._never_early = never_early
        self._clock = clock
        self.sleep = sleep
        self._began: tuple[float, float] | None = None  # by our clock, and by the readings' time
        self._passed_s = -math.inf  # the latest reading that went

    def wait_s(self, time_s: float) -> float:
        """How long until a reading of this time may be sent; 0 if it may be sent now."""
        if time_s <= self._passed_s:
            return 0.0
        now_s = self._clock()
        self._began = self._began or (now_s, time_s)
        due_s = self._began[0] + (time_s - self._began[1]) / self._speed
        if self._never_early:
            due_s = max(due_s, time_s)
        if due_s > now_s + EARLY_S:
            return due_s - now_s
        self._passed_s = time_s
        return 0.0


def feed(  # noqa: PLR0913 - what, where to, how, and two callbacks
    client: Client,
    source: Iterable[Sequence[Reading]],
    *,
    topic: str,
    batch: int = 1,
    pace: Pace | None = None,
    on_progress: Callable[[FeedProgress], None] = lambda _progress: None,
    stopping: Callable[[], bool] = lambda: False,
) -> FeedProgress:
    """
    Send all readings of *source* to *topic*, and return when they are durable.

    *source* gives batches; an empty one means that no more is there for now,
    and sends off what is. *batch* readings of one partition make a record (JSON
    lines without a key); a single one has its flow as key. *on_progress* receives how far
    it is, after each batch and while it waits; *stopping* is asked as often, and
    ends the feed early. Raises TopicMissing or any other LogError; what
    was sent before may then be durable or not.
    """
    pace = pace or Pace(math.inf)
    outbox = Outbox(client, topic, batch)
    began_s = time.monotonic()

    def goes_on() -> bool:
        outbox.progress.took_s = time.monotonic() - began_s
        on_progress(outbox.progress)
        return not stopping()

    for readings in source:
        if not paced(readings, outbox, pace, goes_on):
            break
    outbox.flush()
    outbox.progress.took_s = time.monotonic() - began_s
    return outbox.progress


def paced(
    readings: Sequence[Reading], outbox: Outbox, pace: Pace, goes_on: Callable[[], bool]
) -> bool:
    """Put *readings* into the outbox, each when its time has come; False if we are to stop."""
    done = 0
    for index, reading in enumerate(readings):
        while wait_s := pace.wait_s(reading.time):
            outbox.add(readings[done:index])
            outbox.flush()
            done = index
            if not goes_on():
                return False
            pace.sleep(min(wait_s, SLICE_S))
    outbox.add(readings[done:])
    if not readings:
        outbox.flush()
    return goes_on()


class Outbox:
    """Readings on their way: gathered by partition, then by message."""

    def __init__(self, client: Client, topic: str, batch: int) -> None:
        shapes = client.topics()
        if topic not in shapes:
            raise TopicMissing([topic])
        self.progress = FeedProgress()
        self._client = client
        self._topic = topic
        self._batch = batch
        self._encoder = msgspec.json.Encoder()
        self._partition_of: dict[str, int] = {}
        self._gathered: list[list[Reading]] = [[] for _ in range(shapes[topic].partitions)]
        self._messages: list[Message] = []

    def add(self, readings: Sequence[Reading]) -> None:
        """Take *readings*, and send what makes whole records."""
        known, gathered, batch = self._partition_of, self._gathered, self._batch
        for reading in readings:
            partition = known.get(reading.flow)
            if partition is None:
                partition = self._place(reading.flow)
            queue = gathered[partition]
            queue.append(reading)
            if len(queue) >= batch:
                self._seal(partition)
        if readings:
            self.progress.readings += len(readings)
            self.progress.time_s = readings[-1].time

    def flush(self) -> None:
        """Send everything, and wait until it is durable."""
        for partition, queue in enumerate(self._gathered):
            if queue:
                self._seal(partition)
        self._send()
        self._client.flush()

    def _place(self, flow: str) -> int:
        if len(self._partition_of) >= FLOWS_MAX:
            self._partition_of.clear()  # each is soon known again
        partition = partition_of(flow.encode(), len(self._gathered))
        self._partition_of[flow] = partition
        self.progress.flows = max(self.progress.flows, len(self._partition_of))
        return partition

    def _seal(self, partition: int) -> None:
        """Make a record of what was gathered for *partition*."""
        queue = self._gathered[partition]
        if self._batch == 1:
            [reading] = queue
            key, value = reading.flow.encode(), self._encoder.encode(reading)
        else:
            key, value = None, self._encoder.encode_lines(queue).rstrip()
        queue.clear()
        self._messages.append(Message(self._topic, partition, key, value))
        self.progress.records += 1
        self.progress.value_bytes += len(value)
        if len(self._messages) >= SEND_MAX:
            self._send()

    def _send(self) -> None:
        if self._messages:
            self._client.send(self._messages)
            self._messages = []
