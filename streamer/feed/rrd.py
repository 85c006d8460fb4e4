"""
What rrdtool prints: `fetch` as text, `xport` as XML or JSON.

Its data are averages of each step, as rates per second: gauges, unless set otherwise. A flow has
the name of its data source or legend; a file's own name comes before it, because these names are
the same in every file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from streamer.core.wire.parsed import Reading
from streamer.feed.columns import NotReadable, absent
from streamer.feed.rows import Default, LeftOut, number_of

FETCH_ROW = re.compile(r"\s*(\d{9,11}):((?:\s+\S+)+)\s*")
XML_ROW = re.compile(r"<row>\s*(?:<t>\s*(\d+)\s*</t>)?((?:\s*<v>[^<]*</v>)+)\s*</row>")
XML_CELL = re.compile(r"<v>\s*([^<]*?)\s*</v>")
JSON_ROW = re.compile(r'\s*\[\s*((?:"?[-+.\w]+"?\s*,?\s*)+)\]\s*,?\s*')
START = re.compile(r"<start>\s*(\d+)|\"?start\"?\s*:\s*(\d+)")
STEP = re.compile(r"<step>\s*(\d+)|\"?step\"?\s*:\s*(\d+)")
XML_LEGEND = re.compile(r"<entry>\s*([^<]*?)\s*</entry>")
EXPECTED = "expected what `rrdtool fetch` or `rrdtool xport` prints"


def is_fetch(lines: Sequence[str]) -> bool:
    """Whether the first lines are names of data sources, and rows of a time and values."""
    filled = [line for line in lines[:5] if line.strip()]
    return len(filled) > 1 and all(FETCH_ROW.fullmatch(line) for line in filled[1:])


def is_xport(lines: Sequence[str]) -> bool:
    """Whether the first lines are an export, as XML or JSON."""
    head = "\n".join(lines[:40])
    if lines[0].lstrip()[:1] == "<":
        return "<xport>" in head
    return "RRDtool" in head and "legend" in head


class Fetch:
    """Lines of `rrdtool fetch`: the names first, then a row a line."""

    def __init__(self, first: str, prefix: str, default: Default, left_out: LeftOut) -> None:
        self._names = [f"{prefix}/{name}" if prefix else name for name in first.split()]
        self._default, self._left_out = default, left_out

    def __call__(self, line: bytes) -> Sequence[Reading]:
        """The readings of a row."""
        text = line.decode()
        if not text.strip():
            return []
        found = FETCH_ROW.fullmatch(text)
        if found is None:
            raise ValueError(
                f"it is no row, expected a time, a colon and {len(self._names)} values"
            )
        return readings(
            self._names, float(found[1]), found[2].split(), self._default, self._left_out
        )


class Xport:
    """Lines of `rrdtool xport`; start, step and legend come before the rows."""

    def __init__(
        self, head: Sequence[str], prefix: str, default: Default, left_out: LeftOut
    ) -> None:
        """Raises NotReadable if start, step or legend are missing."""
        text = "\n".join(head)
        start, step = START.search(text), STEP.search(text)
        self._is_xml = head[0].lstrip()[:1] == "<"
        names = XML_LEGEND.findall(text) if self._is_xml else _json_legend(head)
        if start is None or step is None or not names:
            raise NotReadable(f"its start, step or legend is missing: {EXPECTED}")
        self._names = [f"{prefix}/{name}" if prefix else name for name in names]
        self._time = int(start[1] or start[2])
        self._step = int(step[1] or step[2])
        self._default, self._left_out = default, left_out
        self._in_data = self._is_xml

    def __call__(self, line: bytes) -> Sequence[Reading]:
        """The readings of a row; lines that are none hold no readings."""
        text = line.decode()
        if self._is_xml:
            found = XML_ROW.search(text)
            if found is None:
                return []
            return self._row(found[1], XML_CELL.findall(found[2]))
        if not self._in_data:
            self._in_data = re.search(r"\bdata\b", text) is not None
            return []
        found = JSON_ROW.fullmatch(text)
        if found is None:
            return []
        values = [each.strip().strip('"') for each in found[1].split(",") if each.strip()]
        time = values.pop(0) if len(values) == len(self._names) + 1 else None
        return self._row(time, values)

    def _row(self, time: str | None, values: Sequence[str]) -> Sequence[Reading]:
        if time is not None:
            self._time = int(time)
        at, self._time = self._time, self._time + self._step
        return readings(self._names, float(at), values, self._default, self._left_out)


def _json_legend(head: Sequence[str]) -> list[str]:
    """The names in the list `legend`, which has one a line, or all on its own line."""
    text = "\n".join(head)
    found = re.search(r"\"?legend\"?\s*:\s*\[(.*?)\]", text, re.DOTALL)
    if found is None:
        return []
    return re.findall(r"[\"']([^\"']*)[\"']", found[1])


def readings(
    names: Sequence[str],
    time: float,
    values: Sequence[str],
    default: Default,
    left_out: LeftOut,
) -> Sequence[Reading]:
    """A row's readings; raises ValueError if it has another number of values."""
    if len(values) != len(names):
        raise ValueError(f"it has {len(values)} values, expected {len(names)}")
    kind = default.kind or "gauge"
    unit = default.unit or ("B/s" if kind == "gauge" else "B")
    found = []
    for name, text in zip(names, values, strict=True):
        if absent(text.lstrip("+-")):
            left_out.missing += 1
        else:
            found.append(Reading(name, time, number_of(text), kind, unit))
    return found
