"""The network's inputs from a closed step: numbers near one, whatever the flow's size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Rows
from streamer.core.features import baselines
from streamer.core.features.baselines import BaselineErrors
from streamer.core.features.scale import Floats, ScaledStep
from streamer.core.types import DAY_S

ERRORS = len(baselines.TRACKED_HORIZONS) * baselines.BASELINES
FEATURES = 9 + baselines.BASELINES + ERRORS + len(baselines.QUANTILE_LEVELS)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The network's inputs for a closed step of B rows and H horizons."""

    features: Floats  # (B, FEATURES)
    ahead: Floats  # (BASELINES, B, H) the baselines' forecasts, compressed
    errors: Floats  # (BASELINES, B, anchors) logarithms of the baselines' running errors
    spread: Floats  # (B, H) the flow's usual distance from its day's profile
    scale: Floats  # (B,) needed to undo the compression
    horizons: NDArray[np.int64]  # (H,) steps ahead

    def __len__(self) -> int:
        return len(self.features)


def select(inputs: Inputs, index: NDArray[np.intp]) -> Inputs:
    """The inputs of the rows at *index*."""
    return Inputs(
        features=inputs.features[index],
        ahead=inputs.ahead[:, index],
        errors=inputs.errors[:, index],
        spread=inputs.spread[index],
        scale=inputs.scale[index],
        horizons=inputs.horizons,
    )


def features(
    rows: Rows, step: ScaledStep, baseline_z: Floats, missed: BaselineErrors, step_s: int
) -> Floats:
    """
    The closed step as B rows of FEATURES numbers.

    *baseline_z* (B, BASELINES) are the baselines' forecasts for it; *missed* is their errors.

    Distances are in units of the row's least running error, so that the same weights
    fit noisy and regular flows.
    """
    day = np.float32(DAY_S / step_s)
    unit = np.maximum(missed.least, np.float32(0.02))[:, None]
    age = rows["age"].astype(np.float32)
    alone = (
        step.z - np.float32(1.6),
        np.arcsinh(step.change / unit[:, 0]),
        1 - step.present.astype(np.float32),
        np.full(len(rows), np.log(step_s / 300) / 2, np.float32),
        rows["missing_share"],
        rows["silent_share"],
        np.log(unit[:, 0]) / 2 + 1,
        np.minimum(age / day, 1),
        np.minimum(age / (7 * day), 1),
    )
    return np.concatenate(
        [
            np.stack(alone, axis=1),
            np.arcsinh((step.z[:, None] - baseline_z) / unit),
            missed.logs.transpose(1, 2, 0).reshape(len(rows), ERRORS) / np.float32(1.5) + 1,
            np.clip((rows["rank_shares"] - step.level[:, None]) / 2, -4, 4),
        ],
        axis=1,
    )
