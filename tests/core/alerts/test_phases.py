"""The phases of an alert: every move is one of the table, and counts are exact."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.alerts.phases import MOVES, Phase, decide

bools = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@given(bools, st.integers(1, 4), st.integers(1, 4))
def test_every_move_is_in_the_table(steps, for_steps, clear_steps):
    """An alert begins after the condition held for so many steps, and ends as it begins: once."""
    phase, count = np.zeros(1, np.uint8), np.zeros(1, np.uint8)
    held = absent = 0
    fires = False
    for raised, lasts in steps:
        kept = raised or lasts
        one, other = np.array([raised]), np.array([kept])
        move = decide(phase, count, one, other, for_steps, clear_steps)
        assert Phase(int(move.phase[0])) in MOVES[Phase(int(phase[0]))]
        held = held + 1 if raised else 0
        absent = absent + 1 if not kept else 0
        assert move.begins[0] == (not fires and held == for_steps)
        assert move.ends[0] == (fires and absent == clear_steps)
        if move.begins[0] or move.ends[0]:
            fires, held, absent = bool(move.begins[0]), 0, 0
        assert fires == (move.phase[0] >= Phase.FIRING)
        phase, count = move.phase, move.steps


def test_between_the_two_bounds_nothing_changes():
    """That is what the second bound is for."""
    no, yes = np.array([False]), np.array([True])
    for phase in (Phase.CLEAR, Phase.FIRING):
        move = decide(np.array([phase], np.uint8), np.zeros(1, np.uint8), no, yes, 1, 1)
        assert move.phase[0] == phase
