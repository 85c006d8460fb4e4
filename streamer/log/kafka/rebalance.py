"""
Partitions that come and go: what the client calls back is noted, to be taken up by the next poll.

Some weaknesses of the client (3.0.12) are mended here, each of which would leave
records unread, or read twice. Partitions that have come would be read from wherever
the client thinks best: they are held still until we say from where. A member that
the group has thrown out would claim its old partitions when it joins again. A leader
that hasn't heard of a topic yet would share out nothing of it, for good. And a join
that ends while nobody polls is dropped, so that a group of busy members may join for
ever, or one of them sleep through it. And a partition that is to move is given to
nobody until its owner has let go and joined again: where that one dies in between and
comes back under its name, the broker asks nobody, and the partition would lie idle. Nor
does it ask anybody where a member that is not the leader joins just as it did before.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition, errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.base import MemberState

from streamer.log.kafka.untyped import Untyped

UNACKNOWLEDGED_MAX_S = 5.0  # a topic that nobody has heard of for so long is no more
LET_GO_MAX_S = 10.0  # a partition that is on its way for longer has been forgotten
IDLE_MAX_S = 600.0  # between two questions of a member that has nothing to do
RECALL_S = 0.02  # longer than the client takes to look, and shorter than anyone minds


class Assignor(CooperativeStickyAssignor):  # type: ignore[misc]  # the client ships no types
    """Cooperative and sticky, as the client's own; but it knows when it does not know."""

    def __init__(self) -> None:
        super().__init__()
        self._unheard_since_s: float | None = None
        self._withheld_since_s: float | None = None  # partitions that are on their way
        self._asked = 0

    def metadata(self, topics: Untyped) -> Untyped:
        """What the group is told of us: the broker shares out anew only where that has changed."""
        told = super().metadata(topics)
        told.user_data = b"%d" % self._asked if self._asked else b""
        return told

    def ask(self) -> None:
        """Have the next join look unlike the last, or the broker answers it as it did that one."""
        self._asked += 1

    def assign(self, cluster: Untyped, members: Untyped) -> Untyped:
        """Raise StaleMetadata, upon which the client asks again, while a topic is not heard of."""
        self._withheld_since_s = None
        topics = {topic for member in members for topic in member.metadata.topics}
        if all(cluster.partitions_for_topic(topic) for topic in topics):
            self._unheard_since_s = None
        else:
            self._unheard_since_s = self._unheard_since_s or time.monotonic()
            if time.monotonic() - self._unheard_since_s < UNACKNOWLEDGED_MAX_S:
                raise errors.StaleMetadata
        shared = super().assign(cluster, members)
        given = sum(len(each.partitions()) for each in shared.values())
        if given < sum(len(cluster.partitions_for_topic(topic) or ()) for topic in topics):
            self._withheld_since_s = time.monotonic()
        return shared

    def overdue(self) -> bool:
        """Whether partitions that we withheld, as the leader, have long been nobody's."""
        since_s = self._withheld_since_s
        if since_s is None or time.monotonic() - since_s < LET_GO_MAX_S:
            return False
        self._withheld_since_s = time.monotonic()
        return True

    def forget(self) -> None:
        """Claim nothing at the next join."""
        self.member_assignment = None


class RebalanceListener(ConsumerRebalanceListener):  # type: ignore[misc]  # the client ships no types
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


class IdleRejoinTimer:
    """How long a member has held nothing; it asks for another sharing out, ever more seldom."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._wait_s = LET_GO_MAX_S

    def overdue(self, *, holds: bool) -> bool:
        """Whether it is time to ask; asked while the group is at rest."""
        now_s = time.monotonic()
        if holds:
            self._since_s, self._wait_s = None, LET_GO_MAX_S
        elif self._since_s is None:
            self._since_s = now_s
        elif now_s - self._since_s >= self._wait_s:
            self._since_s, self._wait_s = now_s, min(2 * self._wait_s, IDLE_MAX_S)
            return True
        return False


def restore_join(consumer: KafkaConsumer) -> None:
    """
    Let the next poll wait for a join that is under way.

    One that has ended since the last poll is put before it as if it ended only now.
    """
    coordinator = consumer._coordinator  # noqa: SLF001 - there is no public way to mend it
    if coordinator.state is not MemberState.REBALANCING:
        return
    coordinator.request_rejoin()
    join = coordinator._join_task  # noqa: SLF001 - likewise
    if join is None or not join.succeeded():
        return

    async def recalled() -> Untyped:
        await consumer._net.sleep(RECALL_S)  # noqa: SLF001 - the client's own clock
        return await join

    coordinator._join_task = coordinator._manager.call_soon(recalled)  # noqa: SLF001 - as above
