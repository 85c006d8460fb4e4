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
from typing import Annotated

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from streamer.core.facts import Forecasts, Message, Partition
from streamer.core.settings import Settings

SCHEMA = 1
TINY = 1e-30  # nothing is told finer than this
Floats = NDArray[np.floating]
DIGITS = 6  # significant ones: finer than any forecast is true
POWERS = np.power(10.0, np.arange(-30.0, 31.0))
LINES = msgspec.json.Encoder()
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
    """
    Turns what a turn forecast into messages.

    The numbers of a whole wave are written at once and cut apart, since a
    Python float for each of them costs more than all the rest.
    """

    def __init__(self, config: ForecastsConfig, step_s: int) -> None:
        self.config = config
        bands = b",".join(b'"%s":[%%b]' % quantile_name(q).encode() for q in config.quantiles)
        self._line = (
            b'{"schema":%d,"id":"%%b@%%d.%%d","flow":"%%b","made_at":%%d,"step_s":%d,"rate":%%b,'
            b'"unit":"%%b","generation":%%d,"served_by":"%%b",%b}' % (SCHEMA, step_s, bands)
        )

    def messages(self, forecasts: Sequence[Forecasts]) -> list[Message]:
        """One record a forecast keyed by its flow, or many lines a record without a key."""
        topic = self.config.topic
        if self.config.batch == 1:
            return [
                Message(topic, partition.number, flow.encode(), line)
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
            Message(topic, partition.number, None, b"\n".join(batch))
            for partition, lane in lanes.items()
            for batch in batches(lane, self.config.batch)
        ]

    def lines(self, wave: Forecasts) -> list[bytes]:
        """Each forecast as a line of JSON, without its end."""
        if not wave.flow:
            return []
        flows = texts(wave.flow)
        bands = rounded(wave.bands).transpose(2, 0, 1)  # (quantiles, B, horizons)
        units = {unit: texts([unit.decode()])[0] for unit in set(wave.unit.tolist())}
        served_by = {by: texts([by])[0] for by in set(wave.served_by)}
        made_at = wave.made_at.tolist()
        generation, line = [wave.generation] * len(flows), self._line
        told = zip(
            flows,
            made_at,
            generation,
            flows,
            made_at,
            numbers(rounded(wave.rate))[1:-1].split(b","),  # NaN becomes null
            map(units.__getitem__, wave.unit.tolist()),
            generation,
            map(served_by.__getitem__, wave.served_by),
            *(numbers(band)[2:-2].split(b"],[") for band in bands),
            strict=True,
        )
        return [line % each for each in told]


def numbers(values: Floats) -> bytes:
    """An array as JSON, nested as it is."""
    return orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)


def texts(plain: Sequence[str]) -> list[bytes]:
    """Each as it stands between quotes in JSON, where no text holds the end of a line."""
    return LINES.encode_lines(plain)[1:-2].split(b'"\n"')


def rounded(values: Floats) -> Floats:
    """To six significant digits, which makes a record a third shorter."""
    size = np.floor(np.log10(np.maximum(np.abs(values), TINY)))
    exponent = np.nan_to_num(np.clip(DIGITS - 1 - size, -30, 30)).astype(np.intp)
    places = POWERS[exponent + 30]  # in double precision
    exact = np.rint(values * places) / places
    return np.where(np.isfinite(exact), exact, values).astype(values.dtype)


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
