"""
The conditions of rules, on the columns of a wave: whether each begins, whether it lasts, and why.

All thresholds are computed before a row learns from the step that is judged by them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.core.alerts.capacity import capacity_of
from streamer.core.alerts.peak import Outlook, chance
from streamer.core.alerts.phases import Reason
from streamer.core.alerts.rules import RuleConfig
from streamer.core.columns import Rows
from streamer.core.features import scale
from streamer.core.features.scale import Bools, Floats, to_float32

SEEN_MIN = 24  # steps with a rate before a chance or a band counts
SKILL_MARGIN = 1.02  # the network's running error may be this multiple of the best baseline's
COVERAGE_FIRST, COVERAGE_GAIN = np.float32(0.9), np.float32(1 / 64)
COVERAGE_CLEAR = 0.05  # above `covered_min`, a coverage alert may end
HIGH_LEVEL = 0.99  # the recent high is this quantile of the rate …
HIGH_STRIDE, HIGH_STRIDE_MAX = 43.2, 0.5  # … tracked with a memory of about three days
RATE_LEAST = 1e-20
BAND_LEAST = np.float32(0.02)  # the width of a band, compressed, at least: 2 % of a rate


class Wave(NamedTuple):
    """What B rows bring to their rules with a closed step."""

    rates: NDArray[np.float64]  # NaN: missing
    outlook: Outlook  # made after the step
    beyond: Floats  # how far outside of the band that awaited it the rate was, in band widths
    awaited: Bools  # there was a band that awaited it
    high: Floats  # the recent high before the step
    able: Bools  # the chance of the outlook counts: the forecasts have skill
    day: float  # steps of a day
    step_s: int
    made_at: NDArray[np.int64]  # the end of the step


class Condition(NamedTuple):
    """A rule's condition for B rows."""

    raised: Bools  # an alert may begin
    kept: Bools  # an alert lasts
    reason: NDArray[np.uint8]  # as `Reason`
    threshold: Floats  # NaN: none
    chance: Floats  # NaN: none
    above: Bools  # the rate is above the threshold; False for an observation
    passed: Bools  # it was in one of the last steps, so that this passing is no news


def awaited_band(rows: Rows, rates: NDArray[np.float64]) -> tuple[Floats, Bools]:
    """
    How far each of *rates* is outside of the band that awaited it, and whether there was one.

    The distance is in widths of the band, both on the flow's compressed scale; 0 is inside. Must be
    called before the rows learn from the step, because the band lies on their scale.
    """
    ends = to_float32(rows["last_forecast"][:, 0, [0, -1]])  # of one step ahead, (B, 2)
    by = scale.scale_of(rows["mean"], rows["peak"])
    band = scale.rates(ends, by[:, None])
    awaited = (rows["seen"] > 0) & (ends[:, 1] > 0) & ~np.isnan(rates)
    near = np.float32(0.002) * band  # half precision
    outside = (rates < band[:, 0] - near[:, 0]) | (rates > band[:, 1] + near[:, 1])
    z = np.log1p(4 * np.where(awaited, np.clip(rates, 0, scale.RATE_MAX), 0) / by)
    far = np.maximum(ends[:, 0] - z, z - ends[:, 1])
    width = np.maximum(ends[:, 1] - ends[:, 0], BAND_LEAST)
    least = np.finfo(np.float32).tiny  # what is outside by rates is outside by the distance
    beyond = np.where(awaited & outside, np.maximum(far / width, least), 0).astype(np.float32)
    return beyond, awaited


def update_high(rows: Rows, rates: NDArray[np.float64], day: float) -> None:
    """
    Move the recent high, a running quantile of the rate, by the step's rate.

    A quarter of a day begins with the highest rate. Then the logarithm is tracked: it rises by a
    stride when it is exceeded and falls by 1/99 of it otherwise.
    """
    high = rows["alert_high"]
    known = ~np.isnan(rates)
    rate = np.where(known, np.clip(rates, RATE_LEAST, scale.RATE_MAX), RATE_LEAST).astype("f4")
    stride = min(HIGH_STRIDE_MAX, HIGH_STRIDE / day)
    up, down = np.float32(np.exp(HIGH_LEVEL * stride)), np.exp(-(1 - HIGH_LEVEL) * stride)
    moved = np.where(rate > high, np.minimum(rate, high * up), high * np.float32(down))
    first = (rows["seen"] < day / 4) | (high == 0)
    moved = np.where(first, np.maximum(high, rate), np.maximum(moved, rows["mean"]))
    rows["alert_high"] = np.where(known, moved, high)


def skilled(rows: Rows) -> Bools:
    """Whether the flow's forecasts are the network's, and better than all baselines."""
    own = _sum(rows["network_error"])
    naive = _sum(np.moveaxis(rows["errors"], 2, 0)).min(axis=0)
    good: Bools = (rows["predictor"] == 0) & (own > 0) & (own <= np.float32(SKILL_MARGIN) * naive)
    return good


def condition(rule: RuleConfig, rows: Rows, state: Rows, wave: Wave) -> Condition:
    """The condition of *rule*; the rule's *state* learns from the step."""
    if rule.predicted:
        return _predicted(rule, rows, state, wave)
    if rule.kind == "anomaly":
        return _anomaly(rule, rows, state, wave)
    if rule.kind == "coverage":
        return _coverage(rule, rows, state, wave)
    return _below(rule, wave)


def _predicted(rule: RuleConfig, rows: Rows, state: Rows, wave: Wave) -> Condition:
    threshold, ready_to_count = threshold_of(rule, rows, state, wave.high, wave.day)
    threshold = np.maximum(threshold, np.float32(rule.min_rate))  # NaN stays NaN
    known = ~np.isnan(threshold)
    steps = rule.within_steps(wave.step_s, wave.outlook.bands.shape[1])
    peak, levels = wave.outlook.peak(steps)
    of_passing = np.where(known, chance(levels, peak, np.where(known, threshold, 1)), 0)
    rates = np.where(np.isnan(wave.rates), 0, wave.rates)
    above = known & ready_to_count & (rates > np.where(known, threshold, np.inf))
    likely = known & ready_to_count & (of_passing >= rule.chance)
    ready = rows["seen"] >= SEEN_MIN
    able = ready & wave.able
    # A passing lasts until the rate was under the threshold for as long as ends an alert.
    passed = wave.made_at - state["last_above"] < rule.clear_steps * wave.step_s
    run = np.where(above, np.minimum(state["above_steps"].astype(np.int64) + 1, 255), 0)
    state["above_steps"] = run
    late = rule.steps_until_late
    if late == 1:  # a rate that moves around the threshold is as good as above it
        raised = above | (likely & able)
    else:
        raised = (likely & able & ~above & ~passed) | ((late > 0) & (run >= late))
    kept = above | (known & able & (of_passing >= rule.chance_clear))
    why = np.select(
        [above, raised, ~known, likely & able, likely & ready, likely | ~ready_to_count],
        [
            *(Reason.ABOVE, Reason.CHANCE, Reason.UNKNOWN),
            *(Reason.PASSED, Reason.UNSKILLED, Reason.YOUNG),
        ],
        Reason.QUIET,
    )
    of_passing = np.where(known, of_passing, np.nan).astype(np.float32)
    return Condition(raised, kept, why.astype(np.uint8), threshold, of_passing, above, passed)


def threshold_of(
    rule: RuleConfig, rows: Rows, state: Rows, high: Floats, day: float
) -> tuple[Floats, Bools]:
    """
    The rate that the peak must pass, NaN if it is unknown; and whether it may count yet.

    *high* is the recent high of each row, *day* the steps of a day.
    """
    every = np.ones(len(rows), bool)
    if rule.kind == "threshold":
        assert rule.above is not None
        return np.full(len(rows), rule.above, np.float32), every
    if rule.kind == "capacity":
        capacity = capacity_of(rule, rows, state)
        share = np.float32(rule.share) * capacity
        return np.where(capacity > 0, share, np.float32(np.nan)), every
    return np.float32(rule.factor) * high, (high > 0) & (rows["seen"] >= day / 4)


def _below(rule: RuleConfig, wave: Wave) -> Condition:
    assert rule.below is not None
    known = ~np.isnan(wave.rates)
    below = known & (np.where(known, wave.rates, np.inf) < rule.below)
    why = np.select([below, ~known], [Reason.BELOW, Reason.UNKNOWN], Reason.QUIET)
    return _observed(below, below | ~known, why, np.full(len(known), rule.below, np.float32))


def _anomaly(rule: RuleConfig, rows: Rows, state: Rows, wave: Wave) -> Condition:
    bits = state["outside"]
    moved = (bits << np.uint32(1)) | (wave.beyond > rule.margin).astype(np.uint32)
    state["outside"] = bits = np.where(wave.awaited, moved, bits)
    number = np.bitwise_count(bits & np.uint32(2**rule.window - 1))
    ready = rows["seen"] >= SEEN_MIN
    large = np.fmax(wave.rates, rows["mean"]) >= rule.min_rate
    raised = ready & large & wave.awaited & (number >= rule.outside)
    kept = (number >= max(1, rule.outside // 2)) | ~wave.awaited
    why = np.select([raised, ~wave.awaited, ~ready], [Reason.OUTSIDE, Reason.UNKNOWN, Reason.YOUNG])
    return _observed(raised, kept, why)


def _coverage(rule: RuleConfig, rows: Rows, state: Rows, wave: Wave) -> Condition:
    before = np.where(state["coverage"] == 0, COVERAGE_FIRST, state["coverage"])
    inside = (wave.beyond == 0).astype(np.float32)
    gain = np.where(wave.awaited, COVERAGE_GAIN, np.float32(0))
    state["coverage"] = share = before + gain * (inside - before)
    ready = rows["seen"] >= SEEN_MIN
    raised = ready & wave.awaited & (share < rule.covered_min)
    kept = (share < rule.covered_min + COVERAGE_CLEAR) | ~wave.awaited
    why = np.select(
        [raised, ~wave.awaited, ~ready], [Reason.UNCOVERED, Reason.UNKNOWN, Reason.YOUNG]
    )
    return _observed(raised, kept, why)


def _observed(
    raised: Bools, kept: Bools, why: NDArray[np.int_], threshold: Floats | None = None
) -> Condition:
    """The condition of a rule without a prediction."""
    none = np.full(len(raised), np.nan, np.float32)
    never = np.zeros(len(raised), bool)
    at = none if threshold is None else threshold
    return Condition(raised, kept, why.astype(np.uint8), at, none, never, never)


def _sum(errors: Floats) -> Floats:
    """The sum over anchors, the last axis, in an order that does not depend on the wave."""
    total: Floats = errors[..., 0]
    for place in range(1, errors.shape[-1]):
        total = total + errors[..., place]
    return total
