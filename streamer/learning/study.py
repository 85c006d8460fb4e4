"""Learning beside an engine in one process: what a backtest does as the daemon would have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streamer.core.engine import Engine
from streamer.core.facts import Forecasts
from streamer.core.model import Forecaster
from streamer.learning.learner import Learner, Outcome


class Study:
    """
    An engine that goes on with each generation that its learner promotes.

    Called with the forecasts of each turn; *told* hears of every contest.
    """

    def __init__(self, engine: Engine, learner: Learner, told: Callable[[Outcome], None]) -> None:
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
