"""Counters, deltas and gauges as devices and collectors really send them."""

import functools
import itertools
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.config.types import Duration
from streamer.core.engine import Engine, EngineConfig
from streamer.core.features.grid import GridConfig
from streamer.core.types import Partition, Record
from tests.simulation.fingerprint import Fingerprint

P = Partition("counters", 0)
BEGIN = 1_780_012_800


def run_side_by_side(cases, **config):
    """What the engine makes of a flow for each case: rates by case, counts of all, and notices."""
    grid = GridConfig(step=Duration(60), **config)
    engine = Engine(Fingerprint(), EngineConfig(flows_max=64, grid=grid))
    engine.restore(P, {}, 0, 1)
    names = {str(case): case for case in cases}
    assert len(names) == len(cases)
    rates, counts, notices = {case: {} for case in cases}, Counter(), []
    for offset, turn in enumerate(itertools.zip_longest(*cases.values())):
        readings = [
            {"flow": name, **reading}
            for name, reading in zip(names, turn, strict=True)
            if reading is not None
        ]
        epoch = engine.step([Record(P, offset, None, json.dumps(readings).encode(), -1)])
        for wave in epoch.forecasts:
            columns = wave.flow, wave.made_at.tolist(), wave.rate.tolist()
            for name, made_at, rate in zip(*columns, strict=True):
                assert made_at not in rates[names[name]], f"{name} is forecast twice"
                rates[names[name]][made_at] = rate
        counts.update(epoch.counts)
        notices += epoch.notices
    return {case: np.array(list(each.values())) for case, each in rates.items()}, counts, notices


def run_engine(readings, **config):
    """What the engine makes of the readings of one flow: rates by step, counts and notices."""
    rates, counts, notices = run_side_by_side({"f": readings}, **config)
    return rates["f"], +counts, notices


def counter(rate, minutes=40, every=60, first=10**12, bits=None, **more):
    """A clean counter, as a list of readings that a test may spoil."""
    values = [first + round(rate * every) * n for n in range(minutes * 60 // every)]
    size = 2 ** (bits or 64)
    return [
        {"time": BEGIN + 7 + every * n, "value": value % size, **more}
        for n, value in enumerate(values)
    ]


def sound(rates, rate, missing_max=2, rel=0.01):
    """No rate is invented, and few are missing."""
    assert len(rates) >= 10
    assert np.isnan(rates).sum() <= missing_max
    assert rates[~np.isnan(rates)] == pytest.approx(rate, rel=rel)


POLLS = list(itertools.product([5e3, 1e6], [0, 1, 5_000, "five times", 2**64 - 1, "a bit", "less"]))


@functools.cache
def odd_polls():
    """A flow for each of POLLS."""
    cases = {}
    for rate, spoilt in POLLS:
        readings = counter(rate)
        value = readings[20]["value"]
        odd = {
            "five times": 5 * value,
            "a bit": value ^ (1 << 45),
            "less": readings[19]["value"] - 5_000,
        }
        readings[20]["value"] = odd.get(spoilt, spoilt)
        cases[rate, spoilt] = readings
    return run_side_by_side(cases)


@pytest.mark.parametrize(("rate", "spoilt"), POLLS)
def test_one_odd_poll_is_left_out(rate, spoilt):
    """The next one agrees with what was before it: no step is missing, none invented."""
    rates, counts, _ = odd_polls()
    sound(rates[rate, spoilt], rate, missing_max=0, rel=0.03)
    assert counts["verdict.odd"] == len(POLLS)


RESTARTS = list(itertools.product([0, 32, 64], [None, 1.25e8], [0, 70_000]))


@functools.cache
def restarts():
    """A flow for each of RESTARTS."""
    cases = {}
    for bits, capacity, begins in RESTARTS:
        more = {"bits": bits} | ({"capacity": capacity} if capacity else {})
        before = counter(5e3, minutes=20, first=10**9, **more)
        after = counter(5e3, minutes=20, first=begins, **more)
        for nth, reading in enumerate(after):
            reading["time"] = before[-1]["time"] + 60 * (nth + 1)
        cases[bits, capacity, begins] = before + after
    return run_side_by_side(cases)


@pytest.mark.parametrize(("bits", "capacity", "begins"), RESTARTS)
def test_a_restart_of_a_device_is_not_a_wrap(bits, capacity, begins):
    """The growth that it suggests is not the flow's traffic."""
    rates, counts, _ = restarts()
    sound(rates[bits, capacity, begins], 5e3)
    assert counts["verdict.reset"] == len(RESTARTS)


@pytest.mark.parametrize("rate", [2e7, 3e7, 4.5e7])
def test_a_counter_that_wraps_every_few_polls_shows_its_width(rate):
    """A 32-bit counter of unknown width on a fast link."""
    rates, counts, _ = run_engine(counter(rate, bits=32, first=123_456))
    sound(rates, rate, missing_max=3)
    assert counts["verdict.wrapped"] > 5


AHEAD = [1_800, 86_400, 365 * 86_400]


@functools.cache
def times_ahead():
    """A flow with one such time for each of AHEAD."""
    cases = {ahead: counter(1e6) for ahead in AHEAD}
    for ahead, readings in cases.items():
        readings[20]["time"] += ahead
    return run_side_by_side(cases)


@pytest.mark.parametrize("ahead", AHEAD)
def test_one_time_far_ahead_waits_for_a_second_one(ahead):
    """The clock of the flow does not follow it."""
    rates, counts, _ = times_ahead()
    sound(rates[ahead], 1e6, missing_max=0)
    assert counts["verdict.odd"] == len(AHEAD)


STRAYS = [1, 2, 5]


@functools.cache
def strayed_clocks():
    """A flow that begins with so many times of the next year, for each of STRAYS."""
    cases = {strays: counter(1e6) for strays in STRAYS}
    for strays, readings in cases.items():
        for reading in readings[:strays]:
            reading["time"] += 365 * 86_400
    return run_side_by_side(cases)


@pytest.mark.parametrize("strays", STRAYS)
def test_a_clock_that_was_a_year_ahead_is_set_back(strays):
    """Many readings agree on another time, and no step is forecast twice."""
    rates = strayed_clocks()[0][strays]
    assert len(rates) >= 40 - strays - 6
    assert rates[-30:] == pytest.approx([1e6] * 30, rel=0.01)


def test_old_readings_that_come_late_do_not_move_the_clock():
    """A day that is sent again is late, reading by reading."""
    readings = counter(1e6, minutes=100)
    again = [dict(reading) for reading in readings[:50]]
    rates, counts, _ = run_engine(readings + again + counter(1e6, minutes=140)[100:])
    sound(rates, 1e6, missing_max=0)
    assert counts["verdict.late"] == 50


SPACINGS = [60, 120, 300, 600]


@functools.cache
def spaced_deltas():
    """A flow for each of SPACINGS."""
    return run_side_by_side(
        {
            every: [
                {"time": BEGIN + every * n, "value": 1e6 * every, "kind": "delta"}
                for n in range(12)
            ]
            for every in SPACINGS
        }
    )


@pytest.mark.parametrize("every", SPACINGS)
def test_deltas_are_spread_over_the_time_that_they_cover(every):
    """Not piled up in the step that they come in."""
    sound(spaced_deltas()[0][every], 1e6, missing_max=0)


SEEDS = range(3)


@functools.cache
def uneven_deltas():
    """A flow for each of SEEDS."""
    cases = {}
    for seed in SEEDS:
        chance = np.random.default_rng(seed)
        times = BEGIN + 60 * np.arange(60) + chance.uniform(-8, 8, 60)
        cases[seed] = [
            {"time": times[n], "value": 1e6 * (times[n] - times[n - 1]), "kind": "delta"}
            for n in range(1, 60)
        ]
    return run_side_by_side(cases)


@pytest.mark.parametrize("seed", SEEDS)
def test_deltas_at_uneven_times_keep_their_rate(seed):
    """With 8 seconds of jitter about each minute."""
    sound(uneven_deltas()[0][seed], 1e6, missing_max=1)


def test_a_delta_that_is_sent_twice_counts_once():
    """By a producer that tries again."""
    deltas = [{"time": BEGIN + 60 * n, "value": 6e7, "kind": "delta"} for n in range(30)]
    rates, counts, _ = run_engine([each for delta in deltas for each in (delta, delta)])
    sound(rates, 1e6, missing_max=0)
    assert counts["verdict.duplicate"] == 30


HOLDS = [60, 300, 600]


@functools.cache
def gauges():
    """Two flows for each of HOLDS: without a hole, and with one."""
    cases = {}
    for every in HOLDS:
        readings = [{"time": BEGIN + every * n, "value": 1e6, "kind": "gauge"} for n in range(12)]
        cases[every, "whole"], cases[every, "holed"] = readings, readings[:6] + readings[9:]
    return run_side_by_side(cases)


@pytest.mark.parametrize("every", HOLDS)
def test_a_gauge_holds_until_the_next_one(every):
    """For its usual spacing; a hole is still a hole."""
    rates = gauges()[0]
    sound(rates[every, "whole"], 1e6, missing_max=0)
    assert np.isnan(rates[every, "holed"]).sum() >= 2


CAPACITIES = list(itertools.product([1, 1e39, 1e-9, 5e5], [0, 1, 20]))


@functools.cache
def wrong_capacities():
    """A flow for each of CAPACITIES."""
    cases = {case: counter(1e6) for case in CAPACITIES}
    for (capacity, at), readings in cases.items():
        readings[at]["capacity"] = capacity
    return run_side_by_side(cases)


@pytest.mark.parametrize(("capacity", "at"), CAPACITIES)
def test_one_wrong_capacity_blanks_no_rates(capacity, at):
    """Rates that go on beyond it outvote it."""
    sound(wrong_capacities()[0][capacity, at], 1e6, missing_max=0)


def test_a_change_of_the_unit_keeps_the_flow():
    """Bytes become bits: all that is known is converted, and the rates go on."""
    readings = counter(1e6, unit="B")
    for reading in readings[20:]:
        reading["value"], reading["unit"] = 8 * reading["value"], "bit"
    rates, counts, _ = run_engine(readings)
    assert counts["unit_changed"] == 1
    assert counts["verdict.first"] == 1
    assert rates[:18] == pytest.approx([1e6] * 18)
    assert rates[21:] == pytest.approx([8e6] * len(rates[21:]))


def test_a_unit_of_another_kind_begins_another_flow():
    """Packets are not bytes."""
    readings = counter(1e6, unit="B")
    for reading in readings[20:]:
        reading["value"], reading["unit"] = reading["value"] // 1000, "packet"
    rates, counts, _ = run_engine(readings)
    assert counts["verdict.first"] == 2
    assert rates[21:] == pytest.approx([1e3] * len(rates[21:]), rel=0.01)


def test_two_counters_under_one_name_are_noticed_once():
    """The rates are those of one of them."""
    one, other = counter(1e6), counter(3e6, first=7 * 10**14)
    for reading in other:
        reading["time"] += 2
    mixed = [reading for pair in zip(one, other, strict=True) for reading in pair]
    rates, counts, notices = run_engine(mixed)
    sound(rates[3:], 1e6, missing_max=2)
    assert counts["verdict.odd"] > 20
    assert [(each.kind, each.flow) for each in notices] == [("two_sources", "f")]


def test_a_rate_that_grows_a_hundredfold_is_accepted_soon():
    """The next reading agrees: both are taken."""
    slow = counter(1e6, minutes=20)
    fast = counter(1e8, minutes=20, first=slow[-1]["value"] + 6 * 10**9)
    for nth, reading in enumerate(fast):
        reading["time"] = slow[-1]["time"] + 60 * (nth + 1)
    rates, counts, _ = run_engine(slow + fast)
    assert not np.isnan(rates).any()
    assert rates[21:] == pytest.approx([1e8] * len(rates[21:]))
    assert counts["verdict.held"] == 1
    assert "verdict.odd" not in counts


@settings(max_examples=5)
@given(
    st.lists(
        st.tuples(
            st.floats(1e2, 1e9),
            st.integers(3, 35),
            st.integers(0, 2**64 - 1),
            st.sampled_from([30, 60, 61, 300]),
        ),
        min_size=12,
        max_size=20,
        unique=True,
    )
)
def test_no_single_odd_value_invents_a_rate(cases):
    """Whatever it is and wherever, in each flow: no rate is beyond some times the truth."""
    flows = {}
    for case in cases:
        rate, at, value, every = case
        flows[case] = counter(rate, minutes=40 * every // 60 + 1, every=every)
        flows[case][at]["value"] = value
    found = run_side_by_side(flows)[0]
    for (rate, at, value, every), rates in found.items():
        case = rate, at, value, every
        seen = rates[~np.isnan(rates)]
        assert (seen <= 9 * rate * 1.01).all(), case
        assert np.isnan(rates).sum() <= 2 * max(1, every // 60), case
