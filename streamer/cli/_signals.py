"""Signals that end a command that runs until it is stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set; the second signal has its default effect."""
    stop = threading.Event()

    def end(number: int, _frame: object) -> None:
        signal.signal(number, before[number])
        stop.set()

    signals = (signal.SIGTERM, signal.SIGINT)
    before = {int(number): signal.signal(number, end) for number in signals}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
