"""
The rekeyer's loop: read raw topics, decode them, write readings keyed by flow to one topic.

Collectors often write without a key, or with one that is not the flow's; then the readings of a
flow lie in several partitions, and no forecaster sees all of them. The rekeyer merges the
partitions by time and writes each flow to one partition, exactly once: the readings of a turn and
the offsets of their records are one transaction.

Several rekeyers share the partitions. Each keeps the order of what it reads itself; between two of
them a flow keeps its order as long as both are up to date.
"""

from __future__ import annotations

import functools
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from streamer.core import wire
from streamer.core.merge import Merge, next_offsets
from streamer.core.types import Message, Partition, Record
from streamer.core.wire import InputConfig, rejects, rekeyed
from streamer.core.wire.flow_keys import FlowKeys
from streamer.daemon.recovery import run_turns
from streamer.daemon.settings import TurnConfig
from streamer.daemon.widening import Places
from streamer.log import Log, LogError, PollResult
from streamer.log.partitioner import partition_of

HELD_TURNS = 4  # so many turns' records are held back at most …
HELD_MIN = 40_000  # … but as many as this in any case
STALL_S = 10.0  # a partition that is behind and gives nothing holds the others back for so long
LINGER_S = 1.0  # by which partitions may differ in how soon their records come
FLOWS_MAX = 1_000_000  # whose partitions are remembered
READINGS_A_RECORD = 10.0  # estimate before the first measurement


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """What one turn did."""

    counts: Mapping[str, int]
    held: int  # records that wait for older ones
    partitions: int
    lag: int
    took_s: float


class Observer(Protocol):
    """Receives events; the rekeyer does not depend on what the observer does."""

    def alive(self) -> None:
        """The process is alive."""

    def turned(self, turn: Rekeyed) -> None:
        """A turn was completed and published."""

    def unplaced(self, partitions: Collection[Partition], widths: Mapping[str, int]) -> None:
        """The topic of rejects, of these *widths*, is too narrow for input *partitions*."""

    def refused(self, error: LogError, pause_s: float) -> None:
        """A LogError occurred; a retry follows after *pause_s*, unless the error is permanent."""


class Rekeyer:
    """
    Turns raw topics into one of readings.

    *join* creates a membership of the rekeyers' group. *clock* and *pause* are real time: they
    bound how long records wait for older ones, and do not influence what is published of each.
    With *labels*, readings have those of their flows.
    """

    def __init__(  # noqa: PLR0913 - the parts of a loop, wired in one place
        self,
        *,
        join: Callable[[], Log],
        config: InputConfig,
        turn: TurnConfig,
        topic: str,
        rejects_topic: str,
        observer: Observer,
        clock: Callable[[], float],
        pause: Callable[[float], None],
        labels: bool = False,
    ) -> None:
        self._labels = labels
        self._join, self._config, self._turn = join, config, turn
        self._topic, self._rejects_topic = topic, rejects_topic
        self._observer, self._clock, self._pause = observer, clock, pause
        self._log: Log | None = None
        self._density = READINGS_A_RECORD
        self._held_max = max(HELD_MIN, HELD_TURNS * turn.records_max)
        self._place = functools.lru_cache(maxsize=FLOWS_MAX)(self._partition_of)
        self.forget()

    def run(self, stopping: Callable[[], bool]) -> None:
        """Run turns until *stopping*; see `run_turns`. It goes on from the committed offsets."""
        run_turns(self, stopping, self._observer.refused, self._pause)

    def start(self) -> None:
        """Join the group, and look how many partitions the topic has; may raise a LogError."""
        self._log = self._join()
        self._width = self._log.widen([self._topic], 1)[self._topic]
        self._place.cache_clear()

    def turn(self) -> None:
        """Poll, and publish what is ready."""
        assert self._log is not None
        self._observer.alive()
        wait_s = 0.0 if self._left else float(self._turn.poll_timeout)
        room = self._held_max - self._merge.held
        found = self._log.poll(wait_s, min(self._turn.records_max, room))
        began = self._clock()
        found = self._places.placed(found, self._log, began)
        if not self._merge.held:
            self._moved_at = began
        self._note(found, began)
        records = self._ready(began)
        counts = self._publish(records)
        counts["records_lost"] += found.missed
        took_s = self._clock() - began
        self._observer.turned(
            Rekeyed(counts, self._merge.held, len(self._held), sum(found.lag.values()), took_s)
        )

    def finish(self) -> None:
        """What was read and not published is read again after the next start."""

    def forget(self) -> None:
        """Leave the group, and drop what was read and not published."""
        if self._log is not None:
            self._log.close()
        self._log = None
        self._merge = Merge()
        self._keys = FlowKeys(self._config)  # learned again after each start
        self._held: set[Partition] = set()
        self._lag: Mapping[Partition, int] = {}
        self._places = Places([self._rejects_topic], self._observer)
        self._arrivals: deque[tuple[float, int]] = deque()  # when, and the newest time then
        self._until_ms = -1  # the newest time some while ago
        self._left = False  # whether a turn left records that are ready
        self._moved_at = self._clock()
        self._width = 0

    def _note(self, found: PollResult, now: float) -> None:
        """Take in what a poll brought."""
        self._merge.release(found.revoked)
        self._keys.release(found.revoked)
        self._held -= found.revoked
        self._held |= found.assigned.keys()
        self._merge.add(found.records)
        self._lag = found.lag
        if found.records:
            self._arrivals.append((now, self._merge.newest_ms))

    def _ready(self, now: float) -> list[Record]:
        """The records of this turn: those that no unread record precedes, or all of a full hold."""
        most = max(1, min(self._turn.records_max, int(self._turn.readings_max / self._density)))
        behind = [partition for partition in self._held if self._lag.get(partition, 1)]
        while self._arrivals and now - self._arrivals[0][0] >= LINGER_S:
            self._until_ms = self._arrivals.popleft()[1]
        held, turn = self._merge.held, self._turn.records_max
        if held > self._held_max - turn or now - self._moved_at > STALL_S:
            behind = []
        until_ms = self._until_ms if held <= turn else None  # so many of a backlog, not just now
        records = self._merge.take(most, behind, until_ms)
        if records or not self._merge.held:
            self._moved_at = now
        self._left = len(records) == most
        return records

    def _publish(self, records: Sequence[Record]) -> Counter[str]:
        """Publish the readings and rejects of *records*, with the offsets after them."""
        assert self._log is not None
        if not records:
            return Counter()
        decoded = wire.decode(records, self._config, labels=self._labels)
        settled = self._keys.settle(decoded.readings)
        decoded.readings = settled.readings
        self._log.publish(self._messages(decoded, records), next_offsets(records))
        self._keys.adopt(settled)
        if settled.moved:
            decoded.counts["readings_in_other"] += settled.moved
        self._density = max(1.0, len(decoded.readings) / len(records), self._density / 2)
        return decoded.counts

    def _messages(self, decoded: wire.Decoded, records: Sequence[Record]) -> Iterator[Message]:
        times_ms = [record.time_ms for record in records]
        yield from rekeyed.messages(decoded, times_ms, self._topic, self._place)
        for reject in decoded.rejects:
            yield rejects.message(reject, self._rejects_topic)

    def _partition_of(self, flow: str) -> int:
        """As every client of Kafka's chooses it for a record with this key."""
        return partition_of(flow.encode(errors="replace"), self._width)
