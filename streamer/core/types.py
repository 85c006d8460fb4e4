"""
The values that components exchange: frozen, without behaviour.

An offset is always the *next* one to read, never the last one read. Times are
epoch seconds of the readings' own clock unless a name implies otherwise.

Records, messages and readings are named tuples and structs rather than frozen
dataclasses, because about ten thousand of them are created per second.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DAY_S, HOUR_S = 86400, 3600


class Partition(NamedTuple):
    """A partition of an input topic; records keep their order within it."""

    topic: str
    number: int


def by_partition(partitions: Sequence[Partition]) -> dict[Partition, list[int]]:
    """The indices of each partition in a column of partitions."""
    found: dict[Partition, list[int]] = defaultdict(list)
    first = 0
    for partition, run in groupby(partitions):  # they are usually adjacent
        after = first + sum(1 for _ in run)
        found[partition] += range(first, after)
        first = after
    return found


class Record(NamedTuple):
    """A message from the log: its bytes and its origin."""

    partition: Partition
    offset: int  # its own offset; the next one to read is one more
    key: bytes | None
    value: bytes | None
    time_ms: int  # the record's timestamp, -1 if it has none
    headers: tuple[tuple[str, bytes], ...] = ()


class Message(NamedTuple):
    """A message to be published: its bytes and its destination."""

    topic: str
    partition: int | None  # None: the log chooses by the key
    key: bytes | None
    value: bytes | None  # None: a tombstone, which deletes the key
    headers: tuple[tuple[str, bytes], ...] = ()
    time_ms: int | None = None  # None: the time of publishing


class Labels(NamedTuple):
    """What else is known of a flow, as its collector names it; empty if it is unknown."""

    host: str = ""
    interface: str = ""
    alias: str = ""
    site: str = ""

    def known(self) -> dict[str, str]:
        """Those that have a value, by their names."""
        return {name: text for name, text in self._asdict().items() if text}


class Kind(enum.IntEnum):
    """The kind of a reading's value. It comes from the mapping and is never guessed from values."""

    COUNTER = 1  # it only grows, wraps or resets; the growth between two readings counts
    DELTA = 2  # the growth since the last reading; added to its step
    GAUGE = 3  # already a rate; averaged over its step


PART = 1  # in the column `bits` of a delta: one of several of its time, not a duplicate


class Reason(enum.StrEnum):
    """The reason why a record, or one element of it, is not a reading."""

    TOMBSTONE = "tombstone"
    TOO_LARGE = "record_too_large"
    REGISTRY_FRAMED = "registry_framed"
    NOT_JSON = "not_json"
    UNKNOWN_FORMAT = "unknown_format"
    WRONG_TYPE = "wrong_type"  # a field is missing or has the wrong type
    FLOW_NAME = "flow_name"  # empty or too long
    NEGATIVE = "negative"
    NOT_FINITE = "not_finite"
    NOT_INTEGRAL = "not_integral"  # a counter's value must be an integer below 2**64
    TIME_RANGE = "time_range"  # before 1970 or after the year 9999
    FUTURE = "future"  # further ahead of its own record than is allowed
    NO_ROOM = "no_room"  # one record names more flows than its partition may hold
    UNIT = "unit"  # not printable ASCII, or too long
    TOO_DENSE = "record_too_dense"  # it would close more steps than a record may
    FAILED = "failed"  # it made a turn fail; the detail names the exception


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that is not a reading, or an element of one, and the reason."""

    record: Record
    reason: Reason
    element: bytes | None = None  # the part of the record's value; None: all of it
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Readings:
    """
    Readings as columns, n of each, in the order in which they were read.

    One partition's readings keep its order. `count` is exact, while `value`
    is a float: for a counter `count` is the value itself, for the other kinds
    the bits of the float, so that equal counts are equal values.
    """

    partition: list[Partition]
    flow: list[str]
    offset: NDArray[np.int64]  # of the reading's record
    time: NDArray[np.float64]
    value: NDArray[np.float64]
    count: NDArray[np.uint64]
    kind: NDArray[np.uint8]
    bits: NDArray[np.uint8]  # of the counter: 32, 64, or 0 if unknown; of a delta, 1: a part
    capacity: NDArray[np.float64]  # of the link, in units per second; 0 if it is not given
    unit: NDArray[np.bytes_]  # of the value
    other: list[str] | None = None
    # of flow records: the flow that each counts for if its own finds no place, "" if it has one
    labels: list[Labels | None] | None = None  # None: they are not read

    def __len__(self) -> int:
        return len(self.flow)

    def each(self) -> Iterator[tuple[str, bytes, float, float, int, int, int, float]]:
        """Flow, unit, time, value, count, kind, bits and capacity of each reading."""
        columns = self.unit, self.time, self.value, self.count, self.kind, self.bits, self.capacity
        return zip(self.flow, *(column.tolist() for column in columns), strict=True)

    def take(self, index: NDArray[np.intp]) -> Readings:
        """The readings at *index*, in its order."""
        first, after = (int(index[0]), int(index[-1]) + 1) if len(index) else (0, 0)
        if after - first == len(index) and bool((index[1:] > index[:-1]).all()):
            return self._run(slice(first, after))
        places = index.tolist()
        return Readings(
            partition=[self.partition[i] for i in places],
            flow=[self.flow[i] for i in places],
            other=None if self.other is None else [self.other[i] for i in places],
            labels=None if self.labels is None else [self.labels[i] for i in places],
            **{name: getattr(self, name)[index] for name in ARRAYS},
        )

    def _run(self, places: slice) -> Readings:
        """The adjacent readings at *places*, which is the usual case: only lists are copied."""
        return Readings(
            partition=self.partition[places],
            flow=self.flow[places],
            other=None if self.other is None else self.other[places],
            labels=None if self.labels is None else self.labels[places],
            **{name: getattr(self, name)[places] for name in ARRAYS},
        )


ARRAYS = ("offset", "time", "value", "count", "kind", "bits", "capacity", "unit")


def joined(parts: Sequence[Readings]) -> Readings:
    """The readings of all *parts*, one after the other."""
    other = None
    if any(part.other is not None for part in parts):
        other = [name for part in parts for name in part.other or [""] * len(part)]
    labels: list[Labels | None] | None = None
    if any(part.labels is not None for part in parts):
        labels = [each for part in parts for each in part.labels or [None] * len(part)]
    return Readings(
        partition=[partition for part in parts for partition in part.partition],
        flow=[flow for part in parts for flow in part.flow],
        other=other,
        labels=labels,
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS},
    )


# Levels of a peak's quantiles: the highest rate within a span of steps.
PEAK_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995)


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Forecasts that are made together, B of them, for rows that closed a step in one wave."""

    partition: list[Partition]
    flow: list[str]
    unit: NDArray[np.bytes_]  # of the rate
    made_at: NDArray[np.int64]  # the end of the step just closed
    rate: NDArray[np.float64]  # of that step; NaN if it is missing
    bands: NDArray[np.float32]  # (B, horizons, quantiles)
    peaks: NDArray[np.float32]  # (B, spans, PEAK_QUANTILES) of the highest rate in each span
    served_by: list[str]
    generation: int
    labels: list[Labels | None] | None = None  # None: they are not read

    def take(self, index: NDArray[np.intp]) -> Forecasts:
        """The forecasts at *index*, in its order."""
        return Forecasts(
            partition=[self.partition[i] for i in index],
            flow=[self.flow[i] for i in index],
            unit=self.unit[index],
            made_at=self.made_at[index],
            rate=self.rate[index],
            bands=self.bands[index],
            peaks=self.peaks[index],
            served_by=[self.served_by[i] for i in index],
            generation=self.generation,
            labels=None if self.labels is None else [self.labels[i] for i in index],
        )


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about a flow that its operator should know."""

    kind: str
    flow: str


@dataclass(frozen=True, slots=True)
class RolloutReport:
    """The effect of a rollout: errors of the median in compressed space."""

    generation: int
    previous: int  # the previous generation of the sampled flows
    pages: int
    rows: int
    sampled: int  # number of flows
    judged: int  # number of scored forecasts of these flows
    error_before: float | None  # the old weights on their own state; None: nothing was scored
    error_raw: float | None  # the new weights on the state of the old ones
    error_reprimed: float | None  # the new weights on the rebuilt state, which serve


@dataclass(frozen=True, slots=True)
class Score:
    """
    The scores of forecasts for a class of flows in a period of event time, at one horizon.

    From `flows` on, all fields are sums over flows or forecasts, so the scores of several turns can
    be added.
    """

    ends_at: int  # the period's end
    period_s: int
    generation: int  # of the weights at the period's end
    of: str  # the class
    horizon: int  # steps ahead
    flows: int
    forecasts: int  # forecasts whose step has closed
    covered: int  # those of them whose rate was within the 90 % band
    rate: float  # the flows' mean rates, each in its own unit
    error_rate: float  # of the median, each in the flow's own unit
    error: float  # of the median, as a share of the flow's usual rate
    quantile_loss: float  # twice its mean over .05 .25 .5 .75 .95, as a share of the usual rate
    width: float  # of the 90 % band, as a share of the usual rate
    missed: float  # running error of the predictor that serves, in compressed space
    missed_by: Mapping[str, float]  # running error of each baseline, in compressed space


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert as it is published: when it begins, when its verdict is known, when it ends."""

    partition: Partition
    flow: str
    rule: str
    kind: str
    severity: str
    state: str  # firing or resolved
    reason: str  # why it was raised, or why it ended
    verdict: str | None  # open, true, late or false; None: it is not a prediction
    since: int  # when it was raised: the end of the step just closed
    updated_at: int
    lead_s: int | None  # of a true alert: from `since` to the step that passed the threshold
    step_s: int
    within_s: int  # the window in which the threshold is expected to be passed; 0: none
    chance: float | None  # that it is
    threshold: float | None
    unit: str
    rate: float | None  # of the step just closed
    usual: float | None  # the flow's mean rate, with a memory of a day
    peaks: Mapping[str, float]  # quantiles of the peak within the window, by name
    expected_at: int | None  # begin of the first step whose median passes the threshold
    capacity: float | None
    generation: int
    served_by: str
    labels: Mapping[str, str]  # of the rule
    flow_labels: Mapping[str, str] = field(default_factory=dict)  # by the names of `Labels`

    @property
    def id(self) -> str:
        """Of one alert from its beginning to its end."""
        return f"{self.flow}/{self.rule}@{self.since}"


@dataclass(frozen=True, slots=True)
class RuleScore:
    """What became of a rule's alerts in a period of event time; all counts can be added."""

    ends_at: int
    period_s: int
    rule: str
    raised: int = 0
    true: int = 0
    late: int = 0
    false: int = 0
    missed: int = 0  # passings of the threshold without an alert before
    lead_s: int = 0  # sum over true alerts


@dataclass(frozen=True, slots=True)
class StateRecord:
    """The new value of one key of the state topic: a page, a replay offset, evicted flows."""

    partition: Partition
    key: bytes
    value: bytes | None  # None: the key is deleted


@dataclass(frozen=True, slots=True)
class TurnResult:
    """The complete result of one turn. It is published as a whole or not at all."""

    forecasts: Sequence[Forecasts]
    rejects: Sequence[Reject]
    entries: Sequence[StateRecord]
    offsets: Mapping[Partition, int]
    scores: Sequence[Score]  # of periods that ended
    counts: Mapping[str, int]  # numbers of readings, verdicts, rejects, evictions and so on
    taken_up: Sequence[RolloutReport] = ()  # generations whose rollout has been measured
    spread: Sequence[str] = ()  # flows whose readings were found to come in two partitions
    notices: Sequence[Notice] = ()
    alerts: Sequence[Alert] = ()
    rule_scores: Sequence[RuleScore] = ()
