"""
Who serves a flow: the network, or the shadow that has long been better.

The network mixes the shadows, so as a rule it is better than any. Where it is not, its
flow is served by the best of them: the median is the shadow's, the widths around it
are still the network's, calibrated. Both are judged by running errors in compressed
space, learned alike from the same steps, at all anchors together. Whoever serves is
replaced only once others have been better for PATIENCE_DAYS, less the time in which they
were not, and a shadow has to be better by MARGIN: so nobody comes and goes by chance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.core import shadow
from streamer.core.arena import Columns, Rows
from streamer.core.scale import Bools, Floats
from streamer.core.shadow import ANCHORS, ERROR_MAX, ERROR_NONE

Lanes = NDArray[np.intp]
Places = tuple[int, ...]

PATIENCE_DAYS = 1.0
PATIENCE_MAX = 2**16 - 1  # steps
MARGIN = 0.05  # of the error

COLUMNS: Columns = [
    ("own", "f4", (len(ANCHORS),)),  # the network's running error, as `errors` are the shadows'
    ("server", "u2"),  # 0: the network; else one more than the shadow's number
    ("patience", "u2"),  # by how many steps somebody else has been better more often than not
]


def learn(rows: Rows, lanes: Lanes, place: int, missed: Floats, day: float) -> None:
    """
    Take in how far the network was off at the anchor at *place*, in the rows at *lanes*.

    Before its first trial it is held to be as good as the best shadow.
    """
    own = rows["own"][lanes, place]
    new = np.flatnonzero(own == 0)
    own[new] = rows["errors"][lanes[new], place].min(axis=-1, initial=np.float32(ERROR_MAX))
    gain = shadow.gain(rows["seen"][lanes], ANCHORS[place], day).astype(np.float32)
    rows["own"][lanes, place] = own + gain * (np.minimum(missed, np.float32(ERROR_MAX)) - own)


def choose(rows: Rows, errors: Floats, present: Bools, anchors: Places, day: float) -> Bools:
    """
    Let whoever has been better for long enough serve from now on; says in which rows that is new.

    *errors* are the logarithms of the shadows' running errors, (SHADOWS, B, anchors); those
    at *anchors* count.
    """
    lanes = np.arange(len(rows))
    naive = _mean(errors, anchors)
    best = naive.argmin(axis=0)
    least = naive[best, lanes]
    own = _mean(np.log(rows["own"] + ERROR_NONE), anchors)
    own = np.where((rows["own"][:, list(anchors)] == 0).any(axis=1), least, own)
    server = rows["server"]
    away = server > 0
    now = np.where(away, naive[shadows(rows), lanes], own)
    back = away & (own < now)
    other = back | (least < now - np.float32(MARGIN))
    waited = rows["patience"].astype(np.int64)
    waited = np.maximum(waited + np.where(other, 1, -1) * present, 0)
    moves: Bools = waited >= min(PATIENCE_DAYS * day, PATIENCE_MAX)
    rows["server"] = np.where(moves, np.where(back, 0, best + 1), server)
    rows["patience"] = np.where(moves, 0, waited)
    return moves


def shadows(rows: Rows) -> Lanes:
    """The number of the shadow that serves each row; 0 where none does."""
    by: Lanes = np.maximum(rows["server"], 1).astype(np.intp) - 1
    return by


def _mean(errors: Floats, anchors: Places) -> Floats:
    """Over some anchors, the last axis; in an order that no wave changes."""
    total: Floats = errors[..., anchors[0]]
    for place in anchors[1:]:
        total = total + errors[..., place]
    return total / np.float32(len(anchors))


def servers(cell: str) -> tuple[str, ...]:
    """The names of all that may serve, by what `server` says: the network's *cell* first."""
    return (cell, *shadow.NAMES)


def names(rows: Rows, cell: str) -> list[str]:
    """Who serves each row: the network's *cell*, or a shadow."""
    every = servers(cell)
    return [every[server] for server in rows["server"].tolist()]
