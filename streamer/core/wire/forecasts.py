"""
Forecasts to bytes: flat JSON, a forecast a record or many lines in one.

    {"schema": 1, "id": "edge1/in@1700000100.3", "flow": "edge1/in", "made_at": 1700000100,
     "step_s": 60, "rate": 123.4, "unit": "B/s", "generation": 3, "served_by": "lstm",
     "q05": [...], "q50": [...], "q95": [...]}

`q50[k-1]` is the median of the step [made_at + (k-1)·step_s, made_at + k·step_s).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.core.facts import Forecasts, Message, Partition
from streamer.core.settings import Settings

SCHEMA = 1
DIGITS = 6  # significant ones: finer than any forecast is true
RECORD_BYTES_MAX = 900_000  # a batch stays below what brokers take by default (1 MiB)

Share = Annotated[float, msgspec.Meta(ge=0.01, le=0.99)]


class ForecastsConfig(Settings, frozen=True, kw_only=True):
    """Where forecasts go, and what they say."""

    topic: str = "traffic.forecasts"
    batch: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1  # forecasts a record, at most
    horizons: Annotated[int, msgspec.Meta(ge=1, le=288)] = 12  # steps ahead: 1, 2, … horizons
    quantiles: Annotated[tuple[Share, ...], msgspec.Meta(min_length=1)] = (
        0.05,
        0.25,
        0.5,
        0.75,
        0.95,
    )

    def __post_init__(self) -> None:
        if list(self.quantiles) != sorted(set(self.quantiles)):
            raise ValueError("quantiles: must grow from one to the next")


def quantile_name(quantile: float) -> str:
    """`q05` for 0.05, `q975` for 0.975."""
    digits = f"{quantile:.4f}"[2:].rstrip("0")
    return "q" + digits.ljust(2, "0")


class Encoder:
    """Turns what a turn forecast into messages."""

    def __init__(self, config: ForecastsConfig, step_s: int) -> None:
        self.config = config
        self._step_s = step_s
        bands = [(quantile_name(q), list[float]) for q in config.quantiles]
        self._shape: Any = msgspec.defstruct(
            "Forecast",
            [
                ("schema", int),
                ("id", str),
                ("flow", str),
                ("made_at", int),
                ("step_s", int),
                ("rate", float | None),
                ("unit", str),
                ("generation", int),
                ("served_by", str),
                *bands,
            ],
            gc=False,
        )
        self._encode = msgspec.json.Encoder().encode

    def messages(self, forecasts: Sequence[Forecasts]) -> list[Message]:
        """One record a forecast keyed by its flow, or many lines a record without a key."""
        if self.config.batch == 1:
            return [
                Message(self.config.topic, partition.number, flow.encode(), line)
                for wave in forecasts
                for partition, flow, line in zip(
                    wave.partition, wave.flow, self.lines(wave), strict=True
                )
            ]
        lanes: dict[Partition, list[bytes]] = defaultdict(list)
        for wave in forecasts:
            for partition, line in zip(wave.partition, self.lines(wave), strict=True):
                lanes[partition].append(line)
        return [
            Message(self.config.topic, partition.number, None, b"\n".join(batch))
            for partition, lane in lanes.items()
            for batch in batches(lane, self.config.batch)
        ]

    def lines(self, wave: Forecasts) -> Iterator[bytes]:
        """Each forecast as a line of JSON, without its end."""
        bands = rounded(wave.bands.astype(np.float64).transpose(2, 0, 1)).tolist()  # (Q, B, H)
        missing = np.isnan(wave.rate)
        rates = rounded(np.where(missing, 0.0, wave.rate)).tolist()
        units = [unit.decode() for unit in wave.unit.tolist()]
        shape, encode, step_s, generation = (
            self._shape,
            self._encode,
            self._step_s,
            wave.generation,
        )
        for flow, at, rate, unit, by, none, *quantiles in zip(
            wave.flow,
            wave.made_at.tolist(),
            rates,
            units,
            wave.served_by,
            missing.tolist(),
            *bands,
            strict=True,
        ):
            name = f"{flow}@{at}.{generation}"
            told = None if none else rate
            yield encode(
                shape(SCHEMA, name, flow, at, step_s, told, unit, generation, by, *quantiles)
            )


def rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """To six significant digits, which makes a record a third shorter."""
    with np.errstate(divide="ignore"):
        size = np.floor(np.log10(np.abs(values)))
    places = 10.0 ** np.clip(DIGITS - 1 - np.where(np.isfinite(size), size, 0), -300, 300)
    shifted = values * places
    return np.where(np.isfinite(shifted), np.rint(shifted) / places, values)


def batches(lines: Sequence[bytes], most: int) -> Iterator[list[bytes]]:
    """Runs of at most *most* lines that fit a record."""
    run: list[bytes] = []
    size = 0
    for line in lines:
        if run and (len(run) == most or size + len(line) > RECORD_BYTES_MAX):
            yield run
            run, size = [], 0
        run.append(line)
        size += len(line) + 1
    if run:
        yield run
