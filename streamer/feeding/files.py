"""
Readings out of a file: CSV, or JSON in our own format, told apart by the first line.

Lines that are no readings are counted and left out: `Bad` keeps the first few.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from streamer.core.wire.found import Reading

Kind = Literal["counter", "delta", "gauge"]

TIMES = ("timestamp", "time")  # either may head the column
KEPT_MAX = 3  # bad lines that are shown
SHOWN_MAX = 60  # characters of each


class Bad:
    """Lines that are no readings: how many, and what the first ones were."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, number: int, line: bytes, why: str) -> None:
        """Count line *number*, which holds no reading because of *why*."""
        self.count += 1
        if len(self.first) < KEPT_MAX:
            shown = line[:SHOWN_MAX].decode(errors="replace")
            self.first.append(f"line {number}: {why}: {shown}")


class FileReadings:
    """
    Readings out of lines: CSV, or JSON in our own format.

    CSV has the columns timestamp (epoch seconds), flow and value in this order,
    or in any order, with kind, unit and capacity if you like, below a line that
    names them. JSON has a reading or an array of readings a line. *kind* and
    *unit* are given to readings that don't say theirs.
    """

    def __init__(
        self, lines: Iterable[Sequence[bytes]], kind: Kind | None = None, unit: str | None = None
    ) -> None:
        self._lines = lines
        self._default = Default(kind, unit)
        self.bad = Bad()

    def __iter__(self) -> Iterator[Sequence[Reading]]:
        parse: Parse | None = None
        number = 0
        for lines in self._lines:
            readings: list[Reading] = []
            for line in lines:
                number += 1
                if not line or line.isspace():
                    continue
                try:
                    if parse is None:
                        parse = format_of(line, self._default)
                        if isinstance(parse, CsvLine) and parse.is_head(line):
                            continue
                    readings += parse(line)
                except (ValueError, IndexError, csv.Error, msgspec.MsgspecError) as error:
                    self.bad.add(number, line, str(error))
            yield readings


class Default(NamedTuple):
    """What readings are that don't say it; None: as the settings of the forecaster have it."""

    kind: Kind | None
    unit: str | None


class Parse(Protocol):
    """The readings of a line; raises what `FileReadings` takes as a bad line."""

    def __call__(self, line: bytes) -> Sequence[Reading]:
        """The readings of *line*."""
        ...


def format_of(line: bytes, default: Default) -> Parse:
    """How to read a file whose first line is *line*."""
    return JsonLine(default) if line.lstrip()[:1] in (b"{", b"[") else CsvLine(default)


class JsonLine:
    """A reading, or an array of readings, as JSON."""

    def __init__(self, default: Default) -> None:
        self._default = default
        self._one = msgspec.json.Decoder(Reading)
        self._many = msgspec.json.Decoder(list[Reading])

    def __call__(self, line: bytes) -> Sequence[Reading]:
        """The readings of *line*."""
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
    """A reading as comma-separated values."""

    def __init__(self, default: Default) -> None:
        self._default = default
        self._time, self._flow, self._value = 0, 1, 2
        self._more: dict[str, int] = {}  # where kind, unit and capacity stand, if they do

    def is_head(self, line: bytes) -> bool:
        """Whether the first line names the columns; from then on they are where it says."""
        names = [name.strip().lower() for name in fields_of(line)]
        time_names = [name for name in TIMES if name in names]
        if not (time_names and "flow" in names and "value" in names):
            return False
        self._time = names.index(time_names[0])
        self._flow, self._value = names.index("flow"), names.index("value")
        more = ("kind", "unit", "capacity")
        self._more = {name: names.index(name) for name in more if name in names}
        return True

    def __call__(self, line: bytes) -> Sequence[Reading]:
        """The one reading of *line*."""
        fields = fields_of(line)
        if len(fields) < 3:
            raise ValueError("too few columns")
        flow = fields[self._flow]
        if not flow:
            raise ValueError("no flow")
        time_s, value = finite(fields[self._time]), number_of(fields[self._value])
        if not self._more:
            return (Reading(flow, time_s, value, *self._default),)
        told = {name: fields[at] for name, at in self._more.items() if fields[at]}
        told = self._default._asdict() | told
        return (
            msgspec.convert(
                {"flow": flow, "time": time_s, "value": value, **told}, Reading, strict=False
            ),
        )


def fields_of(line: bytes) -> list[str]:
    """The columns of a line; a quote that is never closed swallows no other line."""
    text = line.decode("utf-8-sig").rstrip("\r")
    return next(csv.reader([text], strict=True)) if '"' in text else text.split(",")


def number_of(text: str) -> int | float:
    """Whole numbers stay whole: a counter's last digits matter."""
    try:
        return int(text)
    except ValueError:
        return finite(text)


def finite(text: str) -> float:
    """A number that is one."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return value
