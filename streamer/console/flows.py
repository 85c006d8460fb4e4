"""
The table of flows: the newest forecast of each, its recent steps, and running measures of both.

Columns are numpy arrays by slot, so that a hundred thousand flows are sorted in milliseconds and
take little memory. Errors and coverage are of forecasts made `ahead` steps before, with a memory of
a day. The recent high of a flow is its highest rate, which fades with the same memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.console.codes import Codes, decoded, encoded
from streamer.console.decoding import PEAK_LEVELS, Columns, waves
from streamer.console.history import History, Slots
from streamer.core.alerts.peak import chance

DAY_S = 86400
SPIKE = 2.0  # times the recent high
EVICTED_AT_ONCE = 16  # 1 / share of the flows, the longest silent, when the table is full
WORDS_MAX = 255  # different units, and predictors

NUMBERS: dict[str, Any] = {  # column: its type and its empty value
    "rate": (np.float64, np.nan),
    "made_at": (np.int64, -1),
    "time_ms": (np.int64, 0),
    "generation": (np.int64, 0),
    "partition": (np.int32, 0),
    "unit": (np.uint8, 0),
    "served_by": (np.uint8, 0),
    "mean": (np.float32, np.nan),
    "high": (np.float32, 0.0),
    "error": (np.float32, np.nan),  # mean |rate - median|, and of the last value instead
    "error_last": (np.float32, np.nan),
    "held": (np.float32, np.nan),  # share of rates within the outer band
    "scored": (np.int32, 0),
    "unusual": (np.float32, np.nan),  # distance from the next step's median; 1: the band's edge
    "chance": (np.float32, np.nan),  # that the peak within the hour passes SPIKE * high
}


class Shape(NamedTuple):
    """What forecasts look like."""

    step_s: int
    quantiles: tuple[float, ...]
    horizons: int
    spans: tuple[int, ...]

    @property
    def ahead(self) -> int:
        """The steps of an hour, or as many as are forecast."""
        return max(1, min(self.horizons, round(3600 / self.step_s)))

    @property
    def outer(self) -> tuple[int, int, int]:
        """The places of the lowest quantile, of the median and of the highest one."""
        middle = min(range(len(self.quantiles)), key=lambda n: abs(self.quantiles[n] - 0.5))
        return 0, middle, len(self.quantiles) - 1

    @property
    def span(self) -> int | None:
        """The place of the span of peaks that is nearest to `ahead`."""
        if not self.spans:
            return None
        return min(range(len(self.spans)), key=lambda n: abs(self.spans[n] - self.ahead))


class Words:
    """Texts that repeat, as small numbers; 0 is empty, and what comes beyond WORDS_MAX."""

    def __init__(self) -> None:
        self.texts = [""]
        self._numbers = {"": 0}

    def number(self, text: str) -> int:
        """The number of *text*."""
        found = self._numbers.get(text)
        if found is None:
            if len(self.texts) > WORDS_MAX:
                return 0
            found = self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return found


class FlowTable:
    """All flows of the console."""

    def __init__(self, shape: Shape, flows_max: int, history_bytes_max: int, keep_s: float) -> None:
        self.shape, self.flows_max = shape, flows_max
        steps = max(64, round(keep_s / shape.step_s))
        self.history = History(history_bytes_max, steps, shape.ahead, flows_max)
        self.names: list[str] = []  # by slot; empty: free
        self.folded: list[str] = []  # the same for searches, without case
        self.slots: dict[str, int] = {}
        self._free: list[int] = []
        self.units, self.predictors = Words(), Words()
        self.columns: dict[str, NDArray[Any]] = {
            name: np.full(0, empty, kind) for name, (kind, empty) in NUMBERS.items()
        }
        self.bands: Codes = np.zeros((0, len(shape.quantiles), shape.horizons), np.uint16)
        self.peaks: Codes = np.zeros((0, len(shape.spans), len(PEAK_LEVELS)), np.uint16)
        self.forecasts = self.repeated = self.evicted = 0
        self.names_version = 0

    def __len__(self) -> int:
        return len(self.slots)

    def add(self, forecasts: Columns) -> None:
        """Add forecasts, each flow's in order."""
        if not len(forecasts):
            return
        numbers: dict[str, int] = {}
        flows = [numbers.setdefault(flow, len(numbers)) for flow in forecasts.flow]
        for places in waves(flows):
            for first in range(0, len(places), self.flows_max):
                self._add(forecasts.take(places[first : first + self.flows_max]))

    def used(self) -> Slots:
        """The slots that hold a flow."""
        return np.flatnonzero(self.columns["made_at"] >= 0)

    def forget_silent(self, since_ms: int) -> None:
        """Forget the flows whose newest record is older than *since_ms*."""
        used = self.used()
        outdated = used[self.columns["time_ms"][used] < since_ms]
        if len(outdated):
            self._remove(outdated)

    def _add(self, forecasts: Columns) -> None:
        slots = self._slots(forecasts.flow)
        new = forecasts.made_at > self.columns["made_at"][slots]
        self.repeated += int((~new).sum())
        if not new.all():
            forecasts, slots = forecasts.take(np.flatnonzero(new)), slots[new]
        if not len(slots):
            return
        self.forecasts += len(slots)
        self._score(slots, forecasts)
        columns = self.columns
        for name in ("rate", "made_at", "time_ms", "generation", "partition"):
            columns[name][slots] = getattr(forecasts, name)
        columns["unit"][slots] = [self.units.number(each) for each in forecasts.unit]
        columns["served_by"][slots] = [self.predictors.number(each) for each in forecasts.served_by]
        self.bands[slots], self.peaks[slots] = encoded(forecasts.bands), encoded(forecasts.peaks)
        levels, quantiles = distribution(self.shape, forecasts.bands, forecasts.peaks)
        threshold = SPIKE * columns["high"][slots].astype(np.float64)
        found = chance(levels, quantiles, threshold)
        columns["chance"][slots] = np.where(threshold > 0, found, np.nan)

    def _score(self, slots: Slots, forecasts: Columns) -> None:
        """Hold what was predicted against what came, and remember what is predicted now."""
        shape, columns = self.shape, self.columns
        awaited = decoded(self.bands[slots][:, shape.outer, 0])
        due = columns["made_at"][slots] + shape.step_s == forecasts.made_at
        columns["unusual"][slots] = np.where(due, unusual(forecasts.rate, awaited), np.nan)
        steps = forecasts.made_at // shape.step_s
        ahead = encoded(forecasts.bands[:, shape.outer, shape.ahead - 1])
        before = self.history.add(slots, steps, encoded(forecasts.rate), ahead)
        low, middle, high = decoded(before.forecast).T
        known = ~np.isnan(forecasts.rate)
        scored = known & ~np.isnan(middle)
        number = columns["scored"][slots] + scored
        columns["scored"][slots] = number
        gain = np.maximum(shape.step_s / DAY_S, 1 / np.maximum(number, 1))
        last = decoded(before.last)
        for name, value, mask in (
            ("error", np.abs(forecasts.rate - middle), scored),
            ("error_last", np.abs(forecasts.rate - last), scored & ~np.isnan(last)),
            ("held", ((low <= forecasts.rate) & (forecasts.rate <= high)).astype(float), scored),
            ("mean", forecasts.rate, known),
        ):
            columns[name][slots] = moved(columns[name][slots], value, gain, mask)
        fading = np.float32(np.exp(-shape.step_s / DAY_S))
        highest = np.fmax(columns["high"][slots] * fading, forecasts.rate)
        columns["high"][slots] = np.clip(highest, 0, 1e38)

    def _slots(self, flows: list[str]) -> Slots:
        missing = [flow for flow in flows if flow not in self.slots]
        if missing:
            self._allocate(missing, flows)
        return np.fromiter(map(self.slots.__getitem__, flows), np.intp, len(flows))

    def _allocate(self, flows: list[str], kept: list[str]) -> None:
        room = self.flows_max - len(self.slots)
        if room < len(flows):
            self._evict(len(flows) - room, kept)
        self.names_version += 1
        for flow in flows:
            slot = self._free.pop() if self._free else len(self.names)
            if slot == len(self.names):
                self.names.append("")
                self.folded.append("")
            self.names[slot], self.folded[slot] = flow, flow.casefold()
            self.slots[flow] = slot
        self._reserve(len(self.names))

    def _evict(self, needed: int, kept: list[str]) -> None:
        """Forget the flows whose newest forecasts are the oldest; none of *kept*."""
        held = np.zeros(len(self.names), bool)
        held[[self.slots[flow] for flow in kept if flow in self.slots]] = True
        used = self.used()
        candidates = used[~held[used]]
        number = min(len(candidates), max(needed, self.flows_max // EVICTED_AT_ONCE))
        order = np.argsort(self.columns["made_at"][candidates], kind="stable")
        self._remove(candidates[order[:number]])

    def _remove(self, removed: Slots) -> None:
        for slot in removed.tolist():
            del self.slots[self.names[slot]]
            self.names[slot] = self.folded[slot] = ""
            self._free.append(slot)
        self.history.clear(removed)
        for name, (_, empty) in NUMBERS.items():
            self.columns[name][removed] = empty
        self.bands[removed] = 0
        self.peaks[removed] = 0
        self.evicted += len(removed)
        self.names_version += 1

    def _reserve(self, rows: int) -> None:
        self.history.reserve(rows)
        have = len(self.bands)
        if rows <= have:
            return
        more = min(self.flows_max, max(rows, 2 * have, 256)) - have
        for name, (kind, empty) in NUMBERS.items():
            column = self.columns[name]
            self.columns[name] = np.concatenate((column, np.full(more, empty, kind)))
        for name in ("bands", "peaks"):
            codes: Codes = getattr(self, name)
            extra = np.zeros((more, *codes.shape[1:]), np.uint16)
            setattr(self, name, np.concatenate((codes, extra)))


def moved(
    old: NDArray[Any], value: NDArray[Any], gain: NDArray[Any], mask: NDArray[np.bool_]
) -> NDArray[Any]:
    """The running mean *old* (NaN: none yet) moved towards *value* where *mask* is set."""
    after = np.where(np.isnan(old), value, old + gain * (value - old))
    return np.where(mask, np.clip(after, 0, 1e38), old)


def unusual(rate: NDArray[Any], band: NDArray[Any]) -> NDArray[Any]:
    """How far *rate* is from the median of *band* (n, 3), in distances to the band's edge."""
    low, middle, high = band.T
    edge = np.where(rate >= middle, high - middle, middle - low)
    least = np.maximum(1e-3 * np.abs(middle), 1e-9)
    found: NDArray[Any] = np.clip((rate - middle) / np.maximum(edge, least), -1000, 1000)
    return found


def distribution(
    shape: Shape, bands: NDArray[np.float64], peaks: NDArray[np.float64]
) -> tuple[list[float], NDArray[np.float64]]:
    """
    The levels of the peak within `ahead` steps, and its quantiles, (n, levels).

    From *bands* (n, quantiles, horizons) and *peaks* (n, spans, PEAK_LEVELS). Below the median the
    highest quantile of a step is a bound; above it likewise, where no peaks are published.
    """
    middle = shape.outer[1]
    within = bands[:, :, : shape.ahead].max(axis=2)
    of_steps = middle if shape.span is not None else len(shape.quantiles)
    parts = [within[:, place] for place in range(of_steps)]
    levels = list(shape.quantiles[:of_steps])
    if shape.span is not None:
        parts += list(peaks[:, shape.span].T)
        levels += PEAK_LEVELS
    return levels, np.stack(parts, axis=1)
