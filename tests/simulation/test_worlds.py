"""
What must be true at the end of any world.

A failure names its seed, and the seed replays it:
`python -m pytest tests/simulation --seed 123`.
"""

from random import Random

import pytest

from tests.simulation.truth import called_for
from tests.simulation.world import REJECTS, Faults, Shape, World, traffic


@pytest.fixture(scope="module")
def calm_and_rough(seed):
    """A world without faults and one with, of the same input, both at their end."""
    chance = Random(seed)
    shape, faults = Shape.draw(chance), Faults.swarm(chance)
    calm = World(shape, seed=seed, faults=Faults(records_max=30))
    rough = World(shape, seed=seed + 1_000_000, faults=faults)
    traffic(calm.log, shape, seed)
    rough.log.input = calm.log.input
    for world in (calm, rough):
        world.run()
        world.settle()
    return calm, rough


def test_a_faulty_world_ends_like_a_faultless_one(calm_and_rough):
    """Crashes, rebalances and the size of turns leave no trace in rows, forecasts or rejects."""
    calm, rough = calm_and_rough
    assert rough.forecasts() == calm.forecasts()
    assert rough.rows() == calm.rows()
    assert calm.forecasts()

    def rejects(world):
        return sorted((m.headers, m.key, m.value or b"") for m in world.log.told[REJECTS])

    assert rejects(rough) == rejects(calm)


def test_every_forecast_is_the_one_that_the_readings_call_for(calm_and_rough):
    """One for each closed step of each flow, with the rate that a walk by hand finds."""
    _, rough = calm_and_rough
    told: dict[str, list] = {}
    for (flow, made_at), each in sorted(rough.forecasts().items()):
        told.setdefault(flow, []).append((made_at, each["rate"]))
    wanted: dict[str, list] = {}
    quota = rough.shape.flows_max // rough.shape.partitions
    for lane in rough.log.input.values():
        wanted.update(called_for(lane, quota))
    assert {f: [at for at, _ in steps] for f, steps in told.items()} == {
        f: [at for at, _ in steps] for f, steps in wanted.items() if steps
    }
    for flow, steps in told.items():
        assert [rate for _, rate in steps] == [
            None if rate is None else pytest.approx(rate, rel=1e-5, abs=1e-9)
            for _, rate in wanted[flow]
        ]


def test_a_full_partition_holds_as_many_flows_as_it_may():
    """The others gave way, and were counted."""
    shape = Shape(flows=40, partitions=1, forecasters=1, flows_max=20, batched=False)
    world = World(shape, seed=5, faults=Faults(records_max=30))
    traffic(world.log, shape, 5)
    world.run()
    (forecaster,) = world.forecasters
    assert len(forecaster.engine.arena) == 20
