"""What the gates are for: the LSTM learns what a simple cell does not."""

import itertools

import pytest
import torch
from click.testing import CliRunner

from streamer.__main__ import cli
from streamer.experiments.memory_task import MemoryNetwork, Plan, gradients, iterations, train

LAGS = 10, 30, 80


@pytest.fixture(scope="module")
def trained():
    """Each cell's trained network, and its error at each lag."""
    torch.set_num_threads(1)
    found = {}
    for cell in ("lstm", "rnn"):
        torch.manual_seed(2)
        plan = Plan(cell=cell, lags=LAGS, passes=120, seed=2)
        network = MemoryNetwork(plan)
        errors = [error for _, error in train(plan, network) if error is not None]
        found[cell] = network, errors
    return found


def test_the_lstm_solves_a_lag_that_the_simple_cell_does_not(trained):
    """Eighty steps back, trained in the same way."""
    (_, lstm), (_, rnn) = trained["lstm"], trained["rnn"]
    assert len(lstm) == len(rnn) == len(LAGS)
    assert lstm[-1] < 0.25
    assert rnn[-1] > 0.45


def test_an_error_reaches_far_back_through_gates_alone(trained):
    """Much of what reaches one step back reaches eighty; in the simple cell next to nothing."""
    (lstm, _), (rnn, _) = trained["lstm"], trained["rnn"]
    assert gradients(lstm, LAGS[-1], 0)[-1] > 0.1
    assert gradients(rnn, LAGS[-1], 0)[-1] < 1e-6


def test_iterations_grow_longer_step_by_step():
    """From one lag to the next, where they stay for a while; no cell is asked for more at once."""
    plan = Plan(cell="rnn", lags=(5, 50), passes=40)
    steps = [iteration.steps for iteration in iterations(plan)]
    assert len(steps) == 80
    assert steps == sorted(steps)
    assert steps[39] == 5
    assert steps[-10:] == [50] * 10
    assert max(b - a for a, b in itertools.pairwise(steps)) <= 2


def test_the_command_prints_and_draws_the_results(tmp_path):
    """A line for each lag, with both cells; and a picture."""
    picture = tmp_path / "memory.png"
    options = "--lags", "2,4,12", "--passes", "3", "--hidden", "4", "--plot", str(picture)
    outcome = CliRunner().invoke(cli, ["bench", "memory", *options])
    assert outcome.exit_code == 0, outcome.output
    lines = [line.split() for line in outcome.stdout.splitlines()]
    errors = {int(line[0]): line[1:] for line in lines if len(line) == 3 and line[0].isdigit()}
    assert errors.keys() == {2, 4, 12}
    assert all(0 < float(error) < 10 for both in errors.values() for error in both)
    assert picture.stat().st_size > 5_000


@pytest.mark.parametrize("lags", ["", "5,x", "0,5", "10,5", "5,5"])
def test_lags_that_do_not_grow_are_refused(lags):
    """In a line that shows how they are written."""
    outcome = CliRunner().invoke(cli, ["bench", "memory", "--lags", lags])
    assert outcome.exit_code == 2
    assert "as in 5,20,100" in outcome.stderr


def test_the_same_seed_gives_the_same_errors():
    """Errors are equal to the bit, and another seed's are not."""
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        plan = Plan(cell="lstm", lags=(3, 6), passes=5, seed=seed)
        results.append(
            [error for _, error in train(plan, MemoryNetwork(plan)) if error is not None]
        )
    assert results[0] == results[1] != results[2]
