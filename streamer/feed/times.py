"""
The times of a file: in which unit they are, and which of them cannot be right.

A column of times is of one unit, and its first readings show which: seconds, milliseconds,
microseconds or nanoseconds differ by a thousand, and no file spans that much. A time that
is of another unit, or years from the others, is left out and reported by its line.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

UNITS = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
LEAST = {"milliseconds": 1e11, "microseconds": 1e14, "nanoseconds": 1e17}  # of today's times
YEARS = 10.0  # from the middle of the file's beginning: no file of counters spans more
YEAR_S = 365.25 * 86400


class Times:
    """What follows from the first times of a file for all of them."""

    def __init__(self, first: Sequence[float]) -> None:
        self.unit = Counter(map(unit_of, first)).most_common(1)[0][0] if first else "seconds"
        alike = [time for time in first if unit_of(time) == self.unit]
        self._scale = UNITS[self.unit]
        self._middle = statistics.median(alike) / self._scale if alike else 0.0

    def seconds(self, time: float) -> float:
        """*time* in epoch seconds; raises ValueError if it cannot be of this file."""
        unit = unit_of(time)
        if unit != self.unit and not (time == 0 and self._middle < YEARS * YEAR_S):
            raise ValueError(f"time {time:.0f} looks like {unit}, the others are {self.unit}")
        seconds = time / self._scale
        apart = abs(seconds - self._middle) / YEAR_S
        if apart > YEARS:
            raise ValueError(f"time {time:.0f} is {apart:.0f} years from the others")
        return seconds


def unit_of(time: float) -> str:
    """The unit in which *time* would be an instant of our days."""
    found = "seconds"
    for unit, least in LEAST.items():
        if abs(time) >= least:
            found = unit
    return found


def instant(text: str) -> float | None:
    """Epoch seconds of an ISO 8601 instant, UTC if it has no offset; None if it is not one."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


class Order:
    """Whether each flow's times grow, as a daemon needs them."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self.readings = self.back = 0

    def follow(self, flow: str, time: float) -> None:
        """Take in the next reading."""
        last = self._last.get(flow)
        if last is not None:
            self.readings += 1
            self.back += time < last
        self._last[flow] = time

    def fault(self) -> str | None:
        """What is wrong with the order, in words; None if all but a few are in order."""
        share = self.back / max(1, self.readings)
        if share > 0.9 and self.readings > 3:
            return "its newest readings come first: sort it by time, or give --sort"
        if share > 0.1 and self.readings > 3:
            return "its readings are not in the order of their times: sort it, or give --sort"
        return None
