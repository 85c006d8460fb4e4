"""A record that makes the engine fail is found, rejected, and stops nothing else."""

import json
from dataclasses import replace

import pytest

from streamer.core import wire
from streamer.core.engine import Engine
from streamer.core.state import loading, restoring
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
    noted = {key for key, value in entries if value}
    assert len(noted) == 4
    assert noted == {key for key, value in entries if not value}


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


def counted(monkeypatch):
    """How often an engine restored a partition, in a list."""
    restores, restore = [], Engine.restore

    def count(self, *args, **named):
        restores.append(args[0])
        return restore(self, *args, **named)

    monkeypatch.setattr(Engine, "restore", count)
    return restores


@pytest.mark.parametrize("apart", [1, 3])
def test_many_poisons_in_a_row_cost_one_restore(monkeypatch, apart):
    """The first one is found by a failed turn, the others by rehearsals."""
    restores = counted(monkeypatch)
    rough = World(SHAPE, seed=1, faults=Faults(records_max=60))
    sound = World(SHAPE, seed=1, faults=Faults(records_max=60))
    for minute in range(120):
        for flow in ("sound", "shared"):
            body = json.dumps(reading(flow, minute, 1000 * minute)).encode()
            rough.log.append(0, flow.encode(), body, -1)
            sound.log.append(0, flow.encode(), body, -1)
        if minute >= 20 and minute % apart == 0:
            bad = json.dumps(reading("bad", minute, 5, unit=POISON.decode())).encode()
            rough.log.append(0, b"bad", bad, -1)
    sound.settle()
    del restores[:]
    rough.settle()
    assert len(restores) == 2  # of the start, and after the first failure
    assert rough.forecasts() == sound.forecasts()
    assert len(rough.log.published[REJECTS]) == sum(n % apart == 0 for n in range(20, 120))
    suspects = rough.forecasters[0]._isolation.suspects
    assert not any(suspects.values())  # what is saved is not kept in memory too


def test_many_damaged_rows_cost_one_restore_more(monkeypatch):
    """They are met by turns, or by replays of other instances' rows; each flow restarts once."""
    flows = [f"f{n}" for n in range(30)]

    def made_world():
        made = World(replace(SHAPE, flows=30), seed=1, faults=Faults(records_max=30))
        for minute in range(20):
            for flow in flows:
                body = json.dumps(reading(flow, minute, 1000 * minute)).encode()
                made.log.append(0, flow.encode(), body, -1)
        return made

    made = made_world()
    while made.log.left(next(iter(made.log.input))) > 300:
        made.turn(0)
    engine = made.forecasters[0].engine
    slots = engine.table.find(next(iter(engine.table.partitions)), flows[:20])
    engine.table.rows["unit"][slots] = DAMAGED
    engine.table.dirty[:] = True
    saved = made.forecasters[0].messages(engine.step([], 1.0))
    made.log.take(list(saved), {})
    made.forecasters[0] = made.boot()
    made.log.rebalance(made.members)
    restores = counted(monkeypatch)
    made.settle()
    assert len(restores) == 2
    assert not made.log.published[REJECTS]
    assert {flow for flow, _ in made.forecasts()} == set(flows)


def test_a_format_that_raises_rejects_its_record(monkeypatch):
    """The other records of the poll are read; there is nothing to search for."""
    decode = wire.decode

    def fragile(records, *args, **options):
        if any(b"magic" in (record.value or b"") for record in records):
            raise KeyError("magic")
        return decode(records, *args, **options)

    monkeypatch.setattr(wire, "decode", fragile)
    made, sound = (world(poisoned=False, faults=Faults(records_max=9)) for _ in range(2))
    made.log.input = {p: list(lane) for p, lane in made.log.input.items()}
    for n in range(3):
        made.log.append(0, b"bad", b"magic %d" % n, -1)
    restores = counted(monkeypatch)
    made.settle()
    assert len(restores) == 1
    sound.settle()
    assert made.forecasts() == sound.forecasts()
    rejects = [dict(message.headers) for message in made.log.published[REJECTS]]
    assert [(each["reason"], each["detail"]) for each in rejects] == [(b"failed", b"KeyError")] * 3


@pytest.mark.parametrize("place", ["decode", "place_rows"])
def test_pages_that_cannot_be_loaded_are_read_again_from_the_input(monkeypatch, place):
    """One page, if the exception is of one; all of them, if the cause is unknown."""
    made, sound = (world(poisoned=False, faults=Faults(records_max=9)) for _ in range(2))
    for _ in range(6):
        made.turn(0)
    engine = made.forecasters[0].engine
    engine.table.dirty[:] = True
    made.log.take(list(made.forecasters[0].messages(engine.step([], 1.0))), {})
    made.forecasters[0] = made.boot()
    made.log.rebalance(made.members)
    module = {"decode": loading, "place_rows": restoring}[place]
    original = getattr(module, place)

    def fragile(*args):
        if place == "decode" or args[2].sound:
            raise IndexError("planted")
        return original(*args)

    monkeypatch.setattr(module, place, fragile)
    back = []
    made.forecasters[0]._observer.restored = back.append
    made.turn(0)
    monkeypatch.undo()
    assert "IndexError: planted" in back[0].unreadable[0]
    made.settle()
    sound.settle()
    assert made.forecasts() == sound.forecasts()


def test_another_step_beside_a_poison():
    """A restart with a changed setting meets a record that fails: both are handled."""
    made = world(poisoned=True, faults=Faults(records_max=8))
    for _ in range(8):
        made.turn(0)
    before = len(made.forecasts())
    made.step_s = 120
    made.forecasters[0] = made.boot()
    made.log.rebalance(made.members)
    made.settle()
    rejects = [dict(message.headers)["reason"] for message in made.log.published[REJECTS]]
    assert rejects == [b"failed"] * 4
    found = made.forecasts()
    assert len(found) > before
    assert {flow for flow, _ in found} == {"sound", "shared"}
    assert max(at for _, at in found) >= 600_000 + 60 * 36
