"""
Validation of learned weights: only weights that this network can serve with are accepted.

The trainer may crash, hang or have another version. Whatever it writes under a
generation's key is validated before any row is stepped with it.
"""

from __future__ import annotations

import numpy as np

from streamer.core.features.baselines import BASELINES, TRACKED_HORIZONS
from streamer.core.features.inputs import FEATURES, Inputs
from streamer.core.network.config import SHAPE, ModelConfig, state_shape
from streamer.core.network.model import Forecaster, Network, read_header, unpack
from streamer.core.registry.models import WeightsFlaw, WeightsRejected, WeightsValidator

HEADER_BYTES_MAX = 1 << 16  # size of the header before the tensors
PROBES = 3  # rows of the test inputs


def weights_validator(config: ModelConfig) -> WeightsValidator:
    """The validator of weights for a network of *config*; see `models.WeightsValidator`."""
    wanted = Network(config).state_dict().values()
    bytes_max = sum(each.nbytes for each in wanted) + HEADER_BYTES_MAX

    def admit(generation: int, packed: bytes) -> Forecaster:
        if len(packed) > bytes_max:
            raise WeightsRejected(
                WeightsFlaw.TOO_LARGE, f"{len(packed)} bytes, {bytes_max} at most"
            )
        network = opened(packed, config)
        if not all(each.isfinite().all() for each in network.state_dict().values()):
            raise WeightsRejected(WeightsFlaw.NOT_FINITE, "a weight is not finite")
        model = Forecaster(network, generation)
        if not outputs_finite(model):
            raise WeightsRejected(
                WeightsFlaw.NOT_FINITE, "its output for usual inputs is not finite"
            )
        return model

    return admit


def opened(packed: bytes, config: ModelConfig) -> Network:
    """The network from *packed*; its header is checked before any memory is allocated."""
    try:
        shape = read_header(packed).network
        others = [key for key in SHAPE if getattr(shape, key) != getattr(config, key)]
        network = None if others else unpack(packed)[0]
    except ValueError as why:
        raise WeightsRejected(WeightsFlaw.UNREADABLE, str(why)[:200]) from why
    if network is None:
        found = ", ".join(f"{key} {getattr(shape, key)}" for key in others)
        raise WeightsRejected(WeightsFlaw.ARCHITECTURE, f"{found} where the settings have another")
    return network


def outputs_finite(model: Forecaster) -> bool:
    """Whether its outputs for usual inputs are finite, over two steps."""
    horizons = np.arange(1, 13)
    low, high = (np.full((BASELINES, PROBES, 12), z, np.float32) for z in (0.5, 1.6))
    inputs = Inputs(
        features=np.linspace(-2, 2, PROBES * FEATURES, dtype=np.float32).reshape(PROBES, -1),
        ahead=np.where(np.arange(BASELINES)[:, None, None] % 2, low, high),
        errors=np.full((BASELINES, PROBES, len(TRACKED_HORIZONS)), np.log(0.3), np.float32),
        spread=np.full((PROBES, 12), 0.3, np.float32),
        scale=np.ones(PROBES, np.float32),
        horizons=horizons,
    )
    state = np.zeros((PROBES, *state_shape(model.config)), np.float16)
    _, state = model.step(inputs, state)
    outputs, state = model.step(inputs, state)
    return bool(np.isfinite(outputs).all() and np.isfinite(state).all())
