"""
The pure heart: records in, an epoch out. No clock, no log, no chance.

`Engine.step` is the one path of a counter message; `replay` is the same path
without telling anyone, for what a restored row has yet to read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.core import forecast, grid, pages, serve, wire
from streamer.core.arena import PAGE_ROWS, Arena, Columns, Rows, Slots
from streamer.core.facts import (
    Entry,
    Epoch,
    Forecasts,
    Partition,
    Readings,
    Reason,
    Record,
    Reject,
    lanes,
)
from streamer.core.forecast import Outlook
from streamer.core.generations import Admit, Generations, Tidings
from streamer.core.grid import GridConfig, Verdict
from streamer.core.inputs import Inputs
from streamer.core.pages import Keeping, Restored
from streamer.core.seating import Refused, Seating
from streamer.core.settings import Settings
from streamer.core.shape import Model
from streamer.core.taking import Taking
from streamer.core.tally import Tally
from streamer.core.wire import InputConfig
from streamer.core.wire.forecasts import ForecastsConfig
from streamer.core.wire.scores import ScoresConfig

Overhears = Callable[[Sequence[str], NDArray[np.int64], NDArray[np.float64], Inputs], None]

WAVE_ROWS = 1024  # rows that a processor's cache holds with all that is computed of them


class EngineConfig(Settings, frozen=True, kw_only=True):
    """All that bears on what is forecast; equal settings and input give equal forecasts."""

    flows_max: Annotated[int, msgspec.Meta(ge=1)] = 200_000  # of all partitions together
    input: InputConfig = InputConfig()
    grid: GridConfig = GridConfig()
    forecasts: ForecastsConfig = ForecastsConfig()
    scores: ScoresConfig = ScoresConfig()


class Engine:
    """
    Rows of flows, and what becomes of them as records come.

    A partition's flows may fill its even share of `flows_max`, so which of
    them give way does not depend on who holds the other partitions.
    """

    def __init__(
        self,
        model: Model,
        config: EngineConfig,
        page_rows: int = PAGE_ROWS,
        admit: Admit | None = None,
    ) -> None:
        """*model* is the settings'; *admit* makes models of weights that are learned."""
        self.generations = Generations(model, admit)
        self.config = config
        self.overhears: Overhears | None = None  # who is told what the network is told, to judge it
        self.outlook = Outlook(
            step_s=int(config.grid.step),
            horizons=config.forecasts.horizons,
            quantiles=config.forecasts.quantiles,
        )
        self.arena = Arena(self.columns(), config.flows_max, page_rows)
        self.arena.generation = model.generation
        self.taking = Taking(self.arena, self.generations, self.outlook.step_s)
        self._keepings: dict[Partition, Keeping] = {}
        self._next: dict[Partition, int] = {}
        self._needed: dict[Partition, Mapping[str, int]] = {}  # of flows evicted before a restore
        self._tally = self._new_tally()
        self._owed: list[Entry] = []  # evictions that the next epoch will tell

    def columns(self) -> Columns:
        """What the stages keep of a flow, beside where it stands."""
        return grid.COLUMNS + forecast.columns(self.model.config, self.outlook)

    @property
    def model(self) -> Model:
        """The incumbent's, which pages go over to."""
        return self.generations.model

    def learn(self, table: Mapping[bytes, bytes]) -> Tidings:
        """Take in the models topic's *table*: before a restore, and where weights are wanting."""
        tidings = self.generations.learn(table)
        self.arena.generation = self.generations.incumbent
        return tidings

    def hear(self, records: Sequence[Record]) -> Tidings:
        """Take in what is new on the models topic."""
        tidings = self.generations.hear(records)
        self.arena.generation = self.generations.incumbent
        return tidings

    def adopt(self, model: Model) -> None:
        """Have *model* serve from here on, in every page at once: where nobody waits for a turn."""
        self.generations.install(model)
        self.arena.generation = model.generation
        self.taking.advance(self.taking.behind())

    def release(self, partitions: Iterable[Partition]) -> None:
        """Forget the flows of partitions that are no longer ours."""
        for partition in partitions:
            self.taking.forget(partition)
            self.arena.release(partition)
            del self._keepings[partition], self._next[partition]
            self._needed.pop(partition, None)
        self._owed = [entry for entry in self._owed if entry.partition in self._next]

    def restore(
        self,
        partition: Partition,
        table: Mapping[bytes, bytes],
        committed: int,
        partitions_total: int,
    ) -> tuple[int, Restored]:
        """
        Take in a partition as its *table* of saved entries has it.

        Returns the offset from which its input is to be replayed up to
        *committed*, the group's next one, and what was found.
        """
        self.arena.gain(partition, max(1, self.config.flows_max // partitions_total))
        restored = pages.restore(self.arena, partition, table, committed, self._known)
        self.taking.owe(restored.unprimed)
        self._keepings[partition] = restored.keeping
        self._needed[partition] = restored.needed
        self._next[partition] = committed
        return min(restored.keeping.floor, committed), restored

    def replay(self, records: Sequence[Record]) -> None:
        """
        Read again what was told before, in silence; each row skips what it knows.

        Not before `taking.settle` has nothing left: rows step from a state of their page's.

        Whether a row knows a record is settled before any of them is taken:
        a record may hold several readings of one flow.
        """
        heard = wire.decode(records, self.config.input)
        fresh = heard.readings.offset >= self._known_before(heard.readings)
        for _ in self._think(heard.readings.take(np.flatnonzero(fresh)), Seating(), Counter()):
            pass  # told already

    def step(self, records: Sequence[Record], share: float = 0.0) -> Epoch:
        """
        Take records in and say what follows from them.

        *share* is the part of a round over the pages that is to be saved
        with it. Nothing of the epoch may be told without the rest of it.
        """
        self._needed.clear()  # all that was replayed is behind us
        assert not self.taking.owed, "a restored row's state is not its page's"
        self._tally = self._new_tally()  # periods that ended in a replay were told before
        heard = wire.decode(records, self.config.input)
        rejects, counts, seating = heard.rejects, heard.counts, Seating()
        forecasts = list(self._think(heard.readings, seating, counts))
        rejects += [no_room(refused, records) for refused in seating.refused]
        counts[f"rejected.{Reason.NO_ROOM}"] += len(seating.refused)
        offsets = {record.partition: record.offset + 1 for record in records}
        self._next.update(offsets)
        entries, self._owed = self._owed, []
        digests = self.generations.digests
        saved = self.taking.saved()
        for partition, page in saved:  # or a crash would undo what was told of them
            keeping = self._keepings[partition]
            entries += pages.out_of_turn(keeping, self.arena, partition, page, digests)
        for partition, keeping in self._keepings.items():
            entries += pages.advance(
                keeping,
                self.arena,
                partition,
                next_offset=self._next[partition],
                share=share,
                digests=digests,
            )
        for entry in entries:  # whoever saves must still hold the partition
            offsets.setdefault(entry.partition, self._next[entry.partition])
        counts["forecasts"] = sum(len(wave.flow) for wave in forecasts)
        counts["pages"] = len(entries)
        counts["pages_taken_up"] = len(saved)
        scores = self._tally.told()
        counts["scores"] = len(scores)
        return Epoch(forecasts, rejects, entries, offsets, scores, counts, self.taking.finished())

    def _new_tally(self) -> Tally:
        return Tally(self.outlook.step_s, int(self.config.scores.every))

    def listen(self, records: Sequence[Record], wanted: Callable[[str], bool]) -> list[Forecasts]:
        """
        Take in the readings of flows that are *wanted*, as `step` would; nothing is saved.

        For who learns: what becomes of the other flows is none of its business.
        """
        readings = wire.decode(records, self.config.input).readings
        places = [place for place, flow in enumerate(readings.flow) if wanted(flow)]
        run = readings.take(np.array(places, np.intp))
        forecasts = list(self._think(run, Seating(), Counter()))
        self._owed.clear()
        self._tally = self._new_tally()
        self.taking.saved()
        self.taking.finished()
        return forecasts

    def rows_of(self, partition: Partition, flows: Sequence[str]) -> tuple[NDArray[np.bool_], Rows]:
        """Which of *flows* are seated in a partition that is here, and copies of their rows."""
        found = self.arena.find(partition, flows)
        slots = [slot for slot in found if slot is not None]
        seated = np.array([slot is not None for slot in found], bool)
        return seated, self.arena.gather(np.array(slots, np.intp))

    def _known_before(self, readings: Readings) -> NDArray[np.int64]:
        """The offset before which each one's flow, seated or evicted, needs no record any more."""
        known = np.zeros(len(readings), np.int64)
        for partition, lane in lanes(readings.partition).items():
            flows = [readings.flow[i] for i in lane]
            found = self.arena.find(partition, flows)
            needed = self._needed.get(partition, {})
            slots = np.array([-1 if slot is None else slot for slot in found], np.intp)
            evicted = np.array([needed.get(flow, 0) for flow in flows], np.int64)
            known[lane] = np.where(slots >= 0, self.arena.rows["offset"][slots], evicted)
        return known

    def _think(
        self, readings: Readings, seating: Seating, counts: Counter[str]
    ) -> Iterator[Forecasts]:
        for run, slots in seating.runs(self.arena, readings):
            for places in waves(slots):
                for part in self._by_generation(slots, places):
                    yield from self._take(run.take(part), slots[part], counts)
        for each in seating.evictions:
            counts["evicted"] += len(each.flows)
            keeping = self._keepings[each.partition]
            entry = pages.forget(keeping, each.partition, each.flows, each.offset)
            self._owed.append(entry)

    def _by_generation(self, slots: Slots, places: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
        """A wave, cut so that one model steps all rows of a part."""
        of_each = self.arena.generation_of(slots[places])
        if (of_each == of_each[0]).all():  # as a rule
            yield places
            return
        for generation in np.unique(of_each):
            yield places[of_each == generation]

    def _known(self, generation: int, digest: str) -> bool:
        """Whether we have the weights of that *generation*, and they are those of *digest*."""
        model = self.generations.fetch(generation)
        return model is not None and digest in {"", model.digest}

    def _take(self, wave: Readings, slots: Slots, counts: Counter[str]) -> Iterator[Forecasts]:
        """One wave: no flow is twice in it, so whole columns are worked on at once."""
        config = self.config.grid
        rows = self.arena.gather(slots)
        heard = grid.hear(rows, wave, config)
        for nth in range(int(heard.steps.max(initial=0))):
            due = np.flatnonzero(heard.steps > nth)
            every = len(due) == len(rows)  # as a rule: then there is nothing to pick out
            closing = rows if every else rows[due]
            rates, steps = grid.close(closing, grid.pick(heard, due), nth, config)
            now = (wave, slots) if every else (wave.take(due), slots[due])
            yield self._forecast(closing, rates, steps, *now)
            if not every:
                rows[due] = closing
        other = (heard.verdicts == Verdict.FIRST) & (rows["kind"] != 0)
        rows[other] = np.zeros((), rows.dtype)  # another kind of reading: another flow
        forecast.restart(rows, heard.verdicts == Verdict.GAP)
        grid.keep(rows, wave, heard, config)
        rows["offset"] = wave.offset + 1
        self.arena.scatter(slots, rows)
        for verdict, number in enumerate(np.bincount(heard.verdicts).tolist()):
            if number:
                counts[f"verdict.{Verdict(verdict).name.lower()}"] += number

    def _forecast(
        self,
        rows: Rows,
        rates: NDArray[np.float64],
        steps: NDArray[np.int64],
        wave: Readings,
        slots: Slots,
    ) -> Forecasts:
        """What the steps that *wave* has just closed say of those to come; by one model."""
        model = self.generations[int(self.arena.generation_of(slots[:1])[0])]
        inputs = forecast.prepare(rows, rates, steps, self.outlook)
        if self.overhears is not None:
            self.overhears(wave.flow, steps, rates, inputs)
        outputs, rows["state"] = model.step(inputs, rows["state"])
        if self.taking.trial is not None:
            self.taking.trial.watch(slots, rows, inputs, outputs, rates, steps)
        bands = forecast.read(rows, outputs, inputs, steps, self.outlook)
        self._tally.take(rows, steps, model.served_by, model.generation)
        return Forecasts(
            partition=wave.partition,
            flow=wave.flow,
            unit=grid.unit_of_rate(rows),
            made_at=(steps + 1) * int(self.config.grid.step),
            rate=rates,
            bands=bands,
            served_by=serve.names(rows, model.served_by),
            generation=model.generation,
        )


def no_room(refused: Refused, records: Sequence[Record]) -> Reject:
    """A record some of whose flows found no room, as a reject."""
    where = refused.partition, refused.offset
    record = next(r for r in records if (r.partition, r.offset) == where)
    return Reject(record, Reason.NO_ROOM, detail=f"{refused.flows} flows found no room")


def waves(slots: Slots) -> Iterator[NDArray[np.intp]]:
    """
    Lay readings into waves: no slot twice in a wave, each slot in its order.

    The second reading of a flow must see the row that the first left
    behind, so it travels in the second wave. A wave is no longer than WAVE_ROWS.
    """
    order = np.argsort(slots, kind="stable")
    laid = slots[order]
    begins = np.flatnonzero(np.concatenate(([True], laid[1:] != laid[:-1])))[: len(laid)]
    lengths = np.diff(np.append(begins, len(laid)))
    nth = np.empty(len(slots), np.intp)
    nth[order] = np.arange(len(slots)) - np.repeat(begins, lengths)
    by_wave = np.argsort(nth, kind="stable")
    for wave in np.split(by_wave, np.cumsum(np.bincount(nth))[:-1]) if len(slots) else ():
        for first in range(0, len(wave), WAVE_ROWS):
            yield wave[first : first + WAVE_ROWS]
