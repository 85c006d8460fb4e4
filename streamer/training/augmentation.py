"""
PhaseShiftAugmenter of change: some flows are taught a second time, as if their days had just moved.

Where all days have long been alike, weights learn to lean on that, and forget what to do when one
is not. So a few of the sampled flows have a *double*: another row that lives through the same
rates, but whose profiles are turned by some hours now and then. What they say goes wrong, their
errors rise, they are learned anew, all by the very stages that serve. Doubles are taught beside
the flows themselves, and nobody is judged by them.
"""

from __future__ import annotations

import numpy as np

from streamer.core.columns import Rows
from streamer.core.features import seasonal
from streamer.core.features.scale import Bools
from streamer.core.network.model import Network
from streamer.core.types import DAY_S
from streamer.training.history import History, Snapshot
from streamer.training.window import FLOW_STEPS_MAX, Window, window

DOUBLED = 4  # one flow in so many has a double
TURNS = 0.08  # a day: how often its profiles are turned …
HOURS = 2, 23  # … by so many hours, less the last


class PhaseShiftAugmenter:
    """The doubles as they stand, and the windows that they have lived through."""

    def __init__(self) -> None:
        self.windows: list[Window] = []
        self._doubles: Snapshot | None = None

    def keep(  # noqa: PLR0913 - as `window` has them
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
        """Let the doubles live from one snapshot to the next; forget what began before *oldest*."""
        steps = int(np.median(after.steps) - np.median(before.steps))
        doubles = self._as_they_stand(before, FLOW_STEPS_MAX // DOUBLED // max(1, steps))
        turned = rng.random(len(doubles.rows)) < TURNS * steps * history.step_s / DAY_S
        hours = np.where(turned, rng.integers(*HOURS, len(turned)), 0)
        seasonal.roll_profiles(doubles.rows, hours, history.step_s)
        made = window(history, doubles, after, network=network, horizons=horizons, rng=rng)
        self._doubles = None if made is None else made.after
        if made is not None:
            self.windows.append(made.window)
        self.windows = [each for each in self.windows if each.since >= oldest]

    def _as_they_stand(self, now: Snapshot, most: int) -> Snapshot:
        """
        The rows of the doubles; who has none yet, or has begun anew since, is like the flow.

        They are always the same few, *most* at most, that none is left out of a window and lost.
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
    """(B,) whether either has lived through as many steps as the other, and stands at the same."""
    alike: Bools = np.all([rows[name] == others[name] for name in ("age", "seen", "open")], axis=0)
    return alike
