"""Readings out of one line of CSV or JSON, whose layout is known."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from streamer.core.types import Partition, Record
from streamer.core.wire import Found, InputConfig, mappings, read, telegraf
from streamer.core.wire.context import Context
from streamer.core.wire.parsed import Reading, without_other
from streamer.feed.columns import Layout, absent, cells, is_number, with_point
from streamer.feed.times import instant

Kind = Literal["counter", "delta", "gauge"]
FILE = Partition("file", 0)
NUMBER_DIGITS_MAX = 40


class Default(NamedTuple):
    """The kind and unit of readings that have none; None: as in the forecaster's settings."""

    kind: Kind | None
    unit: str | None


class LeftOut(Protocol):
    """Counts what holds no reading."""

    missing: int  # cells that mark a missing value
    skipped: Counter[str]  # values that are in no table, by name


class Parse(Protocol):
    """The readings of a line; raises what `FileReadings` takes as a bad line."""

    def __call__(self, line: bytes) -> Sequence[Reading]:
        """The readings of *line*."""
        ...


class Message:
    """A message of a collector's, in any format that the daemon reads."""

    def __init__(self, default: Default, config: InputConfig, left_out: LeftOut) -> None:
        self._default, self._config = default, config
        table = mappings.table(config.fields, frozenset(config.groups))
        self._context = Context(None, config.options, table, left_out.skipped)

    def __call__(self, line: bytes) -> Sequence[Reading]:
        """The readings of *line*; raises ValueError if a part of it is refused."""
        found = self.found(line)
        if found.refusals and not found.readings:
            raise ValueError(found.refusals[0].detail or str(found.refusals[0].reason))
        return [self.completed(reading) for reading in found.readings]

    def found(self, line: bytes) -> Found:
        """What the decoders make of *line*."""
        return read(Record(FILE, 0, None, line, -1), self._config, self._context)[1]

    def completed(self, reading: Reading) -> Reading:
        """A reading, with the defaults for what it does not contain."""
        reading = without_other(reading)
        if self._default == (None, None):
            return reading
        return msgspec.structs.replace(
            reading,
            kind=reading.kind or self._default.kind,
            unit=reading.unit or self._default.unit,
        )


class JsonLine(Message):
    """A reading, an array of readings, or a message of a collector's, as JSON."""

    def __init__(self, default: Default, config: InputConfig, left_out: LeftOut) -> None:
        super().__init__(default, config, left_out)
        self._one = msgspec.json.Decoder(Reading)
        self._many = msgspec.json.Decoder(list[Reading])

    def __call__(self, line: bytes) -> Sequence[Reading]:
        """The readings of *line*."""
        if b'"flow"' not in line or telegraf.recognise(line):
            return super().__call__(line)
        many = line.lstrip()[:1] == b"["
        readings = self._many.decode(line) if many else [self._one.decode(line)]
        return [self.completed(reading) for reading in readings]


class CsvLine:
    """The readings of a line of a known layout."""

    def __init__(self, layout: Layout, default: Default, left_out: LeftOut) -> None:
        self._layout, self._default, self._left_out = layout, default, left_out

    def __call__(self, line: bytes) -> Sequence[Reading]:
        """The readings of *line*."""
        return self.of(cells(line.decode("utf-8-sig").rstrip("\r"), self._layout.delimiter))

    def of(self, row: Sequence[str]) -> list[Reading]:
        """The readings of the cells of a row."""
        layout = self._layout
        last = max(layout.time, *layout.names, *(at for at, _ in layout.values))
        if len(row) <= last:
            raise ValueError(f"it has {len(row)} columns, expected {last + 1}")
        time = self._time(row)
        name = "/".join(row[at] for at in layout.names)
        if layout.names and not name.strip("/"):
            raise ValueError(f"{layout.column(layout.names[0])} holds no flow name")
        more = {key: row[at] for key, at in layout.more.items() if at < len(row) and row[at]}
        readings = []
        for at, suffix in layout.values:
            if absent(row[at]):
                self._left_out.missing += 1
                continue
            reading = Reading(name + suffix, time, self._number(row, at), *self._default)
            readings.append(self._with_more(reading, more) if more else reading)
        return readings

    def _time(self, row: Sequence[str]) -> float:
        try:
            return time_of(row[self._layout.time])
        except ValueError as error:
            raise ValueError(f"{self._layout.column(self._layout.time)}: {error}") from None

    def _number(self, row: Sequence[str], at: int) -> int | float:
        text = row[at]
        try:
            if self._layout.decimal_comma:
                text = with_point(text)
            return number_of(text)
        except ValueError as error:
            raise ValueError(f"{self._layout.column(at)}: {error}") from None

    def _with_more(self, reading: Reading, more: Mapping[str, str]) -> Reading:
        """*reading* with the texts of the columns kind, unit, capacity and bits."""
        converted: dict[str, object] = dict(more)
        if "kind" in more:
            converted["kind"] = more["kind"].lower()
        if "bits" in more:
            converted["bits"] = int(number_of(more["bits"]))
        if "capacity" in more:
            converted["capacity"] = float(number_of(more["capacity"]))
        fields = {name: getattr(reading, name) for name in Reading.__struct_fields__}
        return msgspec.convert(fields | converted, Reading)


def time_of(text: str) -> float:
    """A number as it is, or an ISO 8601 instant in epoch seconds."""
    if is_number(text):
        return float(text)
    found = instant(text)
    if found is None:
        raise ValueError(f"{text[:30] or 'nothing'} is no time, expected a number or ISO 8601")
    return found


def number_of(text: str) -> int | float:
    """Whole numbers stay whole: a counter's last digits matter. Only ASCII digits are taken."""
    if not is_number(text):
        raise ValueError(f"{text[:30]} is no number")
    if text.lstrip("+-").isdigit():
        return int(text) if len(text) < NUMBER_DIGITS_MAX else finite(text)
    return finite(text)


def finite(text: str) -> float:
    """A number that is finite."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("it is not a finite number")
    return value
