"""The answers of the JSON API, field by field; the OpenAPI document is made from these types."""

from __future__ import annotations

import msgspec

from streamer.console.alerts import Alert
from streamer.console.condition import Finding, Severity
from streamer.core.wire.contests import Contest, Rollback
from streamer.core.wire.generations import Incumbent


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """The base of all answers: times are epoch seconds, rates are in `unit`, null is unknown."""


class TopicProgress(Payload, frozen=True):
    """How far the console has read a topic."""

    role: str
    topic: str
    state: str  # starting, missing, unavailable, catching_up or following
    reason: str
    share: float  # of what was there at the start that has been read
    records: int
    newest: float | None  # the newest record's time
    ignored: dict[str, int]  # records that could not be used, by reason


class HorizonScore(Payload, frozen=True):
    """Scores of all flows at one horizon, over the time that the console keeps."""

    ahead_s: int
    forecasts: int
    coverage: float | None
    error: float | None  # of the median, over the flows' usual rates
    width: float | None  # of the 90 % band, likewise
    skill_last: float | None  # 1 - error / error of repeating the last value
    skill: float | None  # the same against the best baseline


class PeriodScore(HorizonScore, frozen=True):
    """Scores of one period of event time."""

    ends_at: int
    generation: int


class InstanceView(Payload, frozen=True):
    """A process of the group as its last report describes it."""

    name: str
    role: str
    version: str
    phase: str
    seen_at: float
    silent: bool
    partitions: dict[str, float]  # unread records, by topic/number
    lag: float | None
    lag_s: float | None  # of the partition that is furthest behind
    flows: float | None
    generation: float | None
    readings_per_s: float | None
    forecasts_per_s: float | None
    memory_bytes: float | None
    times: list[float]  # of `lags`
    lags: list[float | None]


class Status(Payload, frozen=True):
    """The overview, with one sentence on the health of the service."""

    now: float
    severity: Severity
    sentence: str
    findings: list[Finding]
    group: str
    version: str
    started_at: float
    step_s: int
    ahead_s: int  # how far ahead forecasts are scored in the table of flows
    made_at: int | None  # end of the newest closed step
    flows: int
    forecasts: int  # read since the console started
    evicted: int  # flows that the console has no room for, or that fell silent
    topics: list[TopicProgress]
    horizons: list[HorizonScore]
    periods: list[PeriodScore]  # at the horizon nearest to `ahead_s`
    coverage_min: float
    coverage_max: float
    instances: list[InstanceView]
    alerts: dict[str, int]  # firing, by severity
    rejects: dict[str, int]  # by reason, since the console began to read


class FlowRow(Payload, frozen=True):
    """A flow in the table."""

    flow: str
    unit: str
    rate: float | None
    mean: float | None
    made_at: int
    error: float | None  # of the median `ahead_s` before, over the mean rate
    skill: float | None  # 1 - error / error of repeating the last value
    coverage: float | None
    chance: float | None  # that the peak within `ahead_s` passes twice the recent high
    unusual: float | None  # distance from the median; 1 is the edge of the band
    served_by: str
    generation: int
    recent: list[float | None]  # rates, oldest first


class FlowsPage(Payload, frozen=True):
    """A page of the table of flows."""

    flows: int
    matched: int
    page: int
    size: int
    sort: str
    order: str
    step_s: int
    ahead_s: int
    share: float  # of the forecasts topic that has been read
    rows: list[FlowRow]


class Quantile(Payload, frozen=True):
    """One quantile of the next steps."""

    level: float
    rates: list[float | None]


class Peak(Payload, frozen=True):
    """Quantiles of the highest step rate within a span."""

    span_s: int
    levels: list[float]
    rates: list[float | None]


class Chance(Payload, frozen=True):
    """The chance that the peak within `ahead_s` passes a rate."""

    name: str
    rate: float
    chance: float | None


class FlowView(Payload, frozen=True):
    """All that the topics contain of one flow."""

    now: float
    flow: str
    unit: str
    partition: int
    step_s: int
    ahead_s: int
    made_at: int
    rate: float | None
    mean: float | None
    high: float | None
    error: float | None
    skill: float | None
    coverage: float | None
    scored: int
    chance: float | None
    unusual: float | None
    served_by: str
    generation: int
    first_at: int  # end of the first of `rates`
    rates: list[float | None]
    levels: list[float]  # quantiles of `predicted`
    predicted: list[list[float | None]]  # for the same steps and those to come, `ahead_s` before
    quantiles: list[Quantile]
    peaks: list[Peak]
    chances: list[Chance]
    alerts: list[Alert]
    verdicts: dict[str, int]  # of its alerts


class Gates(Payload, frozen=True):
    """
    One layer of the LSTM over a flow's last steps, oldest first: a list for each step.

    The last step is exact. Those before are approximate: run again over the steps that the row
    keeps, from an empty state.
    """

    f: list[list[float]]  # of each unit: what of the cell state stays
    i: list[list[float]]  # what of the candidate enters
    o: list[list[float]]  # what of the cell state is output
    C: list[list[float]]  # the cell state


class FlowState(Payload, frozen=True):
    """A flow's row as it was saved last on the state topic."""

    flow: str
    partition: str
    page: str
    generation: int
    kind: str
    unit: str
    capacity: float | None
    read_at: float
    made_at: int
    step_s: int
    steps: int  # since the flow's first reading
    missing_share: float
    rates: list[float | None]  # of the last steps, oldest first
    errors: dict[str, list[float]]  # of each baseline, at `horizons`, of log rate
    error: list[float]  # of the network
    horizons: list[int]
    blend: dict[str, float]  # weights in the median
    served_by: str | None  # the baseline that serves; null: the network
    layers: list[Gates]
    no_gates: str  # why there are none; empty if there are


class LedgerRow(Payload, frozen=True):
    """How often the alerts of a rule were right."""

    rule: str
    raised: int
    true: int
    late: int
    false: int
    missed: int
    precision: float | None
    recall: float | None
    lead_mean_s: float | None


class AlertsView(Payload, frozen=True):
    """Alerts that fire, the newest changes, and the ledger."""

    now: float
    enabled: bool
    topic: TopicProgress
    firing: int
    matched: int
    page: int
    size: int
    rules: list[str]
    alerts: list[Alert]
    ledger: list[LedgerRow]
    ledger_until: int | None


class IncumbentChange(Payload, frozen=True):
    """A change of the generation that serves."""

    at: float
    incumbent: Incumbent


class GenerationScore(Payload, frozen=True):
    """Scores of one generation at the horizon nearest to `ahead_s`, over all flows."""

    generation: int
    from_at: int
    until_at: int
    forecasts: int
    coverage: float | None
    error: float | None
    skill_last: float | None


class ModelsView(Payload, frozen=True):
    """Generations of weights."""

    now: float
    topic: TopicProgress
    trainer: bool  # whether the settings start a trainer
    every_s: int
    incumbent: Incumbent | None
    changes: list[IncumbentChange]
    contests: list[Contest]
    rollbacks: list[Rollback]
    weights: dict[int, int]  # bytes of each generation
    scores: list[GenerationScore]
    rollouts: dict[str, float]  # pages that each forecaster has yet to move


class RejectView(Payload, frozen=True):
    """A rejected record."""

    at: float
    reason: str
    detail: str
    place: str
    key: str
    value: str  # its beginning
    size: int


class InputView(Payload, frozen=True):
    """What is read, and what of it is no reading."""

    now: float
    topic: TopicProgress
    inputs: list[str]
    pattern: str | None
    format: str
    messages: float
    readings: float
    skipped: float
    verdicts: dict[str, float]  # of readings, over all forecasters that report
    invalid: dict[str, float]  # of messages, likewise
    lags: dict[str, float]  # unread records by partition
    lags_s: dict[str, float]
    rejects: dict[str, int]  # by reason, since the console began to read
    sample: list[RejectView]  # the newest, and the newest of each reason


class Problem(Payload, frozen=True):
    """Why a request was not answered."""

    error: str
