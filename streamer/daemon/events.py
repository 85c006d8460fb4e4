"""What a forecaster tells of itself: the phases of its life, its turns, and what came back."""

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
    """Where a forecaster stands in its life."""

    STARTING = "starting"  # there is no log yet
    RESTORING = "restoring"  # rows are being read back
    RUNNING = "running"
    RETURNING = "returning"  # the log refused: forget, and begin again
    STOPPED = "stopped"


MOVES: Mapping[Phase, frozenset[Phase]] = {
    Phase.STARTING: frozenset({Phase.RUNNING, Phase.RETURNING, Phase.STOPPED}),
    Phase.RUNNING: frozenset({Phase.RESTORING, Phase.RETURNING, Phase.STOPPED}),
    Phase.RESTORING: frozenset({Phase.RUNNING, Phase.RETURNING}),
    Phase.RETURNING: frozenset({Phase.STARTING, Phase.STOPPED}),
    Phase.STOPPED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn did, for whoever watches."""

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
    """A partition whose rows were read back."""

    partition: Partition
    flows: int
    replayed: int  # records read again
    unreadable: tuple[str, ...]
    took_s: float
    findings: Mapping[Finding, int] = field(default_factory=dict)  # what became of saved rows


class Observer(Protocol):
    """Who is told what happens; nothing depends on what it does with it."""

    def alive(self) -> None:
        """It has not come to a halt: another piece of a long work is done, and more is to come."""

    def moved(self, phase: Phase) -> None:
        """It is in *phase* now."""

    def turned(self, turn: Turn) -> None:
        """A turn was made and published."""

    def restored(self, back: Return) -> None:
        """A partition's rows were read back."""

    def unplaced(self, partitions: Collection[Partition], widths: Mapping[str, int]) -> None:
        """*partitions* of the input have no place in topics of ours of these *widths*."""

    def heard(self, tidings: RegistryUpdate) -> None:
        """The models topic had something to say."""

    def failed(self, failed: TurnFailed) -> None:
        """A turn raised what nobody expects; it is tried again with fewer records."""

    def refused(self, error: LogError, pause_s: float) -> None:
        """The log refused; it is asked again after *pause_s* unless nothing would change."""
