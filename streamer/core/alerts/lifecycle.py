"""
The life of alerts: after each closed step, every rule in force moves its alert of each row.

A rule's state is a column of the row, so it is saved, restored and replayed with the row, and
is the same whatever the size of turns. `AlertStage.take` is a stage of the pipeline. What it
concludes (`Alert`, and counts of the ledger) is published by the turn; a replay drops it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamer.core.alerts import conditions, records
from streamer.core.alerts.capacity import of_table
from streamer.core.alerts.conditions import Condition, Wave
from streamer.core.alerts.ledger import Ledger
from streamer.core.alerts.peak import Outlook
from streamer.core.alerts.phases import Decision, Phase, Reason, Verdict, decide
from streamer.core.alerts.records import Context
from streamer.core.alerts.rules import RuleConfig
from streamer.core.columns import Bounds, Columns, Rows
from streamer.core.features.scale import RATE_MAX, Bools, Floats, Steps
from streamer.core.types import Alert, Partition

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
        ("above_steps", "u1"),  # in succession whose rate was above the threshold, 255 at most
        ("spare", "u1"),
        ("link", "<f4"),  # the link's capacity of the rule's table, bits per second; 0: none
    ]
)
CHANCE_UNIT = 255
BOUNDS: Bounds = {"alert_high": (0, 1.01 * RATE_MAX)}


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

    def before(self, rows: Rows, rates: NDArray[np.float64]) -> tuple[Floats, Bools]:
        """As `conditions.awaited_band`, before the rows learn from the step."""
        return conditions.awaited_band(rows, rates)

    def take(  # noqa: PLR0913 - a closed step, and what is known of it
        self,
        rows: Rows,
        rates: NDArray[np.float64],
        steps: Steps,
        outlook: Outlook,
        awaited: tuple[Floats, Bools],
        context: Context,
    ) -> None:
        """Move the alerts of B *rows* after *steps* with *rates*; *outlook* was made after them."""
        day = 86400 / self.step_s
        high, able = rows["alert_high"].copy(), conditions.skilled(rows)
        made_at = (steps + 1) * self.step_s
        wave = Wave(rates, outlook, *awaited, high, able, day, self.step_s, made_at)
        conditions.update_high(rows, rates, day)
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
            self.ledger.add_wave(rule.name, made_at, raised=move.begins)
        index = np.flatnonzero(move.begins | move.ends | judged | dropped)
        self.alerts += records.changed(
            rule, self.horizons, rows, state, condition, wave, context, index
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
            if rule.capacities:
                listed = [of_table(rule.capacities, flows[i]) for i in other.tolist()]
                state["link"][other] = listed
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
        missed = condition.above & ~condition.passed & quiet & (state["matched"] == 1)
        state["last_above"] = np.where(condition.above, made_at, state["last_above"])
        is_open = ~quiet & (state["verdict"] == Verdict.OPEN)
        window_ends = state["since"] + within_s
        came = is_open & (rate > state["threshold"]) & (made_at <= window_ends)
        false = is_open & ~came & ((made_at >= window_ends) | move.ends)
        late = move.begins & (condition.above | condition.passed)
        lead_s = np.maximum(made_at - self.step_s - state["since"], 0)
        state["lead_s"] = np.where(came, lead_s, np.where(move.begins, 0, state["lead_s"]))
        state["verdict"] = np.select(
            [came, false, late, move.begins],
            [Verdict.TRUE, Verdict.FALSE, Verdict.LATE, Verdict.OPEN],
            state["verdict"],
        )
        if (came | false | late | missed).any():
            self.ledger.add_wave(
                rule.name,
                made_at,
                true=came,
                false=false,
                late=late,
                missed=missed,
                lead_s=lead_s * came,
            )
        settled: Bools = came | false
        return settled

    def standing(  # noqa: PLR0913 - a row, and what names it
        self,
        rule: RuleConfig,
        rows: Rows,
        state: Rows,
        partition: Partition,
        flow: str,
        unit: bytes,
    ) -> Alert:
        """As `records.standing`."""
        return records.standing(
            rule, self.horizons, self.step_s, rows, state, partition, flow, unit
        )

    def _within_s(self, rule: RuleConfig) -> int:
        return rule.within_steps(self.step_s, self.horizons) * self.step_s * rule.predicted
