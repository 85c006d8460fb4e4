"""How long a receiver that fails is left alone."""

from __future__ import annotations

FIRST_S = 1.0
ASKED_MAX_S = 600.0  # of a receiver's own `Retry-After`


class Backoff:
    """Pauses that double with each failure, up to a limit; a success ends them."""

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self._next_s = min(FIRST_S, most_s)
        self.until = float("-inf")  # no attempt before

    def failed(self, now: float, asked_s: float | None = None) -> float:
        """Note a failure at *now*; returns the pause, at least the *asked_s* of the receiver."""
        pause_s = max(self._next_s, min(asked_s or 0.0, ASKED_MAX_S))
        self._next_s = min(2 * self._next_s, self._most_s)
        self.until = now + pause_s
        return pause_s

    def worked(self) -> None:
        """Note a success."""
        self._next_s = min(FIRST_S, self._most_s)
        self.until = float("-inf")
