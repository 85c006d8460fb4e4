"""Records of the forecasts topic as columns; what is no forecast of our settings is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.core.types import Record
from streamer.core.wire.forecasts import PEAKS_TOLD, RATE_MAX, ForecastsConfig, quantile_name

FLOW_MAX = 1024  # characters of a name
TEXT_MAX = 64  # of a unit, or of a predictor
TIME_MAX = 253_402_300_800  # epoch seconds at the end of the year 9999
PEAK_LEVELS = PEAKS_TOLD
UNREADABLE = (msgspec.DecodeError, ValueError, TypeError, RecursionError, OverflowError)

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Columns:
    """n forecasts, in the order in which they were read."""

    flow: list[str]
    partition: NDArray[np.int32]
    time_ms: NDArray[np.int64]  # of their records
    made_at: NDArray[np.int64]
    rate: Doubles  # NaN: missing
    unit: list[str]
    served_by: list[str]
    generation: NDArray[np.int64]
    bands: Doubles  # (n, quantiles, horizons)
    peaks: Doubles  # (n, spans, PEAK_LEVELS); no spans where none are published

    def __len__(self) -> int:
        return len(self.flow)

    def take(self, places: NDArray[np.intp]) -> Columns:
        """Those at *places*."""
        listed = places.tolist()
        return Columns(
            flow=[self.flow[i] for i in listed],
            unit=[self.unit[i] for i in listed],
            served_by=[self.served_by[i] for i in listed],
            **{name: getattr(self, name)[places] for name in ARRAYS},
        )


ARRAYS = ("partition", "time_ms", "made_at", "rate", "generation", "bands", "peaks")


class Decoder:
    """Reads forecasts with the quantiles, horizons and spans of the settings."""

    def __init__(self, config: ForecastsConfig, step_s: int) -> None:
        self.quantiles, self.horizons, self.spans = config.quantiles, config.horizons, config.spans
        self.step_s = step_s
        self.junk: Counter[str] = Counter()
        names = [quantile_name(q) for q in self.quantiles]
        peaks = [f"peak_{quantile_name(q)}" for q in PEAK_LEVELS] if self.spans else []
        self._bands, self._peaks = names, peaks
        self._lists = attrgetter(
            "flow", *names, *peaks
        )  # never a single one, which would be no tuple
        self._lengths = (self.horizons,) * len(names) + (len(self.spans),) * len(peaks)
        lists: list[tuple[str, Any]] = [(name, list[float]) for name in (*names, *peaks)]
        line_type = msgspec.defstruct(
            "ForecastLine",
            [
                ("flow", str),
                ("made_at", int),
                ("step_s", int),
                ("rate", float | None),
                ("unit", str),
                ("generation", int),
                ("served_by", str),
                *lists,
            ],
        )
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(line_type)

    def columns(self, records: Iterable[Record]) -> Columns:
        """The forecasts in *records*; the rest is counted in `junk`."""
        parsed: list[Any] = []
        partitions: list[int] = []
        times: list[int] = []
        for record in records:
            lines = self._lines(record.value)
            parsed += lines
            partitions += [record.partition.number] * len(lines)
            times += [record.time_ms or 0] * len(lines)
        good = [n for n, each in enumerate(parsed) if self._fits(each)]
        if len(good) < len(parsed):
            parsed = [parsed[n] for n in good]
            partitions = [partitions[n] for n in good]
            times = [times[n] for n in good]
        found = self._columns(parsed, partitions, times)
        finite = (
            ~(np.abs(found.rate) > RATE_MAX)
            & (np.abs(found.bands) <= RATE_MAX).all(axis=(1, 2))
            & (np.abs(found.peaks) <= RATE_MAX).all(axis=(1, 2))
        )
        if not finite.all():
            self.junk["out_of_range"] += int((~finite).sum())
            found = found.take(np.flatnonzero(finite))
        return found

    def _lines(self, value: bytes | None) -> Sequence[Any]:
        if not value:
            self.junk["empty"] += 1
            return ()
        try:
            return self._decoder.decode_lines(value)
        except UNREADABLE:
            pass
        found = []
        for line in value.split(b"\n"):
            try:
                found.append(self._decoder.decode(line))
            except UNREADABLE:
                self.junk["not_a_forecast"] += 1
        return found

    def _fits(self, each: Any) -> bool:  # noqa: ANN401 - a struct made of the settings
        if each.step_s != self.step_s:
            self.junk["other_step"] += 1
        elif not (
            0 <= each.made_at < TIME_MAX
            and 0 <= each.generation < 1 << 62
            and 0 < len(each.flow) <= FLOW_MAX
            and len(each.unit) <= TEXT_MAX
            and len(each.served_by) <= TEXT_MAX
        ):
            self.junk["out_of_range"] += 1
        elif tuple(map(len, self._lists(each)))[1:] != self._lengths:
            self.junk["other_horizons"] += 1
        else:
            return True
        return False

    def _columns(self, parsed: list[Any], partitions: list[int], times: list[int]) -> Columns:
        count = len(parsed)
        bands = np.empty((count, len(self._bands), self.horizons))
        for place, name in enumerate(self._bands):
            bands[:, place] = self._table(parsed, name, self.horizons)
        peaks = np.empty((count, len(self.spans), len(PEAK_LEVELS)))
        for place, name in enumerate(self._peaks):
            peaks[:, :, place] = self._table(parsed, name, len(self.spans))
        return Columns(
            flow=[each.flow for each in parsed],
            partition=np.array(partitions, np.int32),
            time_ms=np.array(times, np.int64),
            made_at=np.array([each.made_at for each in parsed], np.int64),
            rate=np.array([np.nan if t.rate is None else t.rate for t in parsed], np.float64),
            unit=[each.unit for each in parsed],
            served_by=[each.served_by for each in parsed],
            generation=np.array([each.generation for each in parsed], np.int64),
            bands=bands,
            peaks=peaks,
        )

    @staticmethod
    def _table(parsed: list[Any], name: str, width: int) -> Doubles:
        rows = chain.from_iterable([getattr(each, name) for each in parsed])
        return np.fromiter(rows, np.float64, len(parsed) * width).reshape(len(parsed), width)


def waves(flows: Sequence[int]) -> list[NDArray[np.intp]]:
    """Places of *flows*, each the number of a flow, in groups without a flow twice, in order."""
    numbers = np.asarray(flows, np.intp)
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else order
    counts = np.diff(np.r_[begins, len(ordered)])
    nth = np.empty(len(numbers), np.intp)
    nth[order] = np.arange(len(numbers)) - np.repeat(begins, counts)
    return [np.flatnonzero(nth == wave) for wave in range(int(nth.max(initial=-1)) + 1)]
