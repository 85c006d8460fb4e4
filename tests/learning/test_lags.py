"""What the gates are for: the LSTM learns what a simple cell does not."""

import torch

from streamer.lags import Plan, Pupil, gradients, teach

LAGS = 5, 20, 60


def taught(cell, lags=LAGS, passes=60):
    torch.set_num_threads(1)
    torch.manual_seed(1)
    plan = Plan(cell=cell, lags=lags, passes=passes, seed=1)
    pupil = Pupil(plan)
    told = list(teach(plan, pupil))
    return pupil, [progress.error for progress in told if progress.error is not None], told


def test_the_lstm_solves_a_lag_that_the_simple_cell_does_not():
    """Sixty steps back, taught alike."""
    (_, lstm, _), (_, rnn, _) = taught("lstm"), taught("rnn")
    assert lstm[-1] < 0.25
    assert rnn[-1] > 0.5


def test_an_error_reaches_far_back_through_gates_alone():
    """Once taught, sixty steps take little of it away; of the simple cell's nearly all."""
    (lstm, _, _), (rnn, _, _) = taught("lstm"), taught("rnn")
    assert gradients(lstm, 60, 0)[-1] > 0.05
    assert gradients(rnn, 60, 0)[-1] < 0.01
