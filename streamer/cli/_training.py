"""The trainer as a process: its lines and its bounds."""

from __future__ import annotations

import faulthandler
import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from streamer.cli._log_errors import LogErrors, pausing
from streamer.core.wire.contests import Rollback

if TYPE_CHECKING:
    from pathlib import Path

    from structlog.stdlib import BoundLogger

    from streamer.config.schema import Config
    from streamer.core.types import Record
    from streamer.log import LogError
    from streamer.ops.health import Health
    from streamer.training.outcome import Outcome

PROGRESS_S = 10.0  # between lines on how far it has read, while it catches up


def learn(
    config: Config,
    path: Path | None,
    lines: BoundLogger,
    stop: threading.Event,
    notify: Callable[[str], None],
) -> None:
    """Train until *stop* is set; raises PermanentError if a retry cannot help."""
    bound(config)
    import torch

    from streamer.cli._service import Service
    from streamer.daemon.factories import wire_trainer
    from streamer.ops.supervised import supervisor_ended

    torch.set_num_threads(config.trainer.threads)
    watch = Watch(lines, path, float(config.trainer.hang_timeout), notify)
    service = Service(config, "trainer", watch.counts, watch.levels, lines)
    watch.health = service.health
    trainer = wire_trainer(config, watch, pause=pausing(watch.alive, stop))
    try:
        trainer.run(lambda: stop.is_set() or supervisor_ended())
    finally:
        service.close()


def bound(config: Config) -> None:
    """Lower the priority, and limit the memory, so that only this process fails if it leaks."""
    os.nice(config.trainer.nice)
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = config.trainer.memory_bytes_max
    if most == resource.RLIM_INFINITY or wanted < most:
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, most))


class Watch:
    """Logs what a trainer does, and ends the process if the trainer hangs."""

    def __init__(
        self,
        lines: BoundLogger,
        path: Path | None,
        hang_max_s: float,
        notify: Callable[[str], None],
    ) -> None:
        self._lines = lines
        self._hang_max_s = hang_max_s
        self._notify = notify  # the service that watches us
        self._log_errors = LogErrors(lines, path)
        self._failures: set[str] = set()  # kinds of exceptions that were logged
        self._records = 0
        self._reported_at = self._alive_at = time.monotonic()
        self.counts: Counter[str] = Counter()  # since the process started
        self.levels: dict[str, float] = {}
        self.health: Health | None = None
        self.alive()

    def alive(self) -> None:
        """Report progress: postpone the end of a trainer that hangs."""
        self._notify("alive")
        if self.health is not None:
            self.health.moved()
        faulthandler.dump_traceback_later(self._hang_max_s, exit=True)

    def entered(self, phase: str, **fields: object) -> None:
        """Report a phase: waiting, or learning."""
        self._log_errors.ended()
        self._notify("ready")
        if self.health is not None:
            self.health.ready()
        self.levels["active"] = phase != "waiting"
        if "generation" in fields:
            self.levels["generation"] = int(str(fields["generation"]))
        self._lines.info(f"trainer.{phase}", **fields)

    def read(self, records: int, event_time: float, flows: int) -> None:
        """Count *records* more, and log the progress now and then."""
        self._records += records
        self.counts["records"] += records
        self.levels |= {"event_time": event_time, "flows": flows}
        now = time.monotonic()
        if now - self._reported_at >= PROGRESS_S:
            rate = self._records / (now - self._reported_at)
            self._lines.info(
                "trainer.progress",
                records=self._records,
                records_per_s=round(rate),
                event_time=event_time,
                flows=flows,
            )
            self._records, self._reported_at = 0, now

    def concluded(self, outcome: Outcome) -> None:
        """Log a contest or a rollback."""
        import msgspec

        fields = msgspec.to_builtins(outcome.result)
        self._count(outcome)
        if outcome.weights is not None:
            event = "challenger.promoted"
        else:
            event = "generation.rolled_back" if outcome.serving else "challenger.rejected"
        self._lines.info(
            event, **{name: value for name, value in fields.items() if name != "schema"}
        )

    def _count(self, outcome: Outcome) -> None:
        """Count a contest or a rollback."""
        result = outcome.result
        if outcome.serving is not None:
            self.levels["generation"] = outcome.serving.generation
        if isinstance(result, Rollback):
            self.counts["rollbacks"] += 1
            return
        self.counts["finetune_runs"] += 1
        self.levels |= {"finetune_seconds": result.seconds, "gain": result.gain}
        if result.verdict == "promoted":
            self.levels["promoted_at"] = time.time()
        else:
            self.counts[f"finetune_rejected.{result.reason}"] += 1

    def odd(self, why: str) -> None:
        """Log a record of the models topic that cannot be used."""
        self.counts["generations_refused"] += 1
        self._lines.warning("generation.rejected", reason=why)

    def failed(self, error: Exception, record: Record) -> None:
        """A record raised; one line for each kind of exception, with its traceback."""
        self.counts["records_failed"] += 1
        kind = type(error).__name__
        if kind not in self._failures:
            self._failures.add(kind)
            self._lines.warning(
                "record.failed",
                error=f"{kind}: {error}",
                action="skip",
                topic=record.partition.topic,
                partition=record.partition.number,
                offset=record.offset,
                exc_info=error,
            )

    def refused(self, error: LogError, pause_s: float) -> None:
        """A LogError occurred; one line for each kind in a row."""
        self.counts[f"log_errors.{error.code}"] += 1
        if self.health is not None:
            self.health.waiting(error.code)
        self._log_errors.failed(error, pause_s)
