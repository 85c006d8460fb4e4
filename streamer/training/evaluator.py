"""
Compares networks, and pools the results of a series of challengers.

A challenger that is better, but not with confidence, starts a *series*: the next challenger is
trained from it. Each is judged on data that it was not trained on, so all results of a series
against the same incumbent are pooled, and a small gain is found within days.
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
from streamer.training.trial import evaluate
from streamer.training.window import Window

SERIES_MAX = 8  # the latest contests of a series that are pooled
INTERVALS_MIN = 2  # minimum intervals: within one interval all flows share the same noise
ONE_SIDED = (Reason.CLASS_WORSE, Reason.MISCALIBRATED)  # better overall, but a guardrail failed


class PairedScores(NamedTuple):
    """Losses of a challenger and of the incumbent on the same steps."""

    challenger: Scores
    incumbent: Scores


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Runs networks on data that they were not trained on, and decides which is better."""

    history: History
    rules: ContestConfig
    alive: Callable[[], None]  # called now and then

    def compare(
        self, network: Network, other: Network, before: Window | None, windows: list[Window]
    ) -> PairedScores:
        """Return the losses of *network* and of *other* on *windows*."""
        every = [
            evaluate(each, before, windows, self.history, self.alive) for each in (network, other)
        ]
        return PairedScores(*every)

    def decide(
        self,
        results: Sequence[PairedScores],
        windows: list[Window],
        rng: np.random.Generator,
        *,
        confidence: float | None = None,
    ) -> Verdict:
        """
        Decide by all results in *results*; *windows* name the class of each flow.

        The confidence is that of the rules unless *confidence* is given.
        """
        rules = self.rules
        if confidence is not None:
            rules = msgspec.structs.replace(rules, confidence=confidence)
        names = [""] * len(self.history.flows)
        for each in windows:
            for lane, name in zip(each.lanes.tolist(), each.classes, strict=True):
                names[lane] = name
        return promotion.decide(
            *(promotion.concat(each) for each in zip(*results, strict=True)),
            flows=self.history.flows,
            classes=names,
            config=rules,
            rng=rng,
        )


class ChallengerSeries:
    """Challengers, each trained from the previous one, until one wins or is not better."""

    def __init__(self, evaluator: Evaluator) -> None:
        # inconclusive so far; the next challenger continues from it
        self.newest: Network | None = None
        self._evaluator = evaluator
        self._results: list[PairedScores] = []  # results of its challengers

    def end(self) -> None:
        """End the series: the next challenger is trained from the incumbent."""
        self.newest = None
        self.clear_results()

    def clear_results(self) -> None:
        """Drop the pooled results, which are outdated."""
        self._results = []

    def hold(  # noqa: PLR0913 - the parties of a contest, and its data
        self,
        made: TrainingResult,
        incumbent: Network,
        before: Window,
        later: list[Window],
        judged: int,
        chance: Callable[[], np.random.Generator],
    ) -> tuple[TrainingResult, Verdict, int]:
        """
        Compare *made* with the incumbent, on *later* windows of *judged* intervals.

        Returns the weights chosen, the verdict, and the number of contests pooled. A challenger
        that fails only a guardrail is retried at half the weight change.
        """
        evaluator = self._evaluator
        self._results.append(evaluator.compare(made.network, incumbent, before, later))
        del self._results[:-SERIES_MAX]
        number = len(self._results)
        verdict = evaluator.decide(self._results, later, chance())
        newest = (
            evaluator.decide(self._results[-1:], later, chance()) if verdict.promoted else verdict
        )
        if verdict.promoted and newest.gain.mean <= 0:
            verdict = replace(verdict, reason=Reason.UNCERTAIN)  # the pooled gain is out of date
        if verdict.promoted and number * judged < INTERVALS_MIN:
            verdict = replace(verdict, reason=Reason.UNCERTAIN)
        alike = made.network.config == incumbent.config
        if verdict.reason in ONE_SIDED and judged >= INTERVALS_MIN and alike:
            averaged = average_weights(incumbent, made.network)
            # two tests: halve the error probability of the second
            twice = (1 + evaluator.rules.confidence) / 2
            results = [evaluator.compare(averaged, incumbent, before, later)]
            second = evaluator.decide(results, later, chance(), confidence=twice)
            if second.promoted:
                made, verdict, number = replace(made, network=averaged), second, 1
        goes_on = verdict.gain.mean > 0 and verdict.reason is not Reason.NOT_FINITE
        if goes_on:
            self.newest = made.network
        else:
            self.end()
        return made, verdict, number


@torch.no_grad()
def average_weights(network: Network, other: Network) -> Network:
    """
    Return the mean of two sets of weights, one of which was trained from the other.

    It often has most of the gain, with little of the loss elsewhere (Wortsman et al., Robust
    Fine-Tuning of Zero-Shot Models, 2022).
    """
    made = copy.deepcopy(other)
    for each, one in zip(made.parameters(), network.parameters(), strict=True):
        each.lerp_(one, 0.5)
    return made
