"""Builds a notifier from the settings, without the network: it starts in a moment."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from streamer.config.schema import Config, open_notifiers
from streamer.daemon.notifier import Notifier, Observer
from streamer.notify.sender import Observer as ReceiverObserver
from streamer.notify.sender import Sender, senders
from streamer.notify.table import AlertTable


def wire_notifier(
    config: Config,
    observer: Observer,
    receivers: ReceiverObserver,
    counts: Counter[str],
    *,
    pause: Callable[[float], None],
) -> tuple[Notifier, list[Sender]]:
    """Build a notifier; raises PermanentError if a receiver's files cannot be used."""
    table = AlertTable(time.time, config.notify.resolved_for, config.notify.queue_max)
    source, rules = f"/streamer/{config.group}", config.alerts.rules
    found = senders(config.notify, rules, table, receivers, counts, source=source)
    notifier = Notifier(
        join=lambda: open_notifiers(config),
        table=table,
        senders=found,
        observer=observer,
        pause=pause,
    )
    return notifier, found
