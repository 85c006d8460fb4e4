"""
Burst memory: the highest level of each half hour of the last seven days.

Profiles (`seasonal.py`) average, so a backup that lasts ten minutes each night is a small hill in
them, and one that is skipped every third night even less. This ring keeps highs instead: a cell has
the highest level of its half hour, and is replaced a week later. For a span of steps ahead the
cells of the same time of day on each of the last seven days show whether bursts have come back.

A level takes one byte, because a row has several hundred cells: steps of 1 / PER_LEVEL from
LEVEL_LEAST, and 0 for unknown. After a gap the cells of the time that was skipped still have what
they had a week earlier.
"""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from streamer.core.columns import Bounds, Columns, Rows
from streamer.core.features import scale
from streamer.core.features.scale import LEVEL_MAX, Bools, Floats, ScaledStep, Steps
from streamer.core.features.seasonal import nonzero

Codes = NDArray[np.uint8]

DAY_S, DAYS = 86400, 7
WEEK_S = DAYS * DAY_S
CELL_S = 1800  # length of a cell, unless a step is longer
LEVEL_LEAST = -5.0  # levels of a row on its datum lie between these
PER_LEVEL = 12.0  # codes per unit of level: 4 % of a rate is lost at most
CODE_MAX = 255
LEVELS = (np.arange(CODE_MAX + 1, dtype=np.float32) - 1) / PER_LEVEL + LEVEL_LEAST  # of each code
LEVELS[0] = -np.inf
NEAR = 8  # codes: a cell this close to the highest one has a similar burst, at least half of it

BOUNDS: Bounds = {"open_high": (-LEVEL_MAX, LEVEL_MAX)}
LEVEL_SUMMARIES = 4  # numbers per row of `Highs.recent` that are levels: its first ones
SUMMARIES = LEVEL_SUMMARIES + 1  # numbers per row of `Highs.recent`
MOMENTS = 10  # numbers per row and span of `Highs.ahead`


def cell_s(step_s: int) -> int:
    """The length of a cell in seconds."""
    return max(CELL_S, step_s)


def columns(step_s: int) -> Columns:
    """The columns that `update` maintains."""
    return [
        ("highs", "u1", (-(-WEEK_S // cell_s(step_s)),)),  # the ring, by time of the week
        ("open_high", "f4"),  # the highest level in the open cell; 0 if unknown
    ]


def kept_columns(then_s: int, now_s: int) -> set[str]:
    """The columns that stay valid when a step lasts *now_s*, not *then_s*."""
    return {"highs"} if cell_s(then_s) == cell_s(now_s) else set()


def update(rows: Rows, step: ScaledStep, steps: Steps, step_s: int) -> None:
    """Add the closed step to its cell, and close the cell if the step is its last one."""
    scale.rebase(rows, ("open_high",), step.drift)
    moved = np.flatnonzero(step.drift)
    if moved.size:
        ring = rows["highs"][moved]
        levels = LEVELS.take(ring) - step.drift[moved, None]
        rows["highs"][moved] = np.where(ring == 0, np.uint8(0), _code(levels))
    before = rows["open_high"]
    higher = step.lasting & ((before == 0) | (step.level > before))
    high = np.where(higher, nonzero(step.level), before)
    length, phase = cell_s(step_s), steps * step_s % WEEK_S
    cell = phase // length
    ends = np.flatnonzero((phase + step_s >= WEEK_S) | ((phase + step_s) // length != cell))
    if ends.size:
        rows["highs"][ends, cell[ends]] = np.where(high[ends] == 0, np.uint8(0), _code(high[ends]))
        high[ends] = 0
    rows["open_high"] = high


class Highs(NamedTuple):
    """What the memory shows for B rows and P spans, in compressed space; 0 where it is unknown."""

    recent: Floats  # (SUMMARIES, B) whatever the span
    ahead: Floats  # (MOMENTS, P, B)


def highs_ahead(
    rows: Rows, ground: Floats, steps: Steps, spans: tuple[int, ...], step_s: int
) -> Highs:
    """
    The highs around now, and those at the time of each of the *spans* after *steps*.

    *ground* is the rows' level of silence, (B,).

    `recent` has the highest of the open and the last cell, of the last six, of a day, of a week;
    and the number of cells of the week that are NEAR the highest.
    `ahead` has the highest in the same span one, two, three and seven days ago; the four highest of
    the seven days in order; and the highest and second highest of the days if half an hour before
    and after counts too. The half hour before the same time a week ago has been replaced by the
    one that has just ended.
    """
    length = cell_s(step_s)
    first = (steps + 1) * step_s
    ring, lanes = rows["highs"], np.arange(len(rows))
    cells = ring.shape[1]
    day = min(cells, -(-DAY_S // length))
    most = -(-spans[-1] * step_s // length) + 1  # cells that a span may touch
    week = ring.max(axis=1)
    repeated = np.concatenate([ring] * (1 + -(-max(day, most + 2) // cells)), axis=1)

    open_code = np.where(rows["open_high"] == 0, np.uint8(0), _code(rows["open_high"]))
    now = first % WEEK_S // length  # the open cell
    last = sliding_window_view(repeated, day, axis=1)[lanes, now + cells - day]  # (B, day)
    highest = open_code, last[:, -1], last[:, -6:].max(axis=1), last.max(axis=1), week
    recent = np.stack(list(accumulate(highest, np.maximum)))[1:]
    near = ring >= (np.maximum(recent[-1], NEAR) - np.uint8(NEAR))[:, None]
    rare = np.log1p(near.view(np.uint8).sum(axis=1, dtype=np.uint16), dtype=np.float32)

    begin = (first - DAY_S * np.arange(1, DAYS + 1)[:, None]) % WEEK_S  # (DAYS, B)
    cell = begin // length
    windows = sliding_window_view(repeated, most + 2, axis=1)[lanes, (cell - 1) % cells]
    codes = np.ascontiguousarray(np.moveaxis(windows, -1, 0))  # (most + 2, DAYS, B)
    place = np.arange(most + 2, dtype=np.uint16)[:, None, None]
    ahead = np.empty((MOMENTS, len(spans), len(rows)), np.uint8)
    for nth, span in enumerate(spans):
        touched = ((begin + (span - 1) * step_s) // length - cell).astype(np.uint16)
        same = np.where(place[:-2] <= touched, codes[1:-1], 0).max(axis=0)  # (DAYS, B)
        around = np.where(place <= touched + 2, codes, 0).max(axis=0)
        ahead[:4, nth] = same[[0, 1, 2, DAYS - 1]]
        ahead[4:8, nth] = _descending(same, 4)
        ahead[8:, nth] = _descending(around, 2)
    return Highs(np.stack((*_scaled(recent, ground), rare)), _scaled(ahead, ground))


def _descending(codes: Codes, count: int) -> Codes:
    """The *count* highest of *codes* (n, B), in order, (count, B)."""
    highest = np.zeros((count, codes.shape[1]), np.uint8)
    for each in codes:
        code = each
        for place in highest:  # the lower of two goes on to the next place
            lower = np.minimum(place, code)
            np.maximum(place, code, out=place)
            code = lower
    return highest


def restart(rows: Rows, mask: Bools) -> None:
    """Clear the open cell of the rows in *mask*; the ring stays."""
    rows["open_high"][mask] = 0


def _code(level: Floats) -> Codes:
    """Levels as codes from 1 to CODE_MAX."""
    code = np.rint((level - np.float32(LEVEL_LEAST)) * np.float32(PER_LEVEL)) + 1
    clipped: Codes = np.clip(code, 1, CODE_MAX).astype(np.uint8)
    return clipped


def _scaled(code: Codes, ground: Floats) -> Floats:
    """Codes (…, B) as compressed rates above *ground* (B,), 0 where the code is."""
    rates: Floats = np.maximum(LEVELS.take(code) - ground, np.float32(0))
    return rates
