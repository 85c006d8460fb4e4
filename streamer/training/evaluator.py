"""
How networks are held against each other, and what a line of challengers has shown together.

A challenger that is better, and not yet with confidence, is the first of a *line*: the next one is
taught from it. Each is judged on what it was not taught, so what all of a line showed against the
same incumbent counts together, and a small gain is found within days.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import msgspec
import numpy as np
import torch

from streamer.core.network.model import Network
from streamer.core.registry import promotion
from streamer.core.registry.promotion import ContestConfig, Reason, Scores, Verdict
from streamer.training.finetune import TrainingResult
from streamer.training.history import History
from streamer.training.trial import trial
from streamer.training.window import Window

LINE_MAX = 8  # contests of a line that count, the newest
STRETCHES_MIN = 2  # to decide by: what one has shown, all flows may have by the same chance
ONE_SIDED = (Reason.CLASS_WORSE, Reason.MISCALIBRATED)  # better, but at a price


class PairedScores(NamedTuple):
    """How a challenger and the incumbent did on the same steps."""

    challenger: Scores
    incumbent: Scores


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Lets networks forecast what they were not taught, and says which is better."""

    history: History
    rules: ContestConfig
    alive: Callable[[], None]  # called now and then

    def shows(
        self, network: Network, other: Network, before: Window | None, windows: list[Window]
    ) -> PairedScores:
        """How *network* does on *windows*, and how *other*."""
        every = [
            trial(each, before, windows, self.history, self.alive) for each in (network, other)
        ]
        return PairedScores(*every)

    def decide(
        self,
        shown: Sequence[PairedScores],
        windows: list[Window],
        rng: np.random.Generator,
        *,
        confidence: float | None = None,
    ) -> Verdict:
        """
        Who is better by all that was *shown*; *windows* say of what class a flow is.

        The *confidence* is that of the rules unless another is asked for.
        """
        rules = self.rules
        if confidence is not None:
            rules = msgspec.structs.replace(rules, confidence=confidence)
        names = [""] * len(self.history.flows)
        for each in windows:
            for lane, name in zip(each.lanes.tolist(), each.classes, strict=True):
                names[lane] = name
        return promotion.decide(
            *(promotion.concat(each) for each in zip(*shown, strict=True)),
            flows=self.history.flows,
            classes=names,
            config=rules,
            rng=rng,
        )


class ChallengerSeries:
    """Challengers, each taught from the one before, until one wins or is no better."""

    def __init__(self, judge: Evaluator) -> None:
        self.newest: Network | None = None  # not sure enough yet, to go on from
        self._judge = judge
        self._shown: list[PairedScores] = []  # by its challengers

    def end(self) -> None:
        """The next challenger is taught from what serves."""
        self.newest = None
        self.forget()

    def forget(self) -> None:
        """What was shown is of another time."""
        self._shown = []

    def hold(  # noqa: PLR0913 - who, against whom, by what
        self,
        made: TrainingResult,
        incumbent: Network,
        before: Window,
        later: list[Window],
        judged: int,
        chance: Callable[[], np.random.Generator],
    ) -> tuple[TrainingResult, Verdict, int]:
        """
        Hold what was *made* against what serves, by *later* windows of *judged* stretches.

        Who it was in the end, how it ended, and by how many contests of its line. Where it is
        better at a price, it may be half of what it was that wins.
        """
        judge = self._judge
        self._shown.append(judge.shows(made.network, incumbent, before, later))
        del self._shown[:-LINE_MAX]
        number = len(self._shown)
        verdict = judge.decide(self._shown, later, chance())
        newest = judge.decide(self._shown[-1:], later, chance()) if verdict.promoted else verdict
        if verdict.promoted and newest.gain.mean <= 0:
            verdict = replace(verdict, reason=Reason.UNCERTAIN)  # what it was is no more
        if verdict.promoted and number * judged < STRETCHES_MIN:
            verdict = replace(verdict, reason=Reason.UNCERTAIN)
        alike = made.network.config == incumbent.config
        if verdict.reason in ONE_SIDED and judged >= STRETCHES_MIN and alike:
            tamed = average_weights(incumbent, made.network)
            twice = (1 + judge.rules.confidence) / 2  # asked twice: to be twice as sure
            shown = [judge.shows(tamed, incumbent, before, later)]
            second = judge.decide(shown, later, chance(), confidence=twice)
            if second.promoted:
                made, verdict, number = replace(made, network=tamed), second, 1
        goes_on = verdict.gain.mean > 0 and verdict.reason is not Reason.NOT_FINITE
        if goes_on:
            self.newest = made.network
        else:
            self.end()
        return made, verdict, number


@torch.no_grad()
def average_weights(network: Network, other: Network) -> Network:
    """
    What lies between two sets of weights, one of which was taught from the other.

    It often has most of the gain, and little of what was lost elsewhere (Wortsman et al., Robust
    Fine-Tuning of Zero-Shot Models, 2022).
    """
    made = copy.deepcopy(other)
    for each, one in zip(made.parameters(), network.parameters(), strict=True):
        each.lerp_(one, 0.5)
    return made
