"""A model whose state is a checksum of all its inputs."""

from __future__ import annotations

import numpy as np

from streamer.core.network.config import QUANTILES, ModelConfig
from streamer.core.registry.models import WeightsFlaw, WeightsRejected

WEIGHTS = b"fingerprint "


class Fingerprint:
    """
    A model whose state is a checksum of all its inputs, and its generation.

    A reading lost, doubled or out of order leaves another state behind, so
    equal states prove that each reading was taken once and in its turn. A state
    that another generation left is never stepped.
    """

    config = ModelConfig(hidden=1, layers=1)  # h holds the checksum, C the generation
    served_by = "fingerprint"

    def __init__(self, generation=1):
        self.generation = generation
        self.digest = f"fingerprint {generation}"

    def step(self, inputs, state):
        marks = state[:, 0, 1, 0]
        assert np.isin(marks, (0, self.generation)).all(), "a state of other weights"
        before = state[:, 0, 0, 0].astype(np.int64)
        after = updated(inputs.features, before)
        outputs = np.broadcast_to(
            (after / 2039.0).astype(np.float32)[:, None],
            (len(QUANTILES), len(state), len(inputs.horizons)),
        )
        return outputs, self.marked(after, state.shape)

    def prime(self, features, started):
        checksum = np.zeros(started.shape[1], np.int64)
        for x, on in zip(features, started, strict=True):
            before, checksum = checksum, np.where(on, updated(x, checksum), checksum)
        shape = started.shape[1], 1, 2, 1
        primed, past = self.marked(checksum, shape), self.marked(before, shape)
        primed[~started[-1]], past[~started[-1]] = 0, 0
        return primed, past

    def marked(self, checksum, shape):
        state = np.empty(shape, np.float16)  # exact: all numbers are below 2048
        state[:, 0, 0, 0], state[:, 0, 1, 0] = checksum, self.generation
        return state


def updated(features, before):
    """The checksum after another step."""
    bits = np.ascontiguousarray(features).view(np.uint32).astype(np.uint64)
    mixed = (bits * np.arange(1, bits.shape[1] + 1, dtype=np.uint64)).sum(axis=1) % 2039
    return (before * 31 + mixed.astype(np.int64) + 1) % 2039


def packed(generation):
    """Its weights, as the models topic has them."""
    return WEIGHTS + b"%d" % generation


def admit(generation, weights):
    """As `weights_validator` does for those of a network."""
    if weights != packed(generation):
        raise WeightsRejected(WeightsFlaw.UNREADABLE, "no fingerprint")
    return Fingerprint(generation)
