"""Reports of metrics, as the metrics topic holds them, read back as rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from streamer.ops.metrics_topic import MEASUREMENT
from streamer.text import influx

OWN = ("group", "instance", "role")  # tags of every row; the others are labels


class Row(NamedTuple):
    """Metrics that share their labels."""

    tags: Mapping[str, str]
    fields: Mapping[str, float]
    time_s: float


def rows(value: bytes | None) -> list[Row]:
    """The rows of a report in either format; none where *value* is no report."""
    try:
        text = (value or b"").decode()
        if text.startswith("{"):
            return [of_json(each) for each in json.loads(text)["metrics"]]
        if not text.startswith((f"{MEASUREMENT},", f"{MEASUREMENT} ")):
            return []
        return [of_influx(line) for line in text.splitlines()]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError):
        return []


def of_json(element: dict[str, Any]) -> Row:
    """A metric of Telegraf's JSON; raises if it is not one of ours."""
    if element["name"] != MEASUREMENT:
        raise ValueError("another measurement")
    tags = {str(name): str(tag) for name, tag in element["tags"].items()}
    fields = {str(name): float(number) for name, number in element["fields"].items()}
    return Row(tags, fields, float(element["timestamp"]))


def of_influx(line: str) -> Row:
    """One of our lines; raises ValueError."""
    _, tags, fields, time_ns = influx.parse(line)
    return Row(tags, fields, time_ns / 1e9)
