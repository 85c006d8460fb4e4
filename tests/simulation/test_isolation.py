"""A record that makes the engine fail is found, rejected, and stops nothing else."""

import json
from dataclasses import replace

import pytest

from tests.simulation.memory import REJECTS, STATE, Faults
from tests.simulation.traffic import POISON
from tests.simulation.world import DAMAGED, Shape, World

SHAPE = Shape(flows=3, partitions=1, forecasters=1, flows_max=100, batched=False)
ROUGH = Faults(
    crash_before_publish=0.05, crash_after_publish=0.05, crash_in_restore=0.1, rebalance=0.1
)


def reading(flow, minute, value, **more):
    return {"flow": flow, "time": 600_000 + 60 * minute, "value": value, **more}


def world(*, poisoned, faults, seed=1, passes_max=200, forecasters=1):
    shape = replace(SHAPE, passes_max=passes_max, forecasters=forecasters)
    made = World(shape, seed=seed, faults=faults)
    for minute in range(40):
        for flow in ("sound", "shared"):
            body = json.dumps(reading(flow, minute, 1000 * minute)).encode()
            made.log.append(0, flow.encode(), body, -1)
        if poisoned and minute % 10 == 5:
            bad = [reading("shared", minute, 7), reading("bad", minute, 5, unit=POISON.decode())]
            made.log.append(0, b"bad", json.dumps(bad).encode(), -1)
    return made


@pytest.mark.parametrize("passes_max", [1, 3, 200])
@pytest.mark.parametrize("number", range(8))
def test_a_poisoned_world_ends_like_a_sound_one(number, passes_max):
    """Forecasts of all flows are equal to the bit; each poisoned record is rejected once."""
    sound = world(poisoned=False, faults=Faults(records_max=200))
    rough = world(poisoned=True, faults=ROUGH, seed=number, passes_max=passes_max, forecasters=2)
    sound.settle()
    rough.run()
    rough.settle()
    assert rough.forecasts() == sound.forecasts()
    rejects = [dict(message.headers) for message in rough.log.published[REJECTS]]
    assert [each["reason"] for each in rejects] == [b"failed"] * 4
    assert all(b"ZeroDivisionError" in each["detail"] for each in rejects)
    assert len({each["offset"] for each in rejects}) == 4


def test_what_was_done_about_a_record_is_forgotten_once_no_replay_meets_it():
    """Its entry is deleted with the first replay offset that lies behind it."""
    made = world(poisoned=True, faults=Faults(records_max=5))
    made.settle()
    for _ in range(40):
        made.turn(0)
    entries = [(m.key, m.value) for m in made.log.published[STATE] if b"/failed/" in m.key]
    assert {key for key, value in entries if value} == {key for key, value in entries if not value}


def test_a_damaged_row_restarts_and_its_record_is_processed():
    """A row that raises is not met again for ever: the flow begins once more."""
    made = world(poisoned=False, faults=Faults(records_max=2))
    for _ in range(12):
        made.turn(0)
    engine = made.forecasters[0].engine
    (slot,) = engine.table.find(next(iter(engine.table.partitions)), ["shared"])
    engine.table.rows["unit"][slot] = DAMAGED
    engine.table.dirty[:] = True
    saved = made.forecasters[0].messages(engine.step([], 1.0))  # the damaged page is saved …
    made.log.take(list(saved), {})
    made.forecasters[0] = made.boot()  # … and read back
    made.log.rebalance(made.members)
    made.settle()
    sound = world(poisoned=False, faults=Faults(records_max=200))
    sound.settle()
    found, wanted = made.forecasts(), sound.forecasts()
    assert made.log.drained
    assert not made.log.published[REJECTS]
    assert {k: v for k, v in found.items() if k[0] == "sound"} == {
        k: v for k, v in wanted.items() if k[0] == "sound"
    }
    assert len(wanted) - 3 <= len(found) < len(wanted)
