"""
The forecast of a peak: quantiles of the highest step rate within a span of steps.

Steps depend on each other, so a peak's quantiles do not follow from the quantiles of its steps. A
head (`network/peak_head.py`) reads the highest of the network's quantiles and of the baselines'
forecasts within the span, the burst memory of the same time on earlier days, and the network's own
inputs. Without a head the highest of the network's step quantiles stand in for it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamer.core.columns import Rows
from streamer.core.features import baselines, burst_memory, scale
from streamer.core.features.inputs import FEATURES, Inputs
from streamer.core.features.scale import Floats, Steps
from streamer.core.network.config import QUANTILES, STEP_LEVELS, PeakModel
from streamer.core.predict.forecast import ForecastSpec
from streamer.core.types import PEAK_QUANTILES

CENTRE = QUANTILES.index(0.5)
HOUR_S = 3600.0
USUAL = np.float32(1.6)  # the usual rate, compressed
RECENT_HIGHS = burst_memory.SUMMARIES - 1  # of `Highs.recent` that are levels

OF_FLOW = FEATURES + burst_memory.SUMMARIES + 1
OF_SPAN = (
    len(QUANTILES) + baselines.BASELINES + RECENT_HIGHS + burst_memory.MOMENTS + 4
)  # numbers of a span


class PeakInputs(NamedTuple):
    """What the head reads of B rows and P spans."""

    of_flow: Floats  # (B, OF_FLOW)
    of_span: Floats  # (B, P, OF_SPAN)
    highest: Floats  # (B, P, QUANTILES) the highest of each step quantile


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
    median of a step of its span.
    """
    if not spec.peaks:
        return np.empty((len(inputs), 0, len(PEAK_QUANTILES)), np.float32)
    if head is None:
        z = highest(outputs, spec)[..., STEP_LEVELS]
    else:
        z = head.quantiles(*peak_inputs(rows, outputs, inputs, steps, spec))
    z = np.maximum.accumulate(scale.clip_scaled(z), axis=1)
    quantiles = scale.rates(z, inputs.scale[:, None, None])
    if 0.5 in spec.quantiles:  # a peak is at least each of its steps
        median = bands[:, :, spec.quantiles.index(0.5)]
        upper = quantiles[:, :, PEAK_QUANTILES.index(0.5) :]
        for nth, span in enumerate(spec.peaks):
            least = median[:, :span].max(axis=1)
            np.maximum(upper[:, nth], least[:, None], out=upper[:, nth])
    return quantiles


def highest(outputs: Floats, spec: ForecastSpec) -> Floats:
    """The highest of each step quantile within each span, (B, P, QUANTILES)."""
    return np.stack([outputs[:, :, :span].max(axis=2).T for span in spec.peaks], axis=1)


def peak_inputs(
    rows: Rows, outputs: Floats, inputs: Inputs, steps: Steps, spec: ForecastSpec
) -> PeakInputs:
    """What the head reads. Levels are above the highest median in the span."""
    ground = np.log(inputs.scale / 4) - rows["log_offset"]
    highs = burst_memory.highs_ahead(rows, ground, steps, spec.peaks, spec.step_s)
    top = np.log1p(4 * rows["peak"] / inputs.scale)[:, None]
    most = highest(outputs, spec)
    of_span = np.empty((len(rows), len(spec.peaks), OF_SPAN), np.float32)
    for nth, span in enumerate(spec.peaks):
        naive = inputs.ahead[:, :, :span].max(axis=2).T
        levels = (most[:, nth], naive, highs.recent[:, :RECENT_HIGHS], highs.ahead[nth], top)
        median = most[:, nth, CENTRE : CENTRE + 1]
        here = of_span[:, nth]
        np.subtract(np.concatenate(levels, axis=1), median, out=here[:, :-3])
        here[:, -3] = median[:, 0] - USUAL
        here[:, -2] = np.log(span)
        here[:, -1] = np.log(span * spec.step_s / HOUR_S)
    of_flow = np.concatenate((inputs.features, highs.recent, top), axis=1)
    return PeakInputs(of_flow, of_span, most)
