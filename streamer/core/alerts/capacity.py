"""
The capacity of a flow's link: from the rule, from the table of the settings, or from the readings.

The table has bits per second. A capacity that a rule or a reading names is in the flow's own unit.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping

import numpy as np

from streamer.core.alerts.rules import RuleConfig
from streamer.core.columns import Rows
from streamer.core.features import grid, units
from streamer.core.features.scale import Floats


def of_table(table: Mapping[str, float], flow: str) -> float:
    """The capacity of the first glob that *flow* matches, in bits per second; 0 without one."""
    found = (bits for glob, bits in table.items() if fnmatch.fnmatchcase(flow, glob))
    return next(found, 0.0)


def capacity_of(rule: RuleConfig, rows: Rows, state: Rows) -> Floats:
    """The capacity of each row's link in the unit of its rate, (B,); 0: unknown."""
    if rule.capacity is not None:
        return np.full(len(rows), rule.capacity, np.float32)
    reported: Floats = rows["capacity"]
    if not rule.capacities:
        return reported
    unit = grid.unit_of_rate(rows)
    bits = np.zeros(len(rows), np.float32)
    for each in set(unit.tolist()):  # nearly always one
        size = units.size(each)
        if size is not None and size[1]:
            bits[unit == each] = size[0]
    listed = (state["link"] > 0) & (bits > 0)
    return np.where(listed, state["link"] / np.where(listed, bits, 1), reported).astype(np.float32)
