"""The trainer as a process: its lines and its bounds."""

from __future__ import annotations

import faulthandler
import os
import resource
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger

    from streamer.config.schema import Config
    from streamer.log import LogError
    from streamer.training.outcome import Outcome

PROGRESS_S = 10.0  # between lines on how far it has read, while it catches up


def learn(
    config: Config, lines: BoundLogger, stop: threading.Event, tell: Callable[[str], None]
) -> None:
    """Learn until *stop* is set; raises PermanentError where waiting changes nothing."""
    bound(config)
    import torch

    from streamer.daemon.factories import wire_trainer

    torch.set_num_threads(config.trainer.threads)
    parent = os.getppid()
    watch = Watch(lines, float(config.trainer.hang_timeout), tell)
    trainer = wire_trainer(config, watch, pause=lambda seconds: watch.pause(seconds, stop))
    trainer.run(lambda: stop.is_set() or os.getppid() != parent)


def bound(config: Config) -> None:
    """Let others go first, and let a memory that grows without end be the end of us alone."""
    os.nice(config.trainer.nice)
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = config.trainer.memory_bytes_max
    if most == resource.RLIM_INFINITY or wanted < most:
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, most))


class Watch:
    """Tells what a trainer does in log lines, and ends it where it no longer does anything."""

    def __init__(self, lines: BoundLogger, hang_max_s: float, tell: Callable[[str], None]) -> None:
        self._lines = lines
        self._hang_max_s = hang_max_s
        self._tell = tell  # the service that watches us
        self._refusal: str | None = None
        self._records = 0
        self._told_at = self._alive_at = time.monotonic()
        self.alive()

    def alive(self) -> None:
        """It has not come to a halt: the end of a trainer that hangs is put off once more."""
        self._tell("alive")
        faulthandler.dump_traceback_later(self._hang_max_s, exit=True)

    def pause(self, seconds: float, stop: threading.Event) -> None:
        """Wait for the log, but not for somebody who wants us gone."""
        self.alive()
        stop.wait(seconds)

    def entered(self, phase: str, **fields: object) -> None:
        """It waits for its turn, or it learns."""
        self._refusal = None
        self._tell("ready")
        self._lines.info(f"trainer.{phase}", **fields)

    def read(self, records: int, event_time: float, flows: int) -> None:
        """So many more records were read."""
        self._records += records
        now = time.monotonic()
        if now - self._told_at >= PROGRESS_S:
            rate = self._records / (now - self._told_at)
            self._lines.info(
                "trainer.progress",
                records=self._records,
                records_per_s=round(rate),
                event_time=event_time,
                flows=flows,
            )
            self._records, self._told_at = 0, now

    def concluded(self, outcome: Outcome) -> None:
        """A contest was held, or a generation taken back."""
        import msgspec

        fields = msgspec.to_builtins(outcome.told)
        if outcome.weights is not None:
            event = "challenger.promoted"
        else:
            event = "generation.rolled_back" if outcome.serving else "challenger.rejected"
        self._lines.info(event, **{name: told for name, told in fields.items() if name != "schema"})

    def odd(self, why: str) -> None:
        """The models topic holds something that nobody can serve with."""
        self._lines.warning("generation.rejected", reason=why)

    def refused(self, error: LogError, pause_s: float) -> None:
        """The log refused; a refusal of the same kind again is not worth a line."""
        if self._refusal != str(error):
            self._refusal = str(error)
            self._lines.warning(
                "log.failed", kind=error.code, reason=str(error), retry_in_s=pause_s
            )
