"""The notifier as a process: its lines, its metrics and its health."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from streamer.cli._log_errors import LogErrors, pausing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from structlog.stdlib import BoundLogger

    from streamer.config.schema import Config
    from streamer.core.types import Partition
    from streamer.daemon.notifier import Status
    from streamer.log import LogError
    from streamer.notify.connection import Answer
    from streamer.notify.sender import Sender
    from streamer.ops.health import Health
    from streamer.ops.metrics import Metrics


def deliver(
    config: Config,
    path: Path | None,
    lines: BoundLogger,
    stop: threading.Event,
    notify: Callable[[str], None],
) -> None:
    """Deliver alerts until *stop* is set; raises PermanentError where waiting changes nothing."""
    from streamer.cli._service import Service
    from streamer.daemon.notifier_factory import wire_notifier
    from streamer.ops.supervised import supervisor_ended

    watch = Watch(lines, path, notify)

    def stopping() -> bool:
        """Whether we are to end: on request, or because the forecaster that started us did."""
        return stop.is_set() or supervisor_ended()

    notifier, senders = wire_notifier(
        config, watch, watch, watch.counts, pause=pausing(watch.alive, stop)
    )
    service = Service(config, "notifier", watch.counts, watch.levels, lines)
    watch.health = service.health
    show(service.metrics, senders)
    try:
        notifier.run(stopping)
    finally:
        notify("stopping")
        service.close()


def show(metrics: Metrics, senders: Sequence[Sender]) -> None:
    """Add the state of each receiver to the metrics."""

    def waiting(sender: Sender) -> float:
        since = sender.waits_since
        return 0.0 if since is None else time.monotonic() - since

    metrics.tables["queue"] = lambda: {(each.name,): each.queue for each in senders}
    metrics.tables["waiting"] = lambda: {(each.name,): waiting(each) for each in senders}
    metrics.tables["up"] = lambda: {
        (each.name,): each.up for each in senders if each.up is not None
    }


class Watch:
    """Reports what a notifier and the threads of its receivers do."""

    def __init__(
        self, lines: BoundLogger, path: Path | None, notify: Callable[[str], None]
    ) -> None:
        self._lines, self._notify = lines, notify
        self._log_errors = LogErrors(lines, path)
        # The keys are there: metrics copy the counts in another thread.
        self.counts: Counter[str] = Counter({"records": 0, "unreadable": 0})
        self.levels: dict[str, float] = {}
        self.health: Health | None = None

    def alive(self) -> None:
        """The loop moves."""
        self._notify("alive")
        if self.health is not None:
            self.health.moved()

    def restored(self, partition: Partition, firing: int, unreadable: int) -> None:
        """A partition was assigned."""
        self.counts["unreadable"] += unreadable
        self._lines.info(
            "notifier.restored",
            topic=partition.topic,
            partition=partition.number,
            firing=firing,
        )

    def turned(self, status: Status) -> None:
        """A turn is done."""
        self._notify("ready")
        if self.health is not None:
            self.health.ready()
        self._log_errors.ended()
        self.counts["records"] += status.records
        self.counts["unreadable"] += status.unreadable
        self.levels |= {
            "partitions": status.partitions,
            "lag": status.lag,
            "firing": status.firing,
        }

    def refused(self, error: LogError, pause_s: float) -> None:
        """A LogError occurred; one line for each kind in a row."""
        self.counts[f"log_errors.{error.code}"] += 1
        if self.health is not None:
            self.health.waiting(error.code)
        self._log_errors.failed(error, pause_s)

    def failed(self, receiver: str, answer: Answer, pause_s: float) -> None:
        """A receiver did not take a request; the same failure again is not reported."""
        self._lines.warning(
            "receiver.failed",
            receiver=receiver,
            status=answer.status,
            reason=answer.reason,
            retry_in_s=round(pause_s, 1),
        )

    def recovered(self, receiver: str) -> None:
        """A receiver takes alerts again."""
        self._lines.info("receiver.recovered", receiver=receiver)

    def rejected(self, receiver: str, answer: Answer) -> None:
        """A receiver will not take an alert."""
        self._lines.warning(
            "receiver.rejected", receiver=receiver, status=answer.status, reason=answer.reason
        )
