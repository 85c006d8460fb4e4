"""Readings to closed steps."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.config.types import Duration
from streamer.core.features import grid, verdicts
from streamer.core.features.grid import GridConfig
from streamer.core.features.verdicts import Verdict
from streamer.core.state import table
from streamer.core.types import Kind, Partition, Readings

MINUTE = GridConfig(step=Duration(60))


def reading(time, value, kind=Kind.COUNTER, *, bits=0, capacity=0.0):
    """A wave of one reading."""
    count = np.array([value], np.uint64) if kind == Kind.COUNTER else None
    floats = np.array([float(value)])
    return Readings(
        partition=[Partition("t", 0)],
        flow=["f"],
        offset=np.array([0]),
        time=np.array([float(time)]),
        value=floats,
        count=floats.view(np.uint64) if count is None else count,
        kind=np.array([kind], np.uint8),
        bits=np.array([bits], np.uint8),
        capacity=np.array([capacity]),
        unit=np.array([b"B"], "S12"),
    )


def walk(readings, config=MINUTE):
    """One flow's readings, one after the other: verdicts, and [(step, rate)] as they close."""
    row = np.zeros(1, table.row_type(grid.COLUMNS))
    found, closed = [], []

    def advance(wave, *, trusted):
        updates = grid.match(row, wave, config, trusted=trusted)
        for nth in range(updates.steps[0]):
            rates, steps = grid.close(row, updates, nth, config)
            closed.append((int(steps[0]), float(rates[0])))
        grid.store_open(row, wave, updates, config, trusted=trusted)
        return Verdict(updates.verdicts[0])

    for wave in readings:
        taken, odd = verdicts.resolve_held(row, wave, config.rate_max)
        if taken[0]:
            held = verdicts.held_wave(row, wave)
            row["held"] = 0
            found.append(advance(held, trusted=True))
        if odd[0]:
            found.append(Verdict.ODD)
            verdicts.leave_out(row, odd)
        found.append(advance(wave, trusted=False))
    return found, closed, row


def test_a_counters_growth_becomes_the_rate_of_its_step():
    """12.5 MB/s over six readings of a minute is 12.5 MB/s."""
    readings = [reading(1_767_225_600 + 10 * i, 10**12 + 125_000_000 * i) for i in range(8)]
    found, closed, _ = walk(readings)
    assert found == [Verdict.FIRST] + [Verdict.RATED] * 7
    assert closed == [(1_767_225_600 // 60, 12_500_000.0)]


def test_readings_that_cover_half_of_a_step_are_enough():
    """Half a step is exact, however long the time between the readings is."""
    _, closed, _ = walk([reading(600_030.0, 0), reading(600_076.703, 9684)])
    assert closed == [(10_000, pytest.approx(9684 / 46.703))]


@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(0, 2**39)), min_size=1, max_size=30),
    st.integers(0, 10_000),
    st.sampled_from([0, 30, 60, 150]),
)
def test_the_sum_over_the_steps_is_the_growth(moves, start, lateness):
    """Whatever the polls, what the steps were given adds up to what the counter grew by."""
    config = GridConfig(step=Duration(60), lateness=Duration(lateness))
    time, count = float(start), 7
    readings = [reading(time, count)]
    for wait, growth in moves:
        time, count = time + wait, count + growth
        readings.append(reading(time, count))
    _, closed, row = walk(readings, config)
    given_out = row["amount"].sum()
    for step, rate in closed:  # a step that readings cover by less than half has no rate
        given_out += 0 if math.isnan(rate) else rate * covered(readings, row, step)
    missing = sum(math.isnan(rate) for _, rate in closed)
    taken = float(row["count"][0]) - 7
    assert given_out <= taken * (1 + 1e-6) + 1e-9
    if not missing:
        assert given_out == pytest.approx(taken, rel=1e-6, abs=1e-6)


def covered(readings, row, step):
    """How many seconds of a step lie between the first reading and the last one taken."""
    begin, end = readings[0].time[0], row["time"][0]
    return max(0.0, min(end, 60 * step + 60) - max(begin, 60 * step))


def test_a_poll_that_spans_steps_fills_them_alike():
    """Polled each five minutes, five steps of a minute close at once with the mean rate."""
    _, closed, _ = walk([reading(0, 0), reading(300, 3000)])
    assert [step for step, _ in closed] == [0, 1, 2, 3, 4]
    assert [rate for _, rate in closed] == pytest.approx([10.0] * 5)


@pytest.mark.parametrize(
    ("before", "after", "bits", "capacity", "verdict"),
    [
        (4_269_967_296, 100_000_000, 32, 0.0, Verdict.WRAPPED),  # a known 32-bit counter
        (4_269_967_296, 100_000_000, 0, 0.0, Verdict.WRAPPED),  # stood near the end of 32 bits
        (1_000_000, 4_000, 0, 0.0, Verdict.RESET),  # stood far from any end
        (1_000_000, 4_000, 32, 1e6, Verdict.RESET),  # wrapped it would be faster than the link
        (10**12, 4_000, 64, 0.0, Verdict.RESET),
        (2**64 - 1_000, 500, 64, 0.0, Verdict.WRAPPED),
        (2**64 - 1_000, 500, 0, 0.0, Verdict.WRAPPED),
        (3_000_000_000, 1_000_000, 0, 0.0, Verdict.RESET),  # not in the last quarter
    ],
)
def test_a_counter_that_fell_has_wrapped_or_was_reset(before, after, bits, capacity, verdict):
    """The width decides if it is known, else the counter's value before."""
    found, closed, _ = walk(
        [
            reading(0, before, bits=bits, capacity=capacity),
            reading(60, after, bits=bits, capacity=capacity),
        ]
    )
    assert found == [Verdict.FIRST, verdict]
    if verdict == Verdict.WRAPPED:
        size = 2**32 if before < 2**32 else 2**64
        assert closed == [(0, (after + size - before) / 60)]
    else:
        assert [step for step, _ in closed] == [0]
        assert math.isnan(closed[0][1])


def test_counts_beyond_what_a_float_holds_lose_nothing():
    """Above 2**53 the difference is taken in integers."""
    _, closed, _ = walk([reading(0, 18_014_398_509_482_009), reading(60, 18_014_398_509_482_134)])
    assert closed == [(0, 125 / 60)]


def test_the_same_reading_twice_counts_once():
    """A collector that delivers at least once does no harm."""
    found, closed, _ = walk([reading(0, 0), reading(0, 0), reading(60, 600), reading(60, 600)])
    assert found == [Verdict.FIRST, Verdict.DUPLICATE, Verdict.RATED, Verdict.DUPLICATE]
    assert closed == [(0, 10.0)]


def test_an_older_counter_reading_is_late():
    """Its growth is in the newer one already."""
    found, closed, row = walk([reading(0, 0), reading(60, 600), reading(30, 300)])
    assert found[-1] == Verdict.LATE
    assert closed == [(0, 10.0)]
    assert row["count"][0] == 600


def test_a_gap_beyond_gap_max_restarts_the_flow():
    """A mean over it would hide the truth; what was open closes, nothing in between does."""
    config = GridConfig(step=Duration(60), gap_max=3)
    found, closed, _ = walk(
        [reading(0, 0), reading(40, 400), reading(600, 9000), reading(660, 9600)], config
    )
    held = [Verdict.HELD, Verdict.GAP]  # so far ahead that the next reading has to agree
    assert found == [Verdict.FIRST, Verdict.RATED, *held, Verdict.RATED]
    assert closed == [(0, 10.0), (10, 10.0)]


def test_a_gauges_rate_is_the_mean_of_its_readings_and_a_hole_is_missing():
    """Neither zero nor skipped."""
    gauges = [(0, 10), (30, 20), (60, 5), (240, 7)]
    _, closed, _ = walk([reading(t, v, Kind.GAUGE) for t, v in gauges])
    assert closed[:2] == [(0, 15.0), (1, 5.0)]
    assert [step for step, rate in closed[2:] if math.isnan(rate)] == [2, 3]


def test_a_delta_is_spread_over_the_time_since_the_one_before():
    """As a counter's growth; where one was lost, over the usual spacing."""
    deltas = [(300 * n, 3000.0) for n in range(4)]
    found, closed, _ = walk([reading(t, v, Kind.DELTA) for t, v in deltas])
    assert found == [Verdict.FIRST] + [Verdict.RATED] * 3
    assert [step for step, _ in closed] == list(range(15))
    assert [rate for _, rate in closed] == pytest.approx([10.0] * 15)
    found, closed, _ = walk([reading(t, v, Kind.DELTA) for t, v in [*deltas, (1500, 3000.0)]])
    assert [math.isnan(rate) for _, rate in closed] == [False] * 15 + [True] * 5 + [False] * 5
    assert [rate for _, rate in closed[20:]] == pytest.approx([10.0] * 5)


def test_deltas_of_one_time_add_up():
    """Unless they are equal: then one is a duplicate, except if the settings allow repeats."""
    values = [(0, 60), (60, 60), (60, 30), (60, 60), (120, 90), (180, 90)]
    _, closed, _ = walk([reading(t, v, Kind.DELTA) for t, v in values])
    assert sum(rate for _, rate in closed) * 60 == pytest.approx(60 + 30 + 60 + 90 + 90)
    repeats = GridConfig(step=Duration(60), repeats=True)
    values = [(0, 60), (60, 60), (60, 60), (120, 90), (180, 90)]
    _, once, _ = walk([reading(t, v, Kind.DELTA) for t, v in values])
    _, twice, _ = walk([reading(t, v, Kind.DELTA) for t, v in values], repeats)
    assert (sum(r for _, r in twice) - sum(r for _, r in once)) * 60 == pytest.approx(60)


def test_a_delta_for_a_closed_step_is_late():
    """The forecast of that step is out."""
    found, _, _ = walk([reading(t, 1, Kind.DELTA) for t in (0, 60, 30)])
    assert found == [Verdict.FIRST, Verdict.RATED, Verdict.LATE]


def test_no_link_is_faster_than_its_capacity_allows():
    """Once the next reading agrees, the growth is dropped, and the flow goes on from there."""
    readings = [reading(0, 0), reading(60, 10**15), reading(120, 10**15 + 600)]
    found, closed, row = walk(readings)
    assert found == [Verdict.FIRST, Verdict.HELD, Verdict.ABSURD, Verdict.RATED]
    assert math.isnan(closed[0][1])
    assert closed[1][1] == 10.0
    assert row["count"][0] == 10**15 + 600


def test_another_kind_of_reading_is_another_flow():
    """A gauge under a counter's name is not subtracted from it."""
    found, closed, _ = walk([reading(0, 100), reading(60, 5, Kind.GAUGE)])
    assert found == [Verdict.FIRST, Verdict.FIRST]
    assert closed == []


@example([(0.0, 0), (5e-324, 0)])  # as near to each other as two instants can be
@given(st.lists(st.tuples(st.floats(0, 1e4), st.integers(0, 2**64 - 1)), max_size=20))
def test_steps_close_once_and_in_order(readings):
    """Whatever the readings of a counter, no step closes twice and none before an earlier one."""
    _, closed, _ = walk([reading(t, v) for t, v in readings])
    steps = [step for step, _ in closed]
    assert steps == sorted(set(steps))
    assert all(rate >= 0 or math.isnan(rate) for _, rate in closed)
