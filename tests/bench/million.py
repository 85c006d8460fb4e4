"""
A million flows in one instance, through Kafka: at work, and back at work.

What a daemon takes at the most counts its turns, its client and what it reads back,
which the core alone has none of.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator
from pathlib import Path

from tests.bench.apart import Apart
from tests.bench.members import daemon
from tests.bench.rows import Row
from tests.bench.through import BATCH, Lane, running

FLOWS = 1_000_000
ROOM = 1.2  # of `flows_max`, over the flows: a partition gets an even share, and not even flows
STEPS = 4  # of all flows
INTERVAL = "20s"  # that the pages of all flows are there to be read back
PEAK_GIB = 4.0


def rows(bootstrap: str, flows: int = FLOWS) -> Iterator[Row]:
    """The first step makes rows and forecasts nothing: the rate is of those after it."""
    more = [f"flows_max={ROOM * flows:.0f}", f"state.interval={INTERVAL}"]
    lane = Lane(f"kafka://{bootstrap}", "bench.million", BATCH, more=more, flows=flows)
    member = Apart(daemon, lane.overrides)
    with running(member):
        for _ in range(STEPS):
            lane.stretch(member, 1)
        peak = peak_gib(member)
    rate = flows / statistics.median(spent.wall_s for spent in lane.spent[1:])
    yield Row("million_readings_per_s", rate, "readings/s", note=f"{flows:,} flows")
    yield Row("million_peak", peak, "GiB", PEAK_GIB, at_most=True)

    back = Apart(daemon, lane.overrides)
    with running(back):
        restoring_s = back.ready()
        lane.stretch(back, 1)
        peak = peak_gib(back)
    note = f"up to {STEPS} readings of each replayed"
    yield Row("million_restore_s", restoring_s, "s", note=note)
    yield Row("million_restored_peak", peak, "GiB", PEAK_GIB, at_most=True)


def peak_gib(member: Apart) -> float:
    """The most that the process has had in memory so far."""
    status = Path(f"/proc/{member.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found, "the kernel does not report the peak"
    return int(found[1]) / 2**20
