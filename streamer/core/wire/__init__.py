"""
Decoding of records to readings, and encoding of results to records.

Decoding never raises on invalid input: whatever is not a reading becomes a reject
with its reason, and the other readings of the same record are kept. A format is one
file with one function and one line in `FORMATS`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.config.types import Duration, Settings
from streamer.core.types import Kind, Partition, Readings, Reason, Record, Reject
from streamer.core.wire import readings, telegraf
from streamer.core.wire.parsed import Found, Reading, Refusal

UNIT_BYTES = 12
UNIT = f"S{UNIT_BYTES}"
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")  # as in RFC 8259
UNIT_FORM = re.compile(f"[ -~]{{0,{UNIT_BYTES}}}")
CAPACITY_MAX = 1e30  # units per second; a capacity beyond it, or below zero, counts as unknown
TIME_MAX = 253_402_300_800.0  # the year 10 000
COUNTS = 2**64
VALUE_MAX = float(np.finfo(np.float64).max)  # can be compared with an integer of any length
LOT = 256  # records decoded at once; if one is invalid, all of them are decoded singly

Format = Callable[[bytes], Found]
FORMATS: Mapping[str, Format] = {"reading": readings.decode, "telegraf_json": telegraf.decode}


Unit = Annotated[str, msgspec.Meta(min_length=1, max_length=UNIT_BYTES, pattern="^[ -~]*$")]


class InputConfig(Settings, frozen=True, kw_only=True):
    """The input topics, and the defaults for what readings do not say themselves."""

    topics: tuple[str, ...] = ("traffic.counters",)
    pattern: str | None = None  # a regular expression of topic names, instead of topics
    format: Literal["auto", "reading", "telegraf_json"] = "auto"
    kind: Literal["counter", "delta", "gauge"] = "counter"
    unit: Unit | None = None  # of the value; None: B, and B/s of a gauge
    counter_bits: Literal[0, 32, 64] = 0  # 0: from the mapping, else inferred when a counter falls
    rate_max: Annotated[float, msgspec.Meta(gt=0, le=1e30)] = 1e12  # units per second
    repeats: bool = False  # equal deltas of one time are distinct, not duplicates
    start: Literal["earliest", "latest"] = "earliest"  # for a group without committed offsets
    ahead_max: Duration = Duration(3600)  # a reading may be ahead of its record's timestamp
    record_bytes_max: Annotated[int, msgspec.Meta(gt=0)] = 8 * 2**20
    flow_bytes_max: Annotated[int, msgspec.Meta(gt=0, le=4096)] = 512


@dataclass(slots=True)
class Decoded:
    """The readings and rejects of a delivery's records."""

    readings: Readings
    rejects: list[Reject]
    counts: Counter[str] = field(default_factory=Counter)
    record: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    # (n,) the index of each reading's record among those that were decoded


def decode(records: Sequence[Record], config: InputConfig) -> Decoded:
    """Decode *records* into readings and rejects; never raises on their content."""
    rejects: list[Reject] = []
    counts: Counter[str] = Counter(records=len(records))
    told: list[Reading] = []
    lengths: list[int] = []  # the number of readings in each record
    for first in range(0, len(records), LOT):
        lot = records[first : first + LOT]
        alone = one_each([record.value for record in lot], config)
        if alone is not None:
            told += alone
            lengths += [1] * len(lot)
            continue
        for record in lot:
            found = read(record, config)
            told += found.readings
            lengths.append(len(found.readings))
            rejects += [Reject(record, r.reason, r.element, r.detail) for r in found.refusals]
            counts["skipped"] += found.skipped
    columns, kept = lay_out(told, records, lengths, config, rejects)
    counts["readings"] = len(columns)
    ignored = sum(r.capacity is not None and not _is_capacity(r.capacity) for r in told)
    if ignored:
        counts["capacity_ignored"] = ignored
    for reject in rejects:
        counts[f"rejected.{reject.reason}"] += 1
    return Decoded(columns, rejects, counts, np.repeat(np.arange(len(records)), lengths)[kept])


def one_each(values: Sequence[bytes | None], config: InputConfig) -> list[Reading] | None:
    """The readings of records that contain one reading each in our own format, else None."""
    if config.format not in {"auto", "reading"} or None in values:
        return None
    every = [value for value in values if value is not None]
    if max(map(len, every)) > config.record_bytes_max:
        return None
    return readings.one_each(every, unless=telegraf.recognise if config.format == "auto" else None)


def read(record: Record, config: InputConfig) -> Found:
    """The content of one record in the configured format."""
    value = record.value
    reason = unreadable(value, config)
    if value is None or reason is not None:
        return Found([], [Refusal(reason or Reason.TOMBSTONE)])
    name = config.format
    if name == "auto":
        name = "telegraf_json" if telegraf.recognise(value) else "reading"
    return FORMATS[name](value)


def unreadable(value: bytes | None, config: InputConfig) -> Reason | None:
    """The reason to reject a record before it is parsed; None if there is none."""
    if value is None:
        return Reason.TOMBSTONE
    if len(value) > config.record_bytes_max:
        return Reason.TOO_LARGE
    if value[:1] == b"\0":
        return Reason.REGISTRY_FRAMED
    return None


def lay_out(
    told: Sequence[Reading],
    records: Sequence[Record],
    lengths: Sequence[int],
    config: InputConfig,
    rejects: list[Reject],
) -> tuple[Readings, NDArray[np.intp]]:
    """
    Readings as columns, and their indices in *told*; invalid ones are added to *rejects*.

    *lengths* is the number of readings of *told* in each record, in order.
    """
    value, count, kind, refusals = numbers(told, config)
    time = np.array([r.time for r in told], np.float64)
    stamped = np.repeat(np.array([r.time_ms for r in records], np.float64), lengths)
    ahead = (stamped >= 0) & (time > stamped / 1000 + config.ahead_max)
    for i in np.flatnonzero(~((time >= 0) & (time < TIME_MAX))).tolist():
        refusals.setdefault(i, Reason.TIME_RANGE)
    for i in np.flatnonzero(ahead).tolist():
        refusals.setdefault(i, Reason.FUTURE)
    flow = [r.flow for r in told]
    for i in bad_names(flow, config):
        refusals.setdefault(i, Reason.FLOW_NAME)
    unit = [r.unit for r in told]
    for i in bad_units(unit):
        refusals.setdefault(i, Reason.UNIT)

    bits, capacity = [r.bits for r in told], [r.capacity for r in told]
    columns = Readings(
        partition=list(chain.from_iterable(map(repeat, [r.partition for r in records], lengths))),
        flow=flow,
        offset=np.repeat(np.array([r.offset for r in records], np.int64), lengths),
        time=time,
        value=value,
        count=count,
        kind=kind,
        bits=np.array([b or config.counter_bits for b in bits], np.uint8),
        capacity=np.array([c if c and _is_capacity(c) else 0.0 for c in capacity], np.float64),
        unit=units(unit, kind, config),
    )
    if not refusals:
        return columns, np.arange(len(told))
    by = list(chain.from_iterable(map(repeat, records, lengths)))
    for i, reason in sorted(refusals.items()):
        alone = by[i] not in {*by[i - 1 : i], *by[i + 1 : i + 2]}
        rejects.append(Reject(by[i], reason, None if alone else msgspec.json.encode(told[i])))
    kept = np.setdiff1d(np.arange(len(told)), list(refusals))
    return columns.take(kept), kept


def units(
    told: Sequence[str | None], kind: NDArray[np.uint8], config: InputConfig
) -> NDArray[np.bytes_]:
    """The unit of each value; the default is bytes, or bytes per second for a gauge."""
    default = np.where(kind == Kind.GAUGE, b"B/s", b"B").astype(UNIT)
    if config.unit is not None:
        default[:] = config.unit.encode()
    if set(told) <= {None}:
        return default
    own = np.array([(unit or "").encode("ascii", errors="replace") for unit in told], UNIT)
    return np.where(own == b"", default, own)


def bad_units(told: Sequence[str | None]) -> list[int]:
    """
    The indices of readings whose unit is not printable ASCII of at most UNIT_BYTES bytes.

    A row stores so many bytes of it; a cut within a character could not be published.
    """
    bad = {unit for unit in set(told) if unit is not None and not UNIT_FORM.fullmatch(unit)}
    return [i for i, unit in enumerate(told) if unit in bad] if bad else []


def _is_capacity(capacity: float) -> bool:
    """Whether a row, which stores a capacity in single precision, can store this one."""
    return 0 <= capacity <= CAPACITY_MAX


KINDS = {kind.name.lower(): kind.value for kind in Kind}


def numbers(
    told: Sequence[Reading], config: InputConfig
) -> tuple[NDArray[np.float64], NDArray[np.uint64], NDArray[np.uint8], dict[int, Reason]]:
    """The value, count and kind of each reading, and the reasons for invalid values by index."""
    known: Mapping[str | None, int] = KINDS | {None: KINDS[config.kind]}
    kind = np.array([known[r.kind] for r in told], np.uint8)
    values: list[Any] = [r.value for r in told]
    refusals: dict[int, Reason] = {}
    whole = set(map(type, values)) <= {int}
    if whole and 0 <= min(values, default=0) <= max(values, default=0) < COUNTS:
        count = np.array(values, np.uint64)
        value = count.astype(np.float64)
    else:
        value, count = np.zeros(len(told)), np.zeros(len(told), np.uint64)
        for i, (given, k) in enumerate(zip(values, kind.tolist(), strict=True)):
            exact = number(given)
            reason = unfit(exact, k)
            if exact is None or reason is not None:
                refusals[i] = reason or Reason.WRONG_TYPE
                continue
            value[i] = exact
            if k == Kind.COUNTER:
                count[i] = int(exact)
    other = kind != Kind.COUNTER
    count[other] = value[other].view(np.uint64)
    return value, count, kind, refusals


def number(given: float | str) -> int | float | None:
    """A number, or text with digits, which some writers use for 64 bits (RFC 7951, protojson)."""
    if not isinstance(given, str):
        return given
    if given.lstrip("+-").lower() in {"nan", "inf", "infinity"}:
        return float(given)  # rejected later because it is not finite
    if not NUMBER.fullmatch(given):
        return None
    return int(given) if len(given) <= 21 and given.lstrip("-").isdigit() else float(given)


def unfit(exact: float | None, kind: int) -> Reason | None:
    """The reason why a number cannot be a reading of its kind; None if it can."""
    if exact is None:
        return Reason.WRONG_TYPE
    if isinstance(exact, float) and not np.isfinite(exact):
        return Reason.NOT_FINITE
    if exact < 0:
        return Reason.NEGATIVE
    if kind == Kind.COUNTER and (exact >= COUNTS or exact != int(exact)):
        return Reason.NOT_INTEGRAL
    return Reason.NOT_FINITE if exact > VALUE_MAX else None


def bad_names(flows: Sequence[str], config: InputConfig) -> list[int]:
    """The indices of flows without a name, or with a name that is too long to store."""
    most = config.flow_bytes_max
    if all(flows) and 4 * max(map(len, flows), default=0) <= most:
        return []  # a character takes at most four bytes
    return [
        i
        for i, flow in enumerate(flows)
        if not flow or (len(flow) * 4 > most and len(flow.encode(errors="replace")) > most)
    ]


__all__ = [
    "FORMATS",
    "Decoded",
    "Found",
    "InputConfig",
    "Partition",
    "Reading",
    "Refusal",
    "decode",
]
