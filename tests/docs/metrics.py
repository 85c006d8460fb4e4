"""
Writes the tables of docs/metrics.md from the metrics that the program has.

    python -m tests.docs.metrics
"""

from __future__ import annotations

from pathlib import Path

from streamer.ops.metrics import (
    BUILD,
    HISTOGRAMS,
    NOTIFIER_TABLES,
    OTHER,
    PREFIX,
    ROLES,
    START,
    TABLES,
    Metric,
)

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
TABLES_BEGIN = "## Forecaster\n"  # what is above is written by hand


def row(metric: Metric, kind: str) -> str:
    """A metric as a row of a table."""
    name = f"{PREFIX}{metric.name}{'_total' * (kind == 'counter')}"
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{name}` | {kind} | {labels} | {metric.help} |"


def page(text: str) -> str:
    """The whole page: the hand-written part of *text*, and the tables."""
    parts = [text.partition(TABLES_BEGIN)[0].rstrip()]
    for role, (counts, levels) in ROLES.items():
        rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
        rows += [row(metric, "gauge") for metric in (BUILD, START)]
        rows += [row(metric, "counter") for metric in counts.values()]
        rows += [row(OTHER, "counter")]
        rows += [row(metric, "gauge") for metric in levels.values()]
        if role == "forecaster":
            rows += [row(metric, "gauge") for metric in TABLES.values()]
            rows += [row(metric, "histogram") for metric, _ in HISTOGRAMS.values()]
        if role == "notifier":
            rows += [row(metric, "gauge") for metric in NOTIFIER_TABLES.values()]
        parts += [f"## {role.capitalize()}", "\n".join(rows)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
