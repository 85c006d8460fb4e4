"""
What passes between the rooms of the house: frozen values, no behaviour.

An offset is always the *next* one to read, never the last one read. Times are
epoch seconds of the readings' own clock unless a name says otherwise.

Records, messages and readings are named tuples and structs rather than frozen
dataclasses, because some ten thousand of them are made in a second.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Partition(NamedTuple):
    """One lane of an input topic; records keep their order within it."""

    topic: str
    number: int


def by_partition(partitions: Sequence[Partition]) -> dict[Partition, list[int]]:
    """The places of each partition in a column of them."""
    found: dict[Partition, list[int]] = defaultdict(list)
    first = 0
    for partition, run in groupby(partitions):  # as a rule they lie together
        after = first + sum(1 for _ in run)
        found[partition] += range(first, after)
        first = after
    return found


class Record(NamedTuple):
    """A message as the log hands it over: bytes and where they lay."""

    partition: Partition
    offset: int  # its own; the next one to read is one more
    key: bytes | None
    value: bytes | None
    time_ms: int  # the record's timestamp, -1 where it has none
    headers: tuple[tuple[str, bytes], ...] = ()


class Message(NamedTuple):
    """What is to be published: bytes and where they shall lie."""

    topic: str
    partition: int | None  # None: the log chooses by the key
    key: bytes | None
    value: bytes | None  # None: a tombstone, the key's end
    headers: tuple[tuple[str, bytes], ...] = ()
    time_ms: int | None = None  # None: the time of publishing


class Kind(enum.IntEnum):
    """What the value of a reading is. Told by the mapping, never guessed from values."""

    COUNTER = 1  # only grows, wraps or resets; growth between two readings counts
    DELTA = 2  # what came since the last one; added to its step
    GAUGE = 3  # a rate already; averaged over its step


class Reason(enum.StrEnum):
    """Why a record, or one element of it, is no reading."""

    TOMBSTONE = "tombstone"
    TOO_LARGE = "record_too_large"
    REGISTRY_FRAMED = "registry_framed"
    NOT_JSON = "not_json"
    UNKNOWN_FORMAT = "unknown_format"
    WRONG_TYPE = "wrong_type"  # a field is missing or is not what it should be
    FLOW_NAME = "flow_name"  # empty or too long
    NEGATIVE = "negative"
    NOT_FINITE = "not_finite"
    NOT_INTEGRAL = "not_integral"  # a counter counts whole things below 2**64
    TIME_RANGE = "time_range"  # before 1970 or beyond any calendar
    FUTURE = "future"  # further ahead of its own record than is allowed
    NO_ROOM = "no_room"  # one record names more flows than its partition may hold
    UNIT = "unit"  # not printable ASCII, or too long
    TOO_DENSE = "record_too_dense"  # it would close more steps than a record may
    FAILED = "failed"  # it made a turn fail; the detail names the exception


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that is no reading, or an element of one, and why."""

    record: Record
    reason: Reason
    element: bytes | None = None  # the part of the record's value; None: all of it
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Readings:
    """
    Readings as columns, n of each, in the order in which they were read.

    One partition's readings keep its order. `count` is exact where `value`,
    a float, is not: for a counter the value itself, for the other kinds
    the bits of the float, so that equal counts are equal values.
    """

    partition: list[Partition]
    flow: list[str]
    offset: NDArray[np.int64]  # of the record that told it
    time: NDArray[np.float64]
    value: NDArray[np.float64]
    count: NDArray[np.uint64]
    kind: NDArray[np.uint8]
    bits: NDArray[np.uint8]  # of the counter: 32, 64, or 0 where it is not known
    capacity: NDArray[np.float64]  # of the link, in units per second; 0 where it is not told
    unit: NDArray[np.bytes_]  # of the value

    def __len__(self) -> int:
        return len(self.flow)

    def take(self, index: NDArray[np.intp]) -> Readings:
        """The readings at *index*, in its order."""
        first, after = (int(index[0]), int(index[-1]) + 1) if len(index) else (0, 0)
        if after - first == len(index) and bool((index[1:] > index[:-1]).all()):
            return self._run(slice(first, after))
        places = index.tolist()
        return Readings(
            partition=[self.partition[i] for i in places],
            flow=[self.flow[i] for i in places],
            **{name: getattr(self, name)[index] for name in ARRAYS},
        )

    def _run(self, places: slice) -> Readings:
        """Those that lie together, as most do that are taken: nothing is copied but lists."""
        return Readings(
            partition=self.partition[places],
            flow=self.flow[places],
            **{name: getattr(self, name)[places] for name in ARRAYS},
        )


ARRAYS = ("offset", "time", "value", "count", "kind", "bits", "capacity", "unit")


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Forecasts made together, B of them, of rows that closed a step in one wave."""

    partition: list[Partition]
    flow: list[str]
    unit: NDArray[np.bytes_]  # of the rate
    made_at: NDArray[np.int64]  # the end of the step just closed
    rate: NDArray[np.float64]  # of that step; NaN where it is missing
    bands: NDArray[np.float32]  # (B, horizons, quantiles)
    served_by: list[str]
    generation: int

    def take(self, index: NDArray[np.intp]) -> Forecasts:
        """The forecasts at *index*, in its order."""
        return Forecasts(
            partition=[self.partition[i] for i in index],
            flow=[self.flow[i] for i in index],
            unit=self.unit[index],
            made_at=self.made_at[index],
            rate=self.rate[index],
            bands=self.bands[index],
            served_by=[self.served_by[i] for i in index],
            generation=self.generation,
        )


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about a flow that its operator should know."""

    kind: str
    flow: str


@dataclass(frozen=True, slots=True)
class RolloutReport:
    """What became of rolling out a generation: errors of the median in compressed space."""

    generation: int
    previous: int  # that the sampled flows had before
    pages: int
    rows: int
    sampled: int  # flows
    judged: int  # of their forecasts
    error_before: float | None  # the old weights over their own state; None: nothing was judged
    error_raw: float | None  # the new weights over the old ones' state
    error_reprimed: float | None  # the new weights as they serve


@dataclass(frozen=True, slots=True)
class Score:
    """
    How forecasts of a class of flows turned out in a period of event time, at one horizon.

    All but the first of these are sums over forecasts, and add up over the scores of several turns.
    """

    ends_at: int  # the period's end
    period_s: int
    generation: int  # of the weights at its end
    of: str  # the class
    horizon: int  # steps ahead
    flows: int
    forecasts: int  # whose step has closed
    covered: int  # of them, with what came in the 90 % band
    rate: float  # the flows' mean rates, each in its own unit
    error_rate: float  # of the median, likewise
    error: float  # of the median, as a share of the flow's usual rate
    quantile_loss: float  # twice its mean over .05 .25 .5 .75 .95, likewise
    width: float  # of the 90 % band, likewise
    missed: float  # running error in compressed space of whoever serves …
    missed_by: Mapping[str, float]  # … and of each baseline


@dataclass(frozen=True, slots=True)
class StateRecord:
    """What one key of the state topic says from now on: a page, a floor, flows that are gone."""

    partition: Partition
    key: bytes
    value: bytes | None  # None: the key is no more


@dataclass(frozen=True, slots=True)
class TurnResult:
    """All that one turn concluded. It is published whole or not at all."""

    forecasts: Sequence[Forecasts]
    rejects: Sequence[Reject]
    entries: Sequence[StateRecord]
    offsets: Mapping[Partition, int]
    scores: Sequence[Score]  # of periods that ended
    counts: Mapping[str, int]  # readings, verdicts, rejects, evictions …: what a turn did
    taken_up: Sequence[RolloutReport] = ()  # generations whose rollout has been measured
    spread: Sequence[str] = ()  # flows that were found to come in two partitions
    notices: Sequence[Notice] = ()
