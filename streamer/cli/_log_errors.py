"""What all roles report of a log that is away: one line for each kind of error in a row."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from streamer.log import FINAL, InstanceReplaced, TooLarge, TopicMissing

if TYPE_CHECKING:
    from pathlib import Path

    from structlog.stdlib import BoundLogger

    from streamer.core.types import Partition
    from streamer.log import LogError

PING_S = 1.0  # how often the watchdog is notified while we wait for the log


class LogErrors:
    """Logs the first of equal errors, and the end of them."""

    def __init__(self, lines: BoundLogger, path: Path | None) -> None:
        """*path* is that of the configuration, for the hint."""
        self._lines = lines
        where = f" -c {path}" if path else ""
        self._create = f"streamer topics{where} --create"
        self._current: tuple[str, ...] | None = None  # the error that was logged last

    def failed(self, error: LogError, pause_s: float) -> bool:
        """Log *error*, unless it was the last one too; returns whether it did."""
        missing = error.topics if isinstance(error, TopicMissing) else ()
        current = error.code, *missing
        if current == self._current:
            return False
        self._current = current
        hints: dict[str, object] = {}
        if missing:
            hints["hint"] = self._create
        if isinstance(error, TooLarge):
            hints["raise"] = "kafka.message_bytes_max, and max.message.bytes of the topic"
        if isinstance(error, InstanceReplaced):
            hints["hint"] = "two processes have the same instance name: set instance"
        if not isinstance(error, FINAL):
            hints["retry_in_s"] = pause_s
        self._lines.warning("log.failed", kind=error.code, reason=str(error), **hints)
        return True

    def ended(self) -> None:
        """The log answers; logged once after an error."""
        if self._current is not None:
            self._lines.info("log.recovered")
            self._current = None

    def unplaced(self, partitions: Collection[Partition], widths: Mapping[str, int]) -> None:
        """Input *partitions* wait until topics of these *widths* have as many."""
        self._lines.warning(
            "partitions.unplaced",
            partitions=sorted(f"{p.topic}/{p.number}" for p in partitions),
            too_narrow=sorted(widths),
            widen_with=self._create,
        )


def pausing(alive: Callable[[], None], stop: threading.Event) -> Callable[[float], None]:
    """A wait that ends on a stop request; *alive* is called meanwhile."""

    def pause(seconds: float) -> None:
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0 and not stop.wait(min(left, PING_S)):
            alive()

    return pause
