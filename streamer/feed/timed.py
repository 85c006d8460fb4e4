"""
Readings of a file with their times in seconds, in order, and what was left out of it.

The first readings show in which unit the times are, and whether they are in order; a file that as a
whole cannot be right ends with `NotReadable`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from streamer.core.wire.parsed import Reading
from streamer.feed.columns import NotReadable
from streamer.feed.sorting import in_order
from streamer.feed.times import Order, Times
from streamer.text.escape import visible

KEPT_MAX = 3  # bad lines that are shown
SHOWN_MAX = 60  # characters of each
NAMES_MAX = 5  # of values that were skipped, that are shown
BAD_SHARE_MAX = 0.1  # of the lines: beyond it something is wrong with the file as a whole …
BAD_MIN = 20  # … unless they are a handful

Parsed = tuple[int, bytes, Reading]  # with the number and the text of its line


class Bad:
    """Lines or rows that are no readings: how many, and what the first ones were."""

    def __init__(self, what: str = "line") -> None:
        self.what = what
        self.count = 0
        self.missing = 0  # cells that mark a missing value
        self.first: list[str] = []
        self.skipped: Counter[str] = Counter()  # values of messages that are in no table, by name

    def add(self, number: int, line: bytes, why: str) -> None:
        """Count line *number*, which holds no reading because of *why*."""
        self.count += 1
        if len(self.first) < KEPT_MAX:
            shown = line[:SHOWN_MAX].decode(errors="replace")
            self.first.append(visible(f"{self.what} {number}: {why}: {shown}".removesuffix(": ")))


class Timed(ABC):
    """
    Readings in batches; with *sort* all are read before the first is given.

    Iterating raises NotReadable.
    """

    form: str  # what kind of file it is

    def __init__(self, bad: Bad, *, sort: bool) -> None:
        self._sort = sort
        self._order = Order()
        self._good = 0  # readings that were given
        self.bad = bad

    @abstractmethod
    def _parsed(self) -> Iterator[list[Parsed]]:
        """The readings as the file has them; the first batch is the head's."""

    def __iter__(self) -> Iterator[Sequence[Reading]]:
        batches = self._in_seconds()
        yield from in_order(batches) if self._sort else batches

    @property
    def mostly_bad(self) -> bool:
        """Whether so much was left out that what was read must not pass for the file."""
        share = self.bad.count / max(1, self.bad.count + self._good)
        return self.bad.count > BAD_MIN and share > BAD_SHARE_MAX

    def faults(self) -> list[str]:
        """What was left out, in words."""
        lines = []
        if bad := self.bad.count:
            lines += [f"{bad:,} {self.bad.what}s are no readings and were left out:"]
            lines += [f"  {each}" for each in self.bad.first]
            lines += ["  …"] if bad > len(self.bad.first) else []
        if self.bad.missing:
            lines += [f"{self.bad.missing:,} cells have no value and were left out"]
        if skipped := self.bad.skipped:
            first = ", ".join(f"{visible(n)} {k:,}" for n, k in skipped.most_common(NAMES_MAX))
            more = " and others" if len(skipped) > NAMES_MAX else ""
            lines.append(
                f"{skipped.total():,} values are in no table of fields and were left out:"
                f" {first}{more} (input.fields adds fields, input.groups packets and errors)"
            )
        if self._order.back:
            lines.append(
                f"{self._order.back:,} readings are older than one before them of their flow:"
                " --sort puts them in order"
            )
        return lines

    def _in_seconds(self) -> Iterator[Sequence[Reading]]:
        times: Times | None = None
        for numbered in self._parsed():
            if times is None and numbered:
                times = Times([reading.time for _, _, reading in numbered])
                self._judge(times, [reading for _, _, reading in numbered])
            readings: list[Reading] = []
            for number, line, reading in numbered:
                assert times is not None
                try:
                    time = times.seconds(reading.time)
                except ValueError as error:
                    self.bad.add(number, line, str(error))
                    continue
                if time != reading.time:
                    reading = msgspec.structs.replace(reading, time=time)  # noqa: PLW2901
                if not self._sort:
                    self._order.follow(reading.flow, time)
                readings.append(reading)
            self._good += len(readings)
            yield readings

    def _judge(self, times: Times, head: Sequence[Reading]) -> None:
        """Raise NotReadable if the first readings are not in order."""
        if self._sort:
            return
        order = Order()
        for reading in head:
            try:
                order.follow(reading.flow, times.seconds(reading.time))
            except ValueError:
                continue
        if (fault := order.fault()) is not None:
            raise NotReadable(fault)
