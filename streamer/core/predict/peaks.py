"""
The forecast of a peak: quantiles of the highest step rate within a span of steps.

Steps depend on each other, so a peak's quantiles do not follow from the quantiles of its steps. A
head (`network/peak_head.py`) reads the highest of the network's quantiles and of the baselines'
forecasts within the span, the burst memory of the same time on earlier days, and the network's own
inputs. What a flow has learned of its own bursts (`burst_odds.py`) is added. Without a head the
highest of the network's step quantiles stand in for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from streamer.core.columns import Rows
from streamer.core.features import baselines, burst_memory, scale
from streamer.core.features.inputs import FEATURES, Inputs
from streamer.core.features.scale import Floats, Steps
from streamer.core.network.config import QUANTILES, STEP_LEVELS, PeakModel
from streamer.core.predict import burst_odds
from streamer.core.predict.forecast import ForecastSpec
from streamer.core.types import PEAK_QUANTILES

CENTRE = QUANTILES.index(0.5)
HOUR_S = 3600.0
USUAL = np.float32(1.6)  # the usual rate, compressed
OF_FLOW = FEATURES + burst_memory.SUMMARIES + 1
HIGHS = burst_memory.LEVEL_SUMMARIES + burst_memory.MOMENTS
OF_SPAN = HIGHS + len(QUANTILES) + baselines.BASELINES + 4  # numbers of a span


class PeakInputs(NamedTuple):
    """What the head reads of B rows and P spans."""

    of_flow: Floats  # (OF_FLOW, B)
    of_span: Floats  # (OF_SPAN, P, B)
    highest: Floats  # (QUANTILES, P, B) the highest of each step quantile


def predict(  # noqa: PLR0913 - a forecast, and what it is made of
    rows: Rows,
    outputs: Floats,
    inputs: Inputs,
    bands: Floats,
    steps: Steps,
    spec: ForecastSpec,
    head: PeakModel | None,
) -> Floats:
    """
    Quantiles of each span's highest rate after *steps*, (B, spans, PEAK_QUANTILES).

    From the network's *outputs* (QUANTILES, B, H) and the published *bands* (B, H, quantiles). They
    ascend with the level and do not fall with the span, and from the median up none is below the
    median of a step of its span. The rows note what is to be compared later (`burst_odds.py`).
    """
    if not spec.peaks:
        return np.empty((len(inputs), 0, len(PEAK_QUANTILES)), np.float32)
    most = highest(outputs, spec.peaks)
    made = None
    if head is not None:
        read = peak_inputs(rows, most, inputs, steps, spec)
        made = head.predict(*read, rows["burst_odds"].copy())
    z = most[STEP_LEVELS] if made is None else made.quantiles
    z = scale.clip_scaled(z)
    for nth in range(1, len(spec.peaks)):  # a longer span has no lower peak
        np.maximum(z[:, nth], z[:, nth - 1], out=z[:, nth])
    quantiles = scale.rates(z, inputs.scale)  # (PEAK_QUANTILES, P, B)
    if 0.5 in spec.quantiles:  # a peak is at least each of its steps
        median = bands[None, :, :, spec.quantiles.index(0.5)]
        upper = quantiles[PEAK_QUANTILES.index(0.5) :]
        np.maximum(upper, highest(median, spec.peaks), out=upper)
    if made is not None:
        longest, median = quantiles[:, -1], most[CENTRE, -1]
        span = spec.peaks[-1]
        burst_odds.begin(rows, longest, median, made.burst[-1], inputs.scale, steps, span)
    return np.ascontiguousarray(quantiles.T)


def highest(ahead: Floats, spans: Sequence[int]) -> Floats:
    """The highest of *ahead* (…, B, H) within each of the ascending *spans*, (…, P, B)."""
    by_step = np.ascontiguousarray(np.moveaxis(ahead[..., : spans[-1]], -1, 0))  # (H, …, B)
    begins = 0, *spans[:-1]
    found = [by_step[first:end].max(axis=0) for first, end in zip(begins, spans, strict=True)]
    return np.stack(list(accumulate(found, np.maximum)), axis=-2)


def peak_inputs(
    rows: Rows, most: Floats, inputs: Inputs, steps: Steps, spec: ForecastSpec
) -> PeakInputs:
    """
    What the head reads; *most* (QUANTILES, P, B) is the highest of each step quantile in a span.

    Levels, the highs first, are above the highest median in the span.
    """
    ground = np.log(inputs.scale / 4) - rows["log_offset"]
    highs = burst_memory.highs_ahead(rows, ground, steps, spec.peaks, spec.step_s)
    top = np.log1p(4 * rows["peak"] / inputs.scale)[None]
    naive, median = highest(inputs.ahead, spec.peaks), most[CENTRE]
    recent = highs.recent[: burst_memory.LEVEL_SUMMARIES, None]
    of_span = np.empty((OF_SPAN, *median.shape), np.float32)
    place = 0
    for levels in (recent, highs.ahead, most, naive, top[:, None]):
        np.subtract(levels, median, out=of_span[place : place + len(levels)])
        place += len(levels)
    of_span[-3] = median - USUAL
    of_span[-2] = np.log(spec.peaks)[:, None]
    of_span[-1] = of_span[-2] + np.log(spec.step_s / HOUR_S)
    of_flow = np.concatenate((inputs.features.T, highs.recent, top))
    return PeakInputs(of_flow, of_span, most)
