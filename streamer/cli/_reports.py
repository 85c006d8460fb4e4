"""A report of metrics, as `metrics.topic` holds them, as a line for people."""

from __future__ import annotations

from streamer.ops.reports import OWN, Row
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
