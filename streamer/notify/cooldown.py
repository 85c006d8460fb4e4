"""How long a receiver that fails is left alone."""

from __future__ import annotations

from streamer.ops.backoff import Backoff

FIRST_S = 1.0
ASKED_MAX_S = 600.0  # of a receiver's own `Retry-After`


class Cooldown:
    """The time before which a receiver is not tried again; a success ends it."""

    def __init__(self, most_s: float) -> None:
        self._backoff = Backoff(min(FIRST_S, most_s), most_s)
        self.until = float("-inf")  # no attempt before

    def failed(self, now: float, asked_s: float | None = None) -> float:
        """Note a failure at *now*; returns the pause, at least the *asked_s* of the receiver."""
        pause_s = max(self._backoff.take(), min(asked_s or 0.0, ASKED_MAX_S))
        self.until = now + pause_s
        return pause_s

    def worked(self) -> None:
        """Note a success."""
        self._backoff.reset()
        self.until = float("-inf")
