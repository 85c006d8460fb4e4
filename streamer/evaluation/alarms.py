"""
How well alert rules do over a file, beside two simple alarms with the same life and ledger.

Each rule that predicts is joined by rules that decide by something else than the network's peak:

    last value    the chance is 1 if the newest rate is above the threshold, else 0: always late
    same time     1 if the highest rate in the same window a day or a week ago was, else 0
    chance C      the rule itself at another least chance (`--tune`)

Everything else of them is the rule's own: the threshold, the flows, the counts, the verdicts. So
what differs between their figures is the forecast alone.
"""

from __future__ import annotations

import fnmatch
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.core.alerts.conditions import Wave
from streamer.core.alerts.ledger import precision, recall
from streamer.core.alerts.peak import Outlook
from streamer.core.alerts.rules import RuleConfig
from streamer.core.types import DAY_S, Alert, TurnResult

Kind = Literal["rule", "last value", "same time", "chance"]

DAYS_AGO = (1, 7)
CHANCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # that are tried
NAME = "z{place}-{kind}"  # of a rule that only the backtest has
QUANTILES = (0.05, 0.95)  # of an outlook that is sure: both are the same rate
COUNTS = ("raised", "true", "late", "false", "missed")


class Variant(NamedTuple):
    """A rule in force, and which rule of the settings it belongs to."""

    rule: RuleConfig
    of: str  # the name of the rule in the settings
    kind: Kind


class Event(NamedTuple):
    """Something that observations should find: of flows whose names match, from begin to end."""

    flows: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class RuleFigures:
    """How a rule, or an alarm beside it, did in the scored time."""

    rule: str
    kind: Kind
    chance: float | None  # the least one that raises; None: an observation
    raised: int
    true: int
    late: int
    false: int
    missed: int
    lead_s: float | None  # median of the true alerts
    flow_days: float
    events: int = 0  # of `--events` that concern a flow of the file
    found: int = 0  # events within which an alert began

    @property
    def judged(self) -> bool:
        """Whether its alerts have verdicts."""
        return self.chance is not None

    @property
    def precision(self) -> float | None:
        """The share of alerts that came before what they predicted, or that met an event."""
        if self.judged:
            return precision(self.true, self.late, self.false)
        return self.true / self.raised if self.events and self.raised else None

    @property
    def recall(self) -> float | None:
        """The share of passings that an alert preceded, or of events that one met."""
        if self.judged:
            return recall(self.true, self.missed)
        return self.found / self.events if self.events else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of both."""
        if self.precision is None or self.recall is None:
            return None
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

    @property
    def alerts_a_flow_day(self) -> float:
        """All alerts that began."""
        return self.raised / self.flow_days

    @property
    def false_a_flow_day(self) -> float:
        """Those that were false; of observations, those outside of all events."""
        return self.false / self.flow_days


def variants(rules: Sequence[RuleConfig], *, tune: bool) -> list[Variant]:
    """The rules, and those that are run beside them."""
    found = [Variant(rule, rule.name, "rule") for rule in rules]
    for place, rule in enumerate(rules):
        if not rule.predicted:
            continue
        late = msgspec.structs.replace(rule, late_steps=1)
        found += [
            Variant(_renamed(late, place, "last"), rule.name, "last value"),
            Variant(_renamed(rule, place, "same"), rule.name, "same time"),
        ]
        share = rule.chance_clear / rule.chance
        for chance in CHANCES if tune else ():
            other = msgspec.structs.replace(rule, chance=chance, chance_clear=share * chance)
            found.append(Variant(_renamed(other, place, f"at-{chance:g}"), rule.name, "chance"))
    return found


def _renamed(rule: RuleConfig, place: int, kind: str) -> RuleConfig:
    name = NAME.format(place=place, kind=kind.replace(".", "-"))
    return msgspec.structs.replace(rule, name=name)


@dataclass(slots=True)
class AlarmScorer:
    """
    Runs variants of rules in an engine, and counts what became of their alerts.

    `wave` is the hook of the engine's alert stage, and `observe` takes each of its results. Counts
    are kept from the time *begin* on; *flows* and the steps from *first* to *last* are the file's.
    """

    variants: Sequence[Variant]
    flows: Sequence[str]
    first: int
    last: int
    step_s: int
    horizons: int
    begin: int
    events: Sequence[Event] = ()
    alerts: list[Alert] = field(default_factory=list)  # of the settings' rules, in their order
    _rates: NDArray[np.float64] = field(init=False)  # (steps, flows), as far as they are known
    _column: dict[str, int] = field(init=False)
    _kinds: dict[str, Kind] = field(init=False)
    _counts: dict[str, Counter[str]] = field(init=False)
    _leads: dict[str, list[int]] = field(init=False)
    _raised: dict[str, dict[str, Alert]] = field(init=False)  # by rule and id
    _judged: int = 0  # flow-steps in the scored time

    def __post_init__(self) -> None:
        self._rates = np.full((self.last - self.first + 1, len(self.flows)), np.nan)
        self._column = {flow: place for place, flow in enumerate(self.flows)}
        self._kinds = {each.rule.name: each.kind for each in self.variants}
        self._counts = defaultdict(Counter)
        self._leads = defaultdict(list)
        self._raised = defaultdict(dict)

    def wave(
        self, rule: RuleConfig, wave: Wave, made_at: NDArray[np.int64], flows: Sequence[str]
    ) -> Wave:
        """The wave that *rule* decides by; it notes the rates of the wave."""
        kind = self._kinds[rule.name]
        steps = made_at // self.step_s - 1 - self.first
        columns = np.fromiter((self._column[flow] for flow in flows), np.intp, len(flows))
        self._rates[steps, columns] = wave.rates
        if kind in {"rule", "chance"}:
            return wave
        within = rule.within_steps(self.step_s, self.horizons)
        is_last = kind == "last value"
        expected = wave.rates if is_last else self._same_time(steps, columns, within)
        sure = np.nan_to_num(expected, nan=0.0).astype(np.float32)
        bands = np.broadcast_to(sure[:, None, None], (len(sure), self.horizons, len(QUANTILES)))
        outlook = Outlook(bands, QUANTILES)
        return wave._replace(outlook=outlook, able=np.ones(len(sure), bool))

    def observe(self, result: TurnResult) -> None:
        """Count what a step of the engine concluded."""
        for score in result.rule_scores:
            if score.ends_at - score.period_s >= self.begin:
                self._counts[score.rule].update({name: getattr(score, name) for name in COUNTS})
        for alert in result.alerts:
            if self._kinds[alert.rule] == "rule":
                self.alerts.append(alert)
            if alert.since >= self.begin:
                self._raised[alert.rule][alert.id] = alert
        for made in result.forecasts:
            self._judged += int((made.made_at > self.begin).sum())

    def figures(self) -> list[RuleFigures]:
        """The figures of all variants: each rule, and what was run beside it."""
        found = [self._figures(each) for each in self.variants]
        order = [each.of for each in self.variants if each.kind == "rule"]
        return sorted(found, key=lambda each: order.index(each.rule))

    def _figures(self, variant: Variant) -> RuleFigures:
        rule = variant.rule
        raised = list(self._raised[rule.name].values())
        leads = [each.lead_s for each in raised if each.lead_s is not None]
        counts = Counter({name: self._counts[rule.name][name] for name in COUNTS})
        events = [each for each in self.events if self._concerns(rule, each)]
        found = 0
        if not rule.predicted and events:
            met, found = _met(raised, events, self.step_s)
            counts |= Counter(true=met, false=len(raised) - met, missed=len(events) - found)
        return RuleFigures(
            rule=variant.of,
            kind=variant.kind,
            chance=rule.chance if rule.predicted else None,
            **{name: counts[name] for name in COUNTS},
            lead_s=median(leads) if leads else None,
            flow_days=max(self._judged * self.step_s / DAY_S, 1e-9),
            events=len(events),
            found=found,
        )

    def _concerns(self, rule: RuleConfig, event: Event) -> bool:
        if event.end <= self.begin:
            return False
        return any(rule.matches(flow) and fnmatch.fnmatchcase(flow, event.flows)
                   for flow in self.flows)  # fmt: skip

    def _same_time(
        self, steps: NDArray[np.int64], columns: NDArray[np.intp], within: int
    ) -> NDArray[np.float64]:
        """The highest rate in the *within* steps after the same time on earlier days; NaN: none."""
        found = np.full(len(steps), np.nan)
        for days in DAYS_AGO:
            back = days * DAY_S // self.step_s
            for ahead in range(1, within + 1):
                at = steps - back + ahead
                known = at >= 0
                rates = self._rates[np.where(known, at, 0), columns]
                np.fmax(found, np.where(known, rates, np.nan), out=found)
        return found


def _met(raised: Sequence[Alert], events: Sequence[Event], step_s: int) -> tuple[int, int]:
    """How many of the alerts began within an event, and within how many events one did."""
    met, found = 0, set()
    for alert in raised:
        # An alert begins at the end of a step: the step after the last one of an event counts.
        inside = [
            place
            for place, event in enumerate(events)
            if event.begin <= alert.since < event.end + step_s
            and fnmatch.fnmatchcase(alert.flow, event.flows)
        ]
        met += bool(inside)
        found.update(inside)
    return met, len(found)


def tuned(found: Sequence[RuleFigures], false_max: float) -> Iterator[RuleFigures]:
    """For each rule, the variant of best F1 with at most *false_max* false alerts a flow-day."""
    by_rule: Mapping[str, list[RuleFigures]] = defaultdict(list)
    for each in found:
        if each.kind == "chance":
            by_rule[each.rule].append(each)
    for tried in by_rule.values():
        allowed = [each for each in tried if each.false_a_flow_day <= false_max]
        if allowed:
            yield max(allowed, key=lambda each: (each.f1 or 0.0, -each.false))
