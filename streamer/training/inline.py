"""Training beside an engine in one process, as a backtest needs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from streamer.core.engine import Engine
from streamer.core.network.model import Forecaster
from streamer.core.registry.promotion import ContestConfig
from streamer.core.types import Forecasts
from streamer.training.history import History
from streamer.training.learner import Learner
from streamer.training.outcome import Outcome, TrainedModel
from streamer.training.settings import FinetuneConfig, TrainerConfig


class InlineTrainer:
    """
    Trains with an engine, and installs each promoted generation in it.

    Called with the forecasts of each turn; *on_outcome* receives the outcome of every contest.
    """

    def __init__(
        self,
        engine: Engine,
        learner: Learner,
        on_outcome: Callable[[Outcome], None] = lambda _: None,
    ) -> None:
        self._engine, self._learner, self._on_outcome = engine, learner, on_outcome

    def __call__(self, made: Sequence[Forecasts]) -> None:
        """Process closed steps, and train if an interval has ended."""
        for each in made:
            self._learner.observe(each)
        if not self._learner.due():
            return
        for outcome in self._learner.turn(self._engine.rows_of):
            if outcome.serving is not None:
                install_generation(self._engine, outcome.serving)
            self._on_outcome(outcome)


def install_generation(engine: Engine, serving: TrainedModel) -> None:
    """Install a generation in *engine*, for all pages at once."""
    known = engine.generations.fetch(serving.generation)  # that of the settings, after a rollback
    engine.install(known or Forecaster(serving.network, serving.generation))


def begin(  # noqa: PLR0913 - the parts of a learner, wired in one place
    model: Forecaster,
    engine: Engine,
    trainer: TrainerConfig,
    finetune: FinetuneConfig,
    rules: ContestConfig,
    alive: Callable[[], None] = lambda: None,
) -> Learner:
    """Build a learner without history, for the forecasts of *engine* with *model*."""
    step_s = engine.outlook.step_s
    history = History(trainer.flows_max, int(trainer.window) // step_s + 1, step_s)
    return Learner(
        TrainedModel(model.generation, model.network, model.digest),
        history,
        shape=model.config,
        finetune=finetune,
        rules=rules,
        window_s=float(trainer.window),
        horizons=engine.outlook.horizons,
        quantiles=engine.outlook.quantiles,
        device=device(trainer),
        alive=alive,
        clock=time.process_time,
    )


def device(trainer: TrainerConfig) -> str:
    """Return the device of the training."""
    if trainer.device == "auto":
        import torch  # noqa: PLC0415 - imported only if the setting is absent

        return "cuda" if torch.cuda.is_available() else "cpu"
    return trainer.device
