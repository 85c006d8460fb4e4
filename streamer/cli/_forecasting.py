"""Runs a forecaster, and reports what it does: in log lines, metrics and to systemd."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from streamer.cli._log_errors import PING_S, LogErrors, pausing
from streamer.core.types import Reason

if TYPE_CHECKING:
    from pathlib import Path

    from structlog.stdlib import BoundLogger

    from streamer.cli._service import ForecasterMetrics, Service
    from streamer.config.schema import Config
    from streamer.core.registry.models import Refusal, RegistryUpdate
    from streamer.core.types import Partition, Reject
    from streamer.daemon.events import Phase, Return, Turn
    from streamer.daemon.isolation import TurnFailed
    from streamer.log import LogError
    from streamer.ops.coverage_slo import CoverageSLO
    from streamer.ops.supervised import SupervisedProcess
    from streamer.ops.systemd import Systemd
    from streamer.ops.telemetry import Telemetry

HINTS = {  # of each kind of notice: what the operator may do
    "state_failed": "its state could not be computed for other weights; the flow starts again",
    "two_sources": "readings of two counters alternate under one name; give each its own name",
}
NEW_OBJECTS_MAX = 50_000  # before the collector looks for cycles: a turn makes many, and no cycles
WHYS_MAX = 5  # reasons that one line gives


def forecast(config: Config, watch: Watch, stop: threading.Event) -> None:
    """Make forecasts until *stop* is set; raises PermanentError if a retry cannot help."""
    import torch

    from streamer.daemon.factories import wire_forecaster

    def stopping() -> bool:
        """Whether the turn just finished was the last one."""
        if stop.is_set():
            watch.systemd.stopping()
        return stop.is_set()

    torch.set_num_threads(config.threads)
    forecaster = wire_forecaster(
        config, watch, clock=time.monotonic, pause=pausing(watch.alive, stop)
    )
    gc.freeze()  # libraries stay: the collector need not visit them each time
    gc.set_threshold(NEW_OBJECTS_MAX)
    watch.telemetry.flush()  # its rates should not include the time of loading
    forecaster.run(stopping)


class Watch:
    """Reports what a forecaster does: in log lines, and to systemd."""

    def __init__(
        self,
        lines: BoundLogger,
        telemetry: Telemetry,
        objective: CoverageSLO,
        systemd: Systemd,
        path: Path | None,
        beside: Mapping[str, SupervisedProcess],
    ) -> None:
        self.lines = lines
        self.telemetry = telemetry
        self.objective = objective
        self.systemd = systemd
        self.beside = beside  # the processes that this one keeps alive, by their roles
        self.spread_logged = False
        self.log_errors = LogErrors(lines, path)
        self.refusals: set[Refusal] = set()  # of generations, that were logged
        self.noticed: set[str] = set()  # kinds of notices about flows that were logged
        self.failures: set[tuple[str, str]] = set()  # kinds of failed records that were logged
        self.service: Service | None = None
        self.metrics: ForecasterMetrics | None = None

    def serve(self, service: Service, metrics: ForecasterMetrics) -> None:
        """Report to *service* and *metrics* too."""
        self.service, self.metrics = service, metrics

    def look_beside(self) -> None:
        """Start the child processes that do not run; the end of one is logged."""
        for role, process in self.beside.items():
            ended = process.tick()
            if ended is not None:
                self.lines.warning(
                    f"{role}.exited",
                    code=ended.code,
                    seconds=round(ended.lived_s, 1),
                    retry_in_s=ended.retry_in_s,
                )

    def alive(self) -> None:
        """The process is alive, without a finished turn: a long start is not yet ready."""
        self.look_beside()
        if self.service is not None:
            self.service.health.moved()
        self.systemd.alive()
        self.systemd.extend(30 * PING_S)

    def moved(self, phase: Phase) -> None:
        """The forecaster entered *phase*."""
        self.lines.debug("phase.changed", phase=phase.value)
        if self.service is not None and phase.value != "running":
            self.service.health.waiting(phase.value)
        if self.metrics is not None:
            self.metrics.moved(phase)
        self.systemd.status(phase.value)

    def turned(self, turn: Turn) -> None:
        """A turn was finished, with records or without."""
        self.look_beside()
        if self.service is not None:
            self.service.health.moved()
            self.service.health.ready()
        self.systemd.ready()
        self.systemd.alive()
        self.log_errors.ended()
        for each in turn.epoch.taken_up:
            fields = {name: getattr(each, name) for name in each.__dataclass_fields__}
            self.lines.info("generation.rollout_done", **{n: sized(v) for n, v in fields.items()})
        if turn.epoch.spread and not self.spread_logged:
            self.spread_logged = True
            self.lines.warning(
                "flows.in_two_partitions",
                flow=turn.epoch.spread[0],
                flows=len(turn.epoch.spread),
                hint="a flow's readings must lie in one partition, or each forecasts a part of it:"
                " set the record's key to the flow, or input.rekeyed for a rekeyer to do it",
            )
        self.noticed_in(turn)
        levels = {"flows": turn.flows, "partitions": len(turn.lag), "lag": sum(turn.lag.values())}
        self.objective.observe(turn.epoch.scores)
        counts = dict(turn.epoch.counts)
        if turn.missed:
            counts["records_lost"] = turn.missed
        self.telemetry.observe(counts, levels | self.objective.levels, turn.took_s)
        if self.metrics is not None:
            self.metrics.turned(turn)
        self.telemetry.tick()

    def noticed_in(self, turn: Turn) -> None:
        """What the turn found in records and flows: a line for the first of each kind."""
        for reject in turn.epoch.rejects:
            if reject.reason is Reason.FAILED:
                self.rejected(reject)
        for notice in turn.epoch.notices:
            self.telemetry.count(f"flows_{notice.kind}")
            if notice.kind not in self.noticed:
                self.noticed.add(notice.kind)
                self.lines.warning(f"flow.{notice.kind}", flow=notice.flow, hint=HINTS[notice.kind])

    def restored(self, back: Return) -> None:
        """A partition's rows were restored."""
        self.alive()
        if back.replayed:
            self.telemetry.count("records_replayed", back.replayed)
        if self.metrics is not None:
            self.metrics.restored(back)
        self.lines.info(
            "partition.restored",
            topic=back.partition.topic,
            partition=back.partition.number,
            flows=back.flows,
            replayed=back.replayed,
            seconds=round(back.took_s, 3),
        )
        if back.unreadable:
            self.telemetry.count("pages_unreadable", len(back.unreadable))
            self.lines.warning(
                "pages.unreadable",
                topic=back.partition.topic,
                partition=back.partition.number,
                pages=len(back.unreadable),
                reasons=list(back.unreadable[:WHYS_MAX]),
            )
        for finding, rows in back.findings.items():
            self.telemetry.count(f"rows_{finding.effect}", rows)
            self.lines.warning(
                f"state.{finding.effect}",
                topic=back.partition.topic,
                partition=back.partition.number,
                rows=rows,
                reason=finding.why,
            )

    def unplaced(self, partitions: Collection[Partition], widths: Mapping[str, int]) -> None:
        """Partitions of the input wait until our own topics are as wide."""
        self.telemetry.count("partitions_unplaced", len(partitions))
        self.log_errors.unplaced(partitions, widths)

    def registry_updated(self, update: RegistryUpdate) -> None:
        """The models topic had new records; each unusable one is logged once."""
        if update.promoted is not None:
            incumbent = update.promoted
            self.lines.info(
                "generation.promoted",
                generation=incumbent.generation,
                previous=incumbent.previous,
                reason=incumbent.reason,
            )
        for refusal in update.refusals:
            self.telemetry.count("generations_refused")
            if refusal not in self.refusals:
                self.refusals.add(refusal)
                self.lines.warning(
                    "generation.rejected",
                    generation=refusal.generation,
                    reason=refusal.flaw.value,
                    detail=refusal.detail,
                )

    def failed(self, failed: TurnFailed) -> None:
        """A turn raised; one line for each kind of exception, with its traceback the first time."""
        self.telemetry.count("turns_failed")
        if not failed.has_records:
            kind = type(failed.error).__name__, "restore"
            if kind not in self.failures:
                self.failures.add(kind)
                self.lines.warning(
                    "turn.failed", error=str(failed), action="restore", exc_info=failed.error
                )
            return
        if failed.failure is None or failed.record is None:
            self.lines.debug("turn.failed", error=str(failed), action="retry with fewer records")
            return
        self.telemetry.count(f"records_failed.{failed.failure.action}")
        kind = failed.failure.error, failed.failure.action.value
        if kind in self.failures:
            return
        self.failures.add(kind)
        self.lines.warning(
            "record.failed",
            error=str(failed),
            action=failed.failure.action.value,
            topic=failed.record.partition.topic,
            partition=failed.record.partition.number,
            offset=failed.record.offset,
            exc_info=failed.error,
        )

    def rejected(self, reject: Reject) -> None:
        """A record raised an exception and was rejected; one line for each kind of exception."""
        kind = reject.detail.partition(":")[0], "reject"
        if kind not in self.failures:
            self.failures.add(kind)
            record = reject.record
            self.lines.warning(
                "record.failed",
                error=reject.detail,
                action="reject",
                topic=record.partition.topic,
                partition=record.partition.number,
                offset=record.offset,
            )

    def refused(self, error: LogError, pause_s: float) -> None:
        """A LogError occurred; one line for each kind in a row."""
        self.telemetry.count(f"log_errors.{error.code}")
        if self.log_errors.failed(error, pause_s):
            self.systemd.status(str(error))


def sized(value: float | None) -> float | None:
    """A float with five decimals; other values as they are."""
    return round(value, 5) if isinstance(value, float) else value
