"""
InfluxDB's line protocol, the default of Telegraf's Kafka output: one metric or more a line each.

`measurement,tag=value field=1i,other="text" 1767225600000000000`; the time may be missing. The
meaning of the fields is that of Telegraf's metrics.
"""

from __future__ import annotations

import re
from functools import lru_cache

from streamer.core.types import Reason
from streamer.core.wire.context import PLAIN, Context
from streamer.core.wire.documents import STRUCTURE, refusal
from streamer.core.wire.parsed import Found, Refusal, Unfit
from streamer.core.wire.telegraf import (
    FLOW_VERSIONS,
    SPEED_FIELDS,
    Metric,
    Place,
    Value,
    counters,
    place_of,
)
from streamer.core.wire.times import epoch

LINE = re.compile(rb"[^\s{\[][^\n]*[^\\\s] +[^\s=]+=")  # how a line begins, as far as it is checked
TOKEN = re.compile(r"(?:\\.|[^\\ ])+")
FIELD = re.compile(r'((?:\\.|[^\\=,])+)=("(?:\\.|[^"\\])*"|[^", ]*)(?:,|(?= |$))')
TAG = re.compile(r",((?:\\.|[^\\=,])+)=((?:\\.|[^\\=,])*)")
NAME = re.compile(r"(?:\\.|[^\\,])+")
ESCAPED = re.compile(r"\\(.)")
TRUE, FALSE = {"t", "T", "true", "True", "TRUE"}, {"f", "F", "false", "False", "FALSE"}


def recognise(value: bytes) -> bool:
    """Whether text begins like a line of the protocol."""
    return LINE.match(value.lstrip()[:4096]) is not None


def decode(value: bytes, context: Context = PLAIN) -> Found:
    """The interface counters and flow records of all lines."""
    try:
        lines = [line for line in value.decode().split("\n") if line.strip() and line[0] != "#"]
    except UnicodeError as error:
        return Found([], [Refusal(Reason.WRONG_TYPE, None, str(error))])
    found, skipped = Found([], []), 0
    for line in lines:
        try:
            metric, place = parse(line.strip("\r "), context)
            metric_readings = counters(metric, epoch(metric.timestamp), context, place)
        except Unfit as error:
            alone = len(lines) == 1
            part = line.encode()
            found.refusals.append(refusal(error.reason, error, part, alone=alone))
        except STRUCTURE as error:
            alone = len(lines) == 1
            found.refusals.append(refusal(Reason.WRONG_TYPE, error, line.encode(), alone=alone))
        else:
            found.readings.extend(metric_readings)
            skipped += not metric_readings
    return found._replace(skipped=skipped + (not lines))


def parse(line: str, context: Context) -> tuple[Metric, Place]:
    """One line as a metric, and what its tags name; raises ValueError where it is none."""
    plain = "\\" not in line and '"' not in line
    if plain:
        head, *rest = line.split(" ")
    else:
        head, rest = _split(line)
    if not 1 <= len(rest) <= 2:
        raise ValueError("it is not a line of measurement, fields and time")
    name, tags, place = _head(head)
    if plain:
        fields = {}
        rows = None if tags.get("version") in FLOW_VERSIONS else context.table.of("telegraf")
        asked = context.skips is not None
        for each in rest[0].split(","):
            key, _, value = each.partition("=")
            wanted = asked or rows is None or key in rows or key in SPEED_FIELDS
            if wanted or not value or "/" in key:
                fields[key] = _value(value)
    else:
        fields = {_plain(key): _value(value) for key, value in FIELD.findall(rest[0])}
    if not rest[0]:
        raise ValueError("it has no fields")
    time = int(rest[1]) if len(rest) == 2 else context.now()
    return Metric(fields, time, tags, name), place


def _split(line: str) -> tuple[str, list[str]]:
    """The head of a line, its fields, and its time if it has one."""
    head = TOKEN.match(line)
    if head is None:
        raise ValueError("it has no measurement")
    at = head.end() + 1
    end = at
    while (found := FIELD.match(line, end)) is not None:
        end = found.end()
        if line[end - 1 : end] != ",":
            break
    fields, time = line[at:end], line[end:].strip()
    if not fields or " " in time:
        raise ValueError("its fields cannot be read")
    return head.group(), [fields, time] if time else [fields]


@lru_cache(maxsize=65_536)
def _head(head: str) -> tuple[str, dict[str, str], Place]:
    """The measurement, the tags and what they name; a collector repeats them with every reading."""
    if "\\" not in head:
        name, *marks = head.split(",")
        tags = {key: value for key, _, value in (mark.partition("=") for mark in marks)}
    else:
        found = NAME.match(head)
        end = found.end() if found else 0
        name = _plain(head[:end])
        tags = {_plain(k): _plain(v) for k, v in TAG.findall(head[end:])}
    return name, tags, place_of(tags)


def _plain(text: str) -> str:
    return ESCAPED.sub(r"\1", text) if "\\" in text else text


def _value(text: str) -> Value:
    """A field's value; raises ValueError if it is none."""
    last = text[-1:]
    if last == "i" or last == "u":  # noqa: PLR1714 - this is the hottest line
        return int(text[:-1])
    if last == '"':
        return _plain(text[1:-1])
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    return float(text)
