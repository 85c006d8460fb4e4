"""
Encoding of forecasts: flat JSON, one forecast per record or many lines per record.

    {"schema": 1, "id": "edge1/in@1700000100.3", "flow": "edge1/in", "made_at": 1700000100,
     "step_s": 60, "rate": 123.4, "unit": "B/s", "generation": 3, "served_by": "lstm",
     "q05": [...], "q50": [...], "q95": [...], "peak_steps": [4, 12], "peak_q50": [...], …}

`q50[k-1]` is the median of the step [made_at + (k-1)·step_s, made_at + k·step_s). `peak_q95[p]` is
a quantile of the highest rate among the first `peak_steps[p]` of these steps. With
`forecasts.labels`, `host`, `interface`, `alias` and `site` follow `served_by` as far as the
messages of the flow name them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import repeat
from typing import Annotated

import msgspec
import numpy as np

from streamer.config.types import Settings
from streamer.core.types import PEAK_QUANTILES, Forecasts, Labels, Message, Partition, by_partition
from streamer.core.wire.number_format import Lines, beside, cells, listed, shared, squeezed

SCHEMA = 1
PIECE_ROWS = 256
RATE_MAX = 1e38  # the bound of a rate in single precision
LINES = msgspec.json.Encoder()
RECORD_BYTES_MAX = 900_000  # below the default limit of brokers (1 MiB)

PEAKS_TOLD = (0.5, 0.75, 0.95, 0.99)  # quantiles of a peak in a record

Span = Annotated[int, msgspec.Meta(ge=1, le=288)]
Share = Annotated[float, msgspec.Meta(ge=0.01, le=0.99)]


PEAK_PLACES = [PEAK_QUANTILES.index(each) for each in PEAKS_TOLD]


class ForecastsConfig(Settings, frozen=True, kw_only=True):
    """The topic and the content of forecasts."""

    topic: str = "traffic.forecasts"
    batch: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1  # most forecasts per record
    horizons: Annotated[int, msgspec.Meta(ge=1, le=288)] = 12  # steps ahead: 1, 2, … horizons
    quantiles: Annotated[tuple[Share, ...], msgspec.Meta(min_length=1, max_length=99)] = (
        0.05,
        0.25,
        0.5,
        0.75,
        0.95,
    )

    peaks: tuple[Span, ...] = (4, 12)  # steps, in which the highest rate is forecast
    labels: bool = False  # whether host, interface, alias and site are in forecasts and alerts

    def __post_init__(self) -> None:
        for name, levels in (("quantiles", self.quantiles), ("peaks", self.peaks)):
            if list(levels) != sorted(set(levels)):
                raise ValueError(f"{name}: must grow from one to the next")
        if len(set(map(quantile_name, self.quantiles))) < len(self.quantiles):
            raise ValueError("quantiles: must differ in their first four digits")

    @property
    def spans(self) -> tuple[int, ...]:
        """The `peaks` that lie within the horizons."""
        return tuple(span for span in self.peaks if span <= self.horizons)


def quantile_name(quantile: float) -> str:
    """The field of a quantile: `q05` for 0.05, `q975` for 0.975."""
    digits = f"{quantile:.4f}"[2:].rstrip("0")
    return "q" + digits.ljust(2, "0")


class Encoder:
    """
    Encodes the forecasts of a turn into messages.

    Up to PIECE_ROWS are encoded at once, as a table of bytes with a row for each forecast.
    """

    def __init__(self, config: ForecastsConfig, step_s: int) -> None:
        self.config = config
        self._step = b'"step_s":%d,"rate":' % step_s
        self._names = [b'"%s":[' % quantile_name(q).encode() for q in config.quantiles]
        self._spans = b'"peak_steps":[%s],' % b",".join(b"%d" % span for span in config.spans)
        self._peak_names = [b'"peak_%s":[' % quantile_name(q).encode() for q in PEAKS_TOLD]

    def messages(self, forecasts: Sequence[Forecasts]) -> Iterator[Message]:
        """One record per forecast, keyed by its flow, or many lines per record without a key."""
        topic = self.config.topic
        batches: dict[Partition, Batches] = defaultdict(lambda: Batches(self.config.batch))
        for wave in forecasts:
            for places in pieces(len(wave.flow)):
                lines = self.lines(wave, places)
                if self.config.batch == 1:
                    yield from self._alone(wave, places, lines)
                    continue
                for partition, own in by_partition(wave.partition[places]).items():
                    for record in batches[partition].add(lines[own]):
                        yield Message(topic, partition.number, None, record)
        for partition, lane in batches.items():
            for record in lane.end():
                yield Message(topic, partition.number, None, record)

    def _alone(self, wave: Forecasts, places: slice, lines: Lines) -> Iterator[Message]:
        values = squeezed(lines).split(b"\n")[:-1]
        count = len(values)
        numbers = [partition.number for partition in wave.partition[places]]
        keys = map(str.encode, wave.flow[places])
        rest = repeat((), count), repeat(None, count)  # neither headers nor a time
        columns = repeat(self.config.topic, count), numbers, keys, values, *rest
        yield from map(Message._make, zip(*columns, strict=True))  # a fifth faster than a loop

    def lines(self, wave: Forecasts, places: slice) -> Lines:
        """The forecasts at *places* as lines of JSON, padded with NUL bytes."""
        flow = np.array(texts(wave.flow[places]))
        made_at = shared(wave.made_at[places].tolist(), b"%d".__mod__)
        generation = b"%d" % wave.generation
        rate = np.clip(wave.rate[places], 0, RATE_MAX).astype(np.float32)[:, None]
        bands = listed(cells(wave.bands[places].transpose(0, 2, 1)))  # (B, quantiles)
        parts = [b'{"schema":%d,"id":"' % SCHEMA, flow, b"@", made_at, b"." + generation]
        parts += [b'","flow":"', flow, b'","made_at":', made_at, b"," + self._step]
        parts += [listed(cells(rate)), b',"unit":"', shared(wave.unit[places].tolist(), escaped)]
        parts += [b'","generation":' + generation + b',"served_by":"']
        parts += [shared(wave.served_by[places], lambda by: escaped(by.encode())), b'",']
        if wave.labels is not None and any(wave.labels[places]):
            parts.append(shared(wave.labels[places], labelled))
        for name, band in zip(self._names, bands.T, strict=True):
            parts += [name, band, b"],"]
        if self.config.spans:
            peaks = wave.peaks[places][:, :, PEAK_PLACES].transpose(0, 2, 1)
            parts.append(self._spans)
            for name, peak in zip(self._peak_names, listed(cells(peaks)).T, strict=True):
                parts += [name, peak, b"],"]
        parts[-1] = b"]}\n"
        return beside(parts, len(flow))


class Batches:
    """The lines of one partition, joined into records of at most *most* lines."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._parts: list[bytes] = []
        self._lines = self._size = 0

    def add(self, lines: Lines) -> Iterator[bytes]:
        """Add lines; yields the values of records that are full."""
        fitting = max(1, RECORD_BYTES_MAX // lines.shape[1])
        first = 0
        while first < len(lines):
            piece = lines[first : first + min(self.most - self._lines, fitting)]
            text = squeezed(piece)
            if self._size + len(text) > RECORD_BYTES_MAX:
                yield from self.end()
            self._parts.append(text)
            self._lines += len(piece)
            self._size += len(text)
            first += len(piece)
            if self._lines == self.most:
                yield from self.end()

    def end(self) -> Iterator[bytes]:
        """Yield the value of the last record, if there are lines left."""
        if self._parts:
            yield b"".join(self._parts)[:-1]  # without the last line feed
        self._parts, self._lines, self._size = [], 0, 0


def pieces(rows: int) -> Iterator[slice]:
    """Slices of so many rows that the encoded piece fits a CPU cache."""
    for first in range(0, rows, PIECE_ROWS):
        yield slice(first, min(first + PIECE_ROWS, rows))


@lru_cache(maxsize=65_536)
def labelled(labels: Labels | None) -> bytes:
    """The fields of a flow's labels, each with a comma after it."""
    known = {} if labels is None else labels.known()
    fields = (b'"%s":"%s",' % (name.encode(), texts([text])[0]) for name, text in known.items())
    return b"".join(fields)


def escaped(text: bytes) -> bytes:
    """The text as it is written between quotes in JSON."""
    return texts([text.decode()])[0]


def texts(plain: Sequence[str]) -> list[bytes]:
    """Each text as it is written between quotes in JSON; no result contains a line feed."""
    return LINES.encode_lines(plain)[1:-2].split(b'"\n"')
