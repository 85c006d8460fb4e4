"""
What must be true at the end of any world.

A failure names its seed, and the seed replays it:
`python -m pytest tests/simulation --seed 123`.
"""

from dataclasses import replace
from random import Random

import pytest

from tests.simulation.truth import closed_steps
from tests.simulation.world import REJECTS, Faults, Shape, World, traffic


def worlds(seed):
    """A calm world and a rough one with the same input."""
    chance = Random(seed)
    shape, faults = Shape.draw(chance), Faults.swarm(chance)
    calm = World(shape, seed=seed, faults=Faults())
    rough = World(shape, seed=seed + 1_000_000, faults=faults)
    traffic(calm.log, shape, seed)
    rough.log.input = calm.log.input
    return calm, rough


def test_a_faulty_world_ends_like_a_faultless_one(seed):
    """Crashes, rebalances and the size of turns leave no trace in rows, forecasts or rejects."""
    calm, rough = worlds(seed)
    for world in (calm, rough):
        world.run()
        world.settle()

    assert rough.forecasts() == calm.forecasts()
    assert rough.rows() == calm.rows()
    assert calm.forecasts()

    def rejects(world):
        return sorted((m.headers, m.key, m.value or b"") for m in world.log.told[REJECTS])

    assert rejects(rough) == rejects(calm)


def test_every_forecast_is_the_one_that_the_readings_call_for(seed):
    """One for each closed step of each flow, with the rate that a walk by hand finds."""
    _, rough = worlds(seed)
    if rough.shape.flows_max < rough.shape.flows:
        rough = World(
            replace(rough.shape, flows_max=10_000),
            seed=seed,
            faults=rough.log.faults,
        )
        traffic(rough.log, rough.shape, seed)
    rough.run()

    told = rough.forecasts()
    for flow in {flow for flow, _ in told} | {f"flow{i}" for i in range(rough.shape.flows)}:
        found = sorted((at, each["rate"]) for (f, at), each in told.items() if f == flow)
        called_for = closed_steps(rough.log, flow)
        assert [at for at, _ in found] == [at for at, _ in called_for]
        assert [rate for _, rate in found] == [
            None if rate is None else pytest.approx(rate, rel=1e-5, abs=1e-9)
            for _, rate in called_for
        ]


def test_a_full_partition_forgets_the_flows_it_heard_of_longest_ago():
    """And counts them; the flows that stay are not disturbed."""
    shape = Shape(flows=40, partitions=1, forecasters=1, flows_max=20, batched=False)
    world = World(shape, seed=5, faults=Faults())
    traffic(world.log, shape, 5)
    world.run()
    (forecaster,) = world.forecasters
    assert len(forecaster.engine.arena) == 20
