"""
A thread for each receiver: waits for changes, sends what is due, backs off when that fails.

A thread touches the table and its own receiver, nothing else. So a receiver that hangs delays
neither the others nor the loop that reads the topic.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from streamer.core.alerts.rules import RuleConfig
from streamer.notify.alertmanager import PATH, AlertmanagerMember
from streamer.notify.connection import Answer, Connection, Outcome
from streamer.notify.gate import Gate
from streamer.notify.settings import NotifyConfig
from streamer.notify.table import AlertTable, HeldAlert
from streamer.notify.webhook import Webhook
from streamer.ops.backoff import Backoff

WAIT_MIN_S = 0.05
RETRY_S = 1.0  # delay of the first retry, doubled up to `notify.retry_max`
RETRY_AFTER_MAX_S = 600.0  # limit of a delay that a receiver asks for
LEAVE_S = 2.0  # for a request that is under way when the process ends


class Receiver(Protocol):
    """What is due for a receiver, and how it is sent: an Alertmanager's member or a webhook."""

    connection: Connection

    def due(self, table: AlertTable, now: float) -> list[HeldAlert]: ...  # noqa: D102
    def next_at(self, now: float) -> float: ...  # noqa: D102
    def send(self, found: Sequence[HeldAlert], now: float) -> Iterator[tuple[Answer, int]]: ...  # noqa: D102


class Observer(Protocol):
    """Receives events, in the thread of the receiver."""

    def failed(self, receiver: str, answer: Answer, pause_s: float) -> None:
        """A request failed; the next attempt is *pause_s* away."""

    def recovered(self, receiver: str) -> None:
        """The first request after failures was answered."""

    def rejected(self, receiver: str, answer: Answer) -> None:
        """The receiver will not take an alert; it is not sent again until it changes."""


class Clock(NamedTuple):
    """Real time, and a time that only grows."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


class Sender:
    """
    The thread of one receiver.

    *counts* has three keys a receiver, which are there from the start: no other thread's view of it
    changes its size. `queue` and `waits_since` may be read by any thread.
    """

    def __init__(  # noqa: PLR0913 - a receiver, and what its thread needs
        self,
        name: str,
        receiver: Receiver,
        table: AlertTable,
        observer: Observer,
        counts: Counter[str],
        *,
        config: NotifyConfig,
        clock: Clock = Clock(),  # noqa: B008 - it is frozen
    ) -> None:
        self.name, self.receiver = name, receiver
        self._table, self._observer, self._clock, self._counts = table, observer, clock, counts
        self._backoff = Backoff(min(RETRY_S, config.retry_max), config.retry_max)
        self._attempt_at = float("-inf")  # monotonic; no attempt before
        self._queue_max = config.queue_max
        self._failing = ""  # the kind of failure that was logged
        self._tried = False  # whether a request has been made
        self.queue = 0  # alerts that are due and not sent
        self.waits_since: float | None = None  # monotonic; None: nothing is due
        for kind in ("alerts_sent", "alerts_refused", "deliveries_failed"):
            counts[f"{kind}.{name}"] += 0
        self.error: Exception | None = None  # what ended the thread
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"to {name}", daemon=True)

    @property
    def up(self) -> bool | None:
        """Whether the newest request was answered; None if there was none."""
        return not self._failing if self._tried else None

    def start(self) -> None:
        """Send from now on."""
        self._thread.start()

    def close(self, wait_s: float = LEAVE_S) -> None:
        """Send no more; a request that is under way gets a moment."""
        with self._table.changed:
            self._closing = True
            self._table.changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(wait_s)

    def round(self) -> float:
        """Send what is due, unless the receiver is left alone; returns how long to wait then."""
        left_s = self._attempt_at - self._clock.monotonic()
        now = self._clock.wall()
        found = self.receiver.due(self._table, now)
        self._note(len(found))
        if left_s > 0:
            return left_s
        left = len(found)
        for answer, alerts in self.receiver.send(found, now):
            self._tried = True
            if answer.outcome is Outcome.RETRY:
                return self._failed(answer)
            self._worked()
            left -= alerts
            self._note(left)
            if answer.outcome is Outcome.REFUSED:
                self._counts[f"alerts_refused.{self.name}"] += alerts
                self._observer.rejected(self.name, answer)
            else:
                self._counts[f"alerts_sent.{self.name}"] += alerts
            if self._closing:
                return 0.0
        self._note(0)
        if len(found) >= self._queue_max:  # there may be more
            return 0.0
        now = self._clock.wall()
        return max(0.0, self.receiver.next_at(now) - now)

    def _run(self) -> None:
        try:
            while not self._closing:
                version = self._table.version
                wait_s = self.round()
                with self._table.changed:
                    if not self._closing and self._table.version == version:
                        self._table.changed.wait(max(wait_s, WAIT_MIN_S))
        except Exception as error:  # noqa: BLE001 - a thread that ends must not go unnoticed
            self.error = error
        finally:
            self.receiver.connection.close()

    def _note(self, queue: int) -> None:
        self.queue = queue
        if not queue:
            self.waits_since = None
        elif self.waits_since is None:
            self.waits_since = self._clock.monotonic()

    def _worked(self) -> None:
        self._backoff.reset()
        if self._failing:
            self._failing = ""
            self._observer.recovered(self.name)

    def _failed(self, answer: Answer) -> float:
        self._counts[f"deliveries_failed.{self.name}"] += 1
        pause_s = max(self._backoff.take(), min(answer.retry_after_s or 0.0, RETRY_AFTER_MAX_S))
        self._attempt_at = self._clock.monotonic() + pause_s
        kind = str(answer.status or answer.reason)
        if kind != self._failing:
            self._failing = kind
            self._observer.failed(self.name, answer, pause_s)
        return pause_s


def senders(  # noqa: PLR0913 - the settings, and what all receivers share
    config: NotifyConfig,
    rules: Sequence[RuleConfig],
    table: AlertTable,
    observer: Observer,
    counts: Counter[str],
    *,
    source: str,
) -> list[Sender]:
    """
    A sender for each receiver of *config*; *source* is that of CloudEvents.

    *rules* determine when their alerts are held back, and what is added to them.

    Raises PermanentError if a file of the settings cannot be used.
    """
    found = []
    annotations = {rule.name: rule.annotations for rule in rules}
    for kind in ("alertmanagers", "webhooks"):
        for place, each in enumerate(getattr(config, kind)):
            path = PATH if kind == "alertmanagers" else ""
            connection = Connection(each, path, config.timeout)
            connection.check(f"notify.{kind}.{place}")
            gate = Gate(rules, counts)
            receiver: Receiver = (
                AlertmanagerMember(config, connection, gate, annotations)
                if kind == "alertmanagers"
                else Webhook(config, connection, gate, source)
            )
            found.append(Sender(each.label, receiver, table, observer, counts, config=config))
    return found
