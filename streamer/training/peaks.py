"""
How the shipped head of peaks is made: from generated traffic alone, seeded.

Generated flows pass through the stages that serve, with the shipped network. Once a flow's burst
memory is full, the head's inputs at some steps are kept together with the peak that followed, at
spans drawn by chance. The head is then fitted to all of them (`peak_loss.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from streamer.core.features.scale import Floats
from streamer.core.network.config import Model, state_shape
from streamer.core.network.peak_head import HIGHS, STANDARD_LEAST, PeakHead
from streamer.core.predict import forecast, peaks
from streamer.core.predict.forecast import ForecastSpec
from streamer.core.state.table import row_type
from streamer.core.types import HOUR_S
from streamer.synthetic import Traffic
from streamer.synthetic.bursts import Plan
from streamer.synthetic.random_source import Chance, Clock
from streamer.training.peak_loss import loss

DAY_S = 86400
SPANS = (1, 2, 4, 6, 8, 12)  # trained; those in between are interpolated
SPANS_KEPT = 2  # of them, at each step that is kept
FIRST_DAY = 8  # from here on a flow's memory is full


class World(NamedTuple):
    """Generated flows that live for a while."""

    seed: int
    step_s: int
    days: int
    every: int  # one of so many steps is kept
    jobs: float  # share of flows that have the bursts of one more job than others have


class Jobs(Plan):
    """
    Bursts of jobs: most of what a burst memory is good for.

    From those that begin on the minute each night to those that some user starts in the course of
    the day. A job that a link, a disk or a policer limits has the same rate each time, so most of
    them vary little. Many are short: no single step is likely to have the burst, but an hour is.
    """

    HOURS = (4, 8, 12, 24, 24, 24, 24, 168)

    def __init__(self, chance: Chance, step_s: int, share: float) -> None:
        super().__init__(chance, step_s, share)
        steady, short, late = chance.some(0.7), chance.some(0.7), chance.some(0.7)
        self._varies = np.where(steady, chance.spread(0.003, 0.1), self._varies)
        self._rough = np.where(steady, chance.spread(0.003, 0.05), self._rough)
        self._lasts = np.where(short, chance.spread(0.5 * step_s, 4 * step_s), self._lasts)
        latest = np.minimum(0.3 * self._every, 6 * HOUR_S)
        self._jitter = np.where(late, latest * chance.spread(0.02, 1), self._jitter)
        self._skips = np.where(chance.some(0.4), 0, chance.uniform(0, 0.7))
        self._went = chance.rng.random(self._went.shape) >= self._skips


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakPlan:
    """All that decides what the weights become."""

    seed: int = 0
    worlds: tuple[World, ...] = (
        World(400, 300, 21, 11, 0.0),
        World(403, 600, 30, 8, 0.0),
        World(401, 300, 21, 11, 0.6),
        World(402, 600, 30, 8, 0.5),
        World(404, 60, 9, 7, 0.0),
        World(405, 3600, 60, 3, 0.0),
    )
    flows: int = 512  # of each world
    epochs: int = 24
    batch: int = 4096
    rate: float = 2e-3  # of learning, at its highest


class Examples(NamedTuple):
    """n spans at which the peak is known."""

    of_flow: Floats  # (n, OF_FLOW)
    of_span: Floats  # (n, OF_SPAN)
    highest: Floats  # (n, QUANTILES)
    peak: Floats  # (n,) compressed


def examples(plan: PeakPlan, model: Model) -> Iterator[Examples]:
    """The examples of each of the plan's worlds; the same for the same seed and *model*."""
    for each in plan.worlds:
        rng = np.random.default_rng(plan.seed + each.seed)
        yield examples_of_world(rng, model, each, plan.flows)


def examples_of_world(rng: np.random.Generator, model: Model, of: World, flows: int) -> Examples:
    """The examples of the *flows* of a world."""
    day, spec = DAY_S // of.step_s, ForecastSpec(of.step_s, peaks=SPANS)
    first = int(rng.integers(0, 20000)) * day
    rates = _rates(rng, of, flows, first)
    rows = np.zeros(flows, row_type(forecast.columns(model.config, spec)))
    rows["state"] = np.zeros((flows, *state_shape(model.config)), np.float16)
    kept: list[tuple[NDArray[np.float16], ...]] = []
    for at in range(len(rates) - spec.horizons):
        steps = np.full(flows, first + at)
        inputs = forecast.prepare(rows, rates[at], steps, spec)
        outputs, rows["state"] = model.step(inputs, rows["state"])
        if at < FIRST_DAY * day or at % of.every:
            continue
        most = peaks.highest(outputs, spec.peaks)
        read = peaks.peak_inputs(rows, most, inputs, steps, spec)
        actual = rates[at + 1 : at + 1 + spec.horizons]
        for place in rng.choice(len(SPANS), SPANS_KEPT, replace=False).tolist():
            peak = _peak(actual[: SPANS[place]])
            z = np.log1p(4 * peak / inputs.scale)
            known = ~np.isnan(peak)
            each = read.of_flow.T, read.of_span[:, place].T, read.highest[:, place].T, z
            kept.append(tuple(column[known].astype(np.float16) for column in each))
    return Examples(*(np.concatenate(column) for column in zip(*kept, strict=True)))


def _rates(rng: np.random.Generator, of: World, flows: int, first: int) -> NDArray[np.float64]:
    """The rates of a world from step *first* on, (steps, flows)."""
    day = DAY_S // of.step_s
    traffic = Traffic(rng, flows, of.step_s, first)
    rates = np.concatenate([traffic.chunk(day) for _ in range(of.days)])
    if of.jobs:
        clock = Clock(((first + np.arange(len(rates))) * of.step_s)[:, None], of.step_s)
        plan = Jobs(Chance(rng, flows), of.step_s, of.jobs)
        rates += plan.chunk(clock, clock.day % 7 >= 5) * np.nanmean(rates, axis=0)
    return rates


def _peak(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """The highest of the rates *rates* (K, B), NaN where more than half of them are missing."""
    missing = np.isnan(rates)
    highest = np.where(missing, 0, rates).max(axis=0)
    return np.where(missing.mean(axis=0) > 0.5, np.nan, highest)


def train(plan: PeakPlan, every: list[Examples]) -> tuple[PeakHead, float]:
    """A head fitted to *every* batch of examples, and its mean loss at the end."""
    torch.manual_seed(plan.seed)
    flow, span, most, peak = (
        torch.from_numpy(np.concatenate(column).astype(np.float32))
        for column in zip(*every, strict=True)
    )
    head = PeakHead(flow.shape[1], span.shape[1])
    head.mean_flow, head.mean_span = flow.mean(0), span.mean(0)
    head.size_flow, head.size_span = flow.std(0) + STANDARD_LEAST, span.std(0) + STANDARD_LEAST
    total = plan.epochs * (len(peak) // plan.batch)
    optimizer = torch.optim.AdamW(head.parameters(), lr=plan.rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, plan.rate, total_steps=total + 1, pct_start=0.1
    )
    mean = 0.0
    for _ in range(plan.epochs):
        order = torch.randperm(len(peak))
        for first in range(0, len(peak) - plan.batch + 1, plan.batch):
            index = order[first : first + plan.batch]
            inputs = flow[index].T, span[index].T[:, None], most[index].T[:, None]
            predicted = head(*inputs)[:, 0].T
            found = loss(predicted, peak[index], most[index], span[index, :HIGHS])
            optimizer.zero_grad()
            found.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            mean += 0.01 * (found.item() - mean) if mean else found.item()
    return head, mean


def made(plan: PeakPlan, mean: float) -> dict[str, str]:
    """Return the metadata of the weights file."""
    settings = {name: str(each) for name, each in asdict(plan).items()}
    return {**settings, "loss": f"{mean:.5f}", "made_by": "streamer pretrain --peaks"}
