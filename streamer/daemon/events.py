"""The events of a forecaster: phases, turns, restored partitions, failures."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from streamer.core.registry.models import RegistryUpdate
from streamer.core.state.loading import Finding
from streamer.core.types import Partition, TurnResult
from streamer.daemon.isolation import TurnFailed
from streamer.log import LogError


class Phase(enum.StrEnum):
    """The phases of a forecaster."""

    STARTING = "starting"  # not yet joined
    RESTORING = "restoring"  # reading saved rows back
    RUNNING = "running"
    RETURNING = "returning"  # after a LogError: drop all rows, and restart
    STOPPED = "stopped"


MOVES: Mapping[Phase, frozenset[Phase]] = {
    Phase.STARTING: frozenset({Phase.RUNNING, Phase.RETURNING, Phase.STOPPED}),
    Phase.RUNNING: frozenset({Phase.RESTORING, Phase.RETURNING, Phase.STOPPED}),
    Phase.RESTORING: frozenset({Phase.RUNNING, Phase.RETURNING, Phase.STOPPED}),
    Phase.RETURNING: frozenset({Phase.STARTING, Phase.STOPPED}),
    Phase.STOPPED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn did, for observers."""

    epoch: TurnResult
    flows: int
    took_s: float
    lag: Mapping[Partition, int]
    missed: int = 0  # records that the log deleted before they were read
    step_s: float = 0.0  # the part of took_s that the engine computed …
    publish_s: float = 0.0  # … and the part in which it was encoded and committed
    newest_ms: Mapping[Partition, int] = field(default_factory=dict)  # timestamp of the last record
    pages_stale: int = 0  # pages that are not yet of the incumbent's generation


@dataclass(frozen=True, slots=True)
class Return:
    """A restored partition."""

    partition: Partition
    flows: int
    replayed: int  # records read again
    unreadable: tuple[str, ...]
    took_s: float
    findings: Mapping[Finding, int] = field(default_factory=dict)  # what was done with saved rows


class Observer(Protocol):
    """Receives events; the forecaster does not depend on what the observer does."""

    def alive(self) -> None:
        """The process is alive: part of a long operation is done, and more follows."""

    def moved(self, phase: Phase) -> None:
        """The forecaster entered *phase*."""

    def turned(self, turn: Turn) -> None:
        """A turn was completed and published."""

    def restored(self, back: Return) -> None:
        """A partition's rows were restored."""

    def unplaced(self, partitions: Collection[Partition], widths: Mapping[str, int]) -> None:
        """Our topics, of these *widths*, are too narrow for input *partitions*."""

    def registry_updated(self, update: RegistryUpdate) -> None:
        """The models topic had new records."""

    def failed(self, failed: TurnFailed) -> None:
        """A turn raised an unexpected exception; it is retried with fewer records."""

    def refused(self, error: LogError, pause_s: float) -> None:
        """A LogError occurred; a retry follows after *pause_s*, unless the error is permanent."""
