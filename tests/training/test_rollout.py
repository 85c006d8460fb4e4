"""
What is lost where flows go over to other weights: next to nothing, and then nothing.

Three nets take the same generated traffic: one that goes over, one whose weights always were the
new ones (the steady state), and a new one over the state that the old one left.
"""

import numpy as np
import pytest
import torch

from streamer import weights
from streamer.core.features import grid
from streamer.core.network.config import QUANTILES, ModelConfig
from streamer.core.network.model import Forecaster, Network, unpack
from streamer.core.network.pinball import pinball_loss
from streamer.core.predict import forecast
from streamer.core.registry import rebuild
from streamer.core.state.table import row_type
from streamer.synthetic import Traffic
from streamer.training.pretrain import Plan, pretrain

FLOWS, STEP_S, FIRST = 64, 600, 19_000 * 144
BEFORE, AFTER, HORIZONS = 400, 50, np.arange(1, 13)
MEDIAN = QUANTILES.index(0.5)


def shipped(off=0.0):
    """The shipped weights, each a share *off* its layer's spread."""
    packed = weights.shipped("lstm")
    network, _ = unpack(packed)
    chance = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for each in network.parameters():
            noise = torch.randn(each.shape, generator=chance)
            each.add_(noise, alpha=off * float(each.abs().mean()))
    return Forecaster(network)


def stranger():
    """Weights that come from elsewhere: a short schooling from nothing."""
    torch.manual_seed(5)
    network = Network(ModelConfig())
    plan = Plan(passes=20, seed=5, steps_s=(600,), flows=24, chunk=16, scored_steps=8, age_max=50)
    for _ in pretrain(plan, network):
        pass
    return Forecaster(network)


@pytest.mark.parametrize("kind", ["trained a little more", "from elsewhere"])
def test_the_steps_after_taking_up_err_no_more_than_the_steady_state(kind):
    """At most 1.05 of it over fifty steps, in the median and in all quantiles."""
    torch.set_num_threads(1)
    old, new = shipped(), shipped(0.1) if kind == "trained a little more" else stranger()
    traffic = Traffic(np.random.default_rng(5), FLOWS, STEP_S, FIRST)
    rates = traffic.chunk(BEFORE + AFTER + int(HORIZONS[-1]))
    outlook = forecast.ForecastSpec(STEP_S)
    rows = np.zeros(FLOWS, row_type(grid.COLUMNS + forecast.columns(old.config, outlook)))
    always = rows["state"].copy()
    for step in range(BEFORE):
        inputs = forecast.prepare(rows, rates[step], np.full(FLOWS, FIRST + step), outlook)
        _, always = new.step(inputs, always)
        _, rows["state"] = old.step(inputs, rows["state"])
    taken = rows.copy()
    rebuild.rebuild_states(taken, np.full(FLOWS, FIRST + BEFORE - 1), STEP_S, new)
    if kind == "from elsewhere":
        primed, raw = (
            np.abs(each["state"] - always.astype(float)).mean() for each in (taken, rows)
        )
        assert primed < raw / 2

    states = {"steady": always, "raw": rows["state"].copy(), "re-primed": taken["state"].copy()}
    errors, losses = (dict.fromkeys(states, 0.0) for _ in range(2))
    for step in range(BEFORE, BEFORE + AFTER):
        inputs = forecast.prepare(rows, rates[step], np.full(FLOWS, FIRST + step), outlook)
        truth = np.log1p(4 * rates[step + HORIZONS].T / inputs.scale[:, None])
        for name, state in states.items():
            outputs, state[:] = new.step(inputs, state)
            away = truth - outputs
            errors[name] += np.nansum(np.abs(away[MEDIAN]))
            ranks = np.array(QUANTILES)[:, None, None]
            losses[name] += np.nansum(pinball_loss(away, ranks))
    for of_each in (errors, losses):
        print({name: round(float(each / of_each["steady"]), 4) for name, each in of_each.items()})
        assert of_each["re-primed"] <= 1.05 * of_each["steady"]
