"""The work of a turn is known before it is done, and bounded."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.core import backlog
from streamer.core.backlog import closing_steps
from streamer.core.budget import Budget, occurrence
from streamer.core.engine import Engine, EngineConfig
from streamer.core.types import Partition, Reason, Record
from tests.simulation.fingerprint import Fingerprint

P = Partition("counters", 0)
READINGS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=40)


def passes_of(readings):
    """One by one: each wave takes as many passes as its slowest reading closes, and one."""
    seen, waves = {}, {}
    for flow, closing in readings:
        nth = seen[flow] = seen.get(flow, -1) + 1
        waves[nth] = max(waves.get(nth, 0), closing + 1)
    return sum(waves.values())


@given(READINGS, st.integers(1, 60), st.integers(1, 200))
def test_the_longest_prefix_within_both_limits_is_taken(readings, passes_max, rows_max):
    """Never less, never more, but for a first reading that is too much by itself."""
    flows, closing = (np.array(column, np.int64) for column in zip(*readings, strict=True))
    fits = Budget(passes_max, rows_max).fitting(flows, closing)

    def within(count):
        rows = sum(closed + 1 for _, closed in readings[:count])
        return passes_of(readings[:count]) <= passes_max and rows <= rows_max

    assert fits == 1 or within(fits)
    assert fits == len(readings) or not within(fits + 1)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=50))
def test_occurrence_counts_what_came_before(flows):
    """Of the same flow."""
    counted = [flows[:i].count(flow) for i, flow in enumerate(flows)]
    assert occurrence(np.array(flows, np.int64)).tolist() == counted


def test_steps_are_counted_from_the_reading_before_or_from_the_row():
    """A late reading closes nothing."""
    flows = np.array([7, 9, 7, 7])
    time, before = np.array([3.5, 2.0, 9.9, 4.0]), np.array([1.2, 2.0, 1.2, 1.2])
    assert closing_steps(flows, time, before).tolist() == [2, 0, 6, 0]


def test_a_dense_record_is_cut_and_a_sound_flow_goes_on(monkeypatch):
    """16,000 readings an hour apart: some are rejected with their number, no step is endless."""
    monkeypatch.setattr(backlog, "RECORD_PASSES_MAX", 300)
    dense = [
        {"flow": "dense", "time": 1_700_000_000 + 3600 * n, "value": 10 * n} for n in range(16_000)
    ]
    sound = [{"flow": "sound", "time": 1_700_000_000 + 60 * n, "value": n} for n in range(3)]
    values = [json.dumps(dense), *map(json.dumps, sound)]
    records = [Record(P, n, None, value.encode(), -1) for n, value in enumerate(values)]
    engine = Engine(Fingerprint(), EngineConfig(flows_max=64), budget=Budget())
    engine.restore(P, {}, 0, 1)
    first = engine.step(records)
    assert engine.waiting
    (reject,) = first.rejects
    assert reject.reason is Reason.TOO_DENSE
    assert "readings" in reject.detail
    assert first.counts["forecasts"] <= 300
    assert first.offsets == {P: 1}
    second = engine.step([])
    assert second.offsets == {P: 4}
    assert [wave.flow for wave in second.forecasts] == [["sound"], ["sound"]]
    assert not engine.waiting


def test_a_stop_in_the_middle_of_a_step_is_not_waited_for():
    """What *look* raises ends the step."""
    dense = [{"flow": "a", "time": 60 * n, "value": n} for n in range(500)]
    engine = Engine(Fingerprint(), EngineConfig(flows_max=64), budget=Budget())
    engine.restore(P, {}, 0, 1)
    looks = []

    def look():
        looks.append(len(looks))
        if len(looks) == 100:
            raise InterruptedError

    try:
        engine.step([Record(P, 0, None, json.dumps(dense).encode(), -1)], look=look)
    except InterruptedError:
        assert len(looks) == 100
    else:
        raise AssertionError("it was not interrupted")
