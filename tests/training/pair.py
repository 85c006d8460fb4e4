"""A forecaster and a trainer over one log, in one thread: each turns when it is asked to."""

import itertools
import json
import time
from itertools import takewhile

from streamer.config.schema import open_client, open_trainers
from streamer.daemon.factories import wire_forecaster, wire_trainer

PATIENCE_S = 300.0


class Diary:
    """The reports of both, as far as a test reads them."""

    def __init__(self):
        self.outcomes, self.oddities, self.failures = [], [], []

    def concluded(self, outcome):
        self.outcomes.append(outcome)

    def odd(self, why):
        self.oddities.append(why)

    def registry_updated(self, update):
        self.oddities += update.refusals

    def failed(self, *failure):
        self.failures.append(failure)

    def alive(self): ...

    def entered(self, phase, **fields): ...

    def read(self, records, event_time, flows): ...

    def moved(self, phase): ...

    def turned(self, turn): ...

    def restored(self, back): ...

    def unplaced(self, partitions, widths): ...


class Pair:
    """
    Wired as they serve.

    A forecaster's clock advances by a second with each call, so that no test waits for it.
    """

    def __init__(self, config):
        self.config, self.diary = config, Diary()
        ticks = itertools.count()
        self.forecaster = wire_forecaster(
            config, self.diary, clock=lambda: float(next(ticks)), pause=time.sleep
        )
        self.trainer = wire_trainer(config, self.diary, pause=time.sleep)
        self.forecaster.start()
        self.trainer._log = open_trainers(config)

    @property
    def contests(self):
        """Those that were held, in their order."""
        return [each.result for each in self.diary.outcomes]

    @property
    def serves(self):
        """The generation that all of the forecaster's pages are of; None while they differ."""
        engine = self.forecaster.engine
        return None if engine.rollout.stale_pages() else engine.generations.incumbent

    def is_agreed(self):
        """Whether what the trainer goes on from is what all pages are of."""
        return self.serves == self.trainer.learner.serving.generation

    def until(self, condition):
        """Let both turn until *condition* holds."""
        ends = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < ends, "it never came"
            self.trainer.turn()
            self.forecaster.turn()

    def forecasts(self, since=0):
        """All that were made at *since* or later."""
        client = open_client(self.config)
        batches = client.follow([self.config.forecasts.topic], from_start=True, wait_s=0.01)
        records = [record for batch in takewhile(bool, batches) for record in batch]
        client.close()
        forecasts = [json.loads(line) for each in records for line in each.value.splitlines()]
        return [each for each in forecasts if each["made_at"] >= since]

    def close(self):
        self.forecaster.forget()
        self.trainer.forget()
