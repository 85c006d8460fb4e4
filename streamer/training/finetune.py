"""
Trains a challenger: the incumbent's weights, fine-tuned on recent data of sampled flows.

Chunks are drawn from the windows, recent ones most often, and also older ones, so that earlier
training is not forgotten. Gradients flow back through one chunk, from the state that the
serving network had at its beginning (truncated backpropagation through time). Some chunks are
held out: when the loss on them rises too far, training stops early and keeps the best weights
before. Whether the challenger is better is not decided by these few chunks, but in the contest.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from streamer.core.network.model import Network
from streamer.training.adam import Adam
from streamer.training.batch import Batch, concatenate, make_batch, training_loss
from streamer.training.history import History
from streamer.training.settings import FinetuneConfig
from streamer.training.window import Place, Window

LANES = 64  # flows in a batch
MIXED = 4  # chunks that a batch is drawn from
WARM_UP = 4  # steps of learning rate warm-up
HELD_OUT = 8  # one chunk in HELD_OUT is held out
HELD_OUT_MAX = 6  # number of held-out chunks that are evaluated, the latest ones
CHECK_EVERY = 10  # steps between two evaluations on the held-out chunks
WORSE_MAX = 0.02  # tolerated rise over the lowest held-out loss, as a share of it
MEAN_OF = 20  # steps: the result is a running mean of the weights (Polyak and Juditsky, 1992)
PATIENCE = 2  # evaluations without improvement, after which training stops


class Source(NamedTuple):
    """A chunk and its window."""

    window: Window
    place: Place

    @property
    def likeness(self) -> tuple[int, bytes]:
        """A key that chunks share if they have the same length and forecast steps."""
        made = self.place.chunk
        return len(made.features), made.forecast_steps.tobytes()


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The result of a training."""

    network: Network
    steps: int  # optimizer steps behind the returned weights; 0: no improvement
    loss_before: float  # loss on the held-out chunks
    loss_after: float


def train(  # noqa: PLR0913 - the data and settings of a training
    start: Network,
    windows: Sequence[Window],
    history: History,
    config: FinetuneConfig,
    *,
    half_life_s: float,
    rng: np.random.Generator,
    device: str,
    alive: Callable[[], None],
) -> TrainingResult:
    """Train a copy of *start*, reproducibly for an *rng*. *alive* is called between steps."""
    sources = [Source(window, place) for window in windows for place in window.places]
    held_out = sources[HELD_OUT // 2 :: HELD_OUT]
    training = [source for n, source in enumerate(sources) if n % HELD_OUT != HELD_OUT // 2]
    weights = _sampling_weights(training, half_life_s)

    network = copy.deepcopy(start).to(device).train().requires_grad_(requires_grad=True)
    mean = copy.deepcopy(network).requires_grad_(requires_grad=False)
    adam = Adam(network.parameters())
    held_out_batches = [
        _make_batch([each], LANES, history, rng, device) for each in held_out[-HELD_OUT_MAX:]
    ]
    before = after = least = _mean_loss(mean, held_out_batches)
    best, kept = 0, copy.deepcopy(mean.state_dict())
    for step in range(1, config.steps_max + 1):
        drawn = _draw_alike(training, weights, rng)
        batch, state = _make_batch(drawn, LANES // MIXED, history, rng, device)
        loss, _ = training_loss(network, batch, state)
        adam.clear()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        norm = nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        if torch.isfinite(norm):
            adam.step(config.learning_rate * min(1.0, step / WARM_UP))
            _update_mean(mean, network, min(step / (step + 9), 1 - 1 / MEAN_OF))
        alive()
        if step % CHECK_EVERY == 0 or step == config.steps_max:
            now = _mean_loss(mean, held_out_batches)
            least = min(least, now)
            if now <= least * (1 + WORSE_MAX):
                after, best, kept = now, step, copy.deepcopy(mean.state_dict())
            elif step - best >= PATIENCE * CHECK_EVERY:
                break
    mean.load_state_dict(kept)
    return TrainingResult(mean.to("cpu").eval(), best, before, after)


@torch.no_grad()
def _update_mean(mean: Network, network: Network, share: float) -> None:
    """Update the running mean, keeping *share* of it: it is better than the weights it averages."""
    for each, now in zip(mean.parameters(), network.parameters(), strict=True):
        each.lerp_(now, 1 - share)


def _sampling_weights(sources: Sequence[Source], half_life_s: float) -> NDArray[np.float64]:
    """Return each chunk's weight for drawing: higher for recent chunks and for more flows."""
    newest = max(source.window.until for source in sources)
    ages = np.array([newest - source.window.until for source in sources])
    sizes = np.array([min(LANES, source.place.chunk.flows) for source in sources])
    weights: NDArray[np.float64] = np.exp2(-ages / half_life_s) * sizes
    return weights


def _draw_alike(
    sources: Sequence[Source], weights: NDArray[np.float64], rng: np.random.Generator
) -> list[Source]:
    """
    Draw MIXED chunks with the same length and the same forecast steps.

    All flows of one hour share its events, so a batch from several hours has more information than
    one from a single hour.
    """
    first = sources[int(rng.choice(len(sources), p=weights / weights.sum()))]
    alike = np.array([each.likeness == first.likeness for each in sources])
    among = weights * alike
    others = rng.choice(len(sources), MIXED - 1, p=among / among.sum())
    return [first, *(sources[each] for each in others.tolist())]


def _make_batch(
    sources: Sequence[Source],
    lanes: int,
    history: History,
    rng: np.random.Generator,
    device: str,
) -> tuple[Batch, Tensor]:
    """Build a batch of *lanes* flows of each of *sources*, and the state before it."""
    chunks, came, states = [], [], []
    for window, place in sources:
        flows = place.chunk.flows
        picked = np.sort(rng.choice(flows, min(lanes, flows), replace=False))
        chunks.append(place.chunk.select(picked))
        came.append(window.came(place, history, picked))
        states.append(place.states[picked])
    state = torch.from_numpy(np.concatenate(states)).float().to(device)
    return make_batch(concatenate(chunks), np.concatenate(came, axis=1), device), state


@torch.no_grad()
def _mean_loss(network: Network, held_out_batches: Sequence[tuple[Batch, Tensor]]) -> float:
    losses = [training_loss(network, batch, state)[0].item() for batch, state in held_out_batches]
    return float(np.mean(losses)) if losses else 0.0
