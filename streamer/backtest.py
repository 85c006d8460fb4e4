"""
The daemon's very engine over a file of readings, in one process, and what it foretold.

The readings become records just as the feed makes them; nothing is skipped but
the log between. Forecasts and rates are laid out as grids of steps and flows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.core.engine import Engine
from streamer.core.facts import Forecasts, Partition, Record
from streamer.core.wire.found import Reading

BATCH = 2_000  # readings a record


@dataclass(frozen=True, slots=True)
class Extent:
    """What a file spans."""

    flows: tuple[str, ...]  # by name
    first: int  # the step of its first reading
    last: int  # … and of its last one
    readings: int


@dataclass(frozen=True, slots=True)
class Played:
    """What the engine made of a file."""

    extent: Extent
    step_s: int
    quantiles: tuple[float, ...]
    rates: NDArray[np.float64]  # (steps, flows); NaN where missing
    origin: int  # of the steps, the first after which forecasts were kept
    forecasts: NDArray[np.float32]  # (steps - origin, flows, horizons, quantiles); NaN: none

    @property
    def made_at(self) -> NDArray[np.int64]:
        """When each of the kept forecasts was made: the end of the step just closed."""
        kept = np.arange(self.origin, len(self.rates))
        return (self.extent.first + kept + 1) * self.step_s


def survey(source: Iterable[Sequence[Reading]], step_s: int) -> Extent:
    """Read all through once to see what there is; raises ValueError where there is nothing."""
    flows: set[str] = set()
    first, last, number = float("inf"), float("-inf"), 0
    for readings in source:
        times = [reading.time for reading in readings]
        if times:
            first, last = min(first, *times), max(last, *times)
        flows.update(reading.flow for reading in readings)
        number += len(readings)
    if not number:
        raise ValueError("holds no readings")
    return Extent(tuple(sorted(flows)), int(first // step_s), int(last // step_s), number)


def play(  # noqa: PLR0913 - what is played, and who hears of it
    engine: Engine,
    source: Iterable[Sequence[Reading]],
    extent: Extent,
    share: float,
    told: Callable[[int], None] = lambda _readings: None,
    heard: Callable[[Sequence[Forecasts]], None] = lambda _made: None,
    batch: int = BATCH,
) -> Played:
    """
    Have *engine*, which is empty, forecast all of *source*.

    Forecasts are kept from *share* of the steps on; *told* hears how many readings
    were taken, now and then, and *heard* every forecast: it may have the engine go on with
    other weights. A record holds at most *batch* readings.
    """
    steps, flows = extent.last - extent.first + 1, len(extent.flows)
    origin, outlook = int(steps * share), engine.outlook
    rates = np.full((steps, flows), np.nan)
    shape = steps - origin, flows, outlook.horizons, len(outlook.quantiles)
    kept = np.full(shape, np.nan, np.float32)
    column = {flow: place for place, flow in enumerate(extent.flows)}

    def keep(made: Forecasts) -> None:
        at = made.made_at // outlook.step_s - 1 - extent.first
        to = np.fromiter((column[flow] for flow in made.flow), np.intp, len(made.flow))
        rates[at, to] = made.rate
        late = at >= origin
        kept[at[late] - origin, to[late]] = made.bands[late]

    partition = Partition("backtest", 0)
    engine.restore(partition, {}, 0, 1)
    taken = 0
    for offset, readings in enumerate(batches(source, batch)):
        value = msgspec.json.encode(readings)
        record = Record(partition, offset, None, value, -1)
        epoch = engine.step([record])
        for made in epoch.forecasts:
            keep(made)
        heard(epoch.forecasts)
        taken += len(readings)
        told(taken)
    return Played(extent, outlook.step_s, outlook.quantiles, rates, origin, kept)


def batches(source: Iterable[Sequence[Reading]], batch: int) -> Iterable[Sequence[Reading]]:
    """The same readings, *batch* at a time at most."""
    for readings in source:
        for first in range(0, len(readings), batch):
            yield readings[first : first + batch]


def dump(played: Played, path: Path) -> None:
    """Write every kept forecast, for others to score."""
    np.savez_compressed(
        path,
        made_at=played.made_at,
        flows=np.array(played.extent.flows),
        quantiles=np.array(played.quantiles),
        forecasts=played.forecasts,
    )
