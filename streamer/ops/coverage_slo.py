"""
Coverage as a service level objective: whether the 90 % band keeps its promised coverage.

The scores that our turns published are added up over the last periods of event time. An
instance evaluates only its own forecasts; for the group, add up the scores topic.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Any, Protocol

import msgspec

from streamer.config.types import Settings
from streamer.core.types import Score

Sums = dict[str, float]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]

# hysteresis: share of the way from a bound to the middle, inside of which coverage is back
RETURN = 0.25


class ObjectiveConfig(Settings, frozen=True, kw_only=True):
    """The share of rates that must be within the 90 % bands, over all flows and horizons."""

    coverage_min: Share = 0.88
    coverage_max: Share = 0.92
    # number of latest periods that are added up
    periods: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 24
    # scored in these periods, before the objective is evaluated
    forecasts_min: Annotated[int, msgspec.Meta(ge=1, le=10**12)] = 10_000


class Lines(Protocol):
    """Destination of events: a structlog logger, or a list in a test."""

    def info(self, event: str, **fields: Any) -> Any: ...  # noqa: ANN401, D102 - the signature of structlog

    def warning(self, event: str, **fields: Any) -> Any: ...  # noqa: ANN401, D102 - the signature of structlog


class CoverageSLO:
    """Adds up scores, and reports when coverage leaves its bounds and when it returns."""

    def __init__(self, config: ObjectiveConfig, lines: Lines) -> None:
        self.config = config
        self.lines = lines
        self.missed = False  # whether the objective is
        self.levels: dict[str, float] = {}  # over the last periods; see `telemetry.LEVELS`
        self.by_horizon: dict[int, dict[str, float]] = {}  # likewise, by steps ahead
        self._periods: dict[int, dict[int, Sums]] = {}  # by their end, then by horizon

    def observe(self, scores: Sequence[Score]) -> None:
        """Process a turn's scores; without scores nothing changes."""
        every = [score for score in scores if score.of == "all"]
        if not every:
            return
        for score in every:
            period = self._periods.setdefault(score.ends_at, {})
            sums = period.setdefault(score.horizon, defaultdict(float))
            for name in ("forecasts", "covered", "error", "missed"):
                sums[name] += getattr(score, name)
            for name, missed in score.missed_by.items():
                sums[f"by_{name}"] += missed
        for ends_at in sorted(self._periods)[: -self.config.periods]:
            del self._periods[ends_at]
        total: Sums = defaultdict(float)
        apart: dict[int, Sums] = {}
        for period in self._periods.values():
            for horizon, sums in period.items():
                of_it = apart.setdefault(horizon, defaultdict(float))
                for name, value in sums.items():
                    total[name] += value
                    of_it[name] += value
        self.levels = levels(total)
        self.by_horizon = {horizon: levels(sums) for horizon, sums in sorted(apart.items())}
        if total["forecasts"] >= self.config.forecasts_min:
            self._judge(total["covered"] / total["forecasts"], int(total["forecasts"]))

    def _judge(self, coverage: float, forecasts: int) -> None:
        low, high = self.config.coverage_min, self.config.coverage_max
        inside = RETURN * (high - low) / 2 if self.missed else 0.0
        missed = not low + inside <= coverage <= high - inside
        if missed != self.missed:
            self.missed = missed
            log_event = self.lines.warning if missed else self.lines.info
            log_event(
                "coverage.out_of_range" if missed else "coverage.in_range",
                coverage=round(coverage, 4),
                coverage_min=low,
                coverage_max=high,
                forecasts=forecasts,
                until=max(self._periods),
            )


def levels(sums: Sums) -> dict[str, float]:
    """Return coverage, relative error, and skill against the best baseline."""
    figures = {
        "coverage": sums["covered"] / sums["forecasts"],
        "error": sums["error"] / sums["forecasts"],
    }
    naive = min((missed for name, missed in sums.items() if name.startswith("by_")), default=0.0)
    if naive > 0:
        figures["skill"] = 1 - sums["missed"] / naive
    return {name: round(value, 4) for name, value in figures.items()}
