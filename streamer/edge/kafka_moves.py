"""
Partitions that come and go: what the client calls back is noted, to be taken up by the next poll.

Three weaknesses of the client are mended here, each of which would leave records
unread, or read twice. Partitions that have come would be read from wherever the
client thinks best: they are held still until we say from where. A member that the
group has thrown out would claim its old partitions when it joins again. And a
leader that hasn't heard of a topic yet would share out nothing of it, for good.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator

from kafka import ConsumerRebalanceListener, TopicPartition, errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from streamer.edge.kafka_settings import Untyped

UNHEARD_MAX_S = 5.0  # a topic that nobody has heard of for so long is no more


class Assignor(CooperativeStickyAssignor):  # type: ignore[misc]  # the client ships no types
    """Cooperative and sticky, as the client's own; but it knows when it does not know."""

    def __init__(self) -> None:
        super().__init__()
        self._unheard_since_s: float | None = None

    def assign(self, cluster: Untyped, members: Untyped) -> Untyped:
        """Raise StaleMetadata, upon which the client asks again, while a topic is not heard of."""
        topics = {topic for member in members for topic in member.metadata.topics}
        if all(cluster.partitions_for_topic(topic) for topic in topics):
            self._unheard_since_s = None
        else:
            self._unheard_since_s = self._unheard_since_s or time.monotonic()
            if time.monotonic() - self._unheard_since_s < UNHEARD_MAX_S:
                raise errors.StaleMetadata
        return super().assign(cluster, members)

    def forget(self) -> None:
        """Claim nothing at the next join."""
        self.member_assignment = None


class Moves(ConsumerRebalanceListener):  # type: ignore[misc]  # the client ships no types
    """Notes which partitions come and go; called from the client's own thread."""

    def __init__(self, consumer: Untyped, assignor: Assignor) -> None:
        self._consumer = consumer
        self._assignor = assignor
        self._noted: deque[tuple[bool, TopicPartition]] = deque()  # whether it came, and which

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Keep them still, at a place from which nothing will be read."""
        for place in assigned:
            self._consumer.seek(place, 0)
            self._consumer.pause(place)
        self._noted.extend((True, place) for place in assigned)

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """In order: somebody else will get them when we have let go."""
        self._noted.extend((False, place) for place in revoked)

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        """Thrown out: somebody else may have them already."""
        self._assignor.forget()
        self._noted.extend((False, place) for place in lost)

    def take(self) -> Iterator[tuple[bool, TopicPartition]]:
        """What was noted since the last time, in order."""
        while self._noted:
            yield self._noted.popleft()
