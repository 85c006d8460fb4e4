"""
Scores forecasts from the forecasts topic alone, as any consumer of it could.

Each forecast contains the rate of the step just closed, so it is also the truth for earlier
forecasts. The median is compared with two baselines: the last value, and exponential smoothing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

import msgspec

from streamer.core.types import Record
from streamer.demo.live_alerts import AlertTally

SMOOTHING = 0.5  # the weight of the newest value
KEPT = 400  # closed steps of each flow that can be drawn
NAMES = ("streamer", "last value", "smoothing")


class ForecastRecord(msgspec.Struct):
    """The fields of a forecast record that are used."""

    flow: str
    made_at: int
    step_s: int
    rate: float | None
    unit: str
    served_by: str
    q05: list[float]
    q25: list[float]
    q50: list[float]
    q75: list[float]
    q95: list[float]


class PendingForecast:
    """A forecast of one step, and the baselines' forecasts from the same time."""

    __slots__ = ("high", "last", "low", "median", "smooth")

    def __init__(self, forecast: ForecastRecord, horizon: int, trace: Trace) -> None:
        place = horizon - 1
        self.low, self.median, self.high = (
            forecast.q05[place],
            forecast.q50[place],
            forecast.q95[place],
        )
        self.last, self.smooth = trace.last, trace.smooth


class Score:
    """Sums of absolute errors at one horizon."""

    __slots__ = ("held", "steps", "sums")

    def __init__(self) -> None:
        self.steps = 0
        self.held = 0  # rates within the outer band
        self.sums = [0.0] * len(NAMES)

    def settle(self, pending: PendingForecast, rate: float) -> None:
        """Add the errors of *pending*, given the actual *rate*."""
        self.steps += 1
        self.held += pending.low <= rate <= pending.high
        sums = self.sums
        sums[0] += abs(rate - pending.median)
        sums[1] += abs(rate - pending.last)
        sums[2] += abs(rate - pending.smooth)


class Trace:
    """One flow: its rates, its forecasts, and their scores."""

    def __init__(self, flow: str, horizons: tuple[int, ...]) -> None:
        self.flow = flow
        self.forecast: ForecastRecord | None = None
        self.rates: deque[float] = deque(maxlen=KEPT)  # NaN for a missing step
        self.surprises: deque[bool] = deque(maxlen=KEPT)  # whether the rate was outside its band
        self.last = math.nan
        self.smooth = math.nan
        # keyed by the step's end and the horizon
        self.pending: dict[tuple[int, int], PendingForecast] = {}
        self.scores = {horizon: Score() for horizon in horizons}
        self.recent = 0  # steps since the rate was last outside its band

    def take(self, forecast: ForecastRecord) -> PendingForecast | None:
        """Score forecasts of the step just closed; return the newest if the rate left its band."""
        rate = math.nan if forecast.rate is None else forecast.rate
        surprised = None
        for horizon, score in self.scores.items():
            pending = self.pending.pop((forecast.made_at, horizon), None)
            if pending is None or math.isnan(rate) or math.isnan(pending.last):
                continue
            score.settle(pending, rate)
            if horizon == 1 and not pending.low <= rate <= pending.high:
                surprised = pending
        self.rates.append(rate)
        self.surprises.append(surprised is not None)
        if not math.isnan(rate):
            self.last = rate
            before = rate if math.isnan(self.smooth) else self.smooth
            self.smooth = SMOOTHING * rate + (1 - SMOOTHING) * before
        for horizon in self.scores:
            key = forecast.made_at + horizon * forecast.step_s, horizon
            self.pending[key] = PendingForecast(forecast, horizon, self)
        self.forecast = forecast
        return surprised


class Surprise(msgspec.Struct, frozen=True):
    """A rate far outside its forecast band."""

    flow: str
    made_at: int
    rate: float
    low: float
    high: float
    unit: str


class Tally:
    """All flows of a forecasts topic."""

    def __init__(self, horizons: tuple[int, ...]) -> None:
        self.horizons = horizons
        self.traces: dict[str, Trace] = {}
        self.forecasts = 0
        self.first_at = 0  # the end of the oldest step in a forecast
        self.made_at = 0  # the time of the newest forecast
        self.surprises: deque[Surprise] = deque(maxlen=20)
        self.alerts = AlertTally()
        self._decode = msgspec.json.Decoder(ForecastRecord).decode_lines

    def read(self, records: Iterable[Record]) -> None:
        """Process *records* of the forecasts topic."""
        for record in records:
            for forecast in self._decode(record.value or b""):
                self.take(forecast)

    def take(self, forecast: ForecastRecord) -> None:
        """Process one forecast."""
        trace = self.traces.get(forecast.flow)
        if trace is None:
            trace = self.traces[forecast.flow] = Trace(forecast.flow, self.horizons)
        self.forecasts += 1
        self.first_at = self.first_at or forecast.made_at
        self.made_at = max(self.made_at, forecast.made_at)
        pending = trace.take(forecast)
        if pending is not None and forecast.rate is not None:
            self._surprise(forecast, pending, forecast.rate)

    def error(self, horizon: int, name: str) -> float | None:
        """
        Return the error of *name* over that of the last value: the geometric mean over flows.

        So a small flow counts as much as a large one. None without scored forecasts.
        """
        place = NAMES.index(name)
        logs = [
            math.log(score.sums[place] / score.sums[1])
            for trace in self.traces.values()
            if (score := trace.scores[horizon]).sums[1] > 0 and score.sums[place] > 0
        ]
        return math.exp(sum(logs) / len(logs)) if logs else None

    def coverage(self, horizon: int) -> float | None:
        """Return the share of rates within the outer band; None without scored forecasts."""
        scores = [trace.scores[horizon] for trace in self.traces.values()]
        steps = sum(score.steps for score in scores)
        return sum(score.held for score in scores) / steps if steps else None

    def _surprise(self, forecast: ForecastRecord, pending: PendingForecast, rate: float) -> None:
        """Note a surprise if the rate is far outside the band, as bursts are."""
        width = pending.high - pending.low
        if rate > pending.high + 2 * width or rate < pending.low - 2 * width:
            low, high = pending.low, pending.high
            self.surprises.append(
                Surprise(forecast.flow, forecast.made_at, rate, low, high, forecast.unit)
            )
