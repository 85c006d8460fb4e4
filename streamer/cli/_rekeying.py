"""The rekeyer as a process: its lines, its metrics and its probes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from streamer.cli._log_errors import LogErrors, pausing
from streamer.config.sources import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from structlog.stdlib import BoundLogger

    from streamer.config.schema import Config
    from streamer.core.types import Partition
    from streamer.daemon.rekeyer import Rekeyed
    from streamer.log import LogError
    from streamer.ops.health import Health
    from streamer.ops.telemetry import Telemetry


def rekey(
    config: Config,
    path: Path | None,
    lines: BoundLogger,
    stop: threading.Event,
    notify: Callable[[str], None],
) -> None:
    """
    Re-key until *stop* is set.

    Raises PermanentError where waiting changes nothing, ConfigError where no topic is named to
    write to.
    """
    topic = config.input.rekeyed
    if topic is None:
        raise ConfigError("input.rekeyed: must name the topic that a rekeyer writes to, is null")
    from streamer.cli._service import Service
    from streamer.daemon.factories import wire_rekeyer
    from streamer.ops.supervised import supervisor_ended
    from streamer.ops.telemetry import Telemetry

    telemetry = Telemetry(config.telemetry, lines)
    watch = Watch(lines, path, telemetry, notify)
    service = Service(config, "rekeyer", telemetry.totals, telemetry.levels, lines)
    watch.health = service.health
    pause = pausing(watch.alive, stop)
    rekeyer = wire_rekeyer(config, topic, watch, clock=time.monotonic, pause=pause)
    try:
        rekeyer.run(lambda: stop.is_set() or supervisor_ended())
    finally:
        service.close()
        telemetry.flush()


class Watch:
    """Reports what a rekeyer does: in log lines, and to systemd."""

    def __init__(
        self,
        lines: BoundLogger,
        path: Path | None,
        telemetry: Telemetry,
        notify: Callable[[str], None],
    ) -> None:
        self._lines, self._telemetry, self._notify = lines, telemetry, notify
        self._log_errors = LogErrors(lines, path)
        self.health: Health | None = None

    def alive(self) -> None:
        """The loop is alive."""
        self._notify("alive")
        if self.health is not None:
            self.health.moved()

    def turned(self, turn: Rekeyed) -> None:
        """A turn was finished, with records or without."""
        self._notify("ready")
        if self.health is not None:
            self.health.ready()
        self._log_errors.ended()
        levels = {"partitions": turn.partitions, "lag": turn.lag, "held": turn.held}
        self._telemetry.observe(turn.counts, levels, turn.took_s)
        self._telemetry.tick()

    def unplaced(self, partitions: Collection[Partition], widths: Mapping[str, int]) -> None:
        """Partitions of the input wait until the topic of rejects is as wide."""
        self._telemetry.count("partitions_unplaced", len(partitions))
        self._log_errors.unplaced(partitions, widths)

    def refused(self, error: LogError, pause_s: float) -> None:
        """A LogError occurred; one line for each kind in a row."""
        self._telemetry.count(f"log_errors.{error.code}")
        if self.health is not None:
            self.health.waiting(error.code)
        self._log_errors.failed(error, pause_s)
