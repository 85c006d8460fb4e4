"""
The ledger: how often the alerts of each rule were right, pooled by period of event time.

A count belongs to the period in which its step ends. Each turn in which something is counted
publishes its own record, in its transaction, so counts of turns and instances can be added.

    precision = true / (true + late + false)
    recall    = true / (true + missed)

A passing of the threshold is missed if no alert fires when it begins. It begins with the first rate
above the threshold after `clear_steps` steps under it. An alert that begins during it is late, so
such a passing counts as missed and as late.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
from numpy.typing import NDArray

from streamer.core.types import RuleScore


class Ledger:
    """The counts of one turn."""

    def __init__(self, period_s: int) -> None:
        self._period_s = period_s
        self._counts: dict[tuple[int, str], Counter[str]] = defaultdict(Counter)

    def add(self, rule: str, made_at: int, **counts: int) -> None:
        """Count for *rule* at *made_at*, the end of a step."""
        ends_at = -(-made_at // self._period_s) * self._period_s
        self._counts[ends_at, rule].update(counts)

    def add_wave(
        self, rule: str, made_at: NDArray[np.int64], **counts: NDArray[np.bool_ | np.int64]
    ) -> None:
        """Count for *rule* what each of B rows brings at its *made_at*."""
        for at in np.unique(made_at).tolist():  # nearly always one
            here = made_at == at
            found = {name: int(each[here].sum()) for name, each in counts.items()}
            if any(found.values()):
                self.add(rule, at, **found)

    def scores(self) -> list[RuleScore]:
        """The counts, in an order that does not depend on the order of rows."""
        return [
            RuleScore(ends_at=ends_at, period_s=self._period_s, rule=rule, **counts)
            for (ends_at, rule), counts in sorted(self._counts.items())
        ]


def precision(true: int, late: int, false: int) -> float | None:
    """The share of judged alerts that came before what they predicted; None without any."""
    judged = true + late + false
    return true / judged if judged else None


def recall(true: int, missed: int) -> float | None:
    """The share of passings that an alert preceded; None without any."""
    return true / (true + missed) if true + missed else None
