"""
Challenger against incumbent: two sets of weights on the same later steps, flow by flow.

What is compared is each flow's quantile loss under the one over that under the other, so no
flow counts more for being large or noisy. Whether the mean gain is real is asked of a paired
bootstrap (Efron and Tibshirani, 1993, chapter 16): flows are drawn anew with replacement, and so
are stretches of time, since what befalls all flows in one hour is one event and not many (the
pigeonhole bootstrap; Owen, 2007). A decision answers with its reason.
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

DRAWS = 1000  # of the bootstrap
FLOWS_WORST = 3  # that are named
CLASS_FLOWS_MIN = 5  # a class of fewer says more of chance than of weights
PROMISED = 0.9  # of the steps shall lie within the band that coverage is taken of

Floats = NDArray[np.float64]


class ContestConfig(Settings, frozen=True, kw_only=True):
    """When a challenger is held to be better."""

    confidence: Annotated[float, msgspec.Meta(gt=0.5, lt=1)] = 0.9
    flows_min: Annotated[int, msgspec.Meta(ge=2)] = 3  # fewer can't be judged by
    class_loss_max: Annotated[float, msgspec.Meta(ge=0)] = 0.02  # how much worse any class may be
    coverage_error_max: Annotated[float, msgspec.Meta(gt=0)] = (
        0.04  # the 90 % band from what it says
    )


class Reason(enum.StrEnum):
    """Why a contest ended as it did."""

    BETTER = "better"  # with confidence: promoted
    UNCERTAIN = "uncertain"  # the gain may be chance
    WORSE = "worse"  # with confidence
    CLASS_WORSE = "class_worse"  # better in all, at the cost of some kind of flow
    MISCALIBRATED = "untrue"  # its bands hold less, or more, than they say
    NOT_FINITE = "not_finite"  # it says something that is no number
    TOO_FEW = "too_few"  # flows to judge by


@dataclass(frozen=True, slots=True)
class Scores:
    """How one set of weights did: F flows over T stretches of time."""

    losses: Floats  # (T, F) sums of quantile losses, in the flow's own unit
    levels: Floats  # (F,) sums of the rates that came, likewise
    inside: NDArray[np.int64]  # (F,) steps that lay within the 90 % band …
    judged: NDArray[np.int64]  # … of how many


def concat(scores: Sequence[Scores]) -> Scores:
    """Those of several contests over the same flows, as if they were one."""
    return Scores(
        np.concatenate([each.losses for each in scores]),
        np.sum([each.levels for each in scores], axis=0),
        np.sum([each.inside for each in scores], axis=0),
        np.sum([each.judged for each in scores], axis=0),
    )


@dataclass(frozen=True, slots=True)
class LossReduction:
    """By how much one set of weights is better than another: 0.01 is one per cent."""

    mean: float  # over flows, of 1 - loss / loss of the other, as a geometric mean
    low: float  # bounds of what the mean may truly be, with the confidence asked for …
    high: float  # … each for itself


NOTHING = LossReduction(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a contest ended."""

    reason: Reason
    flows: int  # that were judged by
    coverage_challenger: float
    coverage_incumbent: float
    loss_challenger: float = 0.0  # over the flow's mean rate, a geometric mean over flows
    loss_incumbent: float = 0.0
    gain: LossReduction = NOTHING
    class_worst: str = ""  # the class that gained least, where any is large enough
    class_gain: float = 0.0
    flows_worst: tuple[str, ...] = ()  # that gained least

    @property
    def promoted(self) -> bool:
        """Whether the challenger serves from now on."""
        return self.reason is Reason.BETTER


def decide(  # noqa: PLR0913 - what it takes to be fair
    challenger: Scores,
    incumbent: Scores,
    *,
    flows: Sequence[str],
    classes: Sequence[str],
    config: ContestConfig,
    rng: np.random.Generator,
) -> Verdict:
    """
    Who serves from now on, and why; *flows* and *classes* are the names of each of the F flows.

    The bounds are the same for the same *rng*.
    """
    with np.errstate(invalid="ignore"):
        both = challenger.losses.sum(0), incumbent.losses.sum(0)
        scored = np.flatnonzero((incumbent.judged > 0) & (both[1] > 0) & (both[0] != 0))
    gains = -np.log(both[0][scored] / both[1][scored])  # of each flow
    ours, theirs = _coverage(challenger, scored), _coverage(incumbent, scored)
    if len(scored) < config.flows_min:
        return Verdict(Reason.TOO_FEW, len(scored), ours, theirs)
    if not np.isfinite(gains).all():
        wrong = [flows[i] for i in scored[~np.isfinite(gains)][:FLOWS_WORST].tolist()]
        return Verdict(Reason.NOT_FINITE, len(scored), ours, theirs, flows_worst=tuple(wrong))

    gain = bootstrap_gain(
        challenger.losses[:, scored], incumbent.losses[:, scored], config.confidence, rng
    )
    worst, least = worst_class(gains, [classes[i] for i in scored.tolist()])
    last = scored[np.argsort(gains, kind="stable")[:FLOWS_WORST]].tolist()
    named = tuple(flows[i] for i in last)
    reason = _reason(gain, least, ours, theirs, config)
    return Verdict(
        reason,
        len(scored),
        ours,
        theirs,
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
    """Why it ends so; *challenger* and *incumbent* are the shares that their bands held."""
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
    """By how much *losses* (T, F) are below *others*, and between which bounds that may be."""
    stretches, flows = losses.shape
    times = rng.multinomial(stretches, np.full(stretches, 1 / stretches), DRAWS)  # (draws, T)
    lanes = rng.multinomial(flows, np.full(flows, 1 / flows), DRAWS)  # (draws, F)
    drawn = [np.maximum(times @ each, 1e-12 * each.sum(0) + 1e-300) for each in (losses, others)]
    gains = (lanes * np.log(drawn[1] / drawn[0])).sum(1) / flows
    mean = float(np.mean(np.log(others.sum(0) / losses.sum(0))))
    low, high = np.quantile(gains, (1 - confidence, confidence))
    return LossReduction(*(float(-np.expm1(-each)) for each in (mean, low, high)))


def worst_class(gains: Floats, classes: Sequence[str]) -> tuple[str, float]:
    """The class of flows that gains least, and how much; classes of a few flows are left out."""
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
