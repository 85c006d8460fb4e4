"""
Training batches: chunks of steps, processed exactly as the daemon would.

The production code (`forecast.look`) makes them: it steps rows through rates, and the network's
inputs are kept beside the target rates. At some of the steps forecasts are made and their loss
is computed; the recurrent state is carried through all steps.
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
from streamer.core.network.loss import mean_pinball_loss
from streamer.core.network.model import Network, NetworkInputs, encode_horizons
from streamer.core.predict import forecast

FAR = 12  # horizons beyond it have half the weight
TYPICAL = 6  # the horizon whose error normalizes a flow's loss
RELATIVE = 0.15  # weight of the relative loss, added to the compressed loss
LOSS_MAX = 3.0  # upper limit of a flow's loss: an outlier must not dominate the gradient
# lower limit of the normalization, as a share of a flow's quarter scale, for silent flows
OFF_MIN = 0.01

Floats = NDArray[np.float32]
Truths = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Inputs of L steps of N flows, of which K steps have forecasts for H horizons."""

    horizons: tuple[int, ...]
    forecast_steps: NDArray[np.intp]  # (K,) indices of the L steps with forecasts
    features: Floats  # (L, N, FEATURES)
    ahead: Floats  # (K, BASELINES, N, H)
    errors: Floats  # (K, BASELINES, N, anchors)
    spread: Floats  # (K, N, H)
    scale: Floats  # (K, N)

    @property
    def flows(self) -> int:
        """The number of flows."""
        return len(self.scale[0])

    def select(self, lanes: NDArray[np.intp]) -> Chunk:
        """Return a chunk of some of its flows."""
        return Chunk(
            self.horizons,
            self.forecast_steps,
            self.features[:, lanes],
            self.ahead[:, :, lanes],
            self.errors[:, :, lanes],
            self.spread[:, lanes],
            self.scale[:, lanes],
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Some flows of a chunk as tensors; R = K * N rows, those with forecasts, enter the loss."""

    horizons: tuple[int, ...]
    features: Tensor  # (L, N, FEATURES)
    forecast_steps: NDArray[np.intp]  # indices of the L steps with forecasts
    sight: NetworkInputs  # the network's other inputs, for R rows
    truth: Tensor  # (R, H) compressed target rates, NaN if missing


def chunk(  # noqa: PLR0913 - the inputs of a step, for many steps
    rows: Rows,
    rates: NDArray[np.floating],
    steps: NDArray[np.int64],
    step_s: int,
    forecast_steps: NDArray[np.intp],
    horizons: tuple[int, ...],
) -> Chunk:
    """Step *rows* (N,) through *rates* (L, N), the first of which are those of *steps* (N,)."""
    features, forecast_inputs = [], []
    with_forecast = set(forecast_steps.tolist())
    for nth, each in enumerate(rates):
        inputs = forecast.make_inputs(rows, each.astype(np.float64), steps + nth, step_s, horizons)
        features.append(inputs.features)
        if nth in with_forecast:
            forecast_inputs.append(inputs)
    return Chunk(
        horizons,
        forecast_steps,
        np.stack(features),
        np.stack([each.ahead for each in forecast_inputs]),
        np.stack([each.errors for each in forecast_inputs]),
        np.stack([each.spread for each in forecast_inputs]),
        np.stack([each.scale for each in forecast_inputs]),
    )


def concatenate(chunks: Sequence[Chunk]) -> Chunk:
    """Concatenate the flows of *chunks*, which have equal lengths and forecast steps."""
    first = chunks[0]
    return Chunk(
        first.horizons,
        first.forecast_steps,
        np.concatenate([each.features for each in chunks], axis=1),
        np.concatenate([each.ahead for each in chunks], axis=2),
        np.concatenate([each.errors for each in chunks], axis=2),
        np.concatenate([each.spread for each in chunks], axis=1),
        np.concatenate([each.scale for each in chunks], axis=1),
    )


def make_batch(made: Chunk, actual: Truths, device: str = "cpu") -> Batch:
    """
    Combine a chunk with the target rates *actual* (K, N, H).

    Rates are NaN if they are missing or not yet known.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        truth = np.log1p(4 * actual / made.scale[..., None]).astype(np.float32)
    rows = truth.shape[0] * truth.shape[1]

    def by_baseline(array: Floats) -> Tensor:
        """Reshape (K, BASELINES, N, …) to (BASELINES, R, …)."""
        first = array.swapaxes(0, 1)
        return _tensor(first.reshape(first.shape[0], rows, first.shape[-1]), device)

    sight = NetworkInputs(
        _tensor(made.features[made.forecast_steps].reshape(rows, -1), device),
        by_baseline(made.ahead),
        by_baseline(made.errors),
        _tensor(made.spread.reshape(rows, -1), device),
        *(each.to(device) for each in encode_horizons(np.array(made.horizons))),
    )
    seen = _tensor(made.features, device)
    return Batch(
        made.horizons, seen, made.forecast_steps, sight, _tensor(truth.reshape(rows, -1), device)
    )


def forward(network: Network, batch: Batch, state: Tensor) -> tuple[Tensor, Tensor]:
    """Return the compressed quantiles (QUANTILES, R, H) of a batch, and the state after it."""
    hidden = []
    for x in batch.features:
        h, state = network.cell(x, state)
        hidden.append(h)
    return network.head(
        torch.cat([hidden[step] for step in batch.forecast_steps]), batch.sight
    ), state


def training_loss(network: Network, batch: Batch, state: Tensor) -> tuple[Tensor, Tensor]:
    """Return the training loss of a batch, and the state after it, detached from the graph."""
    bands, state = forward(network, batch, state)
    loss = compressed_loss(bands, batch) + RELATIVE * relative_loss(bands, batch)
    return loss, state.detach()


def compressed_loss(bands: Tensor, batch: Batch) -> Tensor:
    """The quantile loss of compressed rates, in units of the baselines' running errors."""
    sight, horizons = batch.sight, np.array(batch.horizons)
    typical = int(np.abs(np.log(horizons / TYPICAL)).argmin())
    error = torch.matmul(sight.errors, sight.shares[:, typical]).amin(0).exp()[:, None]  # (R, 1)
    far = torch.from_numpy(np.where(horizons > FAR, 0.5, 1.0).astype(np.float32)).to(error.device)
    weight = far / (error + 0.1) * ~torch.isnan(batch.truth)
    return (mean_pinball_loss(bands, batch.truth, QUANTILES) * weight).sum() / weight.sum().clamp(
        min=1
    )


def relative_loss(bands: Tensor, batch: Batch) -> Tensor:
    """
    The quantile loss of rates, each flow's over the error of its baselines' mean.

    It complements the loss of compressed rates by the cost of an error at a peak, in rates. Without
    it the upper quantiles deviate, a little in logarithms and a lot in bytes.
    """
    flows = batch.features.shape[1]
    known = ~torch.isnan(batch.truth)
    came = torch.expm1(torch.where(known, batch.truth, 0).clamp(max=Z_MAX))
    plain = torch.expm1(batch.sight.ahead.mean(0).clamp(max=Z_MAX))
    lost = mean_pinball_loss(
        torch.expm1(bands.clamp(max=Z_MAX)), torch.where(known, came, torch.nan), QUANTILES
    )

    def of_flows(each: Tensor) -> Tensor:
        """Return each flow's mean over the forecast steps and horizons."""
        number = known.view(len(batch.forecast_steps), flows, -1).sum((0, 2)).clamp(min=1)
        return each.view(len(batch.forecast_steps), flows, -1).sum((0, 2)) / number

    off = of_flows((came - plain).abs() * known)
    return (of_flows(lost) / (off + OFF_MIN)).clamp(max=LOSS_MAX).mean()


def _tensor(array: Floats, device: str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
