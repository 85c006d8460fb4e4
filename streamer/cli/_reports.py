"""A report of metrics, as `metrics.topic` holds them, as rows and as a line for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from streamer.ops.metrics_topic import MEASUREMENT
from streamer.text import influx
from streamer.text.format import moment, si

SHOWN = {  # of the metrics without labels: the word, and the unit or how it is written
    "flows": ("flows", ""),
    "lag_messages": ("lag", ""),
    "readings_total": ("readings", ""),
    "forecasts_total": ("forecasts", ""),
    "finetune_runs_total": ("fine-tunings", ""),
    "generation": ("generation", "number"),
    "coverage_ratio": ("coverage", "share"),
    "error_ratio": ("error", "share"),
    "skill_ratio": ("skill", "share"),
    "evicted_total": ("evicted", ""),
    "process_resident_memory_bytes": ("memory", "B"),
}
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
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return []


def of_json(element: dict[str, Any]) -> Row:
    """A metric of Telegraf's JSON; raises where it is none of ours."""
    if element["name"] != MEASUREMENT:
        raise ValueError("another measurement")
    tags = {str(name): str(tag) for name, tag in element["tags"].items()}
    fields = {str(name): float(number) for name, number in element["fields"].items()}
    return Row(tags, fields, float(element["timestamp"]))


def of_influx(line: str) -> Row:
    """A line of ours; raises ValueError."""
    _, tags, fields, time_ns = influx.parse(line)
    return Row(tags, fields, time_ns / 1e9)


def summary(found: list[Row]) -> str:
    """One line: when, who, and the figures that one looks at first."""
    fields: dict[str, float] = {}
    rejects = 0.0
    for row in found:
        if all(name in OWN for name in row.tags):
            fields |= row.fields
        rejects += row.fields.get("messages_invalid_total", 0.0)
    words = [
        f"{word} {written(fields[name], how)}"
        for name, (word, how) in SHOWN.items()
        if name in fields
    ]
    if rejects:
        words.append(f"rejects {written(rejects, '')}")
    tags = found[0].tags
    who = f"{tags.get('instance', '?')}/{tags.get('role', '?')}"
    return f"{moment(found[0].time_s)}  {who}  " + "   ".join(words)


def written(value: float, how: str) -> str:
    """A figure as people write it."""
    if how == "share":
        return f"{value:.1%}"
    if how == "number" or (not how and abs(value) < 10_000 and value == int(value)):
        return f"{value:.0f}"
    return si(value, how)
