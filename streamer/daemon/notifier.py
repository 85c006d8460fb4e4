"""
The notifier's loop: reads the alerts topic into a table, from which threads send.

Notifiers are a consumer group of their own, so several share the partitions of the topic. With a
partition comes the table of its alerts: its records up to the group's offset, which a compacted
topic keeps for each alert that fires. What follows is news. The committed offset stays before the
first change that a webhook has not been sent, so a restart sends it; to Alertmanager a restart
sends all that fires anyway.

Nothing is published, and no forecaster waits for it: the log lies in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from streamer.core.types import Partition
from streamer.daemon.recovery import run_turns
from streamer.log import Log, LogError
from streamer.notify.sender import Sender
from streamer.notify.table import AlertTable, HeldAlert
from streamer.notify.webhook import Webhook

RECORDS_MAX = 5_000  # of a poll
POLL_S = 0.5
COMMIT_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Status:
    """What a turn left behind."""

    partitions: int
    records: int  # read by the turn
    unreadable: int  # of them
    firing: int
    lag: int


class Observer(Protocol):
    """Receives events; the notifier does not depend on what the observer does."""

    def alive(self) -> None:
        """The loop moves."""

    def restored(self, partition: Partition, firing: int, unreadable: int) -> None:
        """A partition was assigned; *firing* alerts fire in all partitions."""

    def turned(self, status: Status) -> None:
        """A turn is done."""

    def refused(self, error: LogError, pause_s: float) -> None:
        """A LogError occurred; a retry follows after *pause_s*, unless the error is permanent."""


class Notifier:
    """
    Delivers the alerts of a log.

    *join* creates a membership over the alerts topic. *senders* are started by `run`, and closed
    when it ends. *now* and *pause* are real time.
    """

    def __init__(  # noqa: PLR0913 - the parts of a loop, wired in one place
        self,
        *,
        join: Callable[[], Log],
        table: AlertTable,
        senders: Sequence[Sender],
        observer: Observer,
        pause: Callable[[float], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._join, self._table, self._senders = join, table, senders
        self._webhooks = [s.receiver for s in senders if isinstance(s.receiver, Webhook)]
        self._observer, self._pause, self._now = observer, pause, now
        self._log: Log | None = None
        self._committed: dict[Partition, int] = {}
        self._catching_up: set[Partition] = set()  # an earlier process may have read their records
        self._commit_at = 0.0

    def run(self, stopping: Callable[[], bool]) -> None:
        """Run turns until *stopping*; see `run_turns`."""
        for sender in self._senders:
            sender.start()
        try:
            run_turns(self, stopping, self._observer.refused, self._pause)
        finally:
            for sender in self._senders:
                sender.close()

    def start(self) -> None:
        """Join the group; may raise a LogError."""
        self._log = self._join()

    def finish(self) -> None:
        """Commit what was delivered since the last commit."""
        self._commit()

    def turn(self) -> None:
        """Process a rebalance, then the records of one poll."""
        assert self._log is not None
        self._observer.alive()
        delivery = self._log.poll(POLL_S, RECORDS_MAX)
        self._release(delivery.revoked)
        for partition, offset in delivery.assigned.items():
            self._restore(partition, offset)
        unreadable = self._table.take(delivery.records, self._catching_up.__contains__)
        self._catching_up -= {partition for partition, lag in delivery.lag.items() if not lag}
        self._table.prune(self._awaited)
        for sender in self._senders:
            if sender.error is not None:
                raise sender.error
        if self._now() >= self._commit_at:
            self._commit()
        firing = len(self._table.firing())
        lag = sum(delivery.lag.values())
        status = Status(len(self._committed), len(delivery.records), unreadable, firing, lag)
        self._observer.turned(status)

    def forget(self) -> None:
        """Leave the log. The table stays until its partitions are assigned again."""
        self._committed, self._catching_up = {}, set()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _restore(self, partition: Partition, offset: int) -> None:
        assert self._log is not None
        before = [
            record
            for records in self._log.replay(partition, 0, offset)
            for record in records
        ]  # fmt: skip
        unreadable = self._table.restore(partition, before, offset)
        self._committed[partition] = offset
        self._catching_up.add(partition)
        self._observer.restored(partition, len(self._table.firing()), unreadable)

    def _release(self, partitions: frozenset[Partition]) -> None:
        self._table.release(partitions)
        self._catching_up -= partitions
        for partition in partitions:
            self._committed.pop(partition, None)

    def _awaited(self, held: HeldAlert) -> bool:
        return any(webhook.undelivered(held) for webhook in self._webhooks)

    def _commit(self) -> None:
        """Commit offsets that have advanced."""
        assert self._log is not None
        self._commit_at = self._now() + COMMIT_EVERY_S
        advanced = {
            partition: offset
            for partition, offset in self._table.offsets(self._awaited).items()
            if offset > self._committed.get(partition, offset)
        }
        if advanced:
            self._log.publish((), advanced)
            self._committed |= advanced
