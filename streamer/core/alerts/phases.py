"""
The phases of an alert, and the decision that moves it from one to the next.

    CLEAR -> PENDING -> FIRING -> CLEARING -> CLEAR

An alert begins with the move to FIRING and ends with the move to CLEAR. The decision is pure,
on columns, and returns its reason.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]


class Phase(enum.IntEnum):
    """Where an alert stands."""

    CLEAR = 0
    PENDING = 1  # the condition holds, but not yet for `for_steps`
    FIRING = 2
    CLEARING = 3  # the condition is absent, but not yet for `clear_steps`


MOVES: dict[Phase, frozenset[Phase]] = {
    Phase.CLEAR: frozenset({Phase.CLEAR, Phase.PENDING, Phase.FIRING}),
    Phase.PENDING: frozenset({Phase.CLEAR, Phase.PENDING, Phase.FIRING}),
    Phase.FIRING: frozenset({Phase.FIRING, Phase.CLEARING, Phase.CLEAR}),
    Phase.CLEARING: frozenset({Phase.CLEARING, Phase.FIRING, Phase.CLEAR}),
}


class Reason(enum.IntEnum):
    """Why an alert stands as it does; the name in lower case is the record's `reason`."""

    QUIET = 0  # the condition is absent
    CHANCE = 1  # the chance that the peak passes the threshold reached its bound
    ABOVE = 2  # the rate itself is above the threshold
    BELOW = 3  # the rate is below the threshold
    OUTSIDE = 4  # too many rates were outside the band that awaited them
    SILENT = 5  # the flow sends nothing while its partition's time advances
    UNCOVERED = 6  # the bands miss their coverage
    UNSKILLED = 7  # the chance reached its bound, but the forecasts have no skill over baselines
    YOUNG = 8  # the flow is too new to be judged
    UNKNOWN = 9  # there is no rate, no capacity or no band to decide by
    # Reasons of an end that no closed step brings about:
    EVICTED = 10  # the flow's row was evicted, or its flow started again
    RULE_REMOVED = 11
    UNMATCHED = 12  # the rule no longer chooses the flow
    RESTORED = 13  # the row that was restored differs from what was published
    # Of a step again:
    PASSED = 14  # the chance reached its bound, but the threshold was passed a few steps ago
    EXPIRED = 15  # of an end: the flow has been silent for so long that it is taken for gone


class Verdict(enum.IntEnum):
    """How a predicted alert turned out."""

    NONE = 0  # an observation, which is not judged
    OPEN = 1  # the window is not over
    TRUE = 2  # the rate passed the threshold within the window, after the alert
    LATE = 3  # the rate was above the threshold already, or had been a few steps before
    FALSE = 4  # the window, or the alert, ended without it


class Decision(NamedTuple):
    """The next phase of B alerts, and what changed."""

    phase: Bytes
    steps: Bytes  # for which the next move has been due
    begins: Bools  # moves to FIRING from CLEAR or PENDING
    ends: Bools  # moves to CLEAR from FIRING or CLEARING


def decide(  # noqa: PLR0913 - the state, the condition and the two counts
    phase: Bytes, count: Bytes, raised: Bools, kept: Bools, for_steps: int, clear_steps: int
) -> Decision:
    """
    The moves of B alerts with one closed step.

    *raised*: the condition to begin holds; *kept*: the weaker condition to last holds, which is
    also true where *raised* is.
    """
    quiet = (phase == Phase.CLEAR) | (phase == Phase.PENDING)
    holds = np.where(quiet, raised, ~(kept | raised))  # counts on towards the next move
    counted = np.where(holds, np.minimum(count.astype(np.int64) + 1, 255), 0)
    begins = quiet & (counted >= for_steps)
    ends = ~quiet & (counted >= clear_steps)
    after = np.where(
        quiet,
        np.where(begins, Phase.FIRING, np.where(holds, Phase.PENDING, Phase.CLEAR)),
        np.where(ends, Phase.CLEAR, np.where(holds, Phase.CLEARING, Phase.FIRING)),
    ).astype(np.uint8)
    counted = np.where(begins | ends, 0, counted).astype(np.uint8)
    return Decision(after, counted, begins, ends)
