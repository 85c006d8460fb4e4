"""
Drift detection: the Page-Hinkley test on forecast losses.

The test keeps a running sum of each value's distance above the mean of all values so far, minus
an allowance. If the sum has risen above its minimum by more than a threshold, the mean has
changed (Page, 1954; Hinkley, 1971; as a drift detector: Gama et al., A Survey on Concept
Drift Adaptation, 2014).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

ALLOWANCE = 0.1  # excess of a loss over the mean that never counts as drift
THRESHOLD = 3.0  # for the sum beyond the allowance: losses 60 % higher for six values
VALUES_MIN = 24  # values before the test begins


@dataclass(frozen=True, slots=True)
class Drift:
    """The state of the test after the values so far."""

    values: int = 0
    mean: float = 0.0
    climbed: float = 0.0  # the running sum above its minimum
    drifted: bool = False


def update_page_hinkley(drift: Drift, value: float) -> Drift:
    """Add a loss, relative to the usual one; `drifted` is whether the mean has changed."""
    values = drift.values + 1
    mean = drift.mean + (value - drift.mean) / values
    climbed = max(0.0, drift.climbed + value - mean - ALLOWANCE)
    if values <= VALUES_MIN:
        climbed = 0.0
    return replace(drift, values=values, mean=mean, climbed=climbed, drifted=climbed > THRESHOLD)
