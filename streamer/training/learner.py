"""
Collects closed steps, trains challengers, holds contests, and rolls back bad promotions.

Only event time determines when: it is divided into evaluation *intervals* of a quarter of
`finetune.every`, with a snapshot at each end, so that the data in between can be used for
training and evaluation. Challengers are trained on data before the last `every`, and evaluated
on the rest. If losses have risen persistently (`core/drift.py`), contests follow at the end of
each interval, trained on all data before the last interval.

A challenger that is better, but not with confidence, becomes the starting point of the next one
(`evaluator.ChallengerSeries`).

A promoted generation is on probation: at the end of each interval it is compared with its
predecessor, on all data since the promotion, and rolled back if it is worse with confidence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from streamer.core.network.config import ModelConfig
from streamer.core.network.model import Network, pack
from streamer.core.registry.drift import Drift, update_page_hinkley
from streamer.core.registry.promotion import ContestConfig, Reason
from streamer.core.types import Forecasts
from streamer.core.wire.contests import Contest
from streamer.training.augmentation import PhaseShiftAugmenter
from streamer.training.evaluator import INTERVALS_MIN, ChallengerSeries, Evaluator
from streamer.training.finetune import TrainingResult, train
from streamer.training.history import NEVER, History, SampleSlots, Snapshot
from streamer.training.loss_monitor import LossMonitor
from streamer.training.outcome import Outcome, Past, TrainedModel, contested, rolled_back
from streamer.training.settings import FinetuneConfig
from streamer.training.window import Window, build_window

EVALUATION_INTERVALS = 4  # evaluation intervals in one `finetune.every`
INTERVAL_STEPS_MIN = 24
DRIFT_CONTESTS = 4  # intervals after a drift, with a contest at the end of each
PROBATION_INTERVALS = 8  # in which a new generation is compared with its predecessor
ROLLBACK_CONFIDENCE = 0.99  # confidence for a rollback; high, because the test is repeated
SHAPE = ("cell", "hidden", "layers")
# horizons used in training, as far as they are forecast
HORIZONS_TRAINED = (1, 2, 4, 6, 9, 12, 24, 48)


@dataclass(slots=True)
class Probation:
    """A promotion that is still compared with its predecessor."""

    predecessor: TrainedModel
    since: float
    intervals: int = 0


class Learner:
    """
    Trains on *history*; the same records give the same weights, to the bit.

    *serving* is the incumbent, *past* the results of earlier contests.
    """

    def __init__(  # noqa: PLR0913 - the data and settings of a training
        self,
        serving: TrainedModel,
        history: History,
        *,
        shape: ModelConfig,
        finetune: FinetuneConfig,
        rules: ContestConfig,
        window_s: float,
        horizons: int,
        quantiles: tuple[float, ...],
        past: Past | None = None,
        device: str = "cpu",
        alive: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.serving = serving
        self.history = history
        self.past = past or Past()
        self._shape, self._finetune = shape, finetune
        self._window_s, self._device, self._alive, self._clock = window_s, device, alive, clock
        step_s = history.step_s
        self.interval_s = step_s * max(
            INTERVAL_STEPS_MIN, round(float(finetune.every) / EVALUATION_INTERVALS / step_s)
        )
        self.every = max(1, round(float(finetune.every) / self.interval_s))  # counted in intervals
        trained = [h for h in HORIZONS_TRAINED if h < horizons]
        self._horizons = (*trained, horizons)
        self._loss_monitor = LossMonitor(len(history.flows), horizons, quantiles, step_s)
        self._interval: int | None = None  # the current interval
        self._before: Snapshot | None = None  # snapshot at the beginning of the interval
        self._windows: list[Window] = []
        self._augmenter = PhaseShiftAugmenter()
        self._evaluator = Evaluator(history, rules, alive)
        self._series = ChallengerSeries(self._evaluator)
        self._probation: Probation | None = None
        self._drift = Drift()
        self._contests_left = 0  # contests still to be held after a drift
        self._missed = False  # a contest was due while contests were off

    def observe(self, made: Forecasts) -> None:
        """Process closed steps and the forecasts after them."""
        lanes, places = self.history.add(made)
        self._loss_monitor.settle(lanes, places, made)

    def due(self) -> bool:
        """Return whether an interval of event time has ended."""
        now = self.history.now()
        return now != NEVER and self._interval_of(now) != self._interval

    def serve(self, serving: TrainedModel) -> None:
        """Install an incumbent that an operator or another trainer chose."""
        if serving.generation != self.serving.generation:
            self.serving, self._probation = serving, None
            self._series.end()

    def turn(self, rows_of: SampleSlots, *, contests: bool = True) -> list[Outcome]:
        """
        End an interval, with the sampled flows' rows from *rows_of*; return the outcomes.

        Without *contests* none is held; `hold_missed` makes up for the last one that was due.
        """
        now, then = self._interval_of(self.history.now()), self._interval
        fresh = then is None or now < then
        after = self.history.snapshot(rows_of)
        if not fresh and self._before is not None and self._before.lanes.size:
            self._keep(self._before, after)
        self._interval, self._before = now, after
        outcomes: list[Outcome] = []
        if self._probation is not None:
            outcomes += self._watch(self._probation)
        drifted = self._drifted()
        at = now * self.interval_s
        regular = then is not None and now // self.every > then // self.every
        due = not fresh and at > self.past.judged_until and (regular or drifted)
        if not contests:
            self._missed = self._missed or due
        elif due and not outcomes:
            outcomes += self._contest(1 if drifted else self.every, at, drifted=drifted)
        for outcome in outcomes:
            self._take(outcome)
        return outcomes

    def hold_missed(self) -> list[Outcome]:
        """Hold the last contest that was due while contests were off, if any."""
        outcomes: list[Outcome] = []
        if self._missed and self._interval is not None:
            at = self._interval * self.interval_s
            if at > self.past.judged_until:
                outcomes += self._contest(self.every, at, drifted=False)
        self._missed = False
        for outcome in outcomes:
            self._take(outcome)
        return outcomes

    def _contest(self, judged: int, now: float, *, drifted: bool) -> Iterator[Outcome]:
        """Train a challenger on all but the last *judged* intervals, and evaluate it on those."""
        cut = now - (judged + 0.5) * self.interval_s
        training, augmented = (
            [w for w in windows if w.since < cut and not self._is_bad(w)]
            for windows in (self._windows, self._augmenter.windows)
        )
        later = [w for w in self._windows if w.since >= cut]
        if not training or not later:
            return
        began = self._clock()
        self.past.generation += 1
        self.past.judged_until = now
        rng = self._rng(1)
        half_life_s = float(self._finetune.half_life)
        if drifted:
            half_life_s = min(half_life_s, 2 * self.interval_s)
        made = train(
            self._series.newest or self._start(),
            sorted([*training, *augmented], key=lambda each: each.since),
            self.history,
            self._finetune,
            half_life_s=half_life_s,
            rng=rng,
            device=self._device,
            alive=self._alive,
        )
        made, verdict, number = self._series.hold(
            made, self.serving.network, training[-1], later, judged, lambda: self._rng(2)
        )
        span = min(w.since for w in training), max(w.until for w in training)
        packed = self._packed(made, span)
        challenger = TrainedModel(
            self.past.generation, made.network, hashlib.sha256(packed).hexdigest(), *span, packed
        )
        yield contested(
            verdict,
            challenger,
            self.serving,
            contests=number,
            judged_from=min(w.since for w in later),
            judged_until=now,
            steps=made.steps,
            drifted=drifted,
            seconds=self._clock() - began,
        )

    def _start(self) -> Network:
        """Return the initial weights of a challenger: the incumbent's, or untrained ones."""
        serves = self.serving.network
        if all(getattr(serves.config, k) == getattr(self._shape, k) for k in SHAPE):
            return serves
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            return Network(self._shape)

    def _watch(self, probation: Probation) -> Iterator[Outcome]:
        """Compare the incumbent with its predecessor, on all data since the promotion."""
        later = [w for w in self._windows if w.since >= probation.since - self.interval_s / 2]
        probation.intervals += 1
        if probation.intervals > PROBATION_INTERVALS:
            self._probation = None
            return
        if len(later) < INTERVALS_MIN:
            return
        earlier = [w for w in self._windows if w.since < probation.since - self.interval_s / 2]
        confidence = max(ROLLBACK_CONFIDENCE, self._evaluator.rules.confidence)
        result = self._evaluator.compare(
            self.serving.network,
            probation.predecessor.network,
            earlier[-1] if earlier else None,
            later,
        )
        verdict = self._evaluator.decide([result], later, self._rng(2), confidence=confidence)
        if verdict.reason not in {Reason.WORSE, Reason.NOT_FINITE}:
            return
        yield rolled_back(
            verdict,
            self.serving,
            probation.predecessor,
            judged_from=probation.since,
            judged_until=later[-1].until,
        )

    def _take(self, outcome: Outcome) -> None:
        """Apply an outcome."""
        if outcome.serving is None:
            return
        if isinstance(outcome.result, Contest):
            self._probation = Probation(self.serving, outcome.result.judged_until)
        else:
            self._probation = None
            self.past.bad.append((outcome.result.trained_from, outcome.result.trained_until))
        self.serving = outcome.serving
        self._series.end()
        self._drift = Drift()

    def _keep(self, before: Snapshot, after: Snapshot) -> None:
        """Build windows from two snapshots, and drop old windows."""
        network, horizons = self.serving.network, self._horizons
        made = build_window(
            self.history, before, after, network=network, horizons=horizons, rng=self._rng(0)
        )
        if made is None:
            return
        self._windows.append(made.window)
        oldest = made.window.until - self._window_s
        self._windows = [w for w in self._windows if w.since >= oldest]
        self._augmenter.keep(
            self.history,
            before,
            after,
            network=network,
            horizons=horizons,
            rng=self._rng(3),
            oldest=oldest,
        )

    def _drifted(self) -> bool:
        """Return whether losses have risen persistently, which triggers a series of contests."""
        for loss in self._loss_monitor.hours():
            self._drift = update_page_hinkley(self._drift, loss)
        if self._finetune.drift and self._drift.drifted:
            self._contests_left, self._drift = DRIFT_CONTESTS, Drift()
            self._series.clear_results()
            return False  # the data since the drift is still too short for training and evaluation
        self._contests_left, due = max(0, self._contests_left - 1), self._contests_left > 0
        return due

    def _is_bad(self, each: Window) -> bool:
        return any(since < each.until and each.since < until for since, until in self.past.bad)

    def _packed(self, made: TrainingResult, span: tuple[float, float]) -> bytes:
        return pack(
            made.network,
            {
                "made_by": "streamer trainer",
                "generation": str(self.past.generation),
                "parent_generation": str(self.serving.generation),
                "parent": self.serving.digest,
                "from": f"{span[0]:.0f}",
                "until": f"{span[1]:.0f}",
                "steps": str(made.steps),
                "loss": f"{made.loss_after:.5f}",
            },
        )

    def _interval_of(self, step: int) -> int:
        return (step + 1) * self.history.step_s // self.interval_s

    def _rng(self, use: int) -> np.random.Generator:
        """Return a random generator that is seeded by event time alone."""
        return np.random.default_rng((use, self._interval or 0))
