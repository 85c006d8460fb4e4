"""The report of a backtest: metrics of a file, of several files, and of each flow class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.core.predict.flow_classes import CLASSES
from streamer.evaluation.metrics import BacktestResult, Tally, combine, skill
from streamer.evaluation.peaks import PeakScore


@dataclass(frozen=True, slots=True)
class Report:
    """The metrics, and the tally behind them."""

    name: str  # the file's name
    step_s: int
    tally: Tally
    flow_classes: NDArray[np.str_]  # (F,) class of each flow
    skill: BacktestResult
    classes: dict[str, BacktestResult]  # metrics of each class with scored flows
    peaks: tuple[PeakScore, ...] = ()  # one for each span with spikes


def report(
    name: str,
    step_s: int,
    tally: Tally,
    flow_classes: NDArray[np.str_],
    peaks: tuple[PeakScore, ...] = (),
) -> Report:
    """Compute the metrics."""
    there = [kind for kind in CLASSES if (tally.scored & (flow_classes == kind)).any()]
    classes = {kind: skill(tally, flow_classes == kind) for kind in there}
    return Report(name, step_s, tally, flow_classes, skill(tally), classes, peaks)


def summed(reports: Sequence[Report]) -> Report:
    """Combine the flows of all files."""
    tally = combine([each.tally for each in reports])
    flow_classes = np.concatenate([each.flow_classes for each in reports])
    return report("together", reports[0].step_s, tally, flow_classes)


def figures(reports: Sequence[Report]) -> dict[str, Any]:
    """Return all metrics for JSON: of one file, or of several together with `files` for each."""
    if len(reports) == 1:
        (one,) = reports
        return {"file": one.name, "step_s": one.step_s, **_figures(one)}
    files = [{"file": each.name, "step_s": each.step_s, **_figures(each)} for each in reports]
    return {**_figures(summed(reports)), "files": files}


def _figures(one: Report) -> dict[str, Any]:
    classes = {kind: asdict(each) for kind, each in one.classes.items()}
    peaks = [asdict(each) for each in one.peaks]
    return {**asdict(one.skill), "classes": classes, "peaks": peaks}
