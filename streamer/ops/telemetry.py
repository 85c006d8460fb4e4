"""
Aggregates the counts of turns into log lines.

The core counts and does not log; a turn is too short for a line of its own. So counts are added
up here, and logged once every `telemetry.interval`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from streamer.config.types import Duration, Settings

COUNTS = {  # name: meaning; logged in this order, other names follow
    "turns": "rounds of the loop in which anything was done",
    "records": "records read",
    "readings": "readings found in them",
    "forecasts": "forecasts published",
    "rejects": "records, or elements of them, that are no reading",
}
LEVELS = {  # name: meaning, as of the newest turn
    "flows": "flows that have a row",
    "partitions": "partitions that we hold",
    "lag": "records that no turn has taken yet: not read, or read and waiting",
    "coverage": "share of what came that was in the 90 % bands, over the last scored periods",
    "error": "of the medians, as a share of each flow's usual rate, likewise",
    "skill": "by how much the error is below the best baseline's, in compressed space, likewise",
}


class TelemetryConfig(Settings, frozen=True, kw_only=True):
    """The interval of telemetry lines."""

    interval: Duration = Duration(60)


class Lines(Protocol):
    """Destination of log lines: a structlog logger, or a list in a test."""

    def info(self, event: str, **fields: Any) -> Any: ...  # noqa: ANN401, D102 - the signature of structlog


class Telemetry:
    """Adds up the counts of turns; logs them at intervals."""

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
        """Add one turn: its *counts* are added up, its *levels* replace the previous ones."""
        self.levels.update(levels)
        self.busy_s += took_s
        if any(counts.values()):
            self.totals.update(counts)
            self.totals["turns"] += 1

    def count(self, name: str, number: int = 1) -> None:
        """So many more of what happens outside of turns."""
        self.totals[name] += number

    def tick(self) -> None:
        """Log a line if it is time; called once per iteration, with or without records."""
        if self.monotonic() - self.since_s >= self.config.interval:
            self.flush()

    def flush(self) -> None:
        """Log all counts since the last line; nothing if all are zero."""
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
            fields["busy"] = round(self.busy_s / took_s, 3)  # the share of time spent in turns
        return fields
