"""
What turns did, summed up into log lines.

The core counts and never tells; a turn is far too short to be a line of its
own. So counts are added up here, and said once in `telemetry.interval`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from streamer.config.types import Duration, Settings

COUNTS = {  # name: what it counts; they stand in this order, others behind them
    "turns": "rounds of the loop in which anything was done",
    "records": "records read",
    "readings": "readings found in them",
    "forecasts": "forecasts published",
    "rejects": "records, or elements of them, that are no reading",
}
LEVELS = {  # name: what it says of the newest turn
    "flows": "flows that have a row",
    "partitions": "partitions that we hold",
    "lag": "records between what is read and the log's end",
    "coverage": "share of what came that was in the 90 % bands, over the last scored periods",
    "error": "of the medians, as a share of each flow's usual rate, likewise",
    "skill": "by how much the error is below the best baseline's, in compressed space, likewise",
}


class TelemetryConfig(Settings, frozen=True, kw_only=True):
    """How often the log says what was done."""

    interval: Duration = Duration(60)


class Lines(Protocol):
    """Where log lines go: a structlog logger, or a list in a test."""

    def info(self, event: str, **fields: Any) -> Any: ...  # noqa: ANN401, D102 - structlog's own


class Telemetry:
    """Adds up the counts of turns; every now and then they become one line."""

    def __init__(
        self,
        config: TelemetryConfig,
        lines: Lines,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.lines = lines
        self.monotonic = monotonic
        self.totals: Counter[str] = Counter()  # since the process started; metrics show these
        self._logged: Counter[str] = Counter()  # those at the last line
        self.levels: dict[str, float] = {}
        self.busy_s = 0.0
        self.since_s = monotonic()

    @property
    def counts(self) -> Counter[str]:
        """Those since the last line."""
        return self.totals - self._logged

    def observe(
        self, counts: Mapping[str, int], levels: Mapping[str, float], took_s: float = 0.0
    ) -> None:
        """Take in one turn: its *counts* are added up, its *levels* replace those before."""
        self.levels.update(levels)
        self.busy_s += took_s
        if any(counts.values()):
            self.totals.update(counts)
            self.totals["turns"] += 1

    def count(self, name: str, number: int = 1) -> None:
        """So many more of what happens outside of turns."""
        self.totals[name] += number

    def tick(self) -> None:
        """Say what there is to say if it is time; called once a round, records or none."""
        if self.monotonic() - self.since_s >= self.config.interval:
            self.flush()

    def flush(self) -> None:
        """One line about everything since the last one; none where nothing was done."""
        now_s = self.monotonic()
        took_s = now_s - self.since_s
        if self.counts["turns"]:
            self.lines.info("turns.summary", **self.summed(took_s))
        self._logged = self.totals.copy()
        self.busy_s = 0.0
        self.since_s = now_s

    def summed(self, took_s: float) -> dict[str, float]:
        """The fields of that line: the counts that are not zero, rates, levels."""
        since = self.counts
        rejected = (n for name, n in since.items() if name.startswith("rejected."))
        counts = dict.fromkeys(COUNTS, 0) | since | {"rejects": sum(rejected)}
        fields: dict[str, float] = {name: n for name, n in counts.items() if n or name in COUNTS}
        fields |= self.levels
        fields["seconds"] = round(took_s, 1)
        if took_s > 0:
            fields["readings_per_s"] = round(counts["readings"] / took_s)
            fields["busy"] = round(self.busy_s / took_s, 3)  # the share spent in turns
        return fields

    def enter(self, phase: str, **fields: object) -> None:
        """The daemon's life went on to *phase*."""
        self.lines.info("phase.changed", phase=phase, **fields)
