"""
Rehearsal: a turn on copies of its rows, to find out whether it raises.

While the record that makes turns fail is searched for, each turn is rehearsed. A rehearsal that
raises has changed nothing, so the next try needs no restore, however many records fail.
"""

from __future__ import annotations

import numpy as np

from streamer.core.columns import Columns
from streamer.core.state.table import FlowTable
from streamer.core.types import Readings, by_partition


def copies(table: FlowTable, columns: Columns, readings: Readings) -> FlowTable:
    """
    A flow table with copies of the rows of *readings*; each row is its own page.

    There is room for all flows that are new: a rehearsal evicts none.
    """
    flows = {
        partition: list(dict.fromkeys(readings.flow[i] for i in index))
        for partition, index in by_partition(readings.partition).items()
    }
    copied = FlowTable(columns, sum(map(len, flows.values())) or 1, page_rows=1)
    copied.generation = table.generation
    for partition, names in flows.items():
        copied.add_partition(partition, len(names))
        found = dict(zip(names, table.find(partition, names), strict=True))
        known = [name for name in names if found[name] is not None]
        source = np.array([found[name] for name in known], np.intp)
        target = np.array([copied.allocate(partition, name) for name in known], np.intp)
        copied.scatter(target, table.gather(source))
        copied.generations[target] = table.generation_of(source)
    return copied
