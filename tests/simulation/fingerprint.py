"""A model that remembers everything it was fed, and nothing else."""

from __future__ import annotations

import numpy as np

from streamer.core.shape import QUANTILES, ModelConfig


class Fingerprint:
    """
    A model whose state is a checksum of every input that it was fed.

    A reading lost, doubled or out of order leaves another state behind, so
    equal states prove that each reading was taken once and in its turn.
    """

    config = ModelConfig(hidden=1, layers=1)
    generation = 1

    def step(self, inputs, state):
        bits = np.ascontiguousarray(inputs.features).view(np.uint32).astype(np.uint64)
        fed = (bits * np.arange(1, bits.shape[1] + 1, dtype=np.uint64)).sum(axis=1) % 2039
        before = state.astype(np.int64).reshape(len(state), -1)[:, :1]
        after = (before * 31 + fed[:, None].astype(np.int64) + 1) % 2039  # exact in half precision
        outputs = np.broadcast_to(
            (after / 2039.0).astype(np.float32)[:, :, None],
            (len(state), len(inputs.horizons), len(QUANTILES)),
        )
        return outputs, np.broadcast_to(after.reshape(-1, 1, 1, 1), state.shape).astype(state.dtype)
