"""
The network's shape, and the protocol by which the engine uses a network.

The network itself is in `model.py`: torch takes seconds to import, and most commands do not need
it.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.config.types import Settings
from streamer.core.features.baselines import BASELINES
from streamer.core.features.inputs import FEATURES, Inputs
from streamer.core.types import PEAK_QUANTILES

QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
STEP_LEVELS = [  # the place of the step quantile at or below each level of a peak
    max(place for place, each in enumerate(QUANTILES) if each <= level) for level in PEAK_QUANTILES
]

HEAD_WIDTH = 48  # of the head's single hidden layer
HEADER_BYTES = 4096  # of a file of weights, at most: names, shapes, and how they were made

Half = NDArray[np.float16]


class ModelConfig(Settings, frozen=True, kw_only=True):
    """The network's shape, and the file of its weights."""

    cell: Literal["lstm", "rnn", "none"] = "lstm"
    hidden: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 64
    layers: Annotated[int, msgspec.Meta(ge=1, le=8)] = 1
    weights: str | None = None  # a safetensors file; None: the weights shipped with the program


SHAPE = ("cell", "hidden", "layers")  # settings that weights must agree with


def state_shape(config: ModelConfig) -> tuple[int, ...]:
    """The shape of one row's state: layers; h, and for an LSTM C; hidden."""
    kept = {"lstm": 2, "rnn": 1, "none": 1}[config.cell]
    return (0 if config.cell == "none" else config.layers, kept, config.hidden)


def weights_bytes(config: ModelConfig) -> int:
    """An upper bound of the size of a file of weights; within a few kilobytes of it."""
    hidden, gates = config.hidden, {"lstm": 4, "rnn": 1, "none": 0}[config.cell]
    below = FEATURES + (config.layers - 1) * hidden  # the inputs of all layers together
    cell = gates * hidden * (below + config.layers * (hidden + 1))
    of_flow = HEAD_WIDTH * (FEATURES + (hidden if gates else 0) + 1)
    of_horizon = HEAD_WIDTH * (2 * BASELINES + 4)
    output = (HEAD_WIDTH + 1) * (BASELINES + len(QUANTILES))
    return 4 * (cell + of_flow + of_horizon + output) + HEADER_BYTES


class Model(Protocol):
    """The interface of a network that the engine uses."""

    config: ModelConfig
    generation: int
    digest: str  # of the weights: equal weights leave equal states
    served_by: str  # the value of `served_by` in its forecasts

    def step(self, inputs: Inputs, state: Half) -> tuple[NDArray[np.float32], Half]:
        """
        Compute one closed step of B rows; each row's result is independent of the others.

        *state* is (B, *state_shape). Returns compressed quantiles (QUANTILES, B, H) and the
        state after the step.
        """
        ...

    def prime(self, features: NDArray[np.float32], started: NDArray[np.bool_]) -> tuple[Half, Half]:
        """
        The state after K steps of B rows from an empty one, and the state before the last step.

        *features* are (K, B, FEATURES), oldest first; a row's state stays empty until *started*,
        (K, B), is true for it. Each row's result is independent of the others.
        """
        ...


class Peaks(NamedTuple):
    """Forecasts of the peaks of B rows and P spans, compressed."""

    quantiles: NDArray[np.float32]  # (PEAK_QUANTILES, P, B), ascending
    burst: NDArray[np.float32]  # (P, B) the rate of a burst like earlier ones


class PeakModel(Protocol):
    """The interface of a head of peaks that the engine uses."""

    def predict(
        self,
        of_flow: NDArray[np.float32],
        of_span: NDArray[np.float32],
        highest: NDArray[np.float32],
        odds: NDArray[np.float32],
    ) -> Peaks:
        """
        The peaks of B rows and P spans.

        *of_flow* is (·, B), *of_span* (·, P, B), *highest* (QUANTILES, P, B) the highest of each
        step quantile within the span, and *odds* (B,) the log odds that are added to those of a
        burst. Each row's result is independent of the others.
        """
        ...
