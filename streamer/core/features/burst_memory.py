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

from typing import NamedTuple

import numpy as np
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
NEAR = 8  # codes: a cell this close to the highest one has a similar burst, at least half of it

BOUNDS: Bounds = {"open_high": (-LEVEL_MAX, LEVEL_MAX)}
SUMMARIES = 5  # numbers per row of `Highs.recent`
MOMENTS = 10  # numbers per row and span of `highs_ahead`


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
        levels = _level(ring) - step.drift[moved, None]
        rows["highs"][moved] = np.where(ring == 0, np.uint8(0), _code(levels))
    before = rows["open_high"]
    higher = step.present & ((before == 0) | (step.level > before))
    high = np.where(higher, nonzero(step.level), before)
    length, phase = cell_s(step_s), steps * step_s % WEEK_S
    cell = phase // length
    ends = np.flatnonzero((phase + step_s >= WEEK_S) | ((phase + step_s) // length != cell))
    if ends.size:
        rows["highs"][ends, cell[ends]] = np.where(high[ends] == 0, np.uint8(0), _code(high[ends]))
        high[ends] = 0
    rows["open_high"] = high


class Highs(NamedTuple):
    """What the memory shows for B rows, in compressed space; 0 where it is unknown."""

    recent: Floats  # (B, SUMMARIES) whatever the span
    ahead: list[Floats]  # of each span, (B, MOMENTS)


def highs_ahead(
    rows: Rows, ground: Floats, steps: Steps, spans: tuple[int, ...], step_s: int
) -> Highs:
    """
    The highs around now, and those at the time of each of the *spans* after *steps*.

    *ground* is the rows' level of silence, (B,).

    `recent` has the highest of the open and the last cell, of the last six, of a day, of a week,
    and the number of cells of the week that are NEAR the highest.
    `ahead` has the highest in the same span one, two, three and seven days ago; the four highest of
    the seven days in order; and the highest and second highest of the days if half an hour before
    and after counts too. The half hour before the same time a week ago has been replaced by the
    one that has just ended.
    """
    ring, length = rows["highs"], cell_s(step_s)
    cells, lanes = ring.shape[1], np.arange(len(rows))[:, None]
    open_code = np.where(rows["open_high"] == 0, np.uint8(0), _code(rows["open_high"]))
    now = ((steps + 1) * step_s % WEEK_S // length)[:, None]  # the open cell
    day = min(cells, -(-DAY_S // length))
    last = ring[lanes, (now - np.arange(1, day + 1)) % cells]
    hour = np.maximum(open_code, last[:, 0])
    today = np.maximum(hour, last.max(axis=1))
    week = np.maximum(hour, ring.max(axis=1))
    near = (ring >= (np.maximum(week, NEAR) - np.uint8(NEAR))[:, None]).sum(axis=1)
    recent = _scaled(
        np.stack((hour, np.maximum(hour, last[:, :6].max(axis=1)), today, week), axis=1), ground
    )

    first = (steps + 1) * step_s
    begin = (first[:, None] - DAY_S * np.arange(1, DAYS + 1)) % WEEK_S  # (B, DAYS)
    most = -(-spans[-1] * step_s // length) + 1  # cells that a span may touch
    found = (begin // length)[:, :, None] + np.arange(-1, most + 1)
    codes = ring[lanes[:, :, None], found % cells]  # (B, DAYS, most + 2)
    highest = np.maximum.accumulate(codes, axis=2)
    inner = np.maximum.accumulate(codes[:, :, 1:], axis=2)
    ahead = []
    for span in spans:
        touched = (begin + (span - 1) * step_s) // length - begin // length  # (B, DAYS)
        same = np.take_along_axis(inner, touched[:, :, None], 2)[:, :, 0]
        around = np.take_along_axis(highest, touched[:, :, None] + 2, 2)[:, :, 0]
        chosen = (
            same[:, [0, 1, 2, DAYS - 1]],
            np.sort(same, axis=1)[:, :-5:-1],
            np.sort(around, axis=1)[:, :-3:-1],
        )
        ahead.append(_scaled(np.concatenate(chosen, axis=1), ground))
    rare = np.log1p(near).astype(np.float32)[:, None]
    return Highs(np.concatenate((recent, rare), axis=1), ahead)


def restart(rows: Rows, mask: Bools) -> None:
    """Clear the open cell of the rows in *mask*; the ring stays."""
    rows["open_high"][mask] = 0


def _code(level: Floats) -> Codes:
    """Levels as codes from 1 to CODE_MAX."""
    code = np.rint((level - np.float32(LEVEL_LEAST)) * np.float32(PER_LEVEL)) + 1
    clipped: Codes = np.clip(code, 1, CODE_MAX).astype(np.uint8)
    return clipped


def _level(code: Codes) -> Floats:
    """The levels of codes above 0."""
    return (code.astype(np.float32) - 1) * np.float32(1 / PER_LEVEL) + np.float32(LEVEL_LEAST)


def _scaled(code: Codes, ground: Floats) -> Floats:
    """Codes as compressed rates, 0 where the code is."""
    return np.where(code == 0, np.float32(0), np.maximum(_level(code) - ground[:, None], 0))
