"""
The lines that Cacti writes before the table of an export: title, dates and the vertical label.

    "Title:","edge1 - Traffic - wan0"
    "Vertical Label:","bits per second"
    "Start Date:","2026-01-01 00:00:00"

    "Date","Inbound","Outbound"

The title names the flows, because the columns have the same names in every export.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from streamer.feed.columns import Layout
from streamer.feed.rows import Default

LINE = re.compile(r'\s*"?([A-Z][A-Za-z ]*):"?\s*[,;]\s*"?(.*?)"?[,;\s]*')
FIRST = {"title", "vertical label", "start date"}


@dataclass(frozen=True, slots=True)
class About:
    """The contents of these lines; none of them: an ordinary table."""

    lines: int = 0
    title: str = ""
    label: str = ""

    def default(self, given: Default) -> Default:
        """The default for what *given* leaves open: rates, in bits or bytes per second."""
        unit = "b/s" if "bit" in self.label.lower() else "B/s"
        return Default(given.kind or "gauge", given.unit or unit)

    def named(self, layout: Layout) -> Layout:
        """*layout*, whose columns are flows, with the title before their names."""
        if not self.title:
            return layout
        return replace(layout, values=tuple((at, f"{self.title}/{n}") for at, n in layout.values))


def about(lines: Sequence[str]) -> About:
    """The lines before the table, if they are Cacti's."""
    fields: dict[str, str] = {}
    number = 0
    for line in lines:
        found = LINE.fullmatch(line)
        if found is None:
            break
        fields[found[1].lower()] = found[2]
        number += 1
    if not FIRST & fields.keys():
        return About()
    return About(number, fields.get("title", ""), fields.get("vertical label", ""))
