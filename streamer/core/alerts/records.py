"""
The records of alerts, from the columns of a wave: what is published when one begins or changes.

A storm may raise an alert in every row of a wave, so columns are cut and converted once a wave.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.core.alerts.capacity import capacity_of
from streamer.core.alerts.conditions import Condition, Wave
from streamer.core.alerts.phases import Phase, Reason, Verdict
from streamer.core.alerts.rules import RuleConfig
from streamer.core.columns import Rows
from streamer.core.types import Alert, Labels, Partition

REASONS = [each.name.lower() for each in Reason]
VERDICTS = [None, *(each.name.lower() for each in Verdict if each is not Verdict.NONE)]


class Context(NamedTuple):
    """What a record of an alert names beside its rule's state, for B rows."""

    partition: Sequence[Partition]
    flow: Sequence[str]
    unit: NDArray[np.bytes_]
    served_by: Sequence[str]
    generation: int
    labels: Sequence[Labels | None] | None = None

    def take(self, index: NDArray[np.intp]) -> Context:
        """The rows at *index*."""
        places = index.tolist()
        return Context(
            [self.partition[i] for i in places],
            [self.flow[i] for i in places],
            self.unit[index],
            [self.served_by[i] for i in places],
            self.generation,
            None if self.labels is None else [self.labels[i] for i in places],
        )


def changed(  # noqa: PLR0913 - a wave, and what a rule concluded about it
    rule: RuleConfig,
    horizons: int,
    rows: Rows,
    state: Rows,
    condition: Condition,
    wave: Wave,
    context: Context,
    index: NDArray[np.intp],
) -> Iterator[Alert]:
    """The records of the rows at *index*, whose alerts begin, are judged or end with a step."""
    if not index.size:
        return
    steps = rule.within_steps(wave.step_s, horizons)
    some, now, of = state[index], rows[["mean", "capacity", "unit", "kind"]][index], context
    made_at = wave.made_at[index]
    peaks, expected = _ahead(rule, steps, wave, made_at, some, index)
    columns = (
        [REASONS[reason] for reason in some["reason"].tolist()],
        made_at.tolist(),
        _finite(condition.chance[index]),
        _finite(wave.rates[index]),
        _fixed(rule, now, some),
    )
    places = index.tolist()
    labels = [None] * len(places) if of.labels is None else [of.labels[i] for i in places]
    for place, reason, at, chance, rate, fixed, peak, first, named in zip(
        places, *columns, peaks, expected, labels, strict=True
    ):
        yield Alert(
            partition=of.partition[place],
            flow=of.flow[place],
            rule=rule.name,
            kind=rule.kind,
            severity=rule.severity,
            reason=reason,
            updated_at=at,
            step_s=wave.step_s,
            within_s=steps * wave.step_s * rule.predicted,
            chance=chance,
            unit=of.unit[place].decode(),
            rate=rate,
            peaks=peak,
            expected_at=first,
            generation=of.generation,
            served_by=of.served_by[place],
            labels=dict(sorted(rule.labels.items())),
            flow_labels=named.known() if named is not None else {},
            **fixed,
        )


def standing(  # noqa: PLR0913 - a row, and what names it
    rule: RuleConfig,
    horizons: int,
    step_s: int,
    rows: Rows,
    state: Rows,
    partition: Partition,
    flow: str,
    unit: bytes,
) -> Alert:
    """The record of the alert that fires in the only one of *rows*, without a closed step."""
    fixed = _fixed(rule, rows, state)[0]
    return Alert(
        partition=partition,
        flow=flow,
        rule=rule.name,
        kind=rule.kind,
        severity=rule.severity,
        reason=REASONS[Reason.RESTORED],
        updated_at=fixed["since"],
        step_s=step_s,
        within_s=rule.within_steps(step_s, horizons) * step_s * rule.predicted,
        chance=_finite(state["chance"])[0],
        unit=unit.decode(),
        rate=None,
        peaks={},
        expected_at=None,
        generation=0,
        served_by="",
        labels=dict(sorted(rule.labels.items())),
        **fixed,
    )


def _fixed(rule: RuleConfig, rows: Rows, state: Rows) -> list[dict[str, Any]]:
    """What the row and the rule's state in it say, of each row."""
    verdicts = state["verdict"].tolist()
    columns = {
        "state": ["firing" if each >= Phase.FIRING else "resolved" for each in state["phase"]],
        "verdict": [VERDICTS[each] for each in verdicts],
        "since": state["since"].tolist(),
        "lead_s": [
            lead if verdict == Verdict.TRUE else None
            for lead, verdict in zip(state["lead_s"].tolist(), verdicts, strict=True)
        ],
        "threshold": _finite(state["threshold"]),
        "usual": _finite(rows["mean"]),
        "capacity": [each or None for each in _finite(capacity_of(rule, rows, state))],
    }
    return [dict(zip(columns, each, strict=True)) for each in zip(*columns.values(), strict=True)]


def _ahead(  # noqa: PLR0913 - a wave, and a part of it
    rule: RuleConfig,
    steps: int,
    wave: Wave,
    made_at: NDArray[np.int64],
    state: Rows,
    index: NDArray[np.intp],
) -> tuple[list[dict[str, float]], list[int | None]]:
    """Of each row at *index*: quantiles of the peak, and when it is expected; of predictions."""
    if not rule.predicted:
        return [{} for _ in made_at], [None] * len(made_at)
    outlook = wave.outlook.take(index)
    levels, quantiles = outlook.peak(steps)
    names = [_name(each) for each in quantiles]
    peaks = [dict(zip(names, each, strict=True)) for each in levels.tolist()]
    expected = np.full(len(made_at), -1)
    for level in (-1, outlook.median):  # the time of the median comes last: it counts
        passes = outlook.bands[:, :steps, level] > state["threshold"][:, None]
        first = made_at + passes.argmax(axis=1) * wave.step_s
        expected = np.where(passes.any(axis=1), first, expected)
    return peaks, [None if at < 0 else at for at in expected.tolist()]


def _name(quantile: float) -> str:
    """The name of a quantile of the peak: `peak_q95` for 0.95."""
    return "peak_q" + f"{quantile:.4f}"[2:].rstrip("0").ljust(2, "0")


def _finite(values: NDArray[Any]) -> list[float | None]:
    """Numbers as a record contains them: None if one is unknown."""
    finite = np.isfinite(values).tolist()
    numbers = values.astype(np.float64).tolist()
    return [each if known else None for each, known in zip(numbers, finite, strict=True)]
