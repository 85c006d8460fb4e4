"""Whether a process is alive and whether it is ready, as its loop reports it."""

from __future__ import annotations

import time
from collections.abc import Callable


class Health:
    """
    The loop reports; probes ask. A process is live if its loop moved within *stall_max_s*.

    A log that is away is no death: the loop moves while it waits. Whether a process is ready
    does not depend on partitions, or a spare member of the group would never be.
    """

    def __init__(self, stall_max_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stall_max_s = stall_max_s
        self._clock = clock
        self._moved_at = clock()
        self._waits_for = "starting"  # "": ready

    def moved(self) -> None:
        """The loop went round, or finished another piece of a long work."""
        self._moved_at = self._clock()

    def ready(self) -> None:
        """It is restored and consumes."""
        self._waits_for = ""

    def waiting(self, reason: str) -> None:
        """It is not ready, for *reason*."""
        self._waits_for = reason

    def why_dead(self) -> str:
        """The reason why it should be restarted; empty if it should not."""
        stalled_s = self._clock() - self._moved_at
        if stalled_s <= self._stall_max_s:
            return ""
        return f"the loop has not moved for {stalled_s:.0f} s"

    def why_not_ready(self) -> str:
        """The reason why it is not ready; empty if it is."""
        return self.why_dead() or self._waits_for
