"""
The head of peaks: a small network from what is known of a span to the quantiles of its peak.

It reads numbers that all flows share the meaning of (`core/predict/peaks.py` lists them). The
quantiles without a burst are the highest of the network's step quantiles, moved and stretched: the
median is moved, and the distances from one level to the next are multiplied. For a burst like
earlier ones the head weights the highs of the burst memory, and for each level it decides how far
the quantile moves from the one to the other; the log odds that the flow has learned are added
there. A weighted high is exact where a network of this size would only be near: bursts of scheduled
jobs repeat their rate within a few hundredths. A running maximum keeps the quantiles in order. One
head serves all spans.

A row's outputs depend only on that row, to the bit: rows pass through the layers in tiles of TILE,
as in `model.py`.
"""

from __future__ import annotations

import json

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from streamer.core.network.config import QUANTILES, STEP_LEVELS, Peaks
from streamer.core.network.model import UNFIT, squareplus
from streamer.core.types import PEAK_QUANTILES

HIDDEN = 48
HIGHS = 14  # the first so many numbers of a span are highs, above the highest median in the span
LEVELS = len(PEAK_QUANTILES)
OUTPUTS = 3 * LEVELS + HIGHS
FOUND = 3 * LEVELS + 1  # numbers of `PeakHead._layers` for each row and span
TILE = 256  # rows; a wave of one row costs as much as a tile
OFFSET = 0.2  # scale of a level's distance from the weighted high
RARE = -3.0  # logit of the way towards the weighted high, before training
INPUT_MAX = 6.0  # bound of a standardized input
STANDARD_LEAST = 0.05  # added to the standard deviation of an input
GAP_LEAST = 0.03  # the width that a level begins from, at least
HEADER = "streamer.peaks"  # the key in the file under which the head is described
MIDDLE, CENTRE = PEAK_QUANTILES.index(0.5), QUANTILES.index(0.5)

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
        self.output = nn.Linear(HIDDEN, OUTPUTS)
        with torch.no_grad():
            self.output.weight *= 0.1  # begin near the highest of the step quantiles
            self.output.bias.zero_()
            self.output.bias[LEVELS : 2 * LEVELS] = RARE

    def forward(self, of_flow: Tensor, of_span: Tensor, highest: Tensor) -> Tensor:
        """
        Compressed quantiles (PEAK_QUANTILES, P, R) of R rows and P spans, as they are trained.

        *of_flow* is (·, R), *of_span* (·, P, R), *highest* (QUANTILES, P, R) the highest of each
        step quantile within the span. No row has learned odds.
        """
        none = of_flow.new_zeros(of_flow.shape[-1])
        found = self._layers(*self._standard(of_flow, of_span), of_span[:HIGHS], none)
        return _levels(found, highest)

    @torch.inference_mode()
    def predict(self, of_flow: Floats, of_span: Floats, highest: Floats, odds: Floats) -> Peaks:
        """See `PeakModel.predict`."""
        span = torch.from_numpy(of_span)
        standard = self._standard(torch.from_numpy(of_flow), span)
        inputs = *standard, span[:HIGHS], torch.from_numpy(odds)
        rows = span.shape[-1]
        found = torch.empty((FOUND, *span.shape[1:]))
        for first in range(0, rows, TILE):
            tile = slice(first, first + TILE)
            part = self._layers(*(_filled(each[..., tile]) for each in inputs))
            found[..., tile] = part[..., : rows - first]
        quantiles: Floats = _levels(found, torch.from_numpy(highest)).numpy()
        return Peaks(quantiles, found[-1].numpy() + highest[CENTRE])

    def _standard(self, of_flow: Tensor, of_span: Tensor) -> tuple[Tensor, Tensor]:
        """The inputs in units of their standard deviation."""
        flow = (of_flow - self.mean_flow[:, None]) / self.size_flow[:, None]
        span = (of_span - self.mean_span[:, None, None]) / self.size_span[:, None, None]
        return flow.clamp(-INPUT_MAX, INPUT_MAX), span.clamp(-INPUT_MAX, INPUT_MAX)

    def _layers(self, flow: Tensor, span: Tensor, highs: Tensor, odds: Tensor) -> Tensor:
        """
        Each level's move, way towards the weighted high and distance from it; and that high.

        *odds* (R,) are added to the logits of the way. This is all whose rounding may depend on the
        number of rows: products, exponentials and sums.
        """
        _, spans, rows = span.shape
        of_flow = torch.addmm(self.flow.bias[:, None], self.flow.weight, flow)
        x = torch.mm(self.span.weight, span.reshape(-1, spans * rows)).view(HIDDEN, spans, rows)
        x = nn.functional.silu(x + of_flow[:, None]).view(HIDDEN, spans * rows)
        x = nn.functional.silu(torch.addmm(self.inner.bias[:, None], self.inner.weight, x))
        x = torch.addmm(self.output.bias[:, None], self.output.weight, x).view(-1, spans, rows)
        moved, towards, apart, weights = x.tensor_split((LEVELS, 2 * LEVELS, 3 * LEVELS))
        high = (torch.softmax(weights, 0) * highs).sum(0, keepdim=True)
        return torch.cat((moved, torch.sigmoid(towards + odds), apart, high))


def _levels(found: Tensor, highest: Tensor) -> Tensor:
    """The quantiles, from what `PeakHead._layers` has *found* and the *highest* step quantiles."""
    moved, towards, apart, high = found.tensor_split((LEVELS, 2 * LEVELS, 3 * LEVELS))
    begin = highest[STEP_LEVELS]
    gaps = 2 * (begin.diff(dim=0).clamp(min=0) + GAP_LEAST)
    median = (begin[MIDDLE] + moved[MIDDLE])[None]
    below = gaps[:MIDDLE] * squareplus(moved[:MIDDLE])
    above = gaps[MIDDLE:] * squareplus(moved[MIDDLE + 1 :])
    below = median - below.flip(0).cumsum(0).flip(0)
    usual = torch.cat((below, median, median + above.cumsum(0)))
    burst = high + highest[CENTRE] + OFFSET * apart
    levels = usual + towards * (burst - usual).clamp(min=0)
    ascending: Tensor = levels.cummax(0).values
    return ascending


def _filled(part: Tensor) -> Tensor:
    """*part*, padded with zeros to TILE rows, which are its last axis; a new allocation."""
    tile = torch.zeros((*part.shape[:-1], TILE))
    tile[..., : part.shape[-1]] = part
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
