"""
Rules: what is watched, on which flows, and when an alert begins and ends.

    capacity   the peak within `within` passes `share` of the link's capacity
    threshold  the peak passes `above`, or the rate falls below `below`
    spike      the peak passes `factor` times the flow's own recent high
    anomaly    `outside` of the last `window` steps lay outside the band that awaited them
    coverage   fewer than `covered_min` of the recent rates lay in their bands
    silence    no reading comes for `after`, while the other flows of the partition go on

The first three are predictions (PREDICTED): they are raised by the chance that the peak passes
a threshold, and are judged later by the rates that followed. The others are observations.
"""

from __future__ import annotations

import fnmatch
import re
import zlib
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from streamer.config.types import Duration, Settings
from streamer.core.alerts.quiet import QuietConfig

Kind = Literal["capacity", "threshold", "spike", "anomaly", "coverage", "silence"]
Chance = Annotated[float, msgspec.Meta(ge=0.01, le=0.99)]
Count = Annotated[int, msgspec.Meta(ge=1, le=255)]
Rate = Annotated[float, msgspec.Meta(gt=0, le=1e30)]
CAPACITIES_MAX = 10_000
Capacities = Annotated[dict[str, Rate], msgspec.Meta(max_length=CAPACITIES_MAX)]

PREDICTED = frozenset({"capacity", "threshold", "spike"})
SILENCE = "silence"  # the kind that is decided by the partition's clock, not by a closed step
AFTER_STEPS_MIN, AFTER_STEPS_MAX = 2, 255  # of silence
LATE_SPIKE = 2  # steps above a spike's threshold that raise an alert late
WINDOW_MAX = 32  # steps: the outcomes of recent steps are bits of one number
RULES_MAX = 32
LABELS_MAX = 32
LABEL_MAX = 1024  # characters of a label or an annotation
QUIET_MAX = 32
NOT_DECIDING = frozenset({"annotations", "quiet", "alerts_per_minute"})  # of delivery alone
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,63}")


class RuleConfig(Settings, frozen=True, kw_only=True):
    """One rule."""

    name: str  # in records and on the scores topic
    kind: Kind
    flows: str = "*"  # a glob on the flow's name
    pattern: str | None = None  # a regular expression that must also match the whole name
    within: Duration | None = None  # of predictions: how far ahead; null: all horizons
    chance: Chance = 0.5  # raises the alert …
    chance_clear: Chance = 0.25  # … and below it the alert may end
    share: Annotated[float, msgspec.Meta(gt=0, le=10)] = 0.9  # capacity: of the capacity
    capacity: Rate | None = None  # capacity: of the link, in the flow's unit; null: …
    # … that of the first glob of this table, in bits per second, or as the readings report it
    capacities: Capacities = {}  # noqa: RUF012 - msgspec copies an empty one
    above: Rate | None = None  # threshold: a rate
    below: Rate | None = None
    factor: Annotated[float, msgspec.Meta(ge=1, le=1e6)] = 2.0  # spike: times the recent high
    outside: Annotated[int, msgspec.Meta(ge=1, le=WINDOW_MAX)] = 6  # anomaly: steps of `window`
    window: Annotated[int, msgspec.Meta(ge=1, le=WINDOW_MAX)] = 8  # anomaly: steps
    # anomaly: how far outside of its band a rate must be, in widths of the band (a logarithm)
    margin: Annotated[float, msgspec.Meta(ge=0, le=100)] = 0.0
    covered_min: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.7  # coverage
    # silence: at least so long, and three times as long as the flow usually takes; null: 5 steps
    after: Duration | None = None
    expires: Duration = Duration(86400)  # silence: the flow has gone for good, and its alert ends
    for_steps: Count = 1  # the condition must hold for so many steps in succession
    clear_steps: Count = 3  # … and must be absent for so many
    # Steps above the threshold in succession that raise an alert which no forecast raised before
    # the passing; 0: never; null: 1, and 2 of a spike, which is often over before it is read.
    late_steps: Annotated[int, msgspec.Meta(ge=0, le=255)] | None = None
    min_rate: Annotated[float, msgspec.Meta(ge=0, le=1e30)] = 0.0  # least rate worth an alert
    severity: Literal["info", "warning", "critical"] = "warning"
    labels: dict[str, str] = {}  # noqa: RUF012 - msgspec copies an empty one
    annotations: dict[str, str] = {}  # noqa: RUF012 - of Alertmanager; {flow} is the record's flow
    quiet: Annotated[tuple[QuietConfig, ...], msgspec.Meta(max_length=QUIET_MAX)] = ()
    alerts_per_minute: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError("name: must be lower-case letters, digits, - or _, 40 at most")
        for key in ("labels", "annotations"):
            named = getattr(self, key)
            if not all(map(LABEL.fullmatch, named)):
                raise ValueError(f"{key}: names must be letters, digits and _, 64 at most")
            if len(named) > LABELS_MAX or max(map(len, named.values()), default=0) > LABEL_MAX:
                raise ValueError(
                    f"{key}: must be {LABELS_MAX} at most, each {LABEL_MAX} characters"
                )
        if self.chance_clear > self.chance:
            raise ValueError(f"chance_clear: must be at most chance, is {self.chance_clear}")
        if self.kind == "threshold" and (self.above is None) == (self.below is None):
            raise ValueError("above: a rule of kind threshold must have either above or below")
        if self.outside > self.window:
            raise ValueError(f"outside: must be at most window, is {self.outside}")
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise ValueError(f"pattern: must be a regular expression: {error}") from None

    @property
    def predicted(self) -> bool:
        """Whether an alert of the rule is a prediction, which is judged later."""
        return self.kind in PREDICTED and self.below is None

    @property
    def steps_until_late(self) -> int:
        """Steps above the threshold that raise an alert without a forecast; 0: none does."""
        if self.late_steps is not None:
            return self.late_steps
        return LATE_SPIKE if self.kind == "spike" else 1

    @property
    def column(self) -> str:
        """The name of the row's column that holds the rule's state."""
        return f"alert.{self.name}"

    @property
    def version(self) -> int:
        """A checksum of all settings that decide; never 0, which marks a new row."""
        fields = (name for name in self.__struct_fields__ if name not in NOT_DECIDING)
        settings = {name: getattr(self, name) for name in fields}
        return zlib.crc32(msgspec.json.encode(settings, enc_hook=str)) or 1

    def within_steps(self, step_s: int, horizons: int) -> int:
        """The steps in which the peak is looked for."""
        return horizons if self.within is None else max(1, int(self.within) // step_s)

    def matches(self, flow: str) -> bool:
        """Whether the rule is for *flow*."""
        if not fnmatch.fnmatchcase(flow, self.flows):
            return False
        return self.pattern is None or re.fullmatch(self.pattern, flow) is not None


DEFAULT_RULES = (
    RuleConfig(name="spike", kind="spike", chance=0.3, chance_clear=0.15),
    RuleConfig(name="capacity", kind="capacity", severity="critical"),
    RuleConfig(name="anomaly", kind="anomaly", severity="info"),
)


class AlertsConfig(Settings, frozen=True, kw_only=True):
    """Whether there are alerts, their topic, and the rules."""

    enabled: bool = False
    topic: str = "traffic.alerts"
    rules: Annotated[tuple[RuleConfig, ...], msgspec.Meta(max_length=RULES_MAX)] = DEFAULT_RULES
    capacities: Capacities = {}  # noqa: RUF012 - of links, for rules without a table of their own

    @property
    def in_force(self) -> tuple[RuleConfig, ...]:
        """The rules, if there are alerts; those of capacity have the table of capacities."""
        return tuple(map(self._with_table, self.rules)) if self.enabled else ()

    def _with_table(self, rule: RuleConfig) -> RuleConfig:
        if rule.kind != "capacity" or rule.capacity is not None or rule.capacities:
            return rule
        return msgspec.structs.replace(rule, capacities=self.capacities)


def contradictions(
    rules: Iterable[RuleConfig], step_s: float, horizons: int, quantiles: tuple[float, ...]
) -> Iterable[tuple[tuple[str, ...], str]]:
    """What is wrong with *rules* under these settings: the key within the list, and the fault."""
    taken: set[str] = set()
    for n, rule in enumerate(rules):
        if rule.name in taken:
            yield (str(n), "name"), f"must be unique, {rule.name} is used before"
        taken.add(rule.name)
        if rule.within is not None and not step_s <= rule.within <= horizons * step_s:
            least, most = Duration(step_s), Duration(horizons * step_s)
            yield (
                (str(n), "within"),
                f"must be {least} to {most} (forecasts.horizons steps), is {rule.within}",
            )
        if rule.after is not None and not AFTER_STEPS_MIN * step_s <= rule.after <= (
            AFTER_STEPS_MAX * step_s
        ):
            least, most = Duration(AFTER_STEPS_MIN * step_s), Duration(AFTER_STEPS_MAX * step_s)
            yield (str(n), "after"), f"must be {least} to {most}, is {rule.after}"
        if rule.kind in {"anomaly", "coverage"} and not (
            len(quantiles) > 1 and quantiles[0] < 0.5 < quantiles[-1]
        ):
            yield (str(n), "kind"), f"{rule.kind} needs forecasts.quantiles on both sides of 0.5"
