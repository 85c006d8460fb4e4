"""The network: its cells are the literature's, and no row's result depends on its neighbours."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from streamer.core.features.baselines import BASELINES, TRACKED_HORIZONS
from streamer.core.features.inputs import FEATURES, Inputs
from streamer.core.network.cell import LSTM, RNN
from streamer.core.network.config import QUANTILES, ModelConfig, state_shape
from streamer.core.network.model import TILE, Forecaster, Network, pack, unpack

CELLS = ("lstm", "rnn", "none")


def network(cell="lstm", layers=1, hidden=64):
    torch.manual_seed(7)
    return Network(ModelConfig(cell=cell, layers=layers, hidden=hidden))


def draw_inputs(rows, seed=0, horizons=12):
    rng = np.random.default_rng(seed)
    single = np.float32
    return Inputs(
        features=rng.normal(size=(rows, FEATURES)).astype(single),
        ahead=rng.uniform(0, 4, (BASELINES, rows, horizons)).astype(single),
        errors=rng.normal(-1, 0.5, (BASELINES, rows, len(TRACKED_HORIZONS))).astype(single),
        spread=rng.uniform(0, 1, (rows, horizons)).astype(single),
        scale=np.ones(rows, single),
        horizons=np.arange(1, horizons + 1),
    )


def taken(inputs, index):
    return Inputs(
        features=inputs.features[index],
        ahead=inputs.ahead[:, index],
        errors=inputs.errors[:, index],
        spread=inputs.spread[index],
        scale=inputs.scale[index],
        horizons=inputs.horizons,
    )


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_lstm_is_that_of_torch(layers):
    """The equations written out give torch.nn.LSTM's h and C within 1e-6, step after step."""
    torch.manual_seed(layers)
    cell, reference = LSTM(10, 16, layers), torch.nn.LSTM(10, 16, layers)
    order = torch.cat(
        [torch.arange(16) + 16 * gate for gate in (1, 0, 3, 2)]
    )  # torch's order: i f g o
    with torch.no_grad():
        for layer in range(layers):
            names = [f"{kind}_l{layer}" for kind in ("weight_hh", "weight_ih")]
            cell.W[layer].copy_(torch.cat([getattr(reference, n)[order] for n in names], dim=1))
            bias = getattr(reference, f"bias_hh_l{layer}") + getattr(reference, f"bias_ih_l{layer}")
            cell.b[layer].copy_(bias[order])
        steps, state = torch.randn(20, 5, 10), torch.zeros(5, layers, 2, 16)
        for step in steps:
            h, state = cell(step, state)
        expected, (h_n, c_n) = reference(steps)
    assert torch.allclose(h, expected[-1], atol=1e-6, rtol=0)
    assert torch.allclose(state[:, :, 0].transpose(0, 1), h_n, atol=1e-6, rtol=0)
    assert torch.allclose(state[:, :, 1].transpose(0, 1), c_n, atol=1e-6, rtol=0)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_rnn_is_that_of_torch(layers):
    """The simple cell gives torch.nn.RNN's h within 1e-6, step after step."""
    torch.manual_seed(layers)
    cell, reference = RNN(10, 16, layers), torch.nn.RNN(10, 16, layers)
    with torch.no_grad():
        for layer in range(layers):
            names = [f"{kind}_l{layer}" for kind in ("weight_hh", "weight_ih")]
            cell.W[layer].copy_(torch.cat([getattr(reference, n) for n in names], dim=1))
            bias = getattr(reference, f"bias_hh_l{layer}") + getattr(reference, f"bias_ih_l{layer}")
            cell.b[layer].copy_(bias)
        steps, state = torch.randn(20, 5, 10), torch.zeros(5, layers, 1, 16)
        for step in steps:
            h, state = cell(step, state)
        expected, h_n = reference(steps)
    assert torch.allclose(h, expected[-1], atol=1e-6, rtol=0)
    assert torch.allclose(state[:, :, 0].transpose(0, 1), h_n, atol=1e-6, rtol=0)


@given(rows=st.integers(1, 2 * TILE + 3), seed=st.integers(0, 2**16), cell=st.sampled_from(CELLS))
@settings(max_examples=25)
def test_a_row_fares_the_same_in_any_wave(rows, seed, cell):
    """Whatever the wave's size and the places in it, outputs and state keep each bit."""
    forecaster = Forecaster(network(cell, layers=2, hidden=24))
    inputs, rng = draw_inputs(rows, seed), np.random.default_rng(seed)
    state = rng.normal(size=(rows, *state_shape(forecaster.config))).astype(np.float16)
    outputs, after = forecaster.step(inputs, state)
    some = rng.permutation(rows)[: rng.integers(1, rows + 1)]
    outputs_some, after_some = forecaster.step(taken(inputs, some), state[some])
    assert outputs[:, some].tobytes() == outputs_some.tobytes()
    assert after[some].tobytes() == after_some.tobytes()


def test_a_nan_stays_in_its_row():
    """A row that is all NaN leaves every bit of the others as it was."""
    forecaster, inputs = Forecaster(network()), draw_inputs(100)
    state = np.zeros((100, *state_shape(forecaster.config)), np.float16)
    clean, after = forecaster.step(inputs, state)
    inputs.features[17], inputs.ahead[:, 17], state[17] = np.nan, np.nan, np.nan
    spoilt, after_spoilt = forecaster.step(inputs, state)
    others = np.arange(100) != 17
    assert clean[:, others].tobytes() == spoilt[:, others].tobytes()
    assert after[others].tobytes() == after_spoilt[others].tobytes()


@pytest.mark.parametrize("cell", CELLS)
def test_quantiles_never_cross(cell):
    """Whatever the weights, each quantile is at least the one below it."""
    wild = network(cell)
    with torch.no_grad():
        for weights in wild.parameters():
            weights.mul_(5)
    forecaster = Forecaster(wild)
    state = np.zeros((300, *state_shape(forecaster.config)), np.float16)
    outputs, _ = forecaster.step(draw_inputs(300), state)
    assert (np.diff(outputs, axis=0) >= 0).all()


def test_any_horizon_may_be_asked_for():
    """The same weights serve one horizon and ninety-six, and agree where both look."""
    forecaster, far = Forecaster(network()), draw_inputs(9, horizons=96)
    state = np.zeros((9, *state_shape(forecaster.config)), np.float16)
    near = Inputs(
        far.features, far.ahead[..., :1], far.errors, far.spread[:, :1], far.scale, np.array([1])
    )
    outputs_far, _ = forecaster.step(far, state)
    outputs_near, _ = forecaster.step(near, state)
    assert outputs_far.shape == (len(QUANTILES), 9, 96)
    np.testing.assert_allclose(outputs_far[..., :1], outputs_near, rtol=1e-5)


def test_the_gates_of_the_last_step_are_recomputed():
    """From what a row keeps, f∘C + i∘g and o∘tanh(C') give the state that the step left."""
    forecaster, inputs = Forecaster(network(layers=2)), draw_inputs(6)
    inputs = taken(inputs, slice(None))
    inputs.features[:] = inputs.features.astype(np.float16)
    past = np.random.default_rng(1).normal(size=(6, 2, 2, 64)).astype(np.float16)
    _, state = forecaster.step(inputs, past)
    found = forecaster.gates(inputs.features.astype(np.float16), past[:, :, 0], state)
    for layer, gates in enumerate(found):
        cell_state = gates.f * torch.from_numpy(past[:, layer, 1]).float() + gates.i * gates.g
        np.testing.assert_allclose(cell_state, state[:, layer, 1], atol=4e-3)
        np.testing.assert_allclose(gates.o * torch.tanh(cell_state), state[:, layer, 0], atol=2e-3)


@pytest.mark.parametrize("cell", CELLS)
def test_weights_come_back_as_they_were_packed(cell):
    """A packed network brings its shape, its weights and the story of its making."""
    packed = pack(network(cell, hidden=8), {"seed": "3"})
    again, made = unpack(packed)
    assert made == {"seed": "3"}
    assert again.config == ModelConfig(cell=cell, hidden=8)
    assert pack(again, made) == packed


@pytest.mark.parametrize("packed", [b"", b"no weights", pack(network(hidden=8), {})[:-40]])
def test_what_holds_no_weights_is_refused(packed):
    """Bytes that are no network raise ValueError, and nothing else."""
    with pytest.raises(ValueError, match="holds no weights"):
        unpack(packed)
