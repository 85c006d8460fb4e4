"""What keeping state costs, while it is saved and when it is read back; how long turns take."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np

from tests.bench.apart import Apart, Spent
from tests.bench.members import daemon, forgetful
from tests.bench.rows import Row, median_ratio
from tests.bench.through import FLOWS, STEPS, Lane, feed, running
from tests.bench.traffic import PARTITIONS, messages

RESTORED = 100_000  # flows
NEVER = "state.interval=10d"
PACED_S = 15.0
PIECE_S = 0.02  # readings come in pieces of so long
LOAD = 0.7


def rows(bootstrap: str, repeats: int = 6) -> Iterator[Row]:
    """On Kafka."""
    url = f"kafka://{bootstrap}"
    saving, not_saving = Lane(url, "bench.saving", 1), Lane(url, "bench.forgetful", 1, (NEVER,))
    members = Apart(daemon, saving.overrides), Apart(forgetful, not_saving.overrides)
    with running(*members):
        for nth in range(1 + repeats):
            for lane, member in zip((saving, not_saving), members, strict=True):
                lane.stretch(member, STEPS)
                if nth == 0:
                    lane.spent.clear()
        with_it, without = ([spent.cpu_s for spent in lane.spent] for lane in (saving, not_saving))
        share = 1 - median_ratio(without, with_it)
        yield Row("state_share_of_turn", share, "", 0.05, at_most=True, note="of processor time")
        lasting = STEPS * FLOWS / statistics.median(spent.wall_s for spent in saving.spent)
        yield from turns(saving, members[0], LOAD * lasting)
    yield restore(url)


def turns(lane: Lane, member: Apart, rate: float) -> Iterator[Row]:
    """How long a turn takes, from its first record to its commit, at a steady rate of readings."""
    spent = paced(lane, member, rate)
    note = f"{rate:,.0f} readings/s, {LOAD:.0%} of the rate it keeps up; {len(spent.turns_s)} turns"
    for name, percentile in (("turn_ms_p50", 50), ("turn_ms_p99", 99)):
        yield Row(name, 1000 * float(np.percentile(spent.turns_s, percentile)), "ms", note=note)


def paced(lane: Lane, member: Apart, rate: float) -> Spent:
    """What *member* takes for so many readings a second, PACED_S long."""
    total = int(rate * PACED_S)
    every = itertools.chain.from_iterable(
        messages(lane.topic, step, FLOWS, 1, PARTITIONS) for step in lane.steps
    )
    feeder = threading.Thread(target=trickle, args=(lane, list(itertools.islice(every, total))))
    feeder.start()
    spent: Spent = member.ask(total)
    feeder.join()
    return spent


def trickle(lane: Lane, batch: Sequence) -> None:
    """Feed *batch* evenly over PACED_S."""
    piece = max(1, int(len(batch) * PIECE_S / PACED_S))
    began = time.monotonic()
    for nth, first in enumerate(range(0, len(batch), piece)):
        time.sleep(max(0.0, began + nth * PIECE_S - time.monotonic()))
        feed(lane.url, batch[first : first + piece])


def restore(url: str) -> Row:
    """From a daemon's death to the first turn of the next: all pages, and a step of all flows."""
    lane = Lane(url, "bench.restored", 100, flows=RESTORED)
    saved = Apart(daemon, [*lane.overrides, "state.interval=1ms"])
    with running(saved):
        lane.stretch(saved, 2)
    replayed = Apart(daemon, [*lane.overrides, NEVER])
    with running(replayed):
        lane.stretch(replayed, 1)
    back = Apart(daemon, [*lane.overrides, NEVER])
    with running(back):
        took_s: float = back.ready()
        lane.stretch(back, 1)
    note = f"{RESTORED:,} flows in {PARTITIONS} partitions, and {RESTORED:,} readings replayed"
    return Row("restore_100k_s", took_s, "s", 6.0, at_most=True, note=note)
