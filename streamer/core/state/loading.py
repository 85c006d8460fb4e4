"""
Loading of saved rows under the current settings, and the validation of rows.

A page contains the settings under which its rows were saved. If they differ from the current
settings, columns with the same meaning are kept, profiles are resampled to the new grid, and the
other columns are reset:

    step       kind, unit, count, scale, profiles and errors stay; the open step, the recent
               steps, the network's state, widths and pending forecasts are reset
    horizons   pending forecasts are dropped; everything else stays. A pending forecast of a burst
               knows its end, and is dropped when it settles if another span is the longest now
    quantiles  the last forecast is dropped; everything else stays
    network    its state is rebuilt from the recent steps

Rows are validated by the bounds that are defined with each stage's columns. A row with an invalid
state alone gets a rebuilt one; any other invalid row is dropped, and its flow is read again from
the input.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.core.alerts import lifecycle
from streamer.core.columns import Bounds, Rows
from streamer.core.features import burst_memory, grid, scale, seasonal
from streamer.core.predict import forecast, outcomes
from streamer.core.state.page_format import Meaning, Page, Unreadable, decode
from streamer.core.state.table import whole

SEEN_MAX = 32  # bound of `seen` after a change of the step, so that the flow learns fast again
CHECKED_PAGES = 32  # pages that are validated at once
TIME_MAX = 253_402_300_800.0  # the year 10 000
HALF_MAX = 65504.0  # the largest number in half precision
BEHIND_MAX = grid.OPEN_MAX + 1  # steps from the oldest open one to that of the newest reading

Bools = NDArray[np.bool_]


class Finding(NamedTuple):
    """The treatment of saved rows that could not be loaded unchanged."""

    effect: Literal["dropped", "rebuilt", "kept"]
    why: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """A page after loading."""

    flows: list[str]
    rows: Rows
    generation: int
    digest: str
    intact: bool  # as `Page.intact`
    changed: bool = False  # whether the rows differ from the saved ones
    unprimed: frozenset[str] = frozenset()  # flows whose state must be rebuilt


@dataclass(frozen=True, slots=True)
class Loader:
    """The conversion and validation of saved rows; by default rows are loaded unchanged."""

    meaning: Meaning = field(default_factory=Meaning)
    bounds: Bounds | None = None  # None: rows are not validated
    unreadable: str = ""  # why no page is loaded, if that failed

    def load(self, value: bytes, dtype: np.dtype[np.void], found: Counter[Finding]) -> Loaded:
        """A page in the layout *dtype* and under the current settings; raises Unreadable."""
        if self.unreadable:
            raise Unreadable(self.unreadable)
        try:
            return self._load(value, dtype, found)
        except Unreadable:
            raise
        except Exception as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from error

    def _load(self, value: bytes, dtype: np.dtype[np.void], found: Counter[Finding]) -> Loaded:
        page = decode(value, dtype)
        then, now = page.meaning, self.meaning
        if then == now:
            return Loaded(page.flows, page.rows, page.generation, page.digest, page.intact)
        if then.columns != now.columns:
            raise Unreadable(f"columns of version {then.columns}, now {now.columns}")
        rows, intact = page.rows.copy(), page.intact and then.cell == now.cell
        if then.step_s != now.step_s:
            if then.step_s < 1:
                raise Unreadable("the length of a step is unknown")
            other_step(rows, page, then.step_s, now.step_s)
            found[Finding("rebuilt", f"step was {then.step_s} s, is {now.step_s} s")] += len(rows)
        if then.horizons != now.horizons:
            outcomes.restart(rows, np.ones(len(rows), bool))
            why = f"horizons were {then.horizons}, are {now.horizons}"
            found[Finding("kept", why)] += len(rows)
        if then.quantiles != now.quantiles:
            before, after = (", ".join(f"{q:g}" for q in m.quantiles) for m in (then, now))
            found[Finding("kept", f"quantiles were {before}, are {after}")] += len(rows)
        if then.horizons != now.horizons or then.quantiles != now.quantiles:
            rows["last_forecast"] = 0
        if then.cell != now.cell:
            why = f"network was {then.cell}, is {now.cell}"
            found[Finding("rebuilt", why)] += len(rows)
        return Loaded(page.flows, rows, page.generation, page.digest, intact, changed=True)

    def checked(
        self, pages: dict[int, Loaded], committed: int, found: Counter[Finding]
    ) -> dict[int, Loaded]:
        """
        *pages* without invalid rows.

        A row that needs an offset beyond *committed* comes from an input topic that was deleted
        and recreated, or from a group that was reset. Such a row continues at *committed*.
        """
        if self.bounds is None:
            return pages
        sound = dict(pages)
        for lot in lots(pages):
            try:
                sound |= self._checked(lot, pages, committed, found)
            except Exception:  # noqa: BLE001 - a page that fails must not cost the others
                for page in lot:
                    try:
                        sound |= self._checked([page], pages, committed, found)
                    except Exception as error:  # noqa: BLE001 - likewise
                        why = f"{type(error).__name__} in a check"
                        found[Finding("dropped", why)] += len(sound.pop(page).flows)
        return sound

    def _checked(
        self,
        lot: Sequence[int],
        pages: dict[int, Loaded],
        committed: int,
        found: Counter[Finding],
    ) -> dict[int, Loaded]:
        """Those pages of *lot* that have invalid rows, without them."""
        together = np.concatenate([whole(pages[page].rows) for page in lot])
        rows: Rows = together.view(pages[lot[0]].rows.dtype)
        bad, stale, ahead = self._faults(rows, committed, found)
        if not (bad.any() or stale.any() or ahead.any()):
            return {}  # nearly all pages take this path
        rows["offset"][ahead] = max(committed, 1)
        for name in forecast.DERIVED:
            rows[name][stale] = 0
        changed: dict[int, Loaded] = {}
        first = 0
        for page in lot:
            held = pages[page]
            here = slice(first, first + len(held.flows))
            first = here.stop
            if (bad[here] | stale[here] | ahead[here]).any():
                changed[page] = without(held, rows[here], bad[here], stale[here])
        return changed

    def _faults(
        self, rows: Rows, committed: int, found: Counter[Finding]
    ) -> tuple[Bools, Bools, Bools]:
        """Which rows must be dropped, which need a state rebuild, and which are ahead."""
        bad, stale = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
        for name in rows.dtype.names or ():
            wrong = outside(rows, name, self.bounds or {})
            if wrong is None or not wrong.any():
                continue
            derived = name in forecast.DERIVED
            (stale if derived else bad)[:] |= wrong
            effect: Literal["rebuilt", "dropped"] = "rebuilt" if derived else "dropped"
            found[Finding(effect, f"{name} out of range")] += int(wrong.sum())
        wrong = out_of_time(rows, self.meaning.step_s) & ~bad
        if wrong.any():
            found[Finding("dropped", "times that contradict each other")] += int(wrong.sum())
            bad |= wrong
        ahead = ~bad & (rows["offset"] > max(committed, 1))
        if ahead.any():
            why = "the input was recreated or the group was reset"
            found[Finding("kept", why)] += int(ahead.sum())
        return bad, stale & ~bad, ahead


def lots(pages: Sequence[int] | dict[int, Loaded]) -> Iterator[list[int]]:
    """*pages* in lists of the number that is validated at once."""
    left = iter(pages)
    while lot := list(islice(left, CHECKED_PAGES)):
        yield lot


def without(page: Loaded, rows: Rows, bad: Bools, stale: Bools) -> Loaded:
    """*page* with *rows* instead of its own, without those that are *bad*."""
    unprimed = frozenset(page.flows[i] for i in np.flatnonzero(stale))
    flows = [flow for flow, wrong in zip(page.flows, bad.tolist(), strict=True) if not wrong]
    return Loaded(flows, rows[~bad], page.generation, page.digest, page.intact, True, unprimed)


def outside(rows: Rows, name: str, bounds: Bounds) -> Bools | None:
    """Which rows have a value out of bounds in a column; None if the column has no bounds."""
    column = rows[name]
    kind: np.dtype[Any] = column.dtype
    least, most = bounds.get(name, (-np.inf, np.inf))
    wrong: Any  # numpy types masks of arrays and masks of scalars differently
    if kind == np.float16:  # compared by its bits, because numpy compares float16 slowly
        bits = np.ascontiguousarray(column).view(np.uint16)
        largest = min(max(-least, most), HALF_MAX)
        limit = int(np.array(largest, np.float16).view(np.uint16))
        wrong = (bits & np.uint16(0x7FFF)) > np.uint16(limit)
        if least >= 0:
            wrong |= bits > np.uint16(0x8000)
        if name in forecast.NAN_MISSING and wrong.any():
            wrong &= (bits & np.uint16(0x7FFF)) <= np.uint16(0x7C00)
    elif kind.kind == "f":
        finite = float(np.finfo(kind).max)
        wrong = ~((column >= max(least, -finite)) & (column <= min(most, finite)))
    elif name in bounds:
        wrong = (column < least) | (column > most)
    else:
        return None
    of_row: Bools = wrong.reshape(len(rows), -1).any(axis=1)
    return of_row


def out_of_time(rows: Rows, step_s: int) -> Bools:
    """Which rows have times that contradict each other or are out of the calendar's range."""
    time = rows["time"]
    known = np.where((time >= 0) & (time < TIME_MAX), time, 0.0)
    step = np.floor(known / step_s).astype(np.int64)
    apart = rows["open"] - step
    far = (rows["kind"] != 0) & ((apart < -BEHIND_MAX) | (apart > 2))
    wrong: Bools = far | (known != time) | (rows["offset"] <= 0) | ~grid.track_is_possible(rows)
    return wrong


def other_step(rows: Rows, page: Page, then_s: int, now_s: int) -> None:
    """Keep in *rows* the columns that stay valid when a step lasts *now_s*, not *then_s*."""
    age = rows["age"].astype(np.float64) * then_s / now_s
    age = np.where(rows["age"] > 0, np.clip(age, 1, 2**32 - 2), 0)
    seen = np.minimum(rows["seen"].astype(np.float64), np.minimum(age, SEEN_MAX))
    stay = {"time", "offset", *grid.ANY_STEP, *forecast.ANY_STEP}
    stay |= burst_memory.kept_columns(then_s, now_s)
    rings = {cycle.name: cycle for cycle in seasonal.cycles(now_s)}
    for name in rows.dtype.names or ():
        if name not in stay and name not in rings:
            rows[name] = np.zeros((), rows.dtype[name])
    for before in seasonal.cycles(then_s):
        after, ring = rings[before.name], page.stored[before.name]
        slots = before.slots
        if ring.dtype != np.float16 or ring.shape != (len(rows), slots):
            raise Unreadable(f"column {before.name} is of another shape than its step implies")
        if before != after:
            rows[before.name] = seasonal.regridded(ring, before, after)
    rows["age"], rows["seen"] = age, seen
    time = np.where(np.isfinite(rows["time"]), rows["time"], 0.0)
    rows["open"] = rows["track"] = np.floor(np.clip(time, 0, TIME_MAX) / now_s)


def meaning_of(cell: str, step_s: int, horizons: int, quantiles: tuple[float, ...]) -> Meaning:
    """The meaning of columns under the current settings."""
    return Meaning(step_s=step_s, horizons=horizons, quantiles=quantiles, cell=cell)


def bounds() -> Bounds:
    """The bounds of all columns that have any."""
    return {**grid.BOUNDS, **forecast.BOUNDS, **lifecycle.BOUNDS, "age": (0, scale.AGE_MAX)}
