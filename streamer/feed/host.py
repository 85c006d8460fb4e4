"""The counters of the machine's own interfaces as readings, as Linux provides them."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from streamer.core.wire.parsed import Reading

COUNTERS = Path("/proc/net/dev")
INTERFACES = Path("/sys/class/net")
LOOPBACK = "lo"  # what a machine sends to itself is not traffic
IN, OUT = 0, 8  # columns of bytes, behind the interface's name
SLICE_S = 0.5  # how long it sleeps at once


class HostReadings:
    """
    Counters of each interface, `HOST/INTERFACE/in` and `…/out`, each *every_s* seconds, endlessly.

    They are read at whole multiples of *every_s*. While there is nothing to
    read, empty batches come.
    """

    def __init__(
        self,
        every_s: float,
        *,
        counters: Path = COUNTERS,
        interfaces: Path = INTERFACES,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._every_s = every_s
        self._counters = counters
        self._interfaces = interfaces
        self._clock = clock
        self._sleep = sleep
        self._host = socket.gethostname()

    def __iter__(self) -> Iterator[Sequence[Reading]]:
        while True:
            yield self.read()
            due_s = (math.floor(self._clock() / self._every_s) + 1) * self._every_s
            while (left_s := due_s - self._clock()) > 0:
                yield ()
                self._sleep(min(left_s, SLICE_S))

    def read(self) -> list[Reading]:
        """The present values of the counters."""
        now_s = self._clock()
        readings = []
        for line in self._counters.read_text().splitlines()[2:]:  # below two lines of headings
            interface, _, columns = line.partition(":")
            interface = interface.strip()
            if interface != LOOPBACK:
                numbers = columns.split()
                capacity = self._capacity(interface)
                readings += [
                    Reading(
                        f"{self._host}/{interface}/{side}",
                        now_s,
                        int(numbers[at]),
                        "counter",
                        "B",
                        capacity,
                    )
                    for side, at in (("in", IN), ("out", OUT))
                ]
        return readings

    def _capacity(self, interface: str) -> float | None:
        """Bytes a second; None where the link is down, or is none that has a speed."""
        try:
            megabits = int((self._interfaces / interface / "speed").read_text())
        except (OSError, ValueError):
            return None
        return megabits * 125_000.0 if megabits > 0 else None
