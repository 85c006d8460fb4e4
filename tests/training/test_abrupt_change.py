"""What becomes of forecasts when a flow changes for good, with weights that learn or stay."""

import numpy as np
import pytest

from streamer.config.schema import load
from streamer.core.engine import Engine
from streamer.core.predict.forecast import ForecastSpec
from streamer.core.registry.validation import weights_validator
from streamer.core.wire.parsed import Reading
from streamer.evaluation.backtest import BATCH, baseline_scorer, run_backtest, survey
from streamer.training.inline import InlineTrainer, begin
from streamer.weights import open_model

STEP_S, DAY, FLOWS, BEFORE = 600, 144, 12, 10
MIDNIGHT = 20_000 * DAY  # a step


def rates(change, days):
    """Flows of a rhythm each, that change after BEFORE days; (steps, flows)."""
    rng = np.random.default_rng(0)
    hours = np.arange(days * DAY)[:, None, None] * 24 / DAY
    after = hours[:, :, 0] >= 24 * BEFORE
    harmonics = np.arange(1, 5)
    sizes = rng.normal(size=(FLOWS, 4)) / harmonics
    phases = rng.uniform(0, 2 * np.pi, (FLOWS, 4))

    def wave(later=0.0):
        angles = 2 * np.pi * harmonics * (hours + later) / 24 + phases
        return (sizes * np.cos(angles)).sum(2)

    usual = wave()
    changed = {"doubled": usual, "six hours later": wave(6.0), "turned over": -usual}[change]
    z = 0.75 * np.where(after, changed, usual) / usual.std(0)
    z = z + np.log(2) * after * (change == "doubled")
    noise = 0.6 * rng.normal(size=z.shape)
    for step in range(1, len(noise)):
        noise[step] += 0.8 * noise[step - 1]
    return 10 ** rng.uniform(3, 8, FLOWS) * np.exp(z + 0.25 * noise)


CHANGES = ("doubled", "six hours later", "turned over")


def backtested(came, *, learning):
    """The medians of all horizons, (steps, flows, horizons), of flows with the rates *came*."""
    config = load(None, (f"step={STEP_S}s", "input.kind=gauge"), {})
    source = [
        [
            Reading(flow=f"port{n:02}", time=(MIDNIGHT + at) * STEP_S + 1.0, value=float(rate))
            for n, rate in enumerate(row)
        ]
        for at, row in enumerate(came)
    ]
    model = open_model(config.model)
    extent, spec = survey(source, STEP_S), ForecastSpec(STEP_S)
    scorer = baseline_scorer(extent, spec, 0.0)
    admit = weights_validator(config.model)
    engine = Engine(model, config.engine, admit=admit, input_hook=scorer.observe)
    learns = config.trainer, config.finetune, config.contest
    trainer = (
        InlineTrainer(engine, begin(model, engine, *learns)) if learning else lambda _made: None
    )
    batch = 4 * came.shape[1] if learning else BATCH
    played = run_backtest(engine, scorer, source, extent, 0.0, on_forecasts=trainer, batch=batch)
    return played.forecasts[..., played.quantiles.index(0.5)]


@pytest.fixture(scope="module")
def fixed_weights():
    """The medians of the flows of each change, by change; one engine has them all."""
    came = [rates(change, BEFORE + 4) for change in CHANGES]
    median = backtested(np.concatenate(came, axis=1), learning=False)
    return dict(zip(CHANGES, np.split(median, len(CHANGES), axis=1), strict=True))


@pytest.mark.parametrize(
    ("change", "learning", "most"),
    [
        ("doubled", False, (1.2, 1.15)),
        ("six hours later", False, (1.4, 1.2)),
        ("six hours later", True, (1.4, 1.2)),
        ("turned over", False, (1.5, 1.2)),
    ],
)
def test_the_error_comes_back_after_an_abrupt_change(fixed_weights, change, learning, most):
    """
    On the third and the fourth day it is nearly what it was: the new day has been learned.

    Weights that have seen nothing but quiet days for ten days come back as soon.
    """
    came = rates(change, BEFORE + 4)
    median = backtested(came, learning=True) if learning else fixed_weights[change]

    def error(first, last):
        made = np.arange(first * DAY, last * DAY - 12)
        ahead = np.arange(1, 13)
        missed = np.abs(median[made] - came[made[:, None] + ahead].swapaxes(1, 2)).mean((0, 2))
        return missed / came[first * DAY : last * DAY].mean(0)

    usual = error(BEFORE - 3, BEFORE)
    days = [error(BEFORE + n, BEFORE + n + 1) / usual for n in range(4)]
    ratios = [float(np.exp(np.log(each).mean())) for each in days]
    print(change, learning, [round(each, 2) for each in ratios])
    assert ratios[2] <= most[0]
    assert ratios[3] <= most[1]
