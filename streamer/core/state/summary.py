"""A readable summary of a row: the flow's own unit, epoch seconds, steps in order."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Rows
from streamer.core.features import baselines, scale
from streamer.core.predict import conformal, ensemble
from streamer.core.predict.forecast import WINDOW, ForecastSpec
from streamer.core.types import Kind

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FlowSummary:
    """The values of a flow's row that are of interest to an operator."""

    kind: str
    unit: str  # of rates
    capacity: float | None  # units per second
    count: int | None  # a counter's newest value
    read_at: float  # the newest reading's time
    made_at: int  # the end of the step that closed last
    steps: int  # since the flow's first reading
    steps_rated: int  # those with a rate since the flow last restarted
    missing_share: float  # recent share of missing steps
    scale: float  # the usual rate
    mean: float
    peak: float
    rates: Doubles  # of the last steps, oldest first; approximate if the scale moved; NaN: missing
    bands: Doubles  # (horizons, quantiles) the latest forecast
    errors: dict[str, list[float]]  # of each baseline at each anchor, in compressed space
    error: list[float]  # of the network in the same form; 0 before its first scored forecast
    blend: dict[str, float]  # the weight of the network and of each other expert in the median
    served_by: str | None  # the baseline that serves; None if the network does
    moved: list[float]  # the shift of the median at each anchor, in units of the error
    wider: dict[float, list[float]]  # the factor of the width to each side, at each anchor
    burst_odds: float | None  # learned factor of the odds that a burst returns; None: no peaks


def summarize(rows: Rows, outlook: ForecastSpec) -> FlowSummary | None:
    """The summary of the one row of *rows*; None if none of its steps has closed yet."""
    (row,) = rows
    age = int(row["age"])
    if not age:
        return None
    kind = Kind(int(row["kind"]))
    unit = bytes(row["unit"]).decode()
    usual = scale.scale_of(rows["mean"], rows["peak"])
    ground = np.log(usual / 4) - rows["log_offset"]
    open_step = int(row["open"])
    recent = np.arange(open_step - min(age, WINDOW), open_step) % WINDOW
    levels = row["recent"][recent].astype(np.float32)  # NaN: missing, 0: from before a restart
    rates = np.where(levels == 0, np.nan, scale.rates(levels - ground, usual))
    factors = np.exp(row["log_width_factor"] / conformal.UNIT)
    return FlowSummary(
        kind=kind.name.lower(),
        unit=unit if kind is Kind.GAUGE else f"{unit}/s",
        capacity=float(row["capacity"]) or None,
        count=int(row["count"]) if kind is Kind.COUNTER else None,
        read_at=float(row["time"]),
        made_at=open_step * outlook.step_s,
        steps=age,
        steps_rated=int(row["seen"]),
        missing_share=float(row["missing_share"]),
        scale=float(usual[0]),
        mean=float(row["mean"]),
        peak=float(row["peak"]),
        rates=np.maximum(rates, 0).astype(np.float64),
        bands=scale.rates(row["last_forecast"].astype(np.float32), usual).astype(np.float64),
        errors=dict(zip(baselines.NAMES, row["errors"].T.tolist(), strict=True)),
        error=row["network_error"].tolist(),
        blend=ensemble.shares(rows),
        served_by=baselines.NAMES[row["predictor"] - 1] if row["predictor"] else None,
        moved=(rows["moved"][0] / conformal.UNIT).tolist(),
        wider=dict(zip(conformal.SIDES, factors.T.tolist(), strict=True)),
        burst_odds=math.exp(row["burst_odds"]) if outlook.peaks else None,
    )
