"""
Readings as columns: kinds, units and exact numbers of each, or the reason why it is refused.

Works on all readings of a delivery at once; a reading that is not valid is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.core.types import PART, Kind, Readings, Reason, Record, Reject
from streamer.core.wire.parsed import KeyedPart, Reading
from streamer.core.wire.settings import UNIT_BYTES, InputConfig

UNIT = f"S{UNIT_BYTES}"
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")  # as in RFC 8259
UNIT_FORM = re.compile(f"[ -~]{{0,{UNIT_BYTES}}}")
CAPACITY_MAX = 1e30  # units per second; a capacity beyond it, or below zero, counts as unknown
TIME_MAX = 253_402_300_800.0  # the year 10 000
COUNTS = 2**64
VALUE_MAX = float(np.finfo(np.float64).max)  # can be compared with an integer of any length
KINDS = {kind.name.lower(): kind.value for kind in Kind}


def lay_out(
    readings: Sequence[Reading],
    records: Sequence[Record],
    lengths: Sequence[int],
    config: InputConfig,
    rejects: list[Reject],
) -> tuple[Readings, NDArray[np.intp]]:
    """
    Readings as columns, and their indices in *readings*; invalid ones are added to *rejects*.

    *lengths* is the number of readings in each record, in order.
    """
    value, count, kind, refusals = numbers(readings, config)
    time = np.array([r.time for r in readings], np.float64)
    stamped = np.repeat(np.array([r.time_ms for r in records], np.float64), lengths)
    ahead = (stamped >= 0) & (time > stamped / 1000 + config.ahead_max)
    for i in np.flatnonzero(~((time >= 0) & (time < TIME_MAX))).tolist():
        refusals.setdefault(i, Reason.TIME_RANGE)
    for i in np.flatnonzero(ahead).tolist():
        refusals.setdefault(i, Reason.FUTURE)
    flow = [r.flow for r in readings]
    for i in bad_names(flow, config):
        refusals.setdefault(i, Reason.FLOW_NAME)
    unit = [r.unit for r in readings]
    for i in bad_units(unit):
        refusals.setdefault(i, Reason.UNIT)

    bits = [PART if r.part else r.bits or config.counter_bits for r in readings]
    capacity = [r.capacity for r in readings]
    columns = Readings(
        partition=list(chain.from_iterable(map(repeat, [r.partition for r in records], lengths))),
        flow=flow,
        offset=np.repeat(np.array([r.offset for r in records], np.int64), lengths),
        time=time,
        value=value,
        count=count,
        kind=kind,
        bits=np.array(bits, np.uint8),
        capacity=capacities(capacity),
        unit=units(unit, kind, config),
        other=others(readings),
    )
    if not refusals:
        return columns, np.arange(len(readings))
    by = list(chain.from_iterable(map(repeat, records, lengths)))
    for i, reason in sorted(refusals.items()):
        alone = by[i] not in {*by[i - 1 : i], *by[i + 1 : i + 2]}
        rejects.append(Reject(by[i], reason, None if alone else msgspec.json.encode(readings[i])))
    kept = np.setdiff1d(np.arange(len(readings)), list(refusals))
    return columns.take(kept), kept


def others(readings: Sequence[Reading]) -> list[str] | None:
    """The flow that each reading counts for if its own finds no place; None if all have places."""
    if KeyedPart not in set(map(type, readings)):
        return None
    return [each.other if isinstance(each, KeyedPart) else "" for each in readings]


def units(
    declared: Sequence[str | None], kind: NDArray[np.uint8], config: InputConfig
) -> NDArray[np.bytes_]:
    """The unit of each value; the default is bytes, or bytes per second for a gauge."""
    default = np.where(kind == Kind.GAUGE, b"B/s", b"B").astype(UNIT)
    if config.unit is not None:
        default[:] = config.unit.encode()
    few = set(declared)
    if few <= {None}:
        return default
    codes = {unit: (unit or "").encode("ascii", errors="replace") for unit in few}
    if len(few) == 1 and all(codes.values()):
        default[:] = codes[declared[0]]
        return default
    own = np.array([codes[unit] for unit in declared], UNIT)
    return np.where(own == b"", default, own)


def bad_units(declared: Sequence[str | None]) -> list[int]:
    """
    The indices of readings whose unit is not printable ASCII of at most UNIT_BYTES bytes.

    A row stores so many bytes of it; a cut within a character could not be published.
    """
    bad = {unit for unit in set(declared) if unit is not None and not UNIT_FORM.fullmatch(unit)}
    return [i for i, unit in enumerate(declared) if unit in bad] if bad else []


def capacities(given: Sequence[float | None]) -> NDArray[np.float64]:
    """The capacity of each reading, 0 if it is unknown."""
    if given.count(None) == len(given):  # nearly always
        return np.zeros(len(given))
    return np.array([each if each and is_capacity(each) else 0.0 for each in given], np.float64)


def is_capacity(capacity: float) -> bool:
    """Whether a row, which stores a capacity in single precision, can store this one."""
    return 0 <= capacity <= CAPACITY_MAX


def numbers(
    readings: Sequence[Reading], config: InputConfig
) -> tuple[NDArray[np.float64], NDArray[np.uint64], NDArray[np.uint8], dict[int, Reason]]:
    """The value, count and kind of each reading, and the reasons for invalid values by index."""
    known: Mapping[str | None, int] = KINDS | {None: KINDS[config.kind]}
    kind = np.array([known[r.kind] for r in readings], np.uint8)
    values: list[Any] = [r.value if r.value.__class__ is int else digits(r.value) for r in readings]
    refusals: dict[int, Reason] = {}
    whole = set(map(type, values)) <= {int}
    if whole and 0 <= min(values, default=0) <= max(values, default=0) < COUNTS:
        count = np.array(values, np.uint64)
        value = count.astype(np.float64)
    else:
        value, count = np.zeros(len(readings)), np.zeros(len(readings), np.uint64)
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


def digits(given: float | str) -> int | float | str:
    """A short text of digits as a number, which many writers send for 64 bits; else as it is."""
    if isinstance(given, str) and given.isdigit() and given.isascii() and len(given) < 20:
        return int(given) if given[0] != "0" or given == "0" else given
    return given


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
