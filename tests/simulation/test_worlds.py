"""
What must be true at the end of any world.

A failure names its seed, and the seed replays it:
`python -m pytest tests/simulation --seed 123`.
"""

from dataclasses import fields, replace
from random import Random

import pytest

from tests.simulation.memory import REJECTS, Faults
from tests.simulation.traffic import PARTS, traffic
from tests.simulation.truth import called_for
from tests.simulation.world import RULES, WEIGHTLESS, Shape, World

OF_WEIGHTS = {  # columns that depend on the weights
    *("state", "state_before", "last_forecast", "pending_quantiles"),
    *(
        "network_error",
        "switch_count",
        "cum_excess_loss",
        "log_width_factor",
        "moved",
        "network_median",
        "regrets",
        "squares",
    ),
    *("n_covered", "loss_sums"),
    *(f"alert.{rule.name}" for rule in RULES if rule.name not in WEIGHTLESS),
}


@pytest.fixture(scope="module")
def calm_and_rough(seed, alike):
    """
    A world without faults and one with, of the same input, both at their end.

    In some the faults end before the input does; then it is noted how long the rest took.
    """
    chance = Random(seed)
    shape, faults = of_kind(Shape.draw(chance), alike), of_kind(Faults.swarm(chance), alike)
    calm = World(replace(shape, learning=0.0), seed=seed, faults=Faults(records_max=200))
    rough = World(shape, seed=seed + 1_000_000, faults=faults)
    # Each record that fails costs some restores: if most of those die, there is no progress.
    poisoned = faults.crash_in_restore < 0.1
    traffic(calm.log, shape.flows, seed, batched=shape.batched, poisoned=poisoned)
    rough.log.input = calm.log.input
    calm.settle()
    rough.run(until_left=chance.choice([0.0, 0.0, 0.3]))
    rough.rounds_allowed = allowed(rough)
    rough.rounds = rough.settle()
    return calm, rough


def of_kind(drawn, alike):
    """*drawn* with those of its fields that all worlds have in common."""
    return replace(drawn, **{f.name: alike[f.name] for f in fields(drawn) if f.name in alike})


def allowed(world):
    """Rounds within which a world without faults must have read the rest."""
    longest = max(map(world.log.left, world.log.input))
    pages = 40 if world.shape.learning else 0  # that may all have to be taken up
    return 40 + pages + 8 * longest / world.log.faults.records_max


def test_a_faulty_world_ends_like_a_faultless_one(calm_and_rough):
    """
    Crashes, rebalances and the size of turns leave no trace in rows, forecasts or rejects.

    What other weights make of a row is left out where there have been others: when each page goes
    over to them is a matter of time.
    """
    calm, rough = calm_and_rough
    learned = len(rough.trainer.served) > 1
    assert plain(rough.forecasts(), learned) == plain(calm.forecasts(), learned)
    less = frozenset(OF_WEIGHTS if learned else ())
    assert rough.rows(less) == calm.rows(less)
    assert calm.forecasts()

    def rejects(world):
        return sorted((m.headers, m.key, m.value or b"") for m in world.log.published[REJECTS])

    assert rejects(rough) == rejects(calm)


def plain(forecasts, learned):
    """The part that does not depend on the weights."""
    kept = ("flow", "made_at", "step_s", "rate", "unit")
    return {
        key: {name: forecast[name] for name in kept} if learned else forecast
        for key, forecast in forecasts.items()
    }


def test_every_page_is_of_one_generation_that_was_promoted(calm_and_rough):
    """By its header, and by the marks in its rows; junk was never an incumbent."""
    _, rough = calm_and_rough
    served = set(rough.trainer.served)
    for _, page in rough.saved():
        assert page.generation in served
        assert set(page.rows["state"][:, 0, 1, 0].tolist()) <= {0, page.generation}
    assert {each["generation"] for each in rough.forecasts().values()} <= served
    for forecaster in rough.forecasters:
        assert len(forecaster.engine.generations.digests) <= 3  # two changes may be under way


def test_a_page_never_goes_back_to_weights_that_it_has_left(calm_and_rough):
    """But for a rollback: a crash in the middle of a rollout loses nothing of it."""
    _, rough = calm_and_rough
    if rough.trainer.garbled:
        return  # a restarted member could not read the incumbent
    tales = {}
    for key, page in rough.saved():
        tales.setdefault(key, []).append(page.generation)
    roomy = rough.shape.flows_max > rough.shape.flows and not rough.log.upgrades
    for (flow, _), forecast in sorted(rough.forecasts().items()) if roomy else ():
        tales.setdefault(flow, []).append(forecast["generation"])
    for name, tale in tales.items():
        served = iter(rough.trainer.served)
        at = next(served)
        for generation in tale:
            while at != generation:
                at = next(served, None)
                assert at is not None, f"{name} went through {tale}"


def test_every_forecast_is_the_one_that_the_readings_call_for(calm_and_rough):
    """One for each closed step of each flow, with the rate that a walk by hand finds."""
    _, rough = calm_and_rough
    found: dict[str, list] = {}
    for (flow, made_at), each in sorted(rough.forecasts().items()):
        if flow != PARTS:
            found.setdefault(flow, []).append((made_at, each["rate"]))
    wanted: dict[str, list] = {}
    quota = rough.shape.flows_max // rough.shape.partitions
    for lane in rough.log.input.values():
        wanted.update(called_for(lane, quota))
    assert {f: [at for at, _ in steps] for f, steps in found.items()} == {
        f: [at for at, _ in steps] for f, steps in wanted.items() if steps
    }
    for flow, steps in found.items():
        assert [rate for _, rate in steps] == [
            None if rate is None else pytest.approx(rate, rel=1e-5, abs=5e-6)  # five places
            for _, rate in wanted[flow]
        ]


def test_every_forecast_is_scored_once(calm_and_rough):
    """However often a period's end was met again: counts are equal, and sums but for rounding."""
    calm, rough = calm_and_rough
    learned = len(rough.trainer.served) > 1
    wanted, found = plain_sums(calm.scores(), learned), plain_sums(rough.scores(), learned)
    assert wanted.keys() == found.keys()
    for key, sums in wanted.items():
        assert found[key] == pytest.approx(sums, rel=1e-9, abs=1e-12), key
    totals = [sums for (key, _), sums in found.items() if key == "all/1"]
    rated = sum(each["rate"] is not None for each in rough.forecasts().values())
    assert sum(sums["forecasts"] for sums in totals) <= rated


def plain_sums(scores, learned):
    """The part that does not depend on the weights."""
    kept = ("flows", "forecasts")
    return {
        (name, ends_at): {each: sums[each] for each in kept} if learned else sums
        for (name, ends_at), sums in scores.items()
        if not (learned and name.startswith("served_by"))
    }


def test_every_alert_is_published_once(calm_and_rough):
    """
    Raised once and resolved once, with the same words, whatever crashed; and none fires for ever.

    An alert's records name the weights: where there were others, only rules without a forecast
    are compared, without those words.
    """
    calm, rough = calm_and_rough
    learned = len(rough.trainer.served) > 1
    assert plain_alerts(rough, learned) == plain_alerts(calm, learned)
    for world in (calm, rough):
        records = [(each["id"], each["state"], each["verdict"]) for each in world.alerts()]
        assert len(records) == len(set(records)), "published twice"
        assert world.standing() == world.firing()
    rules = {f"rule/{name}" for name in WEIGHTLESS}
    assert {
        key: sums for key, sums in rough.ledger().items() if not learned or key[0] in rules
    } == {key: sums for key, sums in calm.ledger().items() if not learned or key[0] in rules}


def plain_alerts(world, learned):
    """The part that does not depend on the weights."""
    if not learned:
        return world.alerts()
    kept = ("id", "flow", "rule", "state", "reason", "since", "updated_at", "rate", "threshold")
    return [
        {name: each[name] for name in kept} for each in world.alerts() if each["rule"] in WEIGHTLESS
    ]


def test_a_removed_rule_ends_its_alerts():
    """Once, and the alerts of the others go on; a rule that is new begins by itself."""
    shape = Shape(flows=7, partitions=2, forecasters=2, flows_max=100, batched=False)
    world = World(shape, seed=5, faults=Faults(records_max=30))
    traffic(world.log, shape.flows, 5, batched=False, minutes=30, poisoned=False)
    world.run(until_left=0.4)
    before = world.standing()
    assert any("/low@" in each for each in before)
    world.rules = RULES[1:]
    world.forecasters = [world.boot() for _ in world.forecasters]
    world.log.rebalance(world.members)
    world.settle()
    ended = [each for each in world.alerts() if each["reason"] == "rule_removed"]
    assert {each["id"] for each in ended} == {each for each in before if "/low@" in each}
    assert len(ended) == len({each["id"] for each in ended})
    assert world.standing() == world.firing()


def test_an_alert_of_an_evicted_flow_ends():
    """The alert of an evicted flow is resolved."""
    shape = Shape(flows=40, partitions=1, forecasters=1, flows_max=20, batched=False)
    world = World(shape, seed=5, faults=Faults(records_max=30))
    traffic(world.log, shape.flows, 5, batched=False)
    world.settle()
    assert any(each["reason"] == "evicted" for each in world.alerts())
    assert world.standing() == world.firing()


def test_scores_are_published_without_faults():
    """A world without holes scores most of its forecasts: the other test is about something."""
    shape = Shape(flows=4, partitions=2, forecasters=2, flows_max=100, batched=True)
    world = World(shape, seed=5, faults=Faults(records_max=30))
    traffic(world.log, shape.flows, 5, batched=shape.batched, minutes=40)
    world.settle()
    scored = sum(s["forecasts"] for (key, _), s in world.scores().items() if key == "all/1")
    assert scored > 0.5 * len(world.forecasts())
    for way in ("served_by", "level", "rhythm", "bursts"):
        parts = [s["forecasts"] for (key, _), s in world.scores().items() if key.startswith(way)]
        assert sum(parts) == scored


def test_when_the_faults_end_all_is_read_soon(calm_and_rough):
    """Whatever happened before, no member is stuck: the records left bound the rounds."""
    _, rough = calm_and_rough
    assert rough.log.drained
    assert rough.rounds <= rough.rounds_allowed


def test_a_full_partition_holds_as_many_flows_as_it_may():
    """The others gave way, and were counted."""
    shape = Shape(flows=40, partitions=1, forecasters=1, flows_max=20, batched=False)
    world = World(shape, seed=5, faults=Faults(records_max=30))
    traffic(world.log, shape.flows, 5, batched=shape.batched)
    world.settle()
    (forecaster,) = world.forecasters
    assert len(forecaster.engine.table) == 20
