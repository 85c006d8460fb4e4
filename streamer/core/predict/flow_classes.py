"""
Classes of flows: their names and thresholds, for scores, contests and backtests.

Published scores are pooled by several classifications at once (`score_classes`): all flows, and
flows by predictor, by level, by rhythm and by bursts. Contests and backtests use one
classification, CLASSES, the first that matches:

    mostly zero  more than SILENT_SHARE of its steps are silent
    bursts       a small part of its steps carries much of its traffic
    rhythm       forecasts by the time of day are clearly better than forecasts without it
    level        any other: it is constant, or wanders

Contests determine them from rows (`contest_classes`), where a rhythm comes before bursts;
backtests from the rates of a file (`streamer/evaluation/flow_classes.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Rows
from streamer.core.features import baselines
from streamer.core.features.scale import Bools
from streamer.core.predict import selection

Codes = NDArray[np.intp]

CLASSES = ("mostly zero", "bursts", "rhythm", "level")
LEVELS = tuple(f"level/1e{decade}" for decade in range(13))  # of the mean rate, in its unit
RHYTHMS = ("rhythm/none", "rhythm/regular")
BURSTS = ("bursts/few", "bursts/many", "bursts/silence")

SILENT_SHARE = 0.5  # share of silent steps above which a flow is mostly zero
REGULAR = 0.85  # a rhythm: a seasonal baseline has less than this share of the others' least error
BURST_RATIO = np.log(4)  # many bursts: the running 0.95 quantile is this far above the median
BURST_ERROR = 0.5  # bursts: the least running error of all baselines is above it
N_NON_SEASONAL = baselines.DAILY  # the first baselines are not seasonal


def silent(rows: Rows) -> Bools:
    """Which flows are silent most of the time, (B,)."""
    found: Bools = rows["silent_share"] > SILENT_SHARE
    return found


def regular(rows: Rows) -> Bools:
    """Which flows have a rhythm, (B,), by the baselines' errors at the farthest anchor."""
    seasonal, others = _least_errors(rows)
    found: Bools = seasonal < REGULAR * others
    return found


def contest_classes(rows: Rows) -> list[str]:
    """The class of each row, one of CLASSES."""
    bursts = np.minimum(*_least_errors(rows)) > BURST_ERROR
    found = np.select(
        (silent(rows), regular(rows), bursts), ("mostly zero", "rhythm", "bursts"), "level"
    )
    return [str(each) for each in found]


def score_classes(rows: Rows, cell: str) -> Iterator[tuple[tuple[str, ...], Codes]]:
    """Every classification of scores: the classes' names, and the class index of each row."""
    yield ("all",), np.zeros(len(rows), np.intp)
    predictor_names = tuple(f"served_by/{name}" for name in selection.predictor_names(cell))
    yield predictor_names, rows["predictor"].astype(np.intp)
    decades = np.floor(np.log10(np.maximum(rows["mean"], 1)))
    yield LEVELS, np.minimum(decades, len(LEVELS) - 1).astype(np.intp)
    yield RHYTHMS, regular(rows).astype(np.intp)
    ranks = rows["rank_shares"]
    many = ranks[:, -1] - ranks[:, len(baselines.QUANTILE_LEVELS) // 2] > BURST_RATIO
    yield BURSTS, np.where(silent(rows), 2, many.astype(np.intp))


def _least_errors(rows: Rows) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The least running error of the seasonal and of the other baselines, at the last anchor."""
    errors = rows["errors"][:, -1]
    return errors[:, N_NON_SEASONAL:].min(axis=1), errors[:, :N_NON_SEASONAL].min(axis=1)
