"""
The head of peaks: a small network from what is known of a span to the quantiles of its peak.

It reads numbers that all flows share the meaning of (`core/predict/peaks.py` lists them), and moves
and stretches the highest of the network's step quantiles: the median is moved, and the distances
from one level to the next are multiplied. So the quantiles ascend. One head serves all spans.

A row's outputs depend only on that row, to the bit: rows are processed in tiles of TILE, as in
`model.py`.
"""

from __future__ import annotations

import json

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from streamer.core.network.config import STEP_LEVELS
from streamer.core.network.model import TILE, UNFIT, squareplus
from streamer.core.types import PEAK_QUANTILES

HIDDEN = 64
INPUT_MAX = 6.0  # bound of a standardized input
STANDARD_LEAST = 0.05  # added to the standard deviation of an input
GAP_LEAST = 0.03  # the width that a level begins from, at least
HEADER = "streamer.peaks"  # the key in the file under which the head is described
MIDDLE = PEAK_QUANTILES.index(0.5)

Floats = NDArray[np.float32]


class PeakHead(nn.Module):
    """Two hidden layers; *of_flow* numbers are read once and *of_span* numbers for each span."""

    mean_flow: Tensor
    mean_span: Tensor
    size_flow: Tensor
    size_span: Tensor

    def __init__(self, of_flow: int, of_span: int) -> None:
        super().__init__()
        for name, count in (("flow", of_flow), ("span", of_span)):
            self.register_buffer(f"mean_{name}", torch.zeros(count))
            self.register_buffer(f"size_{name}", torch.ones(count))
        self.flow = nn.Linear(of_flow, HIDDEN)
        self.span = nn.Linear(of_span, HIDDEN, bias=False)
        self.inner = nn.Linear(HIDDEN, HIDDEN)
        self.output = nn.Linear(HIDDEN, len(PEAK_QUANTILES))
        with torch.no_grad():
            self.output.weight *= 0.1  # begin near the highest of the step quantiles
            self.output.bias.zero_()

    def forward(self, of_flow: Tensor, of_span: Tensor, highest: Tensor) -> Tensor:
        """
        Compressed quantiles (R, P, PEAK_QUANTILES) of R rows and P spans.

        *of_flow* is (R, ·), *of_span* (R, P, ·), *highest* (R, P, QUANTILES) the highest of each
        step quantile within the span.
        """
        flow = _standard(of_flow, self.mean_flow, self.size_flow)
        span = _standard(of_span, self.mean_span, self.size_span)
        x = nn.functional.silu(self.flow(flow)[:, None] + self.span(span))
        raw = self.output(nn.functional.silu(self.inner(x)))
        begin = highest[..., STEP_LEVELS]
        gaps = 2 * (begin.diff(dim=-1).clamp(min=0) + GAP_LEAST)
        median = (begin[..., MIDDLE] + raw[..., MIDDLE])[..., None]
        below = gaps[..., :MIDDLE] * squareplus(raw[..., :MIDDLE])
        above = gaps[..., MIDDLE:] * squareplus(raw[..., MIDDLE + 1 :])
        return torch.cat(
            (
                median - below.flip(-1).cumsum(-1).flip(-1),
                median,
                median + above.cumsum(-1),
            ),
            dim=-1,
        )

    @torch.inference_mode()
    def quantiles(self, of_flow: Floats, of_span: Floats, highest: Floats) -> Floats:
        """See `PeakModel.quantiles`."""
        bands = np.empty((*highest.shape[:2], len(PEAK_QUANTILES)), np.float32)
        for first in range(0, len(bands), TILE):
            tile = slice(first, first + TILE)
            size = len(bands[tile])
            found = self(_filled(of_flow[tile]), _filled(of_span[tile]), _filled(highest[tile]))
            bands[tile] = found[:size].numpy()
        return bands


def _standard(x: Tensor, mean: Tensor, size: Tensor) -> Tensor:
    return ((x - mean) / size).clamp(-INPUT_MAX, INPUT_MAX)


def _filled(array: Floats) -> Tensor:
    """A tile of *array*, padded with rows of zeros; a new, aligned allocation."""
    tile = torch.zeros((TILE, *array.shape[1:]), dtype=torch.float32)
    tile[: len(array)] = torch.from_numpy(array)
    return tile


def pack(head: PeakHead, made: dict[str, str]) -> bytes:
    """The weights as safetensors, with how they were *made* in the header."""
    weights = {name: each.contiguous() for name, each in head.state_dict().items()}
    return save(weights, {HEADER: json.dumps(made)})


def unpack(packed: bytes) -> PeakHead:
    """The inverse of `pack`; raises ValueError if the bytes are not weights of this head."""
    try:
        weights = load(packed)
        head = PeakHead(len(weights["mean_flow"]), len(weights["mean_span"]))
        head.load_state_dict(weights)
    except (SafetensorError, *UNFIT) as error:
        raise ValueError(f"holds no weights of a head of peaks: {error}") from error
    return head.eval().requires_grad_(requires_grad=False)
