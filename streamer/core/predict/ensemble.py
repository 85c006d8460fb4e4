"""
The ensemble: the median of a forecast blends the network's median with a few baselines.

All flows share one network. Each flow learns by itself how far to trust the network against the
flow's own daily, weekly and hourly profiles. Each of these experts has a *regret*, the sum of
what would have been gained by following that expert alone. If the regret is positive, the expert's
weight is proportional to the regret divided by the sum of the squares of its terms
(ML-Poly; Gaillard, Stoltz and van Erven, 2014: "A second-order bound with excess losses"). So
there is no learning rate to choose, and the blend is never far behind the best mixture of its
experts. Flows change, so regrets decay (Cesa-Bianchi and Lugosi, 2006, "Prediction, learning,
and games", section 2.11). One weight holds for all horizons. Therefore only baselines that depend
on the time of day or week are experts: another one may be right at one horizon by chance.

Losses are absolute errors of rates, linearised about the blend. Experts are blended
in compressed space, in which the network also mixes the baselines.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Bounds, Columns, Rows
from streamer.core.features import baselines, scale
from streamer.core.features.scale import Floats

Lanes = NDArray[np.intp]

NAMES = ("daily", "weekly", "hourly")  # the baselines that are experts beside the network
BASELINES = [baselines.NAMES.index(name) for name in NAMES]
EXPERTS = 1 + len(NAMES)  # the network is the first
OUTER = 0.45  # quantiles at this distance from the median are not shifted
ROOM = np.float32(1.8)  # bound of the shift, in distances to a quartile, so that order is kept
SQUARES_LEAST = np.float32(1e-3)  # far below it regrets carry no weight

COLUMNS: Columns = [
    ("regrets", "f4", (EXPERTS,)),
    ("squares", "f4", (EXPERTS,)),  # the sum of the squares of the regrets' terms
]
BOUNDS: Bounds = {"squares": (0, np.inf)}


def apply(rows: Rows, z: Floats, quantiles: tuple[float, ...], ahead: Floats) -> None:
    """
    Shift the network's *quantiles*, *z* (quantiles, B, H), towards the blend.

    *ahead* is the baselines' forecasts, (BASELINES, B, H). The median moves by the full
    shift, as far as the quartiles allow.
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
    Shift the median of *z*, (quantiles, …), by *shift*, and outer quantiles by less.

    A band that covers a burst covers it whether or not the burst has become more likely.
    """
    for place, quantile in enumerate(quantiles):
        share = 1 - abs(quantile - 0.5) / OUTER
        if share > 0:
            z[place] += np.float32(share) * shift


def update(  # noqa: PLR0913 - a forecast and its outcome
    rows: Rows, lanes: Lanes, alone: Floats, baseline_z: Floats, came: Floats, day: float
) -> None:
    """
    Update the regrets of the rows at *lanes* with the rates *came* (n,) at one anchor.

    The network's forecast was *alone* (n,), the baselines' *baseline_z* (n, BASELINES); all values
    are above the same ground.
    """
    each = scale.clip_scaled(np.concatenate((alone[:, None], baseline_z[:, BASELINES]), axis=1))
    regrets, squares = rows["regrets"][lanes], rows["squares"][lanes]
    blend = (_weights(regrets, squares) * each).sum(axis=1)
    slope = np.sign(blend - came) * np.exp(blend)
    gained = slope[:, None] * (blend[:, None] - each)
    kept = baselines.decay(day)
    rows["regrets"][lanes] = kept * regrets + gained
    rows["squares"][lanes] = kept * squares + gained * gained


def shares(rows: Rows) -> dict[str, float]:
    """The weight of each expert in the median of the one row of *rows*, by name."""
    (weights,) = _weights(rows["regrets"], rows["squares"]).tolist()
    return dict(zip(("network", *NAMES), weights, strict=True))


def _weights(regrets: Floats, squares: Floats) -> Floats:
    """The weight of each expert, (n, EXPERTS); the network's is 1 if no regret is positive."""
    trusted = regrets.copy()
    trusted[:, 0] += np.sqrt(squares[:, 0])  # the network was trained on more traffic than one flow
    weights: Floats = np.maximum(trusted, 0) / (squares + SQUARES_LEAST)
    total = weights.sum(axis=1, keepdims=True)
    weights[:, :1] += total == 0
    weights /= np.where(total == 0, np.float32(1), total)
    return weights
