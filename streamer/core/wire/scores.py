"""
Encoding of scores: flat JSON, one record per class of flows, horizon and turn.

    {"schema": 1, "ends_at": 1700003600, "period_s": 3600, "step_s": 60, "generation": 3,
     "class": "all", "horizon": 4, "flows": 802, "forecasts": 24060, "covered": 21702,
     "rate": 2.9e10, …, "coverage": 0.902, "error_mean": 0.113, …, "skill_last": 0.21, …}

Each turn and each instance in which a period ends publishes its own record. Counts and sums
can be added over these records, and the ratios recomputed from the totals.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from streamer.config.types import Duration, Settings
from streamer.core.types import Message, Score

SCHEMA = 1


class ScoresConfig(Settings, frozen=True, kw_only=True):
    """The topic and the period of scores."""

    topic: str = "traffic.scores"
    every: Duration = Duration(3600)  # of event time


def messages(scores: Sequence[Score], topic: str, step_s: int) -> list[Message]:
    """One record per score, keyed by its class and horizon."""
    return [
        Message(topic, None, f"{score.of}/{score.horizon}".encode(), encoded(score, step_s))
        for score in scores
    ]


def encoded(score: Score, step_s: int) -> bytes:
    """A score as a flat object."""
    number = score.forecasts
    fields = {
        "schema": SCHEMA,
        "ends_at": score.ends_at,
        "period_s": score.period_s,
        "step_s": step_s,
        "generation": score.generation,
        "class": score.of,
        "horizon": score.horizon,
        "flows": score.flows,
        "forecasts": number,
        "covered": score.covered,
        "rate": score.rate,
        "error_rate": score.error_rate,
        "error": score.error,
        "quantile_loss": score.quantile_loss,
        "width": score.width,
        "missed": score.missed,
        **{f"missed_{name}": missed for name, missed in score.missed_by.items()},
        "coverage": score.covered / number,
        "error_mean": score.error / number,
        "quantile_loss_mean": score.quantile_loss / number,
        "width_mean": score.width / number,
        **{f"skill_{name}": skill(score.missed, by) for name, by in score.missed_by.items()},
    }
    return msgspec.json.encode(fields)


def skill(missed: float, naive: float) -> float | None:
    """The share of a baseline's error that the served forecast saves; None without an error."""
    return 1 - missed / naive if naive > 0 else None
