"""
Decoding of records to readings, and encoding of results to records.

Decoding never raises on invalid input: whatever is not a reading becomes a reject
with its reason, and the other readings of the same record are kept. A format is one
file and one line in the table of `formats`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from streamer.core.types import Partition, Readings, Reason, Record, Reject, joined
from streamer.core.wire import formats, mappings, readings, telegraf
from streamer.core.wire.context import Context
from streamer.core.wire.documents import collect, elements_of
from streamer.core.wire.formats import FORMATS
from streamer.core.wire.labels import read as labels_read
from streamer.core.wire.layout import is_capacity, lay_out
from streamer.core.wire.parsed import Found, Reading, Refusal
from streamer.core.wire.settings import InputConfig

LOT = 256  # records decoded at once; if one is invalid, all of them are decoded singly
FRAME_BYTES = 5  # of a schema registry: a zero and the schema's number


@dataclass(slots=True)
class Decoded:
    """The readings and rejects of a delivery's records."""

    readings: Readings
    rejects: list[Reject]
    counts: Counter[str] = field(default_factory=Counter)
    record: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    # (n,) the index of each reading's record among those that were decoded
    formats: list[str] = field(default_factory=list)  # of each record


def decode(
    records: Sequence[Record],
    config: InputConfig,
    skips: Counter[str] | None = None,
    *,
    labels: bool = False,
) -> Decoded:
    """
    Decode *records* into readings and rejects; never raises on their content.

    Topics of a source in the settings are decoded by that source's. *skips* counts by name the
    values that are well formed and not wanted. With *labels*, those of flows are read too.
    """
    if not config.sources:
        return _decode(records, config, skips, labels=labels)
    source_of = {topic: config.source_of(topic) for topic in {r.partition.topic for r in records}}
    by: dict[int, list[int]] = {}
    for i, record in enumerate(records):
        by.setdefault(source_of[record.partition.topic], []).append(i)
    parts = [
        _decode([records[i] for i in run], config.of_source(number), skips, labels=labels)
        for number, run in by.items()
    ]
    if len(parts) < 2:
        return parts[0] if parts else _decode(records, config, skips, labels=labels)
    return _together(parts, list(by.values()))


def _together(parts: Sequence[Decoded], places: Sequence[Sequence[int]]) -> Decoded:
    """*parts* as one; *places* are the indices of each part's records among all of them."""
    counts: Counter[str] = sum((part.counts for part in parts), Counter())
    named = [""] * sum(map(len, places))
    for part, place in zip(parts, places, strict=True):
        for i, name in zip(place, part.formats, strict=True):
            named[i] = name
    index = np.concatenate(
        [np.array(place, np.intp)[part.record] for part, place in zip(parts, places, strict=True)]
    )
    order = np.argsort(index, kind="stable")
    columns = joined([part.readings for part in parts]).take(order)
    rejects = [reject for part in parts for reject in part.rejects]
    return Decoded(columns, rejects, counts, index[order], named)


def _decode(
    records: Sequence[Record],
    config: InputConfig,
    skips: Counter[str] | None = None,
    *,
    labels: bool = False,
) -> Decoded:
    """Decode *records* by one configuration."""
    table = mappings.table(config.fields, frozenset(config.groups))
    context = Context(None, config.options._replace(labels=labels), table, skips)
    forms: list[str] = []
    rejects: list[Reject] = []
    counts: Counter[str] = Counter(records=len(records))
    decoded: list[Reading] = []
    lengths: list[int] = []  # the number of readings in each record
    for first in range(0, len(records), LOT):
        chunk = records[first : first + LOT]
        alone = one_each([record.value for record in chunk], config)
        if alone is not None:
            decoded += alone
            lengths += [1] * len(chunk)
            forms += ["reading"] * len(chunk)
            continue
        for record in chunk:
            form, found = read(record, config, context)
            forms.append(form)
            decoded += found.readings
            lengths.append(len(found.readings))
            if found.refusals:
                rejects += [Reject(record, r.reason, r.element, r.detail) for r in found.refusals]
            if found.skipped:
                counts["skipped"] += found.skipped
    columns, kept = lay_out(decoded, records, lengths, config, rejects)
    if labels:
        columns = replace(columns, labels=[labels_read(decoded[i].labels) for i in kept.tolist()])
    counts["readings"] = len(columns)
    given = {reading.capacity for reading in decoded} - {None}
    ignored = 0
    if given:
        ignored = sum(r.capacity is not None and not is_capacity(r.capacity) for r in decoded)
    if ignored:
        counts["capacity_ignored"] = ignored
    for reject in rejects:
        counts[f"rejected.{reject.reason}"] += 1
    index = np.repeat(np.arange(len(records)), lengths)[kept]
    return Decoded(columns, rejects, counts, index, forms)


def one_each(values: Sequence[bytes | None], config: InputConfig) -> list[Reading] | None:
    """The readings of records that contain one reading each in our own format, else None."""
    if config.format not in {"auto", "reading"} or None in values:
        return None
    every = [value for value in values if value is not None]
    if max(map(len, every)) > config.record_bytes_max:
        return None
    return readings.one_each(every, unless=telegraf.recognise if config.format == "auto" else None)


def read(record: Record, config: InputConfig, context: Context) -> tuple[str, Found]:
    """The format of one record, the configured one or found by its structure, and its content."""
    value = record.value
    reason = unreadable(value, config)
    if value is None or reason is not None:
        return "", Found([], [Refusal(reason or Reason.TOMBSTONE)])
    if record.time_ms >= 0:
        context = Context(record.time_ms / 1000, *context[1:])
    if value[:1] == b"\0":
        return framed(value, config, context)
    return in_format(value, config, context)


def in_format(value: bytes, config: InputConfig, context: Context) -> tuple[str, Found]:
    """The format of a value without a registry's header, and its content."""
    name = config.format
    if name == "auto":
        return formats.find(value, context, config.mapping)
    if name == "mapped" and config.mapping is not None:
        elements, refusals = elements_of(value)
        one = formats.of_mapping(config.mapping)
        return name, collect(elements, refusals, one, context)
    return name, FORMATS[name](value, context)


def framed(value: bytes, config: InputConfig, context: Context) -> tuple[str, Found]:
    """The content behind a schema registry's header if it is JSON; Avro is refused."""
    inner = value[FRAME_BYTES:]
    if inner.lstrip()[:1] in formats.JSON_BEGINS:
        name, found = in_format(inner, config, context)
        if found.readings or found.skipped:
            return name, found
    number = int.from_bytes(value[1:FRAME_BYTES])
    detail = f"schema {number} of a registry, and no JSON of a known format: Avro is not read"
    return "", Found([], [Refusal(Reason.REGISTRY_FRAMED, None, detail)])


def unreadable(value: bytes | None, config: InputConfig) -> Reason | None:
    """The reason to reject a record before it is parsed; None if there is none."""
    if value is None:
        return Reason.TOMBSTONE
    if len(value) > config.record_bytes_max:
        return Reason.TOO_LARGE
    return None


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
