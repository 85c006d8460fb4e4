"""
Readings out of a file: CSV, or JSON as the daemon reads it, told apart by the first line.

The first lines say how the file is laid out and in which unit its times are. A file that as
a whole cannot be right ends with `NotReadable`. Single lines that are no readings are counted
and left out: `Bad` keeps the first few.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from streamer.core.wire import formats, telegraf
from streamer.core.wire.context import PLAIN
from streamer.core.wire.parsed import Reading
from streamer.feed.columns import Layout, NotReadable, absent, cells, is_number, layout_of
from streamer.feed.times import Order, Times, instant
from streamer.text.escape import visible

Kind = Literal["counter", "delta", "gauge"]

HEAD_LINES = 500  # by which a file is judged
KEPT_MAX = 3  # bad lines that are shown
SHOWN_MAX = 60  # characters of each
SORTED_MAX = 50_000_000  # readings that are sorted in memory


class Bad:
    """Lines that are no readings: how many, and what the first ones were."""

    def __init__(self) -> None:
        self.count = 0
        self.missing = 0  # cells that say that there is no value
        self.first: list[str] = []

    def add(self, number: int, line: bytes, why: str) -> None:
        """Count line *number*, which holds no reading because of *why*."""
        self.count += 1
        if len(self.first) < KEPT_MAX:
            shown = line[:SHOWN_MAX].decode(errors="replace")
            self.first.append(visible(f"line {number}: {why}: {shown}"))


class FileReadings:
    """
    Readings out of lines, see the module; *kind* and *unit* are given to those that don't say it.

    With *sort* all are read before the first is given, in the order of their times. Iterating
    raises NotReadable.
    """

    def __init__(
        self,
        lines: Iterable[Sequence[bytes]],
        kind: Kind | None = None,
        unit: str | None = None,
        *,
        sort: bool = False,
    ) -> None:
        self._lines = lines
        self._default = Default(kind, unit)
        self._sort = sort
        self._order = Order()
        self.bad = Bad()

    def __iter__(self) -> Iterator[Sequence[Reading]]:
        batches = self._in_seconds()
        if not self._sort:
            yield from batches
            return
        every = [reading for batch in batches for reading in batch]
        if len(every) > SORTED_MAX:
            raise NotReadable(f"it has more than {SORTED_MAX:,} readings: sort it by another tool")
        every.sort(key=lambda reading: reading.time)
        for at in range(0, len(every), 10_000):
            yield every[at : at + 10_000]

    def faults(self) -> list[str]:
        """What was left out, in words."""
        told = []
        if bad := self.bad.count:
            told += [f"{bad:,} lines are no readings and were left out:"]
            told += [f"  {each}" for each in self.bad.first]
            told += ["  …"] if bad > len(self.bad.first) else []
        if self.bad.missing:
            told += [f"{self.bad.missing:,} cells have no value and were left out"]
        if self._order.back:
            told.append(
                f"{self._order.back:,} readings are older than one before them of their flow:"
                " --sort puts them in order"
            )
        return told

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
            yield readings

    def _judge(self, times: Times, head: Sequence[Reading]) -> None:
        """Raise NotReadable where the first readings are not in order."""
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

    def _parsed(self) -> Iterator[list[tuple[int, bytes, Reading]]]:
        """The readings with the lines that they stand in; the first batch is the head's."""
        parse: Parse | None = None
        for batch in self._headed():
            numbered = batch
            if parse is None and batch:
                parse, numbered = self._begin(batch)
            found: list[tuple[int, bytes, Reading]] = []
            for number, line in numbered:
                assert parse is not None
                try:
                    found += [(number, line, reading) for reading in parse(line)]
                except (ValueError, IndexError, csv.Error, msgspec.MsgspecError) as error:
                    self.bad.add(number, line, str(error))
            yield found

    def _begin(self, numbered: list[tuple[int, bytes]]) -> tuple[Parse, list[tuple[int, bytes]]]:
        """How to read the file whose first lines are *numbered*, and those that hold readings."""
        if numbered[0][1].lstrip()[:1] in (b"{", b"["):
            return JsonLine(self._default), numbered
        texts = [line.decode("utf-8-sig", errors="replace").rstrip("\r") for _, line in numbered]
        layout = layout_of(texts)
        return CsvLine(layout, self._default, self.bad), numbered[layout.header :]

    def _headed(self) -> Iterator[list[tuple[int, bytes]]]:
        """Lines with their numbers; the first batch waits for HEAD_LINES, the end, or a pause."""
        number, head, begun = 0, [], False
        for lines in self._lines:
            batch = []
            for line in lines:
                number += 1
                if line and not line.isspace():
                    batch.append((number, line))
            if begun:
                yield batch
                continue
            head += batch
            begun = len(head) >= HEAD_LINES or (not lines and bool(head))
            if begun:
                yield head
            elif not lines:
                yield []
        if not begun:
            yield head


class Default(NamedTuple):
    """What readings are that don't say it; None: as the settings of the forecaster have it."""

    kind: Kind | None
    unit: str | None


class Parse(Protocol):
    """The readings of a line; raises what `FileReadings` takes as a bad line."""

    def __call__(self, line: bytes) -> Sequence[Reading]:
        """The readings of *line*."""
        ...


class JsonLine:
    """A reading, an array of readings, or a message of a collector's, as JSON."""

    def __init__(self, default: Default) -> None:
        self._default = default
        self._one = msgspec.json.Decoder(Reading)
        self._many = msgspec.json.Decoder(list[Reading])

    def __call__(self, line: bytes) -> Sequence[Reading]:
        """The readings of *line*."""
        if b'"flow"' not in line or telegraf.recognise(line):
            form, found = formats.find(line, PLAIN, None)
            if form != "reading":
                if found.refusals:
                    raise ValueError(found.refusals[0].detail or found.refusals[0].reason)
                return found.readings
        many = line.lstrip()[:1] == b"["
        readings = self._many.decode(line) if many else [self._one.decode(line)]
        if self._default == (None, None):
            return readings
        return [
            msgspec.structs.replace(
                reading,
                kind=reading.kind or self._default.kind,
                unit=reading.unit or self._default.unit,
            )
            for reading in readings
        ]


class CsvLine:
    """The readings of a line of a known layout."""

    def __init__(self, layout: Layout, default: Default, bad: Bad) -> None:
        self._layout, self._default, self._bad = layout, default, bad

    def __call__(self, line: bytes) -> Sequence[Reading]:
        """The readings of *line*."""
        layout = self._layout
        row = cells(line.decode("utf-8-sig").rstrip("\r"), layout.delimiter)
        last = max(layout.time, *layout.names, *(at for at, _ in layout.values))
        if len(row) <= last:
            raise ValueError(f"it has {len(row)} columns, expected {last + 1}")
        time = time_of(row[layout.time])
        name = "/".join(row[at] for at in layout.names)
        if layout.names and not name.strip("/"):
            raise ValueError("it has no flow name")
        more = {key: row[at] for key, at in layout.more.items() if at < len(row) and row[at]}
        readings = []
        for at, suffix in layout.values:
            if absent(row[at]):
                self._bad.missing += 1
                continue
            reading = Reading(name + suffix, time, number_of(row[at]), *self._default)
            readings.append(_with_more(reading, more) if more else reading)
        return readings


def _with_more(reading: Reading, more: dict[str, str]) -> Reading:
    """*reading* with the texts of the columns kind, unit, capacity and bits."""
    told: dict[str, object] = dict(more)
    if "kind" in more:
        told["kind"] = more["kind"].lower()
    if "bits" in more:
        told["bits"] = int(number_of(more["bits"]))
    if "capacity" in more:
        told["capacity"] = float(number_of(more["capacity"]))
    fields = {name: getattr(reading, name) for name in Reading.__struct_fields__}
    return msgspec.convert(fields | told, Reading)


def time_of(text: str) -> float:
    """A number as it is, or an ISO 8601 instant in epoch seconds."""
    if is_number(text):
        return float(text)
    found = instant(text)
    if found is None:
        raise ValueError(f"{text[:30] or 'nothing'} is no time: a number or ISO 8601 is expected")
    return found


def number_of(text: str) -> int | float:
    """Whole numbers stay whole: a counter's last digits matter. Only ASCII digits are taken."""
    if not is_number(text):
        raise ValueError(f"{text[:30]} is no number")
    if text.lstrip("+-").isdigit():
        return int(text) if len(text) < 40 else finite(text)
    return finite(text)


def finite(text: str) -> float:
    """A number that is one."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("it is not a finite number")
    return value
