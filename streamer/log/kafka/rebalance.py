"""
Notes assigned and revoked partitions in the client's callbacks, for the next poll to process.

The module works around defects of the client (3.0.12), each of which would leave records unread
or read twice:

Assigned partitions would be read from a position that the client chooses. They stay paused
until we seek.

A member that was removed from the group would claim its old partitions when it rejoins.

A group leader whose metadata lacks a topic would never assign the topic's partitions.

A join that completes between two polls is dropped, so members with long turns may rejoin
forever, or one of them may miss the rebalance.

In cooperative rebalancing a moving partition stays unassigned until its owner revokes it and
rejoins. If the owner restarts in between under the same group.instance.id, no second rebalance
happens; we trigger one. The broker also starts no rebalance if a member other than the leader
rejoins with unchanged metadata.

A member that restarts within its session gets the assignment that it had, without a rebalance. If
it was the leader, the client compares no metadata from then on, so partitions that were added
meanwhile would never be assigned. Each member looks once after its first join whether the members
have all partitions.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition, errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.base import MemberState

from streamer.log.kafka.untyped import Untyped

UNACKNOWLEDGED_MAX_S = 5.0  # a topic missing from the metadata for this long counts as deleted
LET_GO_MAX_S = 10.0  # a partition withheld for longer counts as forgotten
FIRST_JOIN_S = 5.0  # after the first join, until a member looks whether all are assigned
IDLE_MAX_S = 600.0  # the longest time between two rebalance requests of an idle member
RECALL_S = 0.02  # longer than one poll of the client's event loop, and short enough to be unnoticed


class Assignor(CooperativeStickyAssignor):  # type: ignore[misc]  # the client ships no types
    """The client's cooperative sticky assignor, which also detects incomplete metadata."""

    def __init__(self) -> None:
        super().__init__()
        self._incomplete_since_s: float | None = None
        self._withheld_since_s: float | None = None  # since when moving partitions are unassigned
        self._asked = 0
        self.has_assigned = False  # whether it has assigned all partitions as leader

    def metadata(self, topics: Untyped) -> Untyped:
        """Return our group metadata; the broker rebalances only if it has changed."""
        metadata = super().metadata(topics)
        metadata.user_data = b"%d" % self._asked if self._asked else b""
        return metadata

    def ask(self) -> None:
        """Change our metadata for the next join; the broker answers an unchanged one from cache."""
        self._asked += 1

    def assign(self, cluster: Untyped, members: Untyped) -> Untyped:
        """Raise StaleMetadata while a topic is missing; the client then refreshes its metadata."""
        self._withheld_since_s = None
        topics = {topic for member in members for topic in member.metadata.topics}
        if all(cluster.partitions_for_topic(topic) for topic in topics):
            self._incomplete_since_s = None
        else:
            self._incomplete_since_s = self._incomplete_since_s or time.monotonic()
            if time.monotonic() - self._incomplete_since_s < UNACKNOWLEDGED_MAX_S:
                raise errors.StaleMetadata
        shared = super().assign(cluster, members)
        self.has_assigned = True
        given = sum(len(each.partitions()) for each in shared.values())
        if given < sum(len(cluster.partitions_for_topic(topic) or ()) for topic in topics):
            self._withheld_since_s = time.monotonic()
        return shared

    def overdue(self) -> bool:
        """Return whether partitions that we withheld as leader are unassigned for too long."""
        since_s = self._withheld_since_s
        if since_s is None or time.monotonic() - since_s < LET_GO_MAX_S:
            return False
        self._withheld_since_s = time.monotonic()
        return True

    def forget(self) -> None:
        """Claim no partition at the next join."""
        self.member_assignment = None


class RebalanceListener(ConsumerRebalanceListener):  # type: ignore[misc]  # the client ships no types
    """Notes which partitions are assigned and revoked; called from the client's own thread."""

    def __init__(self, consumer: Untyped, assignor: Assignor) -> None:
        self._consumer = consumer
        self._assignor = assignor
        # (whether it was assigned, partition)
        self._noted: deque[tuple[bool, TopicPartition]] = deque()

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Pause them, at a position from which nothing is read."""
        for place in assigned:
            self._consumer.seek(place, 0)
            self._consumer.pause(place)
        self._noted.extend((True, place) for place in assigned)

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Note the orderly revocation: another member is assigned them after our next join."""
        self._noted.extend((False, place) for place in revoked)

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        """Note the loss: we left the group, and another member may already hold them."""
        self._assignor.forget()
        self._noted.extend((False, place) for place in lost)

    def take(self) -> Iterator[tuple[bool, TopicPartition]]:
        """Yield and remove the noted changes, in order."""
        while self._noted:
            yield self._noted.popleft()


class IdleRejoinTimer:
    """Measures how long a member has held nothing; it requests rebalances at growing intervals."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._wait_s = LET_GO_MAX_S

    def overdue(self, *, holds: bool) -> bool:
        """Return whether a rebalance request is due; called only while the group is stable."""
        now_s = time.monotonic()
        if holds:
            self._since_s, self._wait_s = None, LET_GO_MAX_S
        elif self._since_s is None:
            self._since_s = now_s
        elif now_s - self._since_s >= self._wait_s:
            self._since_s, self._wait_s = now_s, min(2 * self._wait_s, IDLE_MAX_S)
            return True
        return False


class FirstJoinTimer:
    """Measures how long the first assignment of a member has stood without a rebalance."""

    def __init__(self) -> None:
        self._since_s = 0.0
        self._generation: int | None = None
        self._is_over = False

    def overdue(self, generation: int, *, has_assigned: bool) -> bool:
        """Return, once, whether to look at the group; called while it is stable."""
        if self._is_over:
            return False
        if self._generation is None:
            self._since_s, self._generation = time.monotonic(), generation
        is_due = time.monotonic() - self._since_s >= FIRST_JOIN_S
        is_new = has_assigned or generation != self._generation
        self._is_over = is_due or is_new
        return is_due and not is_new


def restore_join(consumer: KafkaConsumer) -> None:
    """
    Make the next poll wait for a join in progress.

    A join that completed since the last poll is replayed as if it completed only now.
    """
    coordinator = consumer._coordinator  # noqa: SLF001 - no public API
    if coordinator.state is not MemberState.REBALANCING:
        return
    coordinator.request_rejoin()
    join = coordinator._join_task  # noqa: SLF001 - no public API
    if join is None or not join.succeeded():
        return

    async def recalled() -> Untyped:
        await consumer._net.sleep(RECALL_S)  # noqa: SLF001 - the client's own clock
        return await join

    coordinator._join_task = coordinator._manager.call_soon(recalled)  # noqa: SLF001 - no public API
