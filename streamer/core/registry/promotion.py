"""
A contest of challenger and incumbent: two sets of weights on the same later steps.

For each flow, the quantile loss under one set is divided by that under the other, so no
flow counts more because it is large or noisy. A paired bootstrap tests whether the mean gain is
real (Efron and Tibshirani, 1993, chapter 16): flows are resampled with replacement, and so
are time intervals, because an event that affects all flows in one hour is one event and not many
(the pigeonhole bootstrap; Owen, 2007). Each decision comes with its reason.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.config.types import Settings

DRAWS = 1000  # resamples of the bootstrap
FLOWS_WORST = 3  # flows that a verdict names
CLASS_FLOWS_MIN = 5  # a smaller class shows more chance than effect of the weights
PROMISED = 0.9  # nominal coverage of the band that is checked

Floats = NDArray[np.float64]


class ContestConfig(Settings, frozen=True, kw_only=True):
    """The conditions under which a challenger counts as better."""

    confidence: Annotated[float, msgspec.Meta(gt=0.5, lt=1)] = 0.9
    # fewer flows cannot decide a contest
    flows_min: Annotated[int, msgspec.Meta(ge=2, le=1_000_000)] = 3
    # how much worse any class may be
    class_loss_max: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.02
    coverage_error_max: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.04  # of the 90 % band


class Reason(enum.StrEnum):
    """The reason for a contest's result."""

    BETTER = "better"  # with confidence: promoted
    UNCERTAIN = "uncertain"  # the gain may be chance
    WORSE = "worse"  # with confidence
    CLASS_WORSE = "class_worse"  # better overall, but worse for one class of flows
    MISCALIBRATED = "untrue"  # its bands' coverage is too low or too high
    NOT_FINITE = "not_finite"  # an output is not a finite number
    TOO_FEW = "too_few"  # there are too few flows to decide


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one set of weights: F flows over T time intervals."""

    losses: Floats  # (T, F) sums of quantile losses, in the flow's own unit
    levels: Floats  # (F,) sums of the rates that followed, in the flow's own unit
    inside: NDArray[np.int64]  # (F,) steps within the 90 % band
    judged: NDArray[np.int64]  # (F,) steps that were scored


def concat(scores: Sequence[Scores]) -> Scores:
    """The scores of several contests over the same flows, joined into one."""
    return Scores(
        np.concatenate([each.losses for each in scores]),
        np.sum([each.levels for each in scores], axis=0),
        np.sum([each.inside for each in scores], axis=0),
        np.sum([each.judged for each in scores], axis=0),
    )


@dataclass(frozen=True, slots=True)
class LossReduction:
    """The gain of one set of weights over another: 0.01 is one per cent."""

    mean: float  # 1 - loss / loss of the other, as a geometric mean over flows
    low: float  # one-sided lower bound of the true mean, at the configured confidence
    high: float  # one-sided upper bound at the same confidence


NOTHING = LossReduction(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a contest."""

    reason: Reason
    flows: int  # number of flows that were compared
    coverage_challenger: float
    coverage_incumbent: float
    loss_challenger: float = 0.0  # divided by the flow's mean rate; a geometric mean over flows
    loss_incumbent: float = 0.0
    gain: LossReduction = NOTHING
    class_worst: str = ""  # the class that gained least; empty if none is large enough
    class_gain: float = 0.0
    flows_worst: tuple[str, ...] = ()  # the flows that gained least

    @property
    def promoted(self) -> bool:
        """Whether the challenger becomes the incumbent."""
        return self.reason is Reason.BETTER


def decide(  # noqa: PLR0913 - both scores, and the data for a fair comparison
    challenger: Scores,
    incumbent: Scores,
    *,
    flows: Sequence[str],
    classes: Sequence[str],
    config: ContestConfig,
    rng: np.random.Generator,
) -> Verdict:
    """
    The verdict on a contest; *flows* and *classes* are the name and the class of each of F flows.

    The bounds are the same for the same *rng*.
    """
    with np.errstate(invalid="ignore"):
        both = challenger.losses.sum(0), incumbent.losses.sum(0)
        scored = np.flatnonzero((incumbent.judged > 0) & (both[1] > 0) & (both[0] != 0))
    gains = -np.log(both[0][scored] / both[1][scored])  # of each flow
    coverage, coverage_before = _coverage(challenger, scored), _coverage(incumbent, scored)
    if len(scored) < config.flows_min:
        return Verdict(Reason.TOO_FEW, len(scored), coverage, coverage_before)
    if not np.isfinite(gains).all():
        wrong = [flows[i] for i in scored[~np.isfinite(gains)][:FLOWS_WORST].tolist()]
        return Verdict(
            Reason.NOT_FINITE, len(scored), coverage, coverage_before, flows_worst=tuple(wrong)
        )

    gain = bootstrap_gain(
        challenger.losses[:, scored], incumbent.losses[:, scored], config.confidence, rng
    )
    worst, least = worst_class(gains, [classes[i] for i in scored.tolist()])
    last = scored[np.argsort(gains, kind="stable")[:FLOWS_WORST]].tolist()
    named = tuple(flows[i] for i in last)
    reason = _reason(gain, least, coverage, coverage_before, config)
    return Verdict(
        reason,
        len(scored),
        coverage,
        coverage_before,
        _relative(challenger, scored),
        _relative(incumbent, scored),
        gain,
        worst,
        least,
        named,
    )


def _reason(
    gain: LossReduction,
    class_gain: float,
    challenger: float,
    incumbent: float,
    config: ContestConfig,
) -> Reason:
    """The reason; *challenger* and *incumbent* are the coverages of their bands."""
    if gain.high < 0:
        return Reason.WORSE
    if gain.low <= 0:
        return Reason.UNCERTAIN
    if class_gain < -config.class_loss_max:
        return Reason.CLASS_WORSE
    off, off_before = abs(challenger - PROMISED), abs(incumbent - PROMISED)
    if off > max(config.coverage_error_max, off_before):
        return Reason.MISCALIBRATED
    return Reason.BETTER


def bootstrap_gain(
    losses: Floats, others: Floats, confidence: float, rng: np.random.Generator
) -> LossReduction:
    """By how much *losses* (T, F) are below *others*, and the bounds of that gain."""
    stretches, flows = losses.shape
    times = rng.multinomial(stretches, np.full(stretches, 1 / stretches), DRAWS)  # (draws, T)
    lanes = rng.multinomial(flows, np.full(flows, 1 / flows), DRAWS)  # (draws, F)
    drawn = [np.maximum(times @ each, 1e-12 * each.sum(0) + 1e-300) for each in (losses, others)]
    gains = (lanes * np.log(drawn[1] / drawn[0])).sum(1) / flows
    mean = float(np.mean(np.log(others.sum(0) / losses.sum(0))))
    low, high = np.quantile(gains, (1 - confidence, confidence))
    return LossReduction(*(float(-np.expm1(-each)) for each in (mean, low, high)))


def worst_class(gains: Floats, classes: Sequence[str]) -> tuple[str, float]:
    """The class of flows that gains least, and its gain; small classes are left out."""
    named = np.array(classes)
    means = {
        str(name): float(-np.expm1(-gains[named == name].mean()))
        for name, size in zip(*np.unique(named, return_counts=True), strict=True)
        if size >= CLASS_FLOWS_MIN
    }
    if not means:
        return "", 0.0
    worst = min(means, key=lambda name: means[name])
    return worst, means[worst]


def _coverage(scores: Scores, scored: NDArray[np.intp]) -> float:
    return float(scores.inside[scored].sum() / max(1, scores.judged[scored].sum()))


def _relative(scores: Scores, scored: NDArray[np.intp]) -> float:
    losses = scores.losses.sum(0)[scored] / np.maximum(scores.levels[scored], 1e-300)
    return float(np.exp(np.log(losses).mean()))
