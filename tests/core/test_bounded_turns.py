"""Whatever times readings have, a turn does a bounded amount of work, and is left at any moment."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from streamer.config.types import Duration
from streamer.core import backlog
from streamer.core.budget import Budget
from streamer.core.engine import WAVE_ROWS, Engine, EngineConfig
from streamer.core.features.grid import GAP_MAX, OPEN_MAX, GridConfig
from streamer.core.types import Partition, Record
from streamer.core.wire import InputConfig
from tests.simulation.fingerprint import Fingerprint

P = Partition("t", 0)
YEAR_S = 31_557_600
BEGIN = 1_600_000_000
BUDGET = Budget(passes_max=50, rows_max=3000)


class Counting(Fingerprint):
    """Counts passes, and the rows of each."""

    def __init__(self):
        super().__init__()
        self.passes, self.rows, self.unseen = 0, 0, 0

    def step(self, inputs, state):
        self.passes += 1
        self.rows += len(state)
        self.unseen += 1
        return super().step(inputs, state)


def record(offset, readings, kind="counter"):
    """A record of (flow, time, value)s."""
    made = [{"flow": f, "time": t, "value": v, "kind": kind} for f, t, v in readings]
    return Record(P, offset, None, json.dumps(made).encode(), -1)


def play(lane, step_s=60, gap_max=60):
    """The passes and rows of each turn that the *lane*, polled at once, takes."""
    model = Counting()
    config = EngineConfig(
        flows_max=5000,
        input=InputConfig(ahead_max=Duration(0)),
        grid=GridConfig(step=Duration(step_s), gap_max=gap_max),
    )
    engine = Engine(model, config, budget=BUDGET)
    engine.restore(P, {}, 0, 1)
    turns, records = [], lane

    def look():
        assert model.unseen <= 1, "two passes without a look"
        model.unseen = 0

    while records or engine.waiting:
        model.passes = model.rows = 0
        engine.step(records, look=look)
        turns.append((len(engine.current), model.passes, model.rows))
        records = ()
    assert sum(taken for taken, _, _ in turns) == len(lane)
    return turns


def bounded(turns, gap_max=60, dense=0):
    """Several records stay within the budget; one alone costs a hole and its own steps."""
    most = gap_max + OPEN_MAX + 1
    for taken, passes, rows in turns:
        if taken > 1:
            assert passes <= BUDGET.passes_max
            assert rows <= BUDGET.rows_max
        else:
            assert passes <= most + dense


@pytest.mark.parametrize("kind", ["counter", "delta", "gauge"])
@pytest.mark.parametrize("hole_s", [YEAR_S, 50 * YEAR_S, 200 * YEAR_S])
@pytest.mark.parametrize("step_s", [1, 60])
def test_a_hole_of_years_costs_what_a_short_one_does(kind, hole_s, step_s):
    """Not a step for each step in it, there and back."""
    times = [BEGIN, BEGIN + step_s, BEGIN + hole_s, BEGIN + hole_s + step_s, BEGIN + 2 * step_s]
    times += [BEGIN + (n + 3) * step_s for n in range(9)]
    lane = [record(n, [("a", at, 5 * n)], kind) for n, at in enumerate(times)]
    turns = play(lane, step_s=step_s)
    bounded(turns)
    assert sum(passes for _, passes, _ in turns) < 100


def test_a_record_of_a_million_steps_is_cut(monkeypatch):
    """Of one flow, five minutes apart in steps of a second: a few readings are taken."""
    monkeypatch.setattr(backlog, "RECORD_PASSES_MAX", 400)
    readings = [("a", BEGIN + 300 * n, 5 * n) for n in range(4000)]
    turns = play([record(0, readings)], step_s=1, gap_max=GAP_MAX)
    bounded(turns, GAP_MAX, 400)


@pytest.mark.slow
def test_the_steps_of_many_records_take_many_turns():
    """Each of them within the budget, however much one poll brings."""
    flows = [f"f{i}" for i in range(200)]
    lane = [record(n, [(f, BEGIN + 1800 * n, n) for f in flows]) for n in range(10)]
    turns = play(lane)
    bounded(turns)
    assert sum(rows for _, _, rows in turns) > 50_000


def test_the_backlog_is_what_no_turn_took():
    """Records that were polled and wait; the lag of a partition includes them."""
    engine = Engine(Counting(), EngineConfig(), budget=BUDGET)
    engine.restore(P, {}, 0, 1)
    flows = [f"f{i}" for i in range(200)]
    waits = [record(n, [(f, BEGIN + 1800 * n, n) for f in flows]) for n in range(10)]
    engine.receive(waits)
    assert engine.backlog() == {P: 10}
    left = 10
    while engine.waiting:
        engine.step([])
        left -= len(engine.current)
        assert engine.backlog() == ({P: left} if left else {})
    assert left == 0


@pytest.mark.slow
def test_many_flows_after_a_hole_are_looked_at_in_between():
    """A single record cannot be taken in parts; the loop is served within it, wave by wave."""
    flows = [f"f{i}" for i in range(2 * WAVE_ROWS)]
    lane = [record(n, [(f, BEGIN + 3000 * n, 7 * n) for f in flows]) for n in range(2)]
    turns = play(lane)
    assert [taken for taken, _, _ in turns] == [1, 1]
    assert turns[1][1] <= 2 * (60 + OPEN_MAX + 1)


TIMES = st.one_of(
    st.integers(0, 200 * YEAR_S),
    st.integers(BEGIN, BEGIN + 10_000),
    st.floats(BEGIN, BEGIN + 300),
)


@hypothesis_settings(max_examples=15, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.sampled_from("ab"), TIMES), max_size=6), max_size=12),
    st.sampled_from(["counter", "delta", "gauge"]),
    st.sampled_from([(1, 100), (60, 1), (60, 60), (86400, 60)]),
)
def test_any_times_are_bounded(times, kind, grid):
    """Forwards, backwards, and far away."""
    step_s, gap_max = grid
    lane = [record(n, [(f, t, 1000) for f, t in each], kind) for n, each in enumerate(times)]
    bounded(play(lane, step_s, gap_max), gap_max, backlog.RECORD_PASSES_MAX)


@pytest.mark.slow
def test_a_turn_of_a_hundred_thousand_steps_is_left_within_a_second():
    """The time between two looks, on the way through a poll that brings much."""
    flows = [f"f{i}" for i in range(WAVE_ROWS)]
    lane = [record(n, [(f, BEGIN + 1800 * n, 7 * n) for f in flows]) for n in range(4)]
    config = EngineConfig(flows_max=5000, grid=GridConfig())
    engine = Engine(Fingerprint(), config, budget=Budget())
    engine.restore(P, {}, 0, 1)
    looks = [time.process_time()]
    engine.step(lane, look=lambda: looks.append(time.process_time()))
    assert np.diff(looks).max() < 1.0
