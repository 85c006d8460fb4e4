"""The results of a learner: the new incumbent, and the records that publish it."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamer.core.network.model import Network
from streamer.core.registry.promotion import Verdict
from streamer.core.wire.contests import Contest, Rollback


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A generation's weights, and the span of data that they were trained on."""

    generation: int
    network: Network
    digest: str
    trained_from: float = 0.0
    trained_until: float = 0.0
    packed: bytes | None = None  # the published bytes; None: the weights in the settings


@dataclass(frozen=True, slots=True)
class Outcome:
    """A result of the learner; *weights* and *serving* are set if the incumbent changes."""

    result: Contest | Rollback
    serving: TrainedModel | None  # the new incumbent; None: unchanged
    weights: bytes | None  # packed weights of a new generation


@dataclass(slots=True)
class Past:
    """Results of earlier contests that must not be repeated."""

    generation: int = 0  # the highest number ever assigned to a challenger
    judged_until: float = float("-inf")  # event time up to which contests were held
    # spans that are excluded from training
    bad: list[tuple[float, float]] = field(default_factory=list)


def contested(  # noqa: PLR0913 - the fields of a record
    verdict: Verdict,
    challenger: TrainedModel,
    incumbent: TrainedModel,
    *,
    contests: int,
    judged_from: float,
    judged_until: float,
    steps: int,
    drifted: bool,
    seconds: float,
) -> Outcome:
    """The outcome of a contest with *verdict*; a promoted challenger becomes the incumbent."""
    result = Contest(
        generation=challenger.generation,
        incumbent=incumbent.generation,
        verdict="promoted" if verdict.promoted else "refused",
        reason=verdict.reason.value,
        gain=verdict.gain.mean,
        gain_low=verdict.gain.low,
        gain_high=verdict.gain.high,
        loss_challenger=verdict.loss_challenger,
        loss_incumbent=verdict.loss_incumbent,
        coverage_challenger=verdict.coverage_challenger,
        coverage_incumbent=verdict.coverage_incumbent,
        flows=verdict.flows,
        class_worst=verdict.class_worst,
        class_gain=verdict.class_gain,
        flows_worst=list(verdict.flows_worst),
        trained_from=challenger.trained_from,
        trained_until=challenger.trained_until,
        judged_from=judged_from,
        judged_until=judged_until,
        contests=contests,
        steps=steps,
        drifted=drifted,
        digest=challenger.digest,
        parent=incumbent.digest,
        seconds=round(seconds, 3),
    )
    if verdict.promoted:
        return Outcome(result, challenger, challenger.packed)
    return Outcome(result, None, None)


def rolled_back(
    verdict: Verdict,
    serving: TrainedModel,
    predecessor: TrainedModel,
    *,
    judged_from: float,
    judged_until: float,
) -> Outcome:
    """The outcome of a rollback: by *verdict* the predecessor is better, and serves again."""
    result = Rollback(
        generation=serving.generation,
        restored=predecessor.generation,
        reason=verdict.reason.value,
        gain=verdict.gain.mean,
        gain_low=verdict.gain.low,
        gain_high=verdict.gain.high,
        coverage=verdict.coverage_challenger,
        coverage_restored=verdict.coverage_incumbent,
        flows=verdict.flows,
        flows_worst=list(verdict.flows_worst),
        trained_from=serving.trained_from,
        trained_until=serving.trained_until,
        judged_from=judged_from,
        judged_until=judged_until,
    )
    return Outcome(result, predecessor, None)
