"""How close a rule is to firing for a flow, as its row stands after the newest step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamer.core.alerts import conditions
from streamer.core.alerts.lifecycle import CHANCE_UNIT, state_of
from streamer.core.alerts.phases import Phase, Reason
from streamer.core.alerts.rules import SILENCE, RuleConfig
from streamer.core.alerts.silence import expected, patience, seen
from streamer.core.columns import Rows
from streamer.core.types import DAY_S


class Nearness(NamedTuple):
    """What a rule makes of a flow."""

    matches: bool
    applied: bool  # whether the rule as it is now has decided about a step of the flow
    phase: Phase
    reason: Reason  # of the newest step
    since: int  # when the alert was raised; 0 without one
    threshold: float | None  # that the peak must pass, or the rate
    value: float | None  # the chance, the number of steps, or the share: what is compared …
    needed: float  # … and at which an alert begins (of silence: seconds without a reading)


def nearness(rule: RuleConfig, flow: str, rows: Rows, day: float) -> Nearness:
    """
    How close *rule* is to firing for *flow*, whose row is the one of *rows*.

    *day* is the number of steps of a day. The chance is rounded to the 255th part.
    """
    if rule.kind == SILENCE:  # it has no state in the row
        after_s = patience(rule, rows, step_s=round(DAY_S / day))[0] * DAY_S / day
        is_young = not expected(rule, seen(rows, np.zeros(1, np.intp)))[0]
        reason = Reason.YOUNG if is_young else Reason.QUIET
        return Nearness(rule.matches(flow), True, Phase.CLEAR, reason, 0, None, None, after_s)
    states = state_of(rows, rule)
    state = states[0]
    applied = int(state["version"]) == rule.version
    threshold = _threshold(rule, rows, states, day)
    value, needed = _compared(rule, rows, state)
    return Nearness(
        matches=rule.matches(flow),
        applied=applied,
        phase=Phase(int(state["phase"])),
        reason=Reason(int(state["reason"])),
        since=int(state["since"]),
        threshold=threshold,
        value=value if applied else None,
        needed=needed,
    )


def _threshold(rule: RuleConfig, rows: Rows, states: Rows, day: float) -> float | None:
    if rule.below is not None:
        return rule.below
    if not rule.predicted:
        return None
    at, _ = conditions.threshold_of(rule, rows, states, rows["alert_high"], day)
    found = float(np.maximum(at, np.float32(rule.min_rate))[0])
    return found if np.isfinite(found) and found > 0 else None


def _compared(rule: RuleConfig, rows: Rows, state: np.void) -> tuple[float | None, float]:
    if rule.predicted:
        return int(state["chance_now"]) / CHANCE_UNIT, rule.chance
    if rule.kind == "anomaly":
        bits = int(state["outside"]) & (2**rule.window - 1)
        return float(bits.bit_count()), float(rule.outside)
    if rule.kind == "coverage":
        return float(state["coverage"]) or None, rule.covered_min
    return float(rows["mean"][0]), float(rule.below or 0)
