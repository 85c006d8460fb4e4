"""
The network: a recurrent cell, and a head that mixes the baselines.

For each horizon the head weights the baselines' forecasts, corrects their
mixture, and computes widths on either side, all in units of the least running
error at that horizon. Quantiles are the cumulative sums of widths, so they cannot
cross. The horizon is an input of the head, so any horizon can be computed.

A row's outputs depend only on that row, to the bit. The rounding of a matrix product
changes with the number of rows, so rows are always processed in tiles of TILE; the last tile
is padded with zeros.
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
from streamer.core.network.config import HEAD_WIDTH, QUANTILES, Half, ModelConfig, state_shape

MEDIAN = QUANTILES.index(0.5)
TILE = 128  # rows; a wave of one row costs as much as a tile
PRIOR = 6.0  # a baseline's prior weight is its running error to this negative power
UNIT_MAX = 1.5

HEADER = "streamer"  # the key in a weights file under which the network is described
UNFIT = (KeyError, TypeError, ValueError, RuntimeError)  # raised for weights of another network
CELLS = {"lstm": LSTM, "rnn": RNN, "none": NoCell}


class NetworkInputs(NamedTuple):
    """The network's inputs for R rows and H horizons: `Inputs` as tensors."""

    features: Tensor  # (R, FEATURES)
    ahead: Tensor  # (BASELINES, R, H)
    errors: Tensor  # (BASELINES, R, anchors)
    spread: Tensor  # (R, H)
    shares: Tensor  # (anchors, H) the weight of each anchor's error at each horizon
    phases: Tensor  # (2, 1, H) encoded horizons


class Network(nn.Module):
    """The weights and the computation; the same in training and in service."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.cell = CELLS[config.cell](FEATURES, config.hidden, config.layers)
        hidden = 0 if config.cell == "none" else config.hidden
        self.of_flow = nn.Linear(hidden + FEATURES, HEAD_WIDTH)
        self.of_horizon = nn.Linear(2 * BASELINES + 4, HEAD_WIDTH, bias=False)
        self.output = nn.Linear(HEAD_WIDTH, BASELINES + len(QUANTILES))
        with torch.no_grad():
            self.output.weight *= 0.1  # begin near the mixture of baselines by their errors
            self.output.bias.zero_()

    def head(self, h: Tensor, sight: NetworkInputs) -> Tensor:
        """From h (R, hidden) and the inputs to compressed quantiles, (QUANTILES, R, H)."""
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
        inner = torch.mm(self.of_horizon.weight, seen).view(HEAD_WIDTH, rows, count)
        inner = inner.add_(flow[:, :, None])
        inner = nn.functional.silu(inner).view(HEAD_WIDTH, rows * count)
        raw = torch.addmm(self.output.bias[:, None], self.output.weight, inner)
        raw = raw.view(-1, rows, count)

        weights = torch.softmax(torch.sub(raw[:BASELINES], relative, alpha=PRIOR), 0)
        mixed = (weights * ahead).sum(0)
        unit = unit.clamp(max=UNIT_MAX)
        corrections = raw[BASELINES:]
        widths = unit * squareplus(corrections)
        median = (mixed + unit * corrections[MEDIAN] * 0.5)[None]
        below = median - widths[:MEDIAN].flip(0).cumsum(0).flip(0)
        above = median + widths[MEDIAN + 1 :].cumsum(0)
        return torch.cat((below, median, above))


class Forecaster:
    """A network in service; it processes a wave at once."""

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
    def prime(self, features: NDArray[np.float32], started: NDArray[np.bool_]) -> tuple[Half, Half]:
        """See `Model.prime`: runs the cell alone; states are float16 between steps."""
        count, rows = started.shape
        shape = rows, *state_shape(self.config)
        after, before = np.zeros(shape, np.float16), np.zeros(shape, np.float16)
        for first in range(0, rows, TILE):
            tile = slice(first, first + TILE)
            on = _filled(started[:, tile], 1)[:, :, None, None, None]
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
        The gates of the last step of B rows, layer by layer, from the rows' columns.

        *x* is column `inputs`, *before* column `state_before`, *state* column `state`. The cell
        state C and the output h are those after the step, from *state*.
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
    """A positive function, close to x for large x: a softplus at a tenth of its cost."""
    return 0.5 * (x + torch.sqrt(x * x + 1))


def encode_horizons(horizons: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """
    `shares` and `phases` of *horizons*, for `NetworkInputs`.

    Between anchors the logarithm of an error is linear in that of the horizon. Beyond the
    last anchor it is constant, and the network must widen its bands itself.
    """
    place = np.log(horizons)
    anchors = [np.log(anchor.horizon) for anchor in TRACKED_HORIZONS]
    shares = [np.interp(place, anchors, unit) for unit in np.eye(len(TRACKED_HORIZONS))]
    phases = np.stack((horizons / 12, place / 2.5))[:, None]
    return torch.from_numpy(np.stack(shares)).float(), torch.from_numpy(phases).float()


def digest(network: Network) -> str:
    """A short hash of all weights: equal for equal weights, whatever their origin."""
    found = hashlib.blake2b(digest_size=8)
    for name, each in sorted(network.state_dict().items()):
        found.update(name.encode())
        found.update(each.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def _filled(array: NDArray[np.float32] | NDArray[np.bool_] | Half, axis: int) -> Tensor:
    """A tile of *array*, padded with zeros along *axis*; a new, aligned allocation."""
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
    The baselines mixed by their errors: a substitute for an untrained network of *config*.

    All weights are zero, so the cell has no memory: the state stays empty.
    """
    network = Network(ModelConfig(cell="none"))
    with torch.no_grad():
        for each in network.parameters():
            each.zero_()
    forecaster = Forecaster(network)
    forecaster.config, forecaster.served_by = config, "baselines"
    return forecaster


class Header(msgspec.Struct, frozen=True):
    """The description of a network in the header of its weights file."""

    network: ModelConfig
    made: dict[str, str]


def pack(network: Network, made: dict[str, str]) -> bytes:
    """
    Weights as safetensors, with the network's shape and how it was *made* in the header.

    Equal weights give equal bytes. The header has a single key, because the order of several
    keys would be random.
    """
    shape = {name: getattr(network.config, name) for name in ("cell", "hidden", "layers")}
    metadata = {HEADER: json.dumps({"network": shape, "made": made})}
    return save({name: each.contiguous() for name, each in network.state_dict().items()}, metadata)


def unpack(packed: bytes) -> tuple[Network, dict[str, str]]:
    """The inverse of `pack`; raises ValueError if the bytes are not weights of this network."""
    header = read_header(packed)
    try:
        network = Network(header.network)
        network.load_state_dict(load(packed))
    except (SafetensorError, *UNFIT) as error:
        raise ValueError(f"holds no weights of this network: {error}") from error
    return network, header.made


def read_header(packed: bytes) -> Header:
    """Decode the header without creating tensors; raises ValueError if it is invalid."""
    try:
        length = int.from_bytes(packed[:8], "little")
        document = json.loads(json.loads(packed[8 : 8 + length])["__metadata__"][HEADER])
        return msgspec.convert(document, Header)
    except UNFIT as error:
        raise ValueError(f"holds no weights of this network: {error}") from error
