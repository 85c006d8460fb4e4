"""The delays between attempts: each is twice the one before, up to a bound."""

from __future__ import annotations


class Backoff:
    """
    Delays in seconds that double from *first_s* to *most_s*.

    There is no jitter: the processes of a group do not fail at the same instant, and a test can
    state each delay.
    """

    def __init__(self, first_s: float, most_s: float) -> None:
        self._first_s, self._most_s = first_s, most_s
        self.delay_s = first_s  # that of the next attempt

    def take(self) -> float:
        """The delay of the next attempt; the one after it waits twice as long."""
        delay_s = self.delay_s
        self.delay_s = min(2 * delay_s, self._most_s)
        return delay_s

    def reset(self) -> None:
        """An attempt succeeded: begin with the first delay again."""
        self.delay_s = self._first_s
