"""
The network: a cell that remembers, and a head that mixes the baselines.

For each horizon the head weighs what the baselines say of it, corrects their
baseline_mixture, and gives widths to either side, all in units of the least running
error at that horizon; quantiles are the running sums of widths, so they cannot
cross. The horizon is one of its inputs: it may be asked for any.

What a row gets depends on nothing but the row, to the bit. Matrix products are
not that obliging, their rounding changes with the number of rows; so rows are
always taken in tiles of TILE, the last one filled up with zeros.
"""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from streamer.core.features.baselines import BASELINES, TRACKED_HORIZONS
from streamer.core.features.inputs import FEATURES, Inputs
from streamer.core.network.cell import LSTM, RNN, Gates, NoCell
from streamer.core.network.config import QUANTILES, Half, ModelConfig, state_shape

MEDIAN = QUANTILES.index(0.5)
TILE = 128  # rows; a wave of one costs as much as a tile
PRIOR = 6.0  # a baseline weighs as its running error to this negative power, before any learning
UNIT_MAX = 1.5
WIDTH = 48  # of the head's one inner layer

HEADER = "streamer"  # of a file of weights: where the network is read_header
UNFIT = (KeyError, TypeError, ValueError, RuntimeError)  # what weights of something else lead to
CELLS = {"lstm": LSTM, "rnn": RNN, "none": NoCell}


class NetworkInputs(NamedTuple):
    """What the network is told of R rows and H horizons, `Inputs` as tensors."""

    features: Tensor  # (R, FEATURES)
    ahead: Tensor  # (BASELINES, R, H)
    errors: Tensor  # (BASELINES, R, anchors)
    spread: Tensor  # (R, H)
    shares: Tensor  # (anchors, H) of each anchor's error in that of a horizon
    phases: Tensor  # (2, 1, H) horizons as the network reads them


class Network(nn.Module):
    """The weights, and what is computed with them; the same in training and in service."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.cell = CELLS[config.cell](FEATURES, config.hidden, config.layers)
        hidden = 0 if config.cell == "none" else config.hidden
        self.of_flow = nn.Linear(hidden + FEATURES, WIDTH)
        self.of_horizon = nn.Linear(2 * BASELINES + 4, WIDTH, bias=False)
        self.told = nn.Linear(WIDTH, BASELINES + len(QUANTILES))
        with torch.no_grad():
            self.told.weight *= 0.1  # begin near the baselines mixed by their errors
            self.told.bias.zero_()

    def head(self, h: Tensor, sight: NetworkInputs) -> Tensor:
        """From h (R, hidden) and what lies ahead to compressed quantiles, (QUANTILES, R, H)."""
        features, ahead, errors, spread, shares, phases = sight
        error = torch.matmul(errors, shares)  # (BASELINES, R, H)
        least = error.amin(0)
        unit = torch.exp(least) + 0.02
        relative = error - torch.log(unit)
        apart = (ahead - ahead.mean(0)) / unit
        apart = apart / (1 + 0.2 * apart.abs())
        rows, count = spread.shape
        seen = torch.cat(
            (apart, relative, spread[None], least[None], phases.expand(2, rows, count))
        ).view(-1, rows * count)
        flow = self.of_flow(torch.cat((h, features), dim=-1)).t()
        inner = torch.mm(self.of_horizon.weight, seen).view(WIDTH, rows, count)
        inner = inner.add_(flow[:, :, None])
        inner = nn.functional.silu(inner).view(WIDTH, rows * count)
        told = torch.addmm(self.told.bias[:, None], self.told.weight, inner)
        told = told.view(-1, rows, count)

        weights = torch.softmax(torch.sub(told[:BASELINES], relative, alpha=PRIOR), 0)
        mixed = (weights * ahead).sum(0)
        unit = unit.clamp(max=UNIT_MAX)
        corrections = told[BASELINES:]
        widths = unit * squareplus(corrections)
        median = (mixed + unit * corrections[MEDIAN] * 0.5)[None]
        below = median - widths[:MEDIAN].flip(0).cumsum(0).flip(0)
        above = median + widths[MEDIAN + 1 :].cumsum(0)
        return torch.cat((below, median, above))


class Forecaster:
    """A network in service: whole waves in, whole waves out."""

    def __init__(self, network: Network, generation: int = 0) -> None:
        self.config = network.config
        self.generation = generation
        self.network = network.eval().requires_grad_(requires_grad=False)
        self.digest = digest(network)
        self.served_by: str = network.config.cell

    @torch.inference_mode()
    def step(self, inputs: Inputs, state: Half) -> tuple[NDArray[np.float32], Half]:
        """One closed step of B rows: outputs (QUANTILES, B, H) and the state after it."""
        rows, count = inputs.spread.shape
        outputs = np.empty((len(QUANTILES), rows, count), np.float32)
        after = np.empty(state.shape, np.float16)
        far = encode_horizons(inputs.horizons)
        for first in range(0, rows, TILE):
            tile = slice(first, first + TILE)
            sight = NetworkInputs(
                _filled(inputs.features[tile], 0),
                _filled(inputs.ahead[:, tile], 1),
                _filled(inputs.errors[:, tile], 1),
                _filled(inputs.spread[tile], 0),
                *far,
            )
            h, held = self.network.cell(sight.features, _filled(state[tile], 0).float())
            bands = self.network.head(h, sight)
            size = min(TILE, rows - first)
            outputs[:, tile] = bands[:, :size].numpy()
            after[tile] = held.half()[:size].numpy()
        return outputs, after

    @torch.inference_mode()
    def prime(self, features: NDArray[np.float32], begun: NDArray[np.bool_]) -> tuple[Half, Half]:
        """As `Model.prime`: the cell alone, its state in half precision between steps, as kept."""
        count, rows = begun.shape
        shape = rows, *state_shape(self.config)
        after, before = np.zeros(shape, np.float16), np.zeros(shape, np.float16)
        for first in range(0, rows, TILE):
            tile = slice(first, first + TILE)
            on = _filled(begun[:, tile], 1)[:, :, None, None, None]
            held = past = torch.zeros(TILE, *shape[1:], dtype=torch.float16)
            for step in range(count):
                past = held
                x = _filled(features[step, tile], 0)
                held = torch.where(on[step], self.network.cell(x, past.float())[1].half(), past)
            size = min(TILE, rows - first)
            after[tile], before[tile] = held[:size].numpy(), past[:size].numpy()
        return after, before

    @torch.inference_mode()
    def gates(self, x: Half, before: Half, state: Half) -> list[Gates]:
        """
        The last step of B rows, layer by layer, from what they keep of it.

        *x* is column `inputs`, *before* column `before`, *state* column `state`. The cell state
        is the one after the step; h is as it was told.
        """
        assert isinstance(self.network.cell, LSTM)
        below = torch.from_numpy(x).float()
        found = []
        for layer in range(self.config.layers):
            h, C = torch.from_numpy(state[:, layer]).float().unbind(1)  # noqa: N806 - as in the equations
            past = torch.from_numpy(before[:, layer]).float()
            gates = self.network.cell.gates(layer, below, past, torch.zeros_like(C))
            found.append(gates._replace(C=C, h=h))
            below = h
        return found


def squareplus(x: Tensor) -> Tensor:
    """Never below zero, and x itself where x is large: a softplus at a tenth of its cost."""
    return 0.5 * (x + torch.sqrt(x * x + 1))


def encode_horizons(horizons: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """
    `shares` and `phases` of *horizons*, as `NetworkInputs` has them.

    Between anchors the logarithm of an error is linear in that of the horizon; beyond the
    last it stays, and the network is left to widen its bands.
    """
    place = np.log(horizons)
    anchors = [np.log(anchor.horizon) for anchor in TRACKED_HORIZONS]
    shares = [np.interp(place, anchors, unit) for unit in np.eye(len(TRACKED_HORIZONS))]
    phases = np.stack((horizons / 12, place / 2.5))[:, None]
    return torch.from_numpy(np.stack(shares)).float(), torch.from_numpy(phases).float()


def digest(network: Network) -> str:
    """A short mark of all weights: equal only where they are equal, whoever made them."""
    found = hashlib.blake2b(digest_size=8)
    for name, each in sorted(network.state_dict().items()):
        found.update(name.encode())
        found.update(each.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def _filled(array: NDArray[np.float32] | NDArray[np.bool_] | Half, axis: int) -> Tensor:
    """A tile of *array*, filled up with zeros along *axis*; in memory of its own, well aligned."""
    part = torch.from_numpy(array)
    if part.shape[axis] == TILE:
        return part.clone(memory_format=torch.contiguous_format)
    shape = list(part.shape)
    size, shape[axis] = shape[axis], TILE
    tile = torch.zeros(shape, dtype=part.dtype)
    tile.narrow(axis, 0, size).copy_(part)
    return tile


def baseline_mixture(config: ModelConfig) -> Forecaster:
    """
    The baselines mixed by their errors, in the place of a network of *config* that nobody taught.

    All weights are zero, so there is nothing to remember: the state stays empty.
    """
    network = Network(ModelConfig(cell="none"))
    with torch.no_grad():
        for each in network.parameters():
            each.zero_()
    forecaster = Forecaster(network)
    forecaster.config, forecaster.served_by = config, "baselines"
    return forecaster


class Header(msgspec.Struct, frozen=True):
    """What the header says of a network."""

    network: ModelConfig
    made: dict[str, str]


def pack(network: Network, made: dict[str, str]) -> bytes:
    """
    Weights as safetensors, with the network's shape and how it was *made* in the header.

    Equal weights give equal bytes; several keys of a header would be shuffled, so it has one.
    """
    shape = {name: getattr(network.config, name) for name in ("cell", "hidden", "layers")}
    told = {HEADER: json.dumps({"network": shape, "made": made})}
    return save({name: each.contiguous() for name, each in network.state_dict().items()}, told)


def unpack(packed: bytes) -> tuple[Network, dict[str, str]]:
    """The network that was packed and how it was made; raises ValueError where it is none."""
    told = read_header(packed)
    try:
        network = Network(told.network)
        network.load_state_dict(load(packed))
    except (SafetensorError, *UNFIT) as error:
        raise ValueError(f"holds no weights of this network: {error}") from error
    return network, told.made


def read_header(packed: bytes) -> Header:
    """What the header says, before any tensor is made; raises ValueError where it says nothing."""
    try:
        length = int.from_bytes(packed[:8], "little")
        told = json.loads(json.loads(packed[8 : 8 + length])["__metadata__"][HEADER])
        return msgspec.convert(told, Header)
    except UNFIT as error:
        raise ValueError(f"holds no weights of this network: {error}") from error
