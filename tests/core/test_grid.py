"""Readings to closed steps."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.core import arena, grid
from streamer.core.facts import Kind, Partition, Readings
from streamer.core.grid import GridConfig, Verdict
from streamer.core.settings import Duration

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
    row = np.zeros(1, arena.row_type(grid.COLUMNS))
    verdicts, closed = [], []
    for wave in readings:
        heard = grid.hear(row, wave, config)
        verdicts.append(Verdict(heard.verdicts[0]))
        for nth in range(heard.steps[0]):
            rates, steps = grid.close(row, heard, nth, config)
            closed.append((int(steps[0]), float(rates[0])))
        grid.keep(row, wave, heard, config)
    return verdicts, closed, row


def test_a_counters_growth_becomes_the_rate_of_its_step():
    """12.5 MB/s over six readings of a minute is 12.5 MB/s."""
    readings = [reading(1_767_225_600 + 10 * i, 10**12 + 125_000_000 * i) for i in range(8)]
    verdicts, closed, _ = walk(readings)
    assert verdicts == [Verdict.FIRST] + [Verdict.RATED] * 7
    assert closed == [(1_767_225_600 // 60, 12_500_000.0)]


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
    for wait, grown in moves:
        time, count = time + wait, count + grown
        readings.append(reading(time, count))
    given_out = 0.0
    row = np.zeros(1, arena.row_type(grid.COLUMNS))
    for wave in readings:
        heard = grid.hear(row, wave, config)
        for nth in range(heard.steps[0]):
            index = row["open"] + nth
            held = row["amount"][0, int(index[0]) % grid.OPEN_MAX]
            given_out += held + grid.share(heard, index, 60)[0][0]
            grid.close(row, heard, nth, config)
        grid.keep(row, wave, heard, config)
    given_out += row["amount"].sum()
    assert given_out == pytest.approx(count - 7, rel=1e-9, abs=1e-9)


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
    """The width decides where it is known, else where the counter stood."""
    verdicts, closed, _ = walk(
        [
            reading(0, before, bits=bits, capacity=capacity),
            reading(60, after, bits=bits, capacity=capacity),
        ]
    )
    assert verdicts == [Verdict.FIRST, verdict]
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
    verdicts, closed, _ = walk([reading(0, 0), reading(0, 0), reading(60, 600), reading(60, 600)])
    assert verdicts == [Verdict.FIRST, Verdict.DUPLICATE, Verdict.RATED, Verdict.DUPLICATE]
    assert closed == [(0, 10.0)]


def test_an_older_counter_reading_is_late():
    """Its growth is in the newer one already."""
    verdicts, closed, row = walk([reading(0, 0), reading(60, 600), reading(30, 300)])
    assert verdicts[-1] == Verdict.LATE
    assert closed == [(0, 10.0)]
    assert row["count"][0] == 600


def test_a_hole_beyond_gap_max_begins_anew():
    """A mean over it would hide the truth; what was open closes, nothing in between does."""
    config = GridConfig(step=Duration(60), gap_max=3)
    verdicts, closed, _ = walk(
        [reading(0, 0), reading(40, 400), reading(600, 9000), reading(660, 9600)], config
    )
    assert verdicts == [Verdict.FIRST, Verdict.RATED, Verdict.GAP, Verdict.RATED]
    assert closed == [(0, 10.0), (10, 10.0)]


def test_a_gauges_rate_is_the_mean_of_its_readings_and_a_hole_is_missing():
    """Neither zero nor skipped."""
    gauges = [(0, 10), (30, 20), (60, 5), (240, 7)]
    _, closed, _ = walk([reading(t, v, Kind.GAUGE) for t, v in gauges])
    assert closed[:2] == [(0, 15.0), (1, 5.0)]
    assert [step for step, rate in closed[2:] if math.isnan(rate)] == [2, 3]


def test_deltas_are_added_to_their_step():
    """Several of one instant add up; the step waits for late ones as long as it is told to."""
    config = GridConfig(step=Duration(60), lateness=Duration(60))
    deltas = [(0, 60), (0, 60), (70, 30), (59, 120), (121, 1), (180, 1)]
    verdicts, closed, _ = walk([reading(t, v, Kind.DELTA) for t, v in deltas], config)
    assert Verdict.LATE not in verdicts
    assert closed == [(0, 4.0), (1, 0.5)]


def test_a_delta_for_a_closed_step_is_late():
    """The forecast of that step is out."""
    verdicts, _, _ = walk([reading(t, 1, Kind.DELTA) for t in (0, 60, 30)])
    assert verdicts == [Verdict.FIRST, Verdict.RATED, Verdict.LATE]


def test_no_link_is_faster_than_its_capacity_allows():
    """The growth is dropped, the flow goes on from the new count."""
    verdicts, closed, row = walk([reading(0, 0), reading(60, 10**9, capacity=1000.0)])
    assert verdicts[-1] == Verdict.ABSURD
    assert math.isnan(closed[0][1])
    assert row["count"][0] == 10**9


def test_another_kind_of_reading_is_another_flow():
    """A gauge under a counter's name is not subtracted from it."""
    verdicts, closed, _ = walk([reading(0, 100), reading(60, 5, Kind.GAUGE)])
    assert verdicts == [Verdict.FIRST, Verdict.FIRST]
    assert closed == []


@example([(0.0, 0), (5e-324, 0)])  # as near to each other as two instants can be
@given(st.lists(st.tuples(st.floats(0, 1e4), st.integers(0, 2**64 - 1)), max_size=20))
def test_steps_close_once_and_in_order(told):
    """Whatever a counter says, no step closes twice and none before an earlier one."""
    _, closed, _ = walk([reading(t, v) for t, v in told])
    steps = [step for step, _ in closed]
    assert steps == sorted(set(steps))
    assert all(rate >= 0 or math.isnan(rate) for _, rate in closed)
