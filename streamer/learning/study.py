"""Learning beside an engine in one process: what a backtest does as the daemon would have."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from streamer.core.contest import ContestConfig
from streamer.core.engine import Engine
from streamer.core.facts import Forecasts
from streamer.core.model import Forecaster
from streamer.learning.history import History
from streamer.learning.learner import Learner, Outcome, Serving
from streamer.learning.settings import FinetuneConfig, TrainerConfig


class Study:
    """
    An engine that goes on with each generation that its learner promotes.

    Called with the forecasts of each turn; *told* hears of every contest.
    """

    def __init__(
        self, engine: Engine, learner: Learner, told: Callable[[Outcome], None] = lambda _: None
    ) -> None:
        self._engine, self._learner, self._told = engine, learner, told

    def __call__(self, made: Sequence[Forecasts]) -> None:
        """Hear what steps closed, and learn if it is time."""
        for each in made:
            self._learner.hear(each)
        if not self._learner.due():
            return
        for outcome in self._learner.turn(self._engine.rows_of):
            if outcome.serving is not None:
                serving = outcome.serving
                self._engine.model = Forecaster(serving.network, serving.generation)
            self._told(outcome)


def begin(  # noqa: PLR0913 - the parts of a learner, wired in one place
    model: Forecaster,
    engine: Engine,
    trainer: TrainerConfig,
    finetune: FinetuneConfig,
    rules: ContestConfig,
    alive: Callable[[], None] = lambda: None,
) -> Learner:
    """A learner that knows nothing yet, of what *engine* forecasts with *model*."""
    step_s = engine.outlook.step_s
    history = History(trainer.flows_max, int(trainer.window) // step_s + 1, step_s)
    return Learner(
        Serving(model.generation, model.network, ""),
        history,
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
    """Where it is trained."""
    if trainer.device == "auto":
        import torch  # noqa: PLC0415 - asked only where nobody said it

        return "cuda" if torch.cuda.is_available() else "cpu"
    return trainer.device
