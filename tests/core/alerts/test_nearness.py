"""How close the rules of a row are to firing."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.core.alerts.lifecycle import STATE, columns
from streamer.core.alerts.nearness import nearness
from streamer.core.alerts.phases import Phase, Reason
from streamer.core.alerts.rules import RuleConfig

SPIKE = RuleConfig(name="spike", kind="spike", factor=3, flows="edge*", min_rate=10)
CAPACITY = RuleConfig(name="full", kind="capacity", share=0.5)
ODD = RuleConfig(name="odd", kind="anomaly", window=4, outside=3)
BELOW = RuleConfig(name="low", kind="threshold", below=7)
COVERED = RuleConfig(name="covered", kind="coverage")
RULES = (SPIKE, CAPACITY, ODD, BELOW, COVERED)
DAY = 288


def rows(**states):
    """One row, with the states of some rules."""
    more = [("seen", "u4"), ("mean", "f4"), ("capacity", "f4")]
    found = np.zeros(1, np.dtype([*columns(RULES), *more]))
    found["seen"], found["mean"], found["capacity"], found["alert_high"] = 500, 20, 1000, 100
    for rule in RULES:
        state = np.zeros(1, STATE)
        for name, value in states.get(rule.name, {}).items():
            state[name] = value
        state["version"] = rule.version if rule.name in states else 1
        found[rule.column] = state.view(np.uint8).reshape(1, -1)
    return found


def test_a_prediction_has_its_chance_and_its_threshold():
    state = {"chance_now": 51, "phase": 2, "reason": 1, "since": 600}
    near = nearness(SPIKE, "edge1", rows(spike=state), DAY)
    assert near.value == pytest.approx(0.2)
    assert (near.needed, near.threshold) == (0.5, 300)
    assert (near.phase, near.reason, near.since) == (Phase.FIRING, Reason.CHANCE, 600)
    assert near.matches
    assert near.applied
    assert nearness(CAPACITY, "edge1", rows(full={}), DAY).threshold == 500


def test_unknown_values_are_left_out():
    """No capacity; a rule that was changed and has seen no step since."""
    found = rows(full={})
    found["capacity"] = 0
    assert nearness(CAPACITY, "x", found, DAY).threshold is None
    near = nearness(SPIKE, "core1", found, DAY)
    assert (near.matches, near.applied, near.value) == (False, False, None)


def test_observations_have_their_counts():
    near = nearness(ODD, "x", rows(odd={"outside": 0b110111}), DAY)
    assert (near.value, near.needed, near.threshold) == (3, 3, None)
    near = nearness(COVERED, "x", rows(covered={"coverage": 0.75}), DAY)
    assert (near.value, near.needed) == (0.75, 0.7)
    near = nearness(BELOW, "x", rows(low={}), DAY)
    assert (near.value, near.threshold) == (20, 7)


@pytest.mark.parametrize(
    ("spacing", "seen", "after_s", "reason"),
    [(60, 500, 1500, Reason.QUIET), (900, 500, 2700, Reason.QUIET), (60, 3, 1500, Reason.YOUNG)],
)
def test_silence_needs_a_time_without_a_reading(spacing, seen, after_s, reason):
    """Five steps of five minutes, or three times what usually lies between two readings."""
    more = [
        *(("time", "f8"), ("offset", "i8"), ("spacing", "f4"), ("mean", "f4"), ("capacity", "f4")),
        *(("seen", "u4"), ("unit", "S12"), ("kind", "u1"), ("last_forecast", "f2", (2, 3))),
    ]
    found = np.zeros(1, np.dtype(more))
    found["spacing"], found["seen"], found["mean"] = spacing, seen, 20
    near = nearness(RuleConfig(name="gone", kind="silence"), "x", found, DAY)
    assert (near.needed, near.reason, near.phase) == (after_s, reason, Phase.CLEAR)
