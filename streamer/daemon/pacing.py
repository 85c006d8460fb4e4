"""
How much a turn does: records to poll, pages to save, pages to move to new weights.

All three follow measurements of the turns before, so that a turn stays short whatever the load.
Time only paces the work here; it never decides what a result is.
"""

from __future__ import annotations

from collections.abc import Callable

from streamer.core.registry.rollout import ModelRollout
from streamer.daemon.settings import GenerationConfig, StateConfig, TurnConfig

PAGE_S = 0.02  # estimated time to roll out a page, before the first measurement
PAGE_S_MIN = 0.0005  # the lower limit of that estimate
CREDIT_MAX_S = 1.0  # seconds of rollout time that can be saved up, however long a turn took
# readings per flow in which all pages are saved once, if sooner than the interval
READINGS_A_ROUND = 30
# limit of rows saved at once: after a long pause all would be due in one transaction
ROWS_A_TURN = 50_000
READINGS_A_RECORD = 100.0  # estimate before the first measurement


class Pacing:
    """
    The measurements of a forecaster's turns, and the amounts that follow from them.

    *clock* gives seconds. `page_s` is the estimated time to move a page to new weights.
    """

    def __init__(
        self,
        turn: TurnConfig,
        state: StateConfig,
        generation: GenerationConfig,
        clock: Callable[[], float],
    ) -> None:
        self.poll_timeout_s = float(turn.poll_timeout)
        self.page_s = PAGE_S
        self._records_max, self._readings_max = turn.records_max, turn.readings_max
        self._interval_s = max(float(state.interval), 1e-3)
        self._rollout_time_share = generation.rollout_time_share
        self._clock = clock
        self._readings_a_record = READINGS_A_RECORD
        self.restart()

    def restart(self) -> None:
        """Begin again after a recovery; the measured density of records and page time remain."""
        self._turned_at = self._clock()
        self._elapsed_s = 0.0
        self._readings = 0  # in the last turn
        self._credit_s = 0.0  # time available for the rollout of pages

    def records_max(self, isolated: int | None) -> int:
        """The most records that a turn may take; *isolated*: while a failing one is looked for."""
        fitting = int(self._readings_max / max(1.0, self._readings_a_record))
        return max(1, min(self._records_max, fitting, isolated or self._records_max))

    def begin(self) -> None:
        """A turn begins: measure the time since the last one began."""
        now = self._clock()
        self._elapsed_s, self._turned_at = now - self._turned_at, now

    def end(self, records: int, readings: int) -> None:
        """A turn ends; its density decays slowly, so after a dense record polls stay small."""
        self._readings = readings
        if records:
            self._readings_a_record = max(readings / records, self._readings_a_record / 2)

    def checkpoint_share(self, rows: int) -> float:
        """The share of all pages to save in this turn: by time, or by readings."""
        rows = max(1, rows)
        by_time = self._elapsed_s / self._interval_s
        by_readings = self._readings / (READINGS_A_ROUND * rows)
        return min(max(by_time, by_readings), ROWS_A_TURN / rows)

    def roll_out(self, rollout: ModelRollout) -> int:
        """Move as many pages to the new weights as their share of time allows; how many remain."""
        stale = rollout.stale_pages()
        if not stale:
            self._credit_s = 0.0
            return 0
        self._credit_s += self._rollout_time_share * self._elapsed_s
        self._credit_s = min(self._credit_s, max(CREDIT_MAX_S, self.page_s))
        pages = min(stale, int(self._credit_s / self.page_s))
        if pages:
            began = self._clock()
            rollout.advance(pages)
            took_s = self._clock() - began
            self._credit_s -= took_s
            self.page_s = max(PAGE_S_MIN, (self.page_s + took_s / pages) / 2)
        return stale - pages
