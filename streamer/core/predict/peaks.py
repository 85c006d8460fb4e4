"""The forecast of a peak: quantiles of the highest step rate within a span of steps."""

from __future__ import annotations

import numpy as np

from streamer.core.features import scale
from streamer.core.features.inputs import Inputs
from streamer.core.features.scale import Floats
from streamer.core.network.config import QUANTILES
from streamer.core.predict.forecast import ForecastSpec
from streamer.core.predict.peak_quantiles import PEAK_QUANTILES


def predict(outputs: Floats, inputs: Inputs, spec: ForecastSpec) -> Floats:
    """
    Quantiles of each span's highest rate, (B, spans, PEAK_QUANTILES).

    They are the highest of the network's quantiles within the span, from *outputs* (QUANTILES, B,
    H). They ascend with the level and do not fall with the span.
    """
    told = np.empty((len(inputs), len(spec.peaks), len(PEAK_QUANTILES)), np.float32)
    place = np.interp(PEAK_QUANTILES, QUANTILES, np.arange(len(QUANTILES)))
    left = np.floor(place).astype(np.intp)
    right = np.minimum(left + 1, len(QUANTILES) - 1)
    share = (place - left).astype(np.float32)
    for nth, span in enumerate(spec.peaks):
        highest = outputs[:, :, :span].max(axis=2).T
        told[:, nth] = highest[:, left] + share * (highest[:, right] - highest[:, left])
    return scale.rates(scale.clip_scaled(told), inputs.scale[:, None, None])
