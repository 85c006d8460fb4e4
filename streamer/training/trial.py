"""Evaluates a network on windows that it was not trained on, for contests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from streamer.core.features.scale import Z_MAX
from streamer.core.network.config import QUANTILES
from streamer.core.network.model import Network
from streamer.core.network.pinball import pinball_loss
from streamer.core.registry.promotion import Scores
from streamer.training.batch import forward, make_batch
from streamer.training.history import NEVER, History
from streamer.training.window import Window, advance_state

LOW, HIGH = QUANTILES.index(0.05), QUANTILES.index(0.95)
LEVELS = np.array(QUANTILES)[:, None, None, None]


@torch.no_grad()
def evaluate(
    network: Network,
    before: Window | None,
    windows: Sequence[Window],
    history: History,
    alive: Callable[[], None],
) -> Scores:
    """
    Make *network* forecast *windows* in order, for all flows of *history*.

    The network uses its own state: the last chunk of the window *before* initializes it, and it is
    carried on. A new flow starts from its state in production.
    """
    lanes = len(history.flows)
    state = torch.zeros(lanes, *windows[0].places[0].states.shape[1:])
    reached = np.full(lanes, NEVER)  # the step of each state
    if before is not None:
        place = before.places[-1]
        initial = torch.from_numpy(place.states).float()
        state[before.lanes] = advance_state(network, place.chunk, initial)
        reached[before.lanes] = place.steps + len(place.chunk.features)
    losses, levels = [], np.zeros(lanes)
    inside, judged = np.zeros(lanes, np.int64), np.zeros(lanes, np.int64)
    for each in windows:
        at = torch.from_numpy(each.lanes)
        for place in each.places:
            alive()
            came = each.came(place, history)  # (K, N, H)
            batch = make_batch(place.chunk, came)
            begins = reached[each.lanes] != place.steps
            state[each.lanes[begins]] = torch.from_numpy(place.states[begins]).float()
            reached[each.lanes] = place.steps + len(place.chunk.features)
            bands, after = forward(network, batch, state[at])
            state[at] = after.half().float()
            shape = len(QUANTILES), *came.shape
            z = bands.clamp(0, Z_MAX).view(shape).numpy().astype(np.float64)
            predicted = np.expm1(z) * (place.chunk.scale[:, :, None] / 4)
            known = ~np.isnan(came)
            short = np.where(known, came - predicted, 0)
            lost = pinball_loss(short, LEVELS).mean(0)
            flow_losses = np.zeros(lanes)
            flow_losses[each.lanes] = lost.sum((0, 2))
            losses.append(flow_losses)
            held = known & (came >= predicted[LOW]) & (came <= predicted[HIGH])
            levels[each.lanes] += np.where(known, came, 0).sum((0, 2))
            inside[each.lanes] += held.sum((0, 2))
            judged[each.lanes] += known.sum((0, 2))
    return Scores(np.stack(losses), levels, inside, judged)
