"""
Samples the flows that are trained on; every instance draws the same sample.

The sample consists of the flows with the smallest keyed hashes of their names (a bottom-k
sketch; Cohen and Kaplan, 2007). It depends neither on the order in which flows arrive nor on
the process that reads them. A flow in the final sample was in it from its first reading; an
evicted flow is never readmitted.
"""

from __future__ import annotations

import hashlib
import heapq

KEY = b"streamer.learning"
KNOWN_MAX = 200_000  # cached ranks, so as not to compute them for each reading


def rank(flow: str) -> int:
    """Return a flow's rank among all possible flows."""
    encoded = flow.encode(errors="replace")
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8, key=KEY).digest(), "big")


class Sample:
    """The *flows_max* flows of lowest rank among those seen so far."""

    def __init__(self, flows_max: int) -> None:
        self.flows_max = flows_max
        self._ranks: dict[str, int] = {}
        self._out: set[str] = set()  # flows that are excluded permanently
        self._heap: list[tuple[int, str]] = []  # the sampled flows, the highest rank first

    def __len__(self) -> int:
        return len(self._ranks)

    def __contains__(self, flow: str) -> bool:
        return flow in self._ranks

    def admit(self, flow: str) -> tuple[bool, str | None]:
        """Return whether *flow* is in the sample from now on, and the flow it evicted."""
        if flow in self._ranks:
            return True, None
        if flow in self._out:
            return False, None
        place = rank(flow)
        full = len(self._ranks) >= self.flows_max
        if full and place >= -self._heap[0][0]:
            self._refuse(flow)
            return False, None
        evicted = None
        if full:
            evicted = heapq.heappop(self._heap)[1]
            del self._ranks[evicted]
            self._refuse(evicted)
        self._ranks[flow] = place
        heapq.heappush(self._heap, (-place, flow))
        return True, evicted

    def _refuse(self, flow: str) -> None:
        if len(self._out) >= KNOWN_MAX:
            self._out.clear()
        self._out.add(flow)
