"""
The median that a flow is told: the network's, blended with what a few baselines say.

The network is one for all flows. How far to trust it beside the flow's own day, week and hour,
each flow finds out by itself: each of these experts has a *regret*, the sum of what would have
been gained by it alone, and weighs in proportion to that, where it is positive, over the sum of
its squares (ML-Poly; Gaillard, Stoltz and van Erven, 2014: "A second-order bound with excess
losses"). So there is no rate of learning to choose, and the blend is never far behind the best
mixture of its experts. Flows change: regrets fade (Cesa-Bianchi and Lugosi, 2006, "Prediction,
learning, and games", section 2.11). One weight holds for all horizons, which is why only those
baselines are experts that look at the time: another one may be right at one horizon by chance.

Losses are absolute errors of rates, linear about the blend; experts are blended
in compressed space, where the network too mixes the baselines.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Bounds, Columns, Rows
from streamer.core.features import baselines, scale
from streamer.core.features.scale import Floats

Lanes = NDArray[np.intp]

NAMES = ("daily", "weekly", "hourly")  # the baselines that are experts, beside the network
BASELINES = [baselines.NAMES.index(name) for name in NAMES]
EXPERTS = 1 + len(NAMES)  # the network is the first
OUTER = 0.45  # quantiles so far from the median stay where they are
ROOM = np.float32(1.8)  # of the way to a quartile: farther, and the median would overtake it
SQUARES_LEAST = np.float32(1e-3)  # below it regrets say nothing

COLUMNS: Columns = [
    ("regrets", "f4", (EXPERTS,)),
    ("squares", "f4", (EXPERTS,)),  # the sum of those of what regrets are made of
]
BOUNDS: Bounds = {"squares": (0, np.inf)}


def apply(rows: Rows, z: Floats, quantiles: tuple[float, ...], ahead: Floats) -> None:
    """
    Move the network's *quantiles*, *z* (quantiles, B, H), towards the blend.

    What the baselines say is *ahead*, (BASELINES, B, H). The median goes all the way, as far as the
    quartiles let it.
    """
    low, own, high = (z[quantiles.index(each)] for each in (0.25, 0.5, 0.75))
    weights = _weights(rows["regrets"], rows["squares"])
    shift = (weights[:, :1] - 1) * own
    for expert, number in enumerate(BASELINES, start=1):
        shift += weights[:, expert, None] * ahead[number]
    np.maximum(shift, ROOM * (low - own), out=shift)
    np.minimum(shift, ROOM * (high - own), out=shift)
    shift_quantiles(z, quantiles, shift)


def shift_quantiles(z: Floats, quantiles: tuple[float, ...], shift: Floats) -> None:
    """
    Move the median of *z*, (quantiles, …), by *shift*, and the others the less the farther out.

    A band that would hold a burst holds it whether or not the burst has become likelier.
    """
    for place, quantile in enumerate(quantiles):
        share = 1 - abs(quantile - 0.5) / OUTER
        if share > 0:
            z[place] += np.float32(share) * shift


def update(  # noqa: PLR0913 - a forecast and what came of it
    rows: Rows, lanes: Lanes, alone: Floats, said: Floats, came: Floats, day: float
) -> None:
    """
    Take in what *came* (n,) of forecasts of one anchor, in the rows at *lanes*.

    The network had said *alone* (n,), the baselines *said* (n, BASELINES); all above one ground.
    """
    each = scale.clip_scaled(np.concatenate((alone[:, None], said[:, BASELINES]), axis=1))
    regrets, squares = rows["regrets"][lanes], rows["squares"][lanes]
    blend = (_weights(regrets, squares) * each).sum(axis=1)
    slope = np.sign(blend - came) * np.exp(blend)
    gained = slope[:, None] * (blend[:, None] - each)
    kept = baselines.decay(day)
    rows["regrets"][lanes] = kept * regrets + gained
    rows["squares"][lanes] = kept * squares + gained * gained


def shares(rows: Rows) -> dict[str, float]:
    """What each expert counts in the median of the one row of *rows*, by name."""
    (weights,) = _weights(rows["regrets"], rows["squares"]).tolist()
    return dict(zip(("network", *NAMES), weights, strict=True))


def _weights(regrets: Floats, squares: Floats) -> Floats:
    """How much each expert counts, (n, EXPERTS); the network alone where none is regretted."""
    trusted = regrets.copy()
    trusted[:, 0] += np.sqrt(squares[:, 0])  # it has seen more traffic than the flow has
    weights: Floats = np.maximum(trusted, 0) / (squares + SQUARES_LEAST)
    total = weights.sum(axis=1, keepdims=True)
    weights[:, :1] += total == 0
    weights /= np.where(total == 0, np.float32(1), total)
    return weights
