"""
The core alone, beside the network that it feeds and beside how others would do it.

All on one thread, measured by that thread's own time.
"""

from __future__ import annotations

import contextlib
import gc
import statistics
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import torch
from torch import nn

from streamer.cli._forecasting import NEW_OBJECTS_MAX
from streamer.core.engine import Engine, EngineConfig
from streamer.core.features.inputs import FEATURES
from streamer.core.network.config import ModelConfig
from streamer.core.predict import forecast
from streamer.core.types import Message, Partition
from streamer.core.wire.forecasts import Encoder, ForecastsConfig
from streamer.weights import open_model, open_peak_head
from tests.bench.rows import Row, interleaved, median_ratio, timed
from tests.bench.traffic import START_S, STEP_S, records

P = Partition("bench.counters", 0)
BATCH = 1024  # of the bare network
WINDOW = 64
WARM_STEPS = 3
TURN_READINGS = 10_000  # while rows are made


class Core:
    """An engine and its encoder, from a delivery's records to messages."""

    def __init__(self, flows: int, batch: int, forecasts: ForecastsConfig | None = None) -> None:
        config = EngineConfig(flows_max=flows, forecasts=forecasts or ForecastsConfig(batch=batch))
        self.engine = Engine(open_model(ModelConfig()), config, peak_head=open_peak_head())
        self.engine.restore(P, {}, 0, 1)
        self.encoder = Encoder(config.forecasts, STEP_S)
        self.input = records(flows, batch, P)
        piece = max(1, TURN_READINGS // batch)
        for step_records in islice(self.input, WARM_STEPS):
            for first in range(0, len(step_records), piece):
                self.turn(step_records[first : first + piece])

    def turn(self, batch: list) -> list[Message]:
        """One delivery; a page in a hundred is saved with it."""
        return list(self.encoder.messages(self.engine.step(batch, 0.01).forecasts))

    def step(self) -> float:
        """What the next step of all flows takes."""
        batch = next(self.input)
        return timed(lambda: self.turn(batch))


@contextlib.contextmanager
def collector_at_ease() -> Iterator[None]:
    """Garbage is collected as rarely as in the daemon."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS_MAX)
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def network(core: Core) -> Callable[[], object]:
    """The bare network's step, cell and head, for rows as *core* has them."""
    rows = np.resize(core.engine.table.rows, BATCH)
    steps = np.full(len(rows), START_S // STEP_S + WARM_STEPS, np.int64)
    inputs = forecast.prepare(rows, np.full(len(rows), 1e3), steps, core.engine.outlook)
    return lambda: core.engine.model.step(inputs, rows["state"])


def rows(flows: int = 10_240, repeats: int = 15) -> Iterator[Row]:
    """Readings a second of the core over those of the network alone, and over its peers'."""
    torch.set_num_threads(1)
    single, batched = Core(flows, 1), Core(flows, 100)
    plain = Core(flows, 100, ForecastsConfig(batch=100, peaks=()))
    bare = network(single)
    passes = max(1, flows // BATCH)
    with collector_at_ease():
        took = interleaved(
            [
                single.step,
                batched.step,
                lambda: timed(lambda: [bare() for _ in range(passes)]),
                plain.step,
            ],
            repeats,
        )
    alone = [spent * flows / (passes * BATCH) for spent in took[2]]
    rate = flows / statistics.median(took[0])
    rate_network = flows / statistics.median(alone)
    yield Row(
        "core_vs_network",
        median_ratio(alone, took[0]),
        "x",
        1 / 3,
        note=f"one reading a record: {rate:,.0f} readings/s, {rate_network:,.0f} flows/s",
    )
    rate_batched = flows / statistics.median(took[1])
    yield Row(
        "core_batched_vs_network",
        median_ratio(alone, took[1]),
        "x",
        note=f"100 readings a record: {rate_batched:,.0f} readings/s",
    )
    yield Row(
        "core_with_peaks_vs_without",
        median_ratio(took[1], took[3]),
        "x",
        1.15,
        at_most=True,
        note="time of a step with the default forecasts.peaks",
    )
    yield from peers(rate)


@torch.inference_mode()
def peers(rate: float) -> Iterator[Row]:
    """How much faster than torch.nn.LSTM called a flow at a time, or over a window each time."""
    lstm = nn.LSTM(FEATURES, 64, batch_first=True).eval()
    head = nn.Linear(64, 60)
    flow, windows = torch.randn(1, 1, FEATURES), torch.randn(BATCH, WINDOW, FEATURES)
    held = torch.zeros(1, 1, 64), torch.zeros(1, 1, 64)

    def one() -> object:
        for _ in range(100):
            out, _ = lstm(flow, held)
            output = head(out[:, -1])
        return output

    def reread(batch: torch.Tensor) -> object:
        out, _ = lstm(batch)
        return head(out[:, -1])

    works = [one, lambda: reread(windows[:1]), lambda: reread(windows)]
    took = interleaved([lambda w=w: timed(w) for w in works], 7)
    for name, number, spent, note in (
        ("core_vs_lstm_a_flow_at_a_time", 100, took[0], "its step and a linear head alone"),
        ("core_vs_window_a_flow_at_a_time", 1, took[1], f"{WINDOW} steps read for each forecast"),
        ("core_vs_window_batched", BATCH, took[2], f"likewise, {BATCH} flows at once"),
    ):
        peer_rate = number / statistics.median(spent)
        yield Row(name, rate / peer_rate, "x", note=f"{note}: {peer_rate:,.0f} forecasts/s")
