"""
Published scores: rows' sums at a period's end, pooled over flows of one class.

A flow is in several classes at once: all flows, and the flows with its predictor, its level,
its rhythm and its bursts. Errors are shares of a flow's usual rate, so that flows
of all sizes can be added. Scores that several turns or instances publish for one class, horizon
and period can also be added.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Rows
from streamer.core.features import baselines, scale
from streamer.core.features.baselines import TRACKED_HORIZONS
from streamer.core.features.scale import Bools, Steps
from streamer.core.predict import flow_classes
from streamer.core.predict.outcomes import SETTLED
from streamer.core.types import Score

Sums = NDArray[np.float64]
Key = tuple[int, int, str, int]  # the period's end, generation, class, index of the anchor


def ending(steps: Steps, step_s: int, period_s: int) -> Bools:
    """Whether each of *steps* is the last of its period."""
    ends: Bools = (steps + 1) * step_s // period_s > steps * step_s // period_s
    return ends


class ScoreTotals:
    """The scores of one turn."""

    def __init__(self, step_s: int, period_s: int) -> None:
        self._step_s, self._period_s = step_s, period_s
        self._sums: dict[Key, Sums] = {}

    def take(self, rows: Rows, steps: Steps, cell: str, generation: int) -> None:
        """Take the sums out of the *rows* whose period ends with their closed *steps*."""
        due = np.flatnonzero(ending(steps, self._step_s, self._period_s))
        if not due.size:
            return
        some = rows[due]
        for name in SETTLED:
            rows[name][due] = 0
        ends = (steps[due] + 1) * self._step_s // self._period_s * self._period_s
        sums = _sums(some)
        for end in np.unique(ends).tolist():
            for names, codes in flow_classes.score_classes(some, cell):
                for code in np.unique(codes[ends == end]).tolist():
                    pooled = sums[(codes == code) & (ends == end)].sum(axis=0)
                    for place in np.flatnonzero(pooled[:, 0]).tolist():
                        key = end, generation, names[code], place
                        self._sums[key] = self._sums.get(key, 0) + pooled[place]

    def scores(self) -> list[Score]:
        """The scores, in an order that does not depend on the order of the rows."""
        return [
            Score(
                ends_at=end,
                period_s=self._period_s,
                generation=generation,
                flows=int(flows),
                of=name,
                horizon=TRACKED_HORIZONS[place].horizon,
                forecasts=int(forecasts),
                covered=int(covered),
                rate=rate,
                error_rate=error_rate,
                error=error,
                quantile_loss=loss,
                width=width,
                missed=missed,
                missed_by=dict(zip(baselines.NAMES, naive, strict=True)),
            )
            for (end, generation, name, place), sums in sorted(self._sums.items())
            for flows, forecasts, covered, rate, error_rate, error, loss, width, missed, *naive in [
                sums.tolist()
            ]
        ]


def _sums(rows: Rows) -> Sums:
    """Each row's settled sums in the order of `Score`'s fields: (B, anchors, fields)."""
    judged = rows["n_scored"].astype(np.float64)
    usual = scale.scale_of(rows["mean"], rows["peak"]).astype(np.float64)[:, None, None]
    sums = rows["loss_sums"].astype(np.float64)
    errors = np.concatenate((rows["network_error"][:, :, None], rows["errors"]), axis=2)
    served = np.take_along_axis(errors, rows["predictor"].astype(np.intp)[:, None, None], axis=2)
    naive = np.concatenate((served, rows["errors"]), axis=2) * judged[:, :, None]
    counts = np.stack(
        (judged > 0, judged, rows["n_covered"], judged * rows["mean"][:, None]), axis=2
    )
    totals: Sums = np.concatenate((counts, sums[:, :, :1], sums / usual, naive), axis=2)
    return totals
