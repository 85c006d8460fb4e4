"""
Which flows are learnt from: a sample that is the same whoever takes it.

Those with the smallest keyed hashes of their names (a bottom-k sketch; Cohen and Kaplan, 2007).
So the sample depends neither on the order in which flows come nor on who reads them, and whoever
is in it at last was in it from its first reading on: what gives way never comes back.
"""

from __future__ import annotations

import hashlib
import heapq

KEY = b"streamer.learning"
KNOWN_MAX = 200_000  # ranks that are kept, so as not to compute them for each reading


def rank(flow: str) -> int:
    """A flow's place among all flows that could be."""
    told = flow.encode(errors="replace")
    return int.from_bytes(hashlib.blake2b(told, digest_size=8, key=KEY).digest(), "big")


class Sample:
    """The *flows_max* flows of least rank among those asked for so far."""

    def __init__(self, flows_max: int) -> None:
        self.flows_max = flows_max
        self._ranks: dict[str, int] = {}
        self._out: set[str] = set()  # known not to be in it, ever
        self._heap: list[tuple[int, str]] = []  # of those in it, the largest rank first

    def __len__(self) -> int:
        return len(self._ranks)

    def __contains__(self, flow: str) -> bool:
        return flow in self._ranks

    def admit(self, flow: str) -> tuple[bool, str | None]:
        """Whether *flow* is in the sample from now on, and which flow gave way to it."""
        if flow in self._ranks:
            return True, None
        if flow in self._out:
            return False, None
        place = rank(flow)
        full = len(self._ranks) >= self.flows_max
        if full and place >= -self._heap[0][0]:
            self._refuse(flow)
            return False, None
        gone = None
        if full:
            gone = heapq.heappop(self._heap)[1]
            del self._ranks[gone]
            self._refuse(gone)
        self._ranks[flow] = place
        heapq.heappush(self._heap, (-place, flow))
        return True, gone

    def _refuse(self, flow: str) -> None:
        if len(self._out) >= KNOWN_MAX:
            self._out.clear()
        self._out.add(flow)
