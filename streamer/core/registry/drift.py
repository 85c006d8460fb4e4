"""
When forecasts have become worse for good: the test of Page and Hinkley on their losses.

A running sum of how far each value lies above the mean of all so far, less an allowance, is
held against the least that it was; where it has climbed by more than a threshold, the mean has
moved (Page, 1954; Hinkley, 1971; as a detector of drift: Gama et al., A Survey on Concept
Drift Adaptation, 2014).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

ALLOWANCE = 0.1  # how much worse than its mean a loss may be for ever
THRESHOLD = 3.0  # the sum of what goes beyond it: losses 60 % higher for six values
VALUES_MIN = 24  # before any of them is judged


@dataclass(frozen=True, slots=True)
class Drift:
    """What the test knows of the values so far."""

    values: int = 0
    mean: float = 0.0
    climbed: float = 0.0  # the running sum above the least that it was
    drifted: bool = False


def update_page_hinkley(drift: Drift, value: float) -> Drift:
    """Take in a loss, relative to what is usual; `drifted` says whether it has moved."""
    values = drift.values + 1
    mean = drift.mean + (value - drift.mean) / values
    climbed = max(0.0, drift.climbed + value - mean - ALLOWANCE)
    if values <= VALUES_MIN:
        climbed = 0.0
    return replace(drift, values=values, mean=mean, climbed=climbed, drifted=climbed > THRESHOLD)
