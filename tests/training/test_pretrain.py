"""How weights are made: the loss falls, and a seed decides everything."""

import numpy as np
import pytest
import torch

from streamer.core.network.config import ModelConfig
from streamer.core.network.model import Network, pack
from streamer.training.pretrain import Plan, made, pretrain

SMALL = {"steps_s": (600,), "flows": 24, "chunk": 16, "scored_steps": 8, "age_max": 50}


def trained(plan):
    torch.set_num_threads(1)
    torch.manual_seed(plan.seed)
    network = Network(plan.model)
    return network, [progress.loss for progress in pretrain(plan, network)]


@pytest.mark.parametrize("cell", ["lstm", "rnn", "none"])
def test_the_loss_falls(cell):
    """Each kind of cell learns from generated traffic."""
    _, losses = trained(Plan(model=ModelConfig(cell=cell, hidden=16), passes=60, **SMALL))
    assert np.isfinite(losses).all()
    assert np.mean(losses[-15:]) < 0.95 * np.mean(losses[:5])


def test_a_seed_decides_everything():
    """The same plan gives the same file, another seed another."""
    plans = [Plan(model=ModelConfig(hidden=8), passes=20, seed=seed, **SMALL) for seed in (1, 1, 2)]
    first, again, other = (pack(trained(plan)[0], made(plan, 0.0)) for plan in plans)
    assert first == again
    assert first != other
