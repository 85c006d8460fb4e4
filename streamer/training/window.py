"""Windows: the data between two snapshots, as chunks for training and evaluation."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from streamer.core.network.config import Half
from streamer.core.network.model import Network
from streamer.core.predict.flow_classes import contest_classes
from streamer.training.batch import Chunk, chunk
from streamer.training.history import History, Lanes, Snapshot, Steps

CHUNK = 64  # the maximum steps of a chunk, through which gradients flow back
FORECAST_EVERY = 3  # one step of a chunk in FORECAST_EVERY has forecasts
FLOW_STEPS_MAX = 24_000  # limits the flows of a window; 8 MB
LATE = 0.1  # share of the flows that may be left out because they lag behind


class Place(NamedTuple):
    """A chunk: the first step of each flow, and the state before it."""

    chunk: Chunk
    steps: Steps  # (N,) the first step of each flow
    states: Half  # (N, *state_shape) before it


@dataclass(frozen=True, slots=True)
class Window:
    """Some flows between two snapshots."""

    since: float  # event time
    until: float
    lanes: Lanes  # (N,) of the history
    tenures: Steps  # (N,)
    classes: list[str]  # class of each flow
    places: list[Place]

    def came(
        self, place: Place, history: History, picked: Lanes | None = None
    ) -> NDArray[np.float32]:
        """
        Return the target rates of a chunk, (K, N, H), as far as they are known.

        *picked* selects some of its flows.
        """
        made, of = place.chunk, slice(None) if picked is None else picked
        at = made.forecast_steps[:, None] + np.array(made.horizons)  # (K, H)
        steps = place.steps[of] + at[..., None]  # (K, H, N)
        return history.rates(self.lanes[of], self.tenures[of], steps).swapaxes(1, 2)


class SteppedWindow(NamedTuple):
    """The inputs and the final rows of some rows that were stepped through a window."""

    window: Window
    after: Snapshot


def build_window(  # noqa: PLR0913 - two snapshots, and the layout of the window
    history: History,
    before: Snapshot,
    after: Snapshot,
    *,
    network: Network,
    horizons: tuple[int, ...],
    rng: np.random.Generator,
) -> SteppedWindow | None:
    """
    Build a window between two snapshots; None if no flow is complete in between.

    The states are those of *network*, which served. If there are too many flows for one window,
    *rng* draws some. The rows of *before* are stepped through it; those of *after* determine which
    flows are complete, and the class of each flow.
    """
    first, then = history.complete(before, after)
    if not first.size:
        return None
    elapsed = after.steps[then] - before.steps[first]
    length = int(np.quantile(elapsed, LATE, method="lower"))
    first, then = first[elapsed >= length], then[elapsed >= length]
    fitting = max(1, FLOW_STEPS_MAX // max(1, length))
    if len(first) > fitting:
        drawn = np.sort(rng.choice(len(first), fitting, replace=False))
        first, then = first[drawn], then[drawn]
    rows = before.rows[first].copy()
    lanes, tenures, first_steps = before.lanes[first], before.tenures[first], before.steps[first]
    places = []
    state = torch.from_numpy(rows["state"]).float()
    for start, end in split_evenly(length):
        offsets = np.arange(start, end)
        rates = history.rates(lanes, tenures, first_steps + offsets[:, None])
        forecast_steps = np.arange(
            rng.integers(0, min(FORECAST_EVERY, end - start)), end - start, FORECAST_EVERY
        )
        made = chunk(rows, rates, first_steps + start, history.step_s, forecast_steps, horizons)
        places.append(Place(made, first_steps + start, state.half().numpy()))
        state = advance_state(network, made, state)
    rows["state"], rows["open"] = state.half().numpy(), first_steps + length
    step_s = history.step_s
    made_window = Window(
        since=float(np.median(first_steps)) * step_s,
        until=float(np.median(first_steps) + length) * step_s,
        lanes=lanes,
        tenures=tenures,
        classes=contest_classes(after.rows[then]),
        places=places,
    )
    return SteppedWindow(made_window, Snapshot(lanes, tenures, rows))


@torch.no_grad()
def advance_state(network: Network, made: Chunk, state: torch.Tensor) -> torch.Tensor:
    """Return the state after a chunk, rounded to float16 after each step, as in production."""
    for features in torch.from_numpy(made.features):
        _, state = network.cell(features, state)
        state = state.half().float()
    return state


def split_evenly(length: int) -> list[tuple[int, int]]:
    """Split *length* steps into parts of nearly equal length, none longer than a chunk."""
    edges = np.linspace(0, length, -(-length // CHUNK) + 1).round().astype(int).tolist()
    return list(itertools.pairwise(edges))
