"""
Augmentation by phase shifts: some flows are trained on twice, once with shifted profiles.

If all days have been alike for long, the weights come to rely on that, and forget how to react
to a change. So a few of the sampled flows have a *double*: a second row with the same rates,
whose daily profiles are shifted by some hours now and then. The double's seasonal forecasts
become wrong, its errors rise, and its profiles adapt, all in the same code as in production.
Doubles are added to the training data, and no contest is judged by them.
"""

from __future__ import annotations

import numpy as np

from streamer.core.columns import Rows
from streamer.core.features import seasonal
from streamer.core.features.scale import Bools
from streamer.core.network.model import Network
from streamer.core.types import DAY_S
from streamer.training.history import History, Snapshot
from streamer.training.window import FLOW_STEPS_MAX, Window, build_window

DOUBLED = 4  # one flow in DOUBLED has a double
TURNS = 0.08  # phase shifts of its profiles per day
HOURS = 2, 23  # range of a shift in hours, without the upper limit


class PhaseShiftAugmenter:
    """The current rows of the doubles, and their training windows."""

    def __init__(self) -> None:
        self.windows: list[Window] = []
        self._doubles: Snapshot | None = None

    def keep(  # noqa: PLR0913 - the parameters of `build_window`
        self,
        history: History,
        before: Snapshot,
        after: Snapshot,
        *,
        network: Network,
        horizons: tuple[int, ...],
        rng: np.random.Generator,
        oldest: float,
    ) -> None:
        """Step the doubles from one snapshot to the next; drop windows before *oldest*."""
        steps = int(np.median(after.steps) - np.median(before.steps))
        doubles = self._current_rows(before, FLOW_STEPS_MAX // DOUBLED // max(1, steps))
        turned = rng.random(len(doubles.rows)) < TURNS * steps * history.step_s / DAY_S
        hours = np.where(turned, rng.integers(*HOURS, len(turned)), 0)
        seasonal.roll_profiles(doubles.rows, hours, history.step_s)
        made = build_window(history, doubles, after, network=network, horizons=horizons, rng=rng)
        self._doubles = None if made is None else made.after
        if made is not None:
            self.windows.append(made.window)
        self.windows = [each for each in self.windows if each.since >= oldest]

    def _current_rows(self, now: Snapshot, most: int) -> Snapshot:
        """
        Return the doubles' rows; a new double, or one of a reset flow, copies the flow's row.

        They are always the same flows, *most* at most, so that none is left out of a window and
        lost.
        """
        chosen = np.flatnonzero(now.lanes % DOUBLED == 0)[: max(1, most)]
        lanes, tenures, rows = now.lanes[chosen], now.tenures[chosen], now.rows[chosen].copy()
        if self._doubles is not None:
            past = self._doubles
            _, here, there = np.intersect1d(lanes, past.lanes, return_indices=True)
            same = (tenures[here] == past.tenures[there]) & _alike(rows[here], past.rows[there])
            rows[here[same]] = past.rows[there[same]]
        return Snapshot(lanes, tenures, rows)


def _alike(rows: Rows, others: Rows) -> Bools:
    """(B,) whether both rows have the same age, step count and open step."""
    alike: Bools = np.all([rows[name] == others[name] for name in ("age", "seen", "open")], axis=0)
    return alike
