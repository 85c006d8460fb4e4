"""What collectors send to a simulated world."""

from __future__ import annotations

import json
from random import Random

from tests.simulation.memory import MemoryLog

POISON = b"poison"  # the unit of readings that make the engine of a world fail
PARTS = "parts"  # a flow of deltas in parts, each of which counts: one that is read twice shows


def traffic(
    log: MemoryLog,
    flows: int,
    seed: int,
    *,
    batched: bool,
    minutes: int = 12,
    poisoned: bool = True,
) -> None:
    """Counters that are polled unevenly, sent twice, late, lost, wrapped, reset, or are junk."""
    chance = Random(seed)
    counts = {f"flow{i}": chance.choice([0, 2**32 - 10**6, 2**64 - 10**6]) for i in range(flows)}
    home = {flow: i % log.partitions for i, flow in enumerate(counts)}
    resets = chance.choice([0.0, 0.02])
    poison = chance.choice([0.0, 0.0, 0.01]) * poisoned
    apart = Random(f"{PARTS} {seed}")
    parts = apart.choice([0.0, 0.3])
    for tick in range(minutes * flows):
        flow = chance.choice(list(counts))
        now = 600_000 + 60 * tick / flows
        if chance.random() < resets:
            counts[flow] = 0
        bits = 32 if counts[flow] < 2**32 else 64
        readings = []
        for _ in range(chance.randint(1, 3) if batched else 1):
            counts[flow] = (counts[flow] + chance.randint(0, 90_000)) % 2**bits
            now += chance.random()
            readings.append({"flow": flow, "time": round(now, 3), "value": counts[flow]})
        body = json.dumps(readings if batched else readings[0]).encode()
        key = flow.encode()
        if apart.random() < parts:
            part = {"flow": PARTS, "time": now, "value": 9000, "kind": "delta", "part": True}
            log.append(0, key, json.dumps([part] * apart.randint(1, 3)).encode(), -1)
        if chance.random() < 0.03:
            continue  # lost on the way
        log.append(home[flow], key, body, -1)
        if chance.random() < 0.1:
            log.append(home[flow], key, body, -1)  # a duplicate
        if chance.random() < 0.05:
            late = json.dumps({"flow": flow, "time": now - 90, "value": 5}).encode()
            log.append(home[flow], key, late, -1)
        if chance.random() < 0.02:
            log.append(home[flow], key, chance.choice([None, b"\xff junk", b"{}"]), -1)
        if chance.random() < poison:
            bad = {"flow": flow, "time": now, "value": 5, "unit": POISON.decode()}
            log.append(home[flow], key, json.dumps([readings[-1], bad]).encode(), -1)
