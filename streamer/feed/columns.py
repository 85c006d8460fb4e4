"""
How a CSV file is laid out, found from its first lines.

The first line names the columns, in any order and with any of the names below, or there is
none and the columns are time, flow, value. Three layouts are read:

    time, flow, value [, kind, unit, capacity, bits]       a reading a line
    time, device, interface, in_octets, out_octets         a reading a line and direction
    time, edge1/xe-0/0/1/in, edge1/xe-0/0/1/out, …         a column for each flow

Names of other columns can be given. Lines with `#` before the first, and the lines of title and
dates that Cacti writes there, are no part of the table.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

TIME = ("timestamp", "time", "ts", "date", "datetime", "epoch", "clock", "_time", "@timestamp")
FLOW = ("flow", "flow_name", "key", "series", "target", "metric")
VALUE = ("value", "val", "_value", "rate", "bytes", "octets", "counter", "bps")
DEVICE = ("device", "host", "hostname", "agent", "agent_host", "router", "switch", "node", "source")
PORT = ("interface", "ifname", "if_name", "ifdescr", "port", "iface", "interface_name")
IN: tuple[str, ...] = (
    *("in_octets", "inoctets", "in_bytes", "ifhcinoctets", "ifinoctets", "bytes_recv"),
    *("rx_bytes", "bytes_in", "in", "rx", "in_bps", "traffic_in"),
)
OUT: tuple[str, ...] = (
    *("out_octets", "outoctets", "out_bytes", "ifhcoutoctets", "ifoutoctets", "bytes_sent"),
    *("tx_bytes", "bytes_out", "out", "tx", "out_bps", "traffic_out"),
)
BITS = frozenset(("bps", "in_bps", "out_bps"))  # rates in bits per second, of those above
MORE = ("kind", "unit", "capacity", "bits")
DELIMITERS = (",", ";", "\t", "|")
ABSENT = frozenset({"", "null", "none", "nan", "na", "n/a", "-", "nil", "undef"})
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
COMMA_NUMBER = re.compile(  # with a decimal comma, and points between thousands
    r"[+-]?(\d+|\d{1,3}(\.\d{3})+)(?P<fraction>,\d*)?([eE][+-]?\d+)?", re.ASCII
)
CLOCK = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d.*", re.ASCII)
INSTANT_LEAST = 1e8  # epoch seconds: numbers below are no times of today in any unit
NAMES_LIKE_VALUES = 0.9  # of the lines: where so many names differ, they are no names
GIVEN = ("time", "flow", "value", "in", "out", "device", "interface")  # columns to be named
EXPECTED = (
    "expected the columns timestamp, flow and value; or timestamp, device, interface, in_octets and"
    " out_octets; or timestamp and a column for each flow"
)


class NotReadable(ValueError):
    """The file as a whole cannot be read; the message contains what was expected and what to do."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a line. `values` are indices of columns and the names of their flows."""

    delimiter: str
    header: bool
    time: int
    names: tuple[int, ...]  # columns whose texts, joined by /, name the flow; none if wide
    values: tuple[tuple[int, str], ...]  # a suffix of the flow's name, or the whole of it
    more: dict[str, int]
    titles: tuple[str, ...] = ()  # of the columns, as the first line has them
    decimal_comma: bool = False

    @property
    def wide(self) -> bool:
        """Whether each column is a flow."""
        return not self.names

    @property
    def in_bits(self) -> bool:
        """Whether the titles of the values say that they are rates in bits."""
        titles = {self.titles[at].strip().lower() for at, _ in self.values if self.titles}
        return bool(titles) and titles <= BITS

    def column(self, at: int) -> str:
        """A column as a message names it: its number, and its title if it has one."""
        title = self.titles[at] if at < len(self.titles) else ""
        return f"column {at + 1} ({title})" if title else f"column {at + 1}"


def layout_of(lines: Sequence[str], given: Mapping[str, str] | None = None) -> Layout:
    """
    The layout of a file that begins with *lines*; raises NotReadable.

    *given* are names of columns by what they hold: time, flow (several with + between them), value,
    in, out. The others are guessed.
    """
    delimiter = max(DELIMITERS, key=lambda each: (lines[0].count(each), -DELIMITERS.index(each)))
    first = _cells_or_none(lines[0], delimiter)
    rows = [_cells_or_none(line, delimiter) for line in lines[1:]]
    rows = [row for row in rows if len(row) == len(first)]
    if len(first) < 2:
        raise NotReadable(f"line 1 has one column: {EXPECTED}")
    if not given and is_time(first[0]) and len(first) >= 3 and is_number(first[2]):
        return _positional(delimiter, [first, *rows])
    if all(is_number(cell) or is_time(cell) for cell in first):
        raise NotReadable(f"line 1 holds numbers and no names: {EXPECTED}")
    if delimiter == ";":
        with_points = [[with_point(c) if _has_commas([c]) else c for c in row] for row in rows]
        if with_points != rows:
            layout = table_of(first, with_points, given)
            if _has_commas([row[at] for row in rows for at, _ in layout.values]):
                return replace(layout, delimiter=delimiter, decimal_comma=True)
    return replace(table_of(first, rows, given), delimiter=delimiter)


def table_of(
    titles: Sequence[str], rows: Sequence[Sequence[str]], given: Mapping[str, str] | None = None
) -> Layout:
    """The layout of a table with *titles* and these first *rows*; raises NotReadable."""
    known = [title.strip().lower() for title in titles]
    places: dict[str, tuple[int, ...]] = {}
    for what, named in (given or {}).items():
        found = [
            known.index(n) if (n := name.lower()) in known else -1 for name in named.split("+")
        ]
        if -1 in found:
            shown = ", ".join(titles)
            raise NotReadable(f"there is no column {named}, the columns are {shown}")
        places[what] = tuple(found)
    return replace(_named(known, titles, rows, places), titles=tuple(titles))


def with_point(text: str) -> str:
    """A number with a decimal comma as one with a decimal point; raises ValueError for others."""
    if COMMA_NUMBER.fullmatch(text) is None:
        raise ValueError(f"{text[:30]} is no number with a decimal comma")
    return text.replace(".", "").replace(",", ".")


def _has_commas(values: Sequence[str]) -> bool:
    """Whether the commas among *values* are decimal: each is such a number, and some have one."""
    found = [COMMA_NUMBER.fullmatch(value) for value in values if not absent(value)]
    return all(found) and any(each["fraction"] for each in found if each)


def _positional(delimiter: str, rows: Sequence[Sequence[str]]) -> Layout:
    names = [row[1] for row in rows]
    numbers = sum(map(is_number, names))
    if len(names) > 10 and numbers == len(names) and _mostly_differ(names):
        raise NotReadable(f"the second column holds values and no flow names: {EXPECTED}")
    return Layout(delimiter, False, 0, (1,), ((2, ""),), {})


def _named(
    names: Sequence[str],
    first: Sequence[str],
    rows: Sequence[Sequence[str]],
    given: Mapping[str, tuple[int, ...]],
) -> Layout:
    plain = [re.sub(r"[\s-]+", "_", name) for name in names]
    delimiter = DELIMITERS[0]

    def find(known: Sequence[str], what: str) -> int | None:
        if what in given:
            return given[what][0]
        taken = {at for places in given.values() for at in places}
        at = (plain.index(name) for name in known if name in plain)
        return next((each for each in at if each not in taken), None)

    def unlike(used: Sequence[int]) -> None:
        twice = [first[at] for at in used if plain.count(plain[at]) > 1]
        if twice:
            raise NotReadable(f"line 1 names two columns {twice[0]}: give each its own name")

    time, flow, value = find(TIME, "time"), find(FLOW, "flow"), find(VALUE, "value")
    if time is None and not names[0] and rows and all(is_instant(row[0]) for row in rows):
        time = 0  # an index without a name, as pandas writes it
    device, port = find(DEVICE, "device"), find(PORT, "interface")
    into, out = find(IN, "in"), find(OUT, "out")
    if time is None:
        shown = ", ".join(first[:6])
        raise NotReadable(f"line 1 names no column of times ({shown}): {EXPECTED}")
    more = {name: plain.index(name) for name in MORE if name in plain}
    parts = tuple(i for i in (device, port) if i is not None)
    named = given.get("flow") or ((flow,) if flow is not None else parts)
    both = tuple((i, f"/{way}") for i, way in ((into, "in"), (out, "out")) if i is not None)
    if named and (value is not None or both):
        values = ((value, ""),) if value is not None else both
        unlike([*named, *(at for at, _ in values)])
        layout = Layout(delimiter, True, time, named, values, more)
        texts = ["/".join(row[i] for i in named) for row in rows]
        if len(texts) > 10 and all(map(is_number, texts)) and _mostly_differ(texts):
            raise NotReadable(f"the column {first[named[0]]} holds no flow names: {EXPECTED}")
        return layout
    # The first column without a title is an index; others are there because lines end with commas.
    untitled = {i for i, title in enumerate(first) if not title.strip()}
    empty = {i for i in untitled if not i or not any(row[i] for row in rows)}
    rest = [i for i in range(len(first)) if i not in {time, *more.values(), *empty}]
    wide = [i for i in rest if all(absent(row[i]) or is_number(row[i]) for row in rows)]
    if not named and rest and wide == rest and untitled.isdisjoint(rest):
        unlike(rest)
        return Layout(delimiter, True, time, (), tuple((i, first[i].strip()) for i in rest), more)
    unclear = [i for i in rest if i not in wide or named or i in untitled]
    shown = ", ".join(first[i].strip() or f"column {i + 1}" for i in unclear)[:60]
    raise NotReadable(f"line 1 does not name what the columns hold ({shown}): {EXPECTED}")


def _mostly_differ(names: Sequence[str]) -> bool:
    return len(set(names)) > NAMES_LIKE_VALUES * len(names)


def cells(line: str, delimiter: str) -> list[str]:
    """The columns of a line, without the spaces around them."""
    if '"' in line:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, strict=True))]
    return [cell.strip() for cell in line.split(delimiter)]


def _cells_or_none(line: str, delimiter: str) -> list[str]:
    """The columns of a line; none if its quotes are unbalanced."""
    try:
        return cells(line, delimiter)
    except csv.Error:
        return []


def absent(cell: str) -> bool:
    """Whether a cell marks a missing value."""
    return cell.lower() in ABSENT


def is_number(cell: str) -> bool:
    """Whether a cell is a decimal number in ASCII digits."""
    return NUMBER.fullmatch(cell) is not None


def is_instant(cell: str) -> bool:
    """Whether a cell is an instant and no small number, as the number of a line is."""
    return float(cell) >= INSTANT_LEAST if is_number(cell) else is_time(cell)


def is_time(cell: str) -> bool:
    """Whether a cell may be an instant: a number, or ISO 8601."""
    return is_number(cell) or CLOCK.fullmatch(cell) is not None
