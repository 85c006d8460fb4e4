"""
What a network is taught with: a chunk of steps just as the daemon would have taken them.

A lesson is made by the very stages that serve (`forecast.look`): rows are stepped through rates,
and what the network would have read is kept beside what came. Some of the steps are *told*:
forecasts are made and judged there, while the state is carried through all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamer.core.columns import Rows
from streamer.core.features.scale import Z_MAX
from streamer.core.network.config import QUANTILES
from streamer.core.network.loss import pinball
from streamer.core.network.model import Network, NetworkInputs, encode_horizons
from streamer.core.predict import forecast

FAR = 12  # horizons beyond it count half
TYPICAL = 6  # the horizon at whose error a flow's loss is measured
RELATIVE = 0.15  # what the loss of rates counts beside that of compressed ones
LOSS_MAX = 3.0  # of a flow: one that goes astray must not decide what all are taught
OFF_MIN = 0.01  # of a flow's quarter scale: a silent flow is no perfect one

Floats = NDArray[np.float32]
Truths = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Chunk:
    """L steps of N flows as the network reads them, of which K are told for H horizons."""

    horizons: tuple[int, ...]
    told: NDArray[np.intp]  # (K,) which of the L
    features: Floats  # (L, N, FEATURES)
    ahead: Floats  # (K, BASELINES, N, H)
    errors: Floats  # (K, BASELINES, N, anchors)
    spread: Floats  # (K, N, H)
    scale: Floats  # (K, N)

    @property
    def flows(self) -> int:
        """How many there are."""
        return len(self.scale[0])

    def of(self, lanes: NDArray[np.intp]) -> Chunk:
        """Some of its flows."""
        return Chunk(
            self.horizons,
            self.told,
            self.features[:, lanes],
            self.ahead[:, :, lanes],
            self.errors[:, :, lanes],
            self.spread[:, lanes],
            self.scale[:, lanes],
        )


@dataclass(frozen=True, slots=True)
class Lesson:
    """Some of a chunk's flows as tensors; R = K * N rows, those of the told steps, are judged."""

    horizons: tuple[int, ...]
    features: Tensor  # (L, N, FEATURES)
    told: NDArray[np.intp]  # which of the L
    sight: NetworkInputs  # of R rows
    truth: Tensor  # (R, H) compressed, NaN where missing


def chunk(  # noqa: PLR0913 - what a step takes, for many of them
    rows: Rows,
    rates: NDArray[np.floating],
    steps: NDArray[np.int64],
    step_s: int,
    told: NDArray[np.intp],
    horizons: tuple[int, ...],
) -> Chunk:
    """Step *rows* (N,) through *rates* (L, N), the first of which are those of *steps* (N,)."""
    features, judged = [], []
    marked = set(told.tolist())
    for nth, each in enumerate(rates):
        inputs = forecast.make_inputs(rows, each.astype(np.float64), steps + nth, step_s, horizons)
        features.append(inputs.features)
        if nth in marked:
            judged.append(inputs)
    return Chunk(
        horizons,
        told,
        np.stack(features),
        np.stack([each.ahead for each in judged]),
        np.stack([each.errors for each in judged]),
        np.stack([each.spread for each in judged]),
        np.stack([each.scale for each in judged]),
    )


def beside(chunks: Sequence[Chunk]) -> Chunk:
    """The flows of all *chunks*, which are alike in length and in what is told, as one."""
    first = chunks[0]
    return Chunk(
        first.horizons,
        first.told,
        np.concatenate([each.features for each in chunks], axis=1),
        np.concatenate([each.ahead for each in chunks], axis=2),
        np.concatenate([each.errors for each in chunks], axis=2),
        np.concatenate([each.spread for each in chunks], axis=1),
        np.concatenate([each.scale for each in chunks], axis=1),
    )


def lesson(made: Chunk, came: Truths, device: str = "cpu") -> Lesson:
    """
    A chunk beside what *came* (K, N, H): the rates that were to be foretold.

    They are NaN where they are missing or not known yet.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        truth = np.log1p(4 * came / made.scale[..., None]).astype(np.float32)
    rows = truth.shape[0] * truth.shape[1]

    def laid(array: Floats) -> Tensor:
        """(K, BASELINES, N, …) as (BASELINES, R, …)."""
        first = array.swapaxes(0, 1)
        return _tensor(first.reshape(first.shape[0], rows, first.shape[-1]), device)

    sight = NetworkInputs(
        _tensor(made.features[made.told].reshape(rows, -1), device),
        laid(made.ahead),
        laid(made.errors),
        _tensor(made.spread.reshape(rows, -1), device),
        *(each.to(device) for each in encode_horizons(np.array(made.horizons))),
    )
    seen = _tensor(made.features, device)
    return Lesson(made.horizons, seen, made.told, sight, _tensor(truth.reshape(rows, -1), device))


def forward(network: Network, learnt: Lesson, state: Tensor) -> tuple[Tensor, Tensor]:
    """Compressed quantiles (QUANTILES, R, H) of a lesson, and the state after it."""
    hidden = []
    for x in learnt.features:
        h, state = network.cell(x, state)
        hidden.append(h)
    return network.head(torch.cat([hidden[step] for step in learnt.told]), learnt.sight), state


def judge(network: Network, learnt: Lesson, state: Tensor) -> tuple[Tensor, Tensor]:
    """What is to become small over a lesson, and the state after it, cut from what led to it."""
    bands, state = forward(network, learnt, state)
    loss = compressed_loss(bands, learnt) + RELATIVE * relative_loss(bands, learnt)
    return loss, state.detach()


def compressed_loss(bands: Tensor, learnt: Lesson) -> Tensor:
    """The quantile loss of compressed rates, in units of the running errors of the baselines."""
    sight, horizons = learnt.sight, np.array(learnt.horizons)
    typical = int(np.abs(np.log(horizons / TYPICAL)).argmin())
    error = torch.matmul(sight.errors, sight.shares[:, typical]).amin(0).exp()[:, None]  # (R, 1)
    far = torch.from_numpy(np.where(horizons > FAR, 0.5, 1.0).astype(np.float32)).to(error.device)
    weight = far / (error + 0.1) * ~torch.isnan(learnt.truth)
    return (pinball(bands, learnt.truth, QUANTILES) * weight).sum() / weight.sum().clamp(min=1)


def relative_loss(bands: Tensor, learnt: Lesson) -> Tensor:
    """
    The quantile loss of rates, each flow's over the error of its baselines' mean.

    What it adds to the loss of compressed rates: being off at a peak costs what it costs in
    rates. Without it upper quantiles come loose, a little in logarithms and a lot in bytes.
    """
    flows = learnt.features.shape[1]
    known = ~torch.isnan(learnt.truth)
    came = torch.expm1(torch.where(known, learnt.truth, 0).clamp(max=Z_MAX))
    plain = torch.expm1(learnt.sight.ahead.mean(0).clamp(max=Z_MAX))
    lost = pinball(
        torch.expm1(bands.clamp(max=Z_MAX)), torch.where(known, came, torch.nan), QUANTILES
    )

    def of_flows(each: Tensor) -> Tensor:
        """Mean over the told steps and horizons of each flow."""
        number = known.view(len(learnt.told), flows, -1).sum((0, 2)).clamp(min=1)
        return each.view(len(learnt.told), flows, -1).sum((0, 2)) / number

    off = of_flows((came - plain).abs() * known)
    return (of_flows(lost) / (off + OFF_MIN)).clamp(max=LOSS_MAX).mean()


def _tensor(array: Floats, device: str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
