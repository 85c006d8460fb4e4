"""
Silence: which flows are silent, and what is published of them.

A flow is silent if the clock of its partition (`state/partition_clock.py`) has ticked for `after`
since its last record, and at least three times as long as usually passes between two of its
readings. Flows that have sent little yet, and growth that may be nothing, are not expected.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.core.alerts.phases import Reason
from streamer.core.alerts.rules import RuleConfig
from streamer.core.columns import Rows, Slots
from streamer.core.features import grid
from streamer.core.types import Alert, Kind, Partition

SPACINGS = 3  # usual times between two readings, after which a flow may be silent
STEPS_MIN = 5  # steps after which a flow is silent, unless its rule says otherwise
SEEN_MIN = 6  # steps with a rate, before which a flow is not expected to go on
ZERO = 0.04  # in the network's units: a lowest quantile below it, 1 % of the usual rate, is nothing

SEEN = np.dtype(  # what a row says about its flow after a reading
    [
        *(("time", "f8"), ("offset", "i8"), ("spacing", "f4"), ("mean", "f4"), ("capacity", "f4")),
        *(("seen", "u4"), ("lowest", "f4"), ("unit", "S12"), ("kind", "u1")),
    ]
)
COPIED = ("time", "offset", "spacing", "mean", "capacity", "seen", "unit", "kind")


def seen(rows: Rows, index: Slots) -> NDArray[np.void]:
    """What the rows at *index* say, (B,) of SEEN."""
    lowest = rows["last_forecast"][:, :, 0][index].min(axis=1)
    found = np.empty(len(lowest), SEEN)
    found["lowest"] = lowest
    for name in COPIED:
        found[name] = rows[name][index]
    return found


def patience(rule: RuleConfig, now: NDArray[np.void], step_s: int) -> NDArray[np.int64]:
    """Ticks after which each of F flows is silent, (F,)."""
    least = STEPS_MIN * step_s if rule.after is None else float(rule.after)
    wait_s = np.maximum(least, SPACINGS * now["spacing"].astype(np.float64))
    return np.maximum(np.ceil(wait_s / step_s), 2).astype(np.int64)


def expected(rule: RuleConfig, now: NDArray[np.void]) -> NDArray[np.bool_]:
    """
    Which of F flows are expected to go on, (F,).

    One that reports growth is not if its forecasts contain nothing: it may send no record then.
    """
    nothing = (now["kind"] == Kind.DELTA) & (now["lowest"] < ZERO)
    known = (now["seen"] >= SEEN_MIN) & (now["spacing"] > 0)
    found: NDArray[np.bool_] = known & ~nothing & (now["mean"] >= rule.min_rate)
    return found


def raised(  # noqa: PLR0913 - what names an alert
    rule: RuleConfig,
    partition: Partition,
    flow: str,
    now: NDArray[np.void],
    at: int,
    step_s: int,
) -> Alert:
    """The record of an alert of *rule* that begins at *at*; *now*, (1,), is of its flow."""
    return Alert(
        partition=partition,
        flow=flow,
        rule=rule.name,
        kind=rule.kind,
        severity=rule.severity,
        state="firing",
        reason=Reason.SILENT.name.lower(),
        verdict=None,
        since=at,
        updated_at=at,
        lead_s=None,
        step_s=step_s,
        within_s=0,
        chance=None,
        threshold=None,
        unit=bytes(grid.unit_of_rate(now)[0]).decode(),
        rate=None,
        usual=float(now["mean"][0]),
        peaks={},
        expected_at=None,
        capacity=float(now["capacity"][0]) or None,
        generation=0,
        served_by="",
        labels=dict(sorted(rule.labels.items())),
    )
