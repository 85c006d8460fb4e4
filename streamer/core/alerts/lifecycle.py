"""
The life of alerts: after each closed step, every rule in force moves its alert of each row.

A rule's state is a column of the row, so it is saved, restored and replayed with the row, and
is the same whatever the size of turns. `AlertStage.take` is a stage of the pipeline. What it
concludes (`Alert`, and counts of the ledger) is published by the turn; a replay drops it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.core.alerts import conditions
from streamer.core.alerts.conditions import Condition, Wave
from streamer.core.alerts.ledger import Ledger
from streamer.core.alerts.peak import Outlook
from streamer.core.alerts.phases import Decision, Phase, Reason, Verdict, decide
from streamer.core.alerts.rules import RuleConfig
from streamer.core.columns import Bounds, Columns, Rows
from streamer.core.features.scale import RATE_MAX, Bools, Steps
from streamer.core.types import Alert, Labels, Partition

STATE = np.dtype(  # of one rule in one row: at most 64 bytes
    [
        ("version", "<u4"),  # of the rule that decided last; 0 in a new row
        ("phase", "u1"),
        ("count", "u1"),  # steps for which the next move has been due
        ("verdict", "u1"),
        ("matched", "u1"),  # whether the rule chooses the flow
        ("since", "<i8"),  # when the alert was raised; 0 without an alert
        ("last_above", "<i8"),  # end of the newest step whose rate was above the threshold
        ("threshold", "<f4"),  # when the alert was raised
        ("chance", "<f4"),  # likewise
        ("outside", "<u4"),  # of recent steps, the newest in the lowest bit
        ("coverage", "<f4"),  # running share of rates within their bands; 0: none yet
        ("lead_s", "<u4"),  # of a true alert
        ("reason", "u1"),  # of the newest step
        ("chance_now", "u1"),  # of the newest step, as the share of CHANCE_UNIT
        ("spare", "u1", (2,)),
    ]
)
CHANCE_UNIT = 255
BOUNDS: Bounds = {"alert_high": (0, 1.01 * RATE_MAX)}


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


def columns(rules: Sequence[RuleConfig]) -> Columns:
    """The columns of *rules*; none without a rule."""
    if not rules:
        return []
    each: Columns = [(rule.column, "u1", (STATE.itemsize,)) for rule in rules]
    return [("alert_high", "f4"), *each]


def state_of(rows: Rows, rule: RuleConfig) -> Rows:
    """A copy of the state of *rule* in each row, (B,) of STATE."""
    state: Rows = np.ascontiguousarray(rows[rule.column]).view(STATE)[:, 0]
    return state.copy()


# Called with a rule, a wave, the ends of its steps and the flows: what the rule decides by.
WaveHook = Callable[[RuleConfig, Wave, NDArray[np.int64], Sequence[str]], Wave]


@dataclass(slots=True)
class AlertStage:
    """The rules in force, and what they concluded since `begin`."""

    rules: Sequence[RuleConfig]
    horizons: int
    step_s: int
    period_s: int
    alerts: list[Alert] = field(default_factory=list)
    ledger: Ledger = field(init=False)
    wiped: bool = False  # whether rows were reset: their alerts must be ended
    wave_hook: WaveHook | None = None  # of a backtest, for rules that decide by other forecasts

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.period_s)

    def begin(self) -> None:
        """Drop all conclusions."""
        self.alerts, self.ledger, self.wiped = [], Ledger(self.period_s), False

    def before(self, rows: Rows, rates: NDArray[np.float64]) -> tuple[Bools, Bools]:
        """As `conditions.awaited_band`, before the rows learn from the step."""
        return conditions.awaited_band(rows, rates)

    def take(  # noqa: PLR0913 - a closed step, and what is known of it
        self,
        rows: Rows,
        rates: NDArray[np.float64],
        steps: Steps,
        outlook: Outlook,
        awaited: tuple[Bools, Bools],
        context: Context,
    ) -> None:
        """Move the alerts of B *rows* after *steps* with *rates*; *outlook* was made after them."""
        day = 86400 / self.step_s
        high, able = rows["alert_high"].copy(), conditions.skilled(rows)
        wave = Wave(rates, outlook, *awaited, high, able, day, self.step_s)
        conditions.update_high(rows, rates, day)
        made_at = (steps + 1) * self.step_s
        for rule in self.rules:
            state = state_of(rows, rule)
            self._advance(rule, rows, state, wave, made_at, context)
            rows[rule.column] = state.view(np.uint8).reshape(len(rows), -1)

    def _advance(  # noqa: PLR0913 - as `take`, of one rule
        self,
        rule: RuleConfig,
        rows: Rows,
        state: Rows,
        wave: Wave,
        made_at: NDArray[np.int64],
        context: Context,
    ) -> None:
        if self.wave_hook is not None:
            wave = self.wave_hook(rule, wave, made_at, context.flow)
        dropped = self._match(rule, state, context.flow)
        condition = conditions.condition(rule, rows, state, wave)
        chosen = state["matched"] == 1
        phase = state["phase"].copy()
        move = decide(
            phase,
            state["count"],
            condition.raised & chosen,
            condition.kept & chosen,
            rule.for_steps,
            rule.clear_steps,
        )
        state["phase"], state["count"] = move.phase, move.steps
        state["reason"] = np.where(chosen, condition.reason, Reason.UNMATCHED)
        state["chance_now"] = np.rint(np.nan_to_num(condition.chance) * CHANCE_UNIT)
        within_s = self._within_s(rule)
        judged = np.zeros(len(rows), bool)
        if rule.predicted:
            judged = self._judge(rule, state, phase, condition, move, wave.rates, made_at, within_s)
        lost = np.flatnonzero(dropped)
        if lost.size:
            state["phase"][lost], state["count"][lost] = Phase.CLEAR, 0
        begins = np.flatnonzero(move.begins)
        if begins.size:
            state["since"][begins] = made_at[begins]
            state["threshold"][begins] = condition.threshold[begins]
            state["chance"][begins] = condition.chance[begins]
            for place in begins.tolist():
                self.ledger.add(rule.name, int(made_at[place]), raised=1)
        for place in np.flatnonzero(move.begins | move.ends | judged | dropped).tolist():
            self.alerts.append(
                self._alert(
                    rule, rows[place], state[place], condition, wave, made_at, context, place
                )
            )
        over = np.flatnonzero(move.ends | dropped)
        if over.size:
            for name in ("since", "verdict", "lead_s", "threshold", "chance"):
                state[name][over] = 0

    def _match(self, rule: RuleConfig, state: Rows, flows: Sequence[str]) -> Bools:
        """Match rows again that another version of the rule decided; return which lose an alert."""
        dropped = np.zeros(len(state), bool)
        version = rule.version
        other = np.flatnonzero(state["version"] != version)
        if other.size:  # once a row: a loop is cheap enough
            matched = np.array([rule.matches(flows[i]) for i in other.tolist()], bool)
            dropped[other] = ~matched & (state["phase"][other] >= Phase.FIRING)
            state["matched"][other], state["version"][other] = matched, version
        return dropped

    def _judge(  # noqa: PLR0913 - a rule's state, its step and its move
        self,
        rule: RuleConfig,
        state: Rows,
        phase: NDArray[np.uint8],
        condition: Condition,
        move: Decision,
        rates: NDArray[np.float64],
        made_at: NDArray[np.int64],
        within_s: int,
    ) -> Bools:
        """Settle verdicts with the step, and count passings without an alert; which are settled."""
        rate = np.where(np.isnan(rates), 0, rates)
        quiet = phase < Phase.FIRING
        fresh = made_at - state["last_above"] > within_s
        missed = condition.above & fresh & quiet & (state["matched"] == 1)
        state["last_above"] = np.where(condition.above, made_at, state["last_above"])
        is_open = ~quiet & (state["verdict"] == Verdict.OPEN)
        came = is_open & (rate > state["threshold"])
        false = is_open & ~came & ((made_at >= state["since"] + within_s) | move.ends)
        late = move.begins & condition.above
        lead_s = np.maximum(made_at - self.step_s - state["since"], 0)
        state["lead_s"] = np.where(came, lead_s, np.where(move.begins, 0, state["lead_s"]))
        state["verdict"] = np.select(
            [came, false, late, move.begins],
            [Verdict.TRUE, Verdict.FALSE, Verdict.LATE, Verdict.OPEN],
            state["verdict"],
        )
        for place in np.flatnonzero(came | false | late | missed).tolist():
            self.ledger.add(
                rule.name,
                int(made_at[place]),
                true=int(came[place]),
                false=int(false[place]),
                late=int(late[place]),
                missed=int(missed[place]),
                lead_s=int(lead_s[place]) * int(came[place]),
            )
        settled: Bools = came | false
        return settled

    def _alert(  # noqa: PLR0913 - one row of all that `_advance` has
        self,
        rule: RuleConfig,
        row: np.void,
        state: np.void,
        condition: Condition,
        wave: Wave,
        made_at: NDArray[np.int64],
        context: Context,
        place: int,
    ) -> Alert:
        steps = rule.within_steps(self.step_s, self.horizons)
        peaks: dict[str, float] = {}
        expected_at = None
        if rule.predicted:
            levels, quantiles = wave.outlook.peak(steps)
            peaks = dict(zip(map(_name, quantiles), levels[place].tolist(), strict=True))
            bands, middle = wave.outlook.bands[place, :steps], wave.outlook.median
            for level in (middle, -1):
                passes = np.flatnonzero(bands[:, level] > state["threshold"])
                if passes.size and expected_at is None:
                    expected_at = int(made_at[place]) + int(passes[0]) * self.step_s
        standing = self.standing(
            rule, row, state, context.partition[place], context.flow[place], context.unit[place]
        )
        return replace(
            standing,
            state="firing" if state["phase"] >= Phase.FIRING else "resolved",
            reason=Reason(int(state["reason"])).name.lower(),
            updated_at=int(made_at[place]),
            chance=_finite(condition.chance[place]),
            rate=_finite(wave.rates[place]),
            peaks=peaks,
            expected_at=expected_at,
            generation=context.generation,
            served_by=context.served_by[place],
            flow_labels=known(None if context.labels is None else context.labels[place]),
        )

    def standing(  # noqa: PLR0913 - a row, and what names it
        self,
        rule: RuleConfig,
        row: np.void,
        state: np.void,
        partition: Partition,
        flow: str,
        unit: bytes,
    ) -> Alert:
        """A firing alert from its row and the rule's *state* in it, without a closed step."""
        verdict = Verdict(int(state["verdict"]))
        return Alert(
            partition=partition,
            flow=flow,
            rule=rule.name,
            kind=rule.kind,
            severity=rule.severity,
            state="firing",
            reason=Reason.RESTORED.name.lower(),
            verdict=None if verdict is Verdict.NONE else verdict.name.lower(),
            since=int(state["since"]),
            updated_at=int(state["since"]),
            lead_s=int(state["lead_s"]) if verdict is Verdict.TRUE else None,
            step_s=self.step_s,
            within_s=self._within_s(rule),
            chance=_finite(state["chance"]),
            threshold=_finite(state["threshold"]),
            unit=unit.decode(),
            rate=None,
            usual=_finite(row["mean"]),
            peaks={},
            expected_at=None,
            capacity=_finite(row["capacity"]) or rule.capacity,
            generation=0,
            served_by="",
            labels=dict(sorted(rule.labels.items())),
        )

    def _within_s(self, rule: RuleConfig) -> int:
        return rule.within_steps(self.step_s, self.horizons) * self.step_s * rule.predicted


def known(labels: Labels | None) -> dict[str, str]:
    """The labels that have a value, by their names."""
    return {} if labels is None else {name: text for name, text in labels._asdict().items() if text}


def _name(quantile: float) -> str:
    """The name of a quantile of the peak: `peak_q95` for 0.95."""
    return "peak_q" + f"{quantile:.4f}"[2:].rstrip("0").ljust(2, "0")


def _finite(value: float) -> float | None:
    """A rate as a record contains it: None if it is unknown."""
    number = float(value)
    return number if np.isfinite(number) else None
