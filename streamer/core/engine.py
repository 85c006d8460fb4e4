"""
The engine: records in, a TurnResult out. It uses no clock, log or random numbers.

`Engine.step` is the single path of a counter message. `replay` takes the same path
without publishing, for records that a restored row has yet to read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.config.types import Settings
from streamer.core import wire
from streamer.core.backlog import Portion, closing_steps, trimmed
from streamer.core.budget import Budget, occurrence
from streamer.core.columns import Columns, Rows, Slots
from streamer.core.failures import Action, Failures
from streamer.core.features import grid, units, verdicts
from streamer.core.features.grid import GridConfig
from streamer.core.features.inputs import Inputs
from streamer.core.features.verdicts import Verdict
from streamer.core.network.config import Model
from streamer.core.predict import pipeline, selection
from streamer.core.predict.pipeline import ForecastSpec
from streamer.core.predict.score_totals import ScoreTotals
from streamer.core.registry.models import ModelRegistry, RegistryUpdate, WeightsValidator
from streamer.core.registry.rollout import ModelRollout
from streamer.core.state import checkpoint, restoring
from streamer.core.state.allocation import Refused, SlotAllocator
from streamer.core.state.checkpoint import CheckpointProgress
from streamer.core.state.loading import Loader, bounds, meaning_of
from streamer.core.state.restoring import Restored
from streamer.core.state.spread import Spread
from streamer.core.state.table import PAGE_ROWS, FlowTable, row_type
from streamer.core.types import (
    Forecasts,
    Notice,
    Partition,
    Readings,
    Reason,
    Record,
    Reject,
    StateRecord,
    TurnResult,
    lanes,
)
from streamer.core.wire import InputConfig
from streamer.core.wire.forecasts import ForecastsConfig
from streamer.core.wire.scores import ScoresConfig

Look = Callable[[], None]  # called between two units of work; it may raise to end the turn
InputHook = Callable[[Sequence[str], NDArray[np.int64], NDArray[np.float64], Inputs], None]

NOTICES_MAX = 100  # notices per turn
PAGE_BYTES_MAX = 700_000  # bound of a saved page: brokers take 1 MiB by default
WAVE_ROWS = 1024  # rows that fit a CPU cache together with all intermediate results


class EngineConfig(Settings, frozen=True, kw_only=True):
    """All settings that affect forecasts; equal settings and input give equal forecasts."""

    flows_max: Annotated[int, msgspec.Meta(ge=1)] = 200_000  # for all partitions together
    input: InputConfig = InputConfig()
    grid: GridConfig = GridConfig()
    forecasts: ForecastsConfig = ForecastsConfig()
    scores: ScoresConfig = ScoresConfig()


class Engine:
    """
    Updates the rows of flows with records and makes forecasts.

    Each partition may hold its equal share of `flows_max`. So the flows that it
    evicts do not depend on the assignment of the other partitions.
    """

    def __init__(
        self,
        model: Model,
        config: EngineConfig,
        page_rows: int = PAGE_ROWS,
        admit: WeightsValidator | None = None,
        budget: Budget | None = None,
    ) -> None:
        """
        *model* is the model from the settings; *admit* makes models of learned weights.

        With a *budget*, a step does at most that much work and leaves the other records to
        later steps. Without one, it takes all records.
        """
        self.generations = ModelRegistry(model, admit)
        self.config = config
        self.input_hook: InputHook | None = (
            None  # called with the network's inputs, to score a model on them
        )
        self.outlook = ForecastSpec(
            step_s=int(config.grid.step),
            horizons=config.forecasts.horizons,
            quantiles=config.forecasts.quantiles,
        )
        row_bytes = row_type(self.columns()).itemsize + config.input.flow_bytes_max
        page_rows = max(1, min(page_rows, PAGE_BYTES_MAX // row_bytes))
        self.table = FlowTable(self.columns(), config.flows_max, page_rows)
        self.table.generation = model.generation
        self.rollout = ModelRollout(self.table, self.generations, self.outlook.step_s)
        self._progress: dict[Partition, CheckpointProgress] = {}
        self._next_offsets: dict[Partition, int] = {}
        self._needed: dict[Partition, Mapping[str, int]] = {}  # next offsets of evicted flows
        self._spread = Spread(self.table)
        self._tally = self._new_tally()
        self._pending_records: list[StateRecord] = []  # evictions that the next turn publishes
        self._budget = budget
        self._notices: list[Notice] = []
        self._backlog: list[Portion] = []  # decoded records that no step has taken yet
        self.current: Sequence[Record] = ()  # those of the current step or replay

    def columns(self) -> Columns:
        """The columns of all stages; the table adds its own."""
        return grid.COLUMNS + pipeline.columns(self.model.config, self.outlook)

    @property
    def loader(self) -> Loader:
        """The loader for rows that were saved under these or other settings."""
        shape = self.model.config
        cell = f"{shape.cell} of {shape.layers} x {shape.hidden}"
        outlook = self.outlook
        meaning = meaning_of(cell, outlook.step_s, outlook.horizons, outlook.quantiles)
        return Loader(meaning, bounds())

    @property
    def model(self) -> Model:
        """The incumbent's model, to which pages migrate."""
        return self.generations.model

    def learn(self, table: Mapping[bytes, bytes]) -> RegistryUpdate:
        """Load the models topic's *table*: before a restore, or if weights are missing."""
        update = self.generations.load(table)
        self.table.generation = self.generations.incumbent
        return update

    def hear(self, records: Sequence[Record]) -> RegistryUpdate:
        """Apply new records of the models topic."""
        update = self.generations.apply(records)
        self.table.generation = self.generations.incumbent
        return update

    def adopt(self, model: Model) -> None:
        """Make *model* the incumbent and migrate all pages at once; only outside of service."""
        self.generations.install(model)
        self.table.generation = model.generation
        self.rollout.advance(self.rollout.stale_pages())

    def release(self, partitions: Iterable[Partition]) -> None:
        """Drop the flows of partitions that are no longer assigned."""
        gone = frozenset(partitions)
        self._backlog = [each.without(gone) for each in self._backlog] if gone else self._backlog
        for partition in gone:
            self.rollout.forget(partition)
            self.table.release(partition)
            del self._progress[partition], self._next_offsets[partition]
            self._needed.pop(partition, None)
        self._pending_records = [
            entry for entry in self._pending_records if entry.partition in self._next_offsets
        ]

    def restore(
        self,
        partition: Partition,
        table: Mapping[bytes, bytes],
        committed: int,
        partitions_total: int,
        suspects: Failures | None = None,
    ) -> tuple[int, Restored]:
        """
        Restore a partition from its *table* of saved entries.

        *suspects* are records that made a turn fail and whose failure is not saved yet.
        Returns the replay offset, from which the input is to be replayed up to
        *committed*, the group's next offset, and the result of the restore.
        """
        self.table.add_partition(partition, max(1, self.config.flows_max // partitions_total))
        restored = restoring.restore(
            self.table, partition, table, committed, self._known, self.loader
        )
        self.rollout.schedule_rebuild(restored.unprimed)
        self._spread.note({partition: self.table.flows(partition)})
        restored.progress.failed.update((suspects or {}).get(partition, {}))
        self._progress[partition] = restored.progress
        self._needed[partition] = restored.needed
        self._next_offsets[partition] = committed
        return min(restored.progress.floor, committed), restored

    def replay(self, records: Sequence[Record], look: Look = lambda: None) -> None:
        """
        Process records that were published before, without a result; each row skips what it has.

        Call it only after all states are rebuilt: no row may be stepped with weights that did not
        produce its state.

        Whether a row has a record is decided before any of the record's readings is taken,
        because a record may hold several readings of one flow.
        """
        for some in self._apart(records):
            self.current = some
            portion = self._decode(some)
            fresh = portion.readings.offset >= self._known_before(portion.readings)
            readings = portion.readings.take(np.flatnonzero(fresh))
            self._start_anew(some, readings)
            for _ in self._process(readings, SlotAllocator(), Counter(), look):
                pass  # published before
            self._pending_records += self._failure_entries(some)

    @property
    def waiting(self) -> bool:
        """Whether there are records that no step has taken yet."""
        return bool(self._backlog)

    def step(
        self,
        records: Sequence[Record],
        share: float = 0.0,
        records_max: int | None = None,
        look: Look = lambda: None,
    ) -> TurnResult:
        """
        Process records and return the result of the turn.

        *share* is the part of a round over the pages that is saved
        with it. At most *records_max* records are taken, and as many as the budget allows; the
        others are left to the next steps. No part of the result may be published without the rest
        of it. After an exception from *look* or any other exception, rows are partly updated: they
        must be dropped.
        """
        self._needed.clear()  # replay is complete
        assert not self.rollout.pending_rebuild, "a restored row's state is not its page's"
        self._tally = self._new_tally()  # periods that ended in a replay were published before
        self._notices = []
        self.current = records
        taken = self._take_in(records, records_max)
        self.current = taken.records
        rejects, counts, allocator = taken.rejects, taken.counts, SlotAllocator()
        counts["flows_reset"] += self._start_anew(taken.records, taken.readings)
        forecasts = list(self._process(taken.readings, allocator, counts, look))
        self._spread.note(allocator.met)
        spread = self._spread.confirmed()
        counts["flows_in_two_partitions"] += len(spread)
        rejects += [no_room(refused, taken.records) for refused in allocator.refused]
        counts[f"rejected.{Reason.NO_ROOM}"] += len(allocator.refused)
        offsets = {record.partition: record.offset + 1 for record in taken.records}
        self._next_offsets.update(offsets)
        entries = self._pending_records + self._failure_entries(taken.records)
        self._pending_records = []
        entries += self._save(share, counts)
        for entry in entries:  # the commit of these offsets fails if a partition was revoked
            offsets.setdefault(entry.partition, self._next_offsets[entry.partition])
        counts["forecasts"] = sum(len(wave.flow) for wave in forecasts)
        counts["pages"] = len(entries)
        scores = self._tally.told()
        counts["scores"] = len(scores)
        taken_up = self.rollout.finished()
        notices, self._notices = self._notices[:NOTICES_MAX], []
        return TurnResult(
            forecasts, rejects, entries, offsets, scores, counts, taken_up, spread, notices
        )

    def _save(self, share: float, counts: Counter[str]) -> list[StateRecord]:
        """The pages that this turn saves: *share* of a round, and the pages that just migrated."""
        entries: list[StateRecord] = []
        digests = self.generations.digests
        saved = self.rollout.drain_migrated_pages()
        counts["pages_taken_up"] = len(saved)
        for partition, page in saved:  # saved now: a crash must not revert published forecasts
            progress = self._progress[partition]
            entries += checkpoint.save_now(progress, self.table, partition, page, digests)
        for partition, progress in self._progress.items():
            entries += checkpoint.due_pages(
                progress,
                self.table,
                partition,
                next_offset=self._next_offsets[partition],
                share=share,
                digests=digests,
            )
        return entries

    def _take_in(self, records: Sequence[Record], records_max: int | None) -> Portion:
        """Decode *records*, and take as many waiting records as this step can do."""
        if records or not self._backlog:
            self._backlog.append(self._decode(records))
        first = self._backlog[0]
        number = len(first.records) if self._budget is None else self._affordable(first)
        number = min(number, records_max or number)
        if number == len(first.records):
            return self._backlog.pop(0)
        taken, self._backlog[0] = first.cut(number)
        return taken

    def _affordable(self, portion: Portion) -> int:
        """How many of its records fit into the budget of a step; at least one."""
        assert self._budget is not None
        readings, step_s = portion.readings, self.outlook.step_s
        count = len(readings)
        flows, before = np.empty(count, np.int64), readings.time.copy()
        unknown_flows: dict[tuple[Partition, str], int] = {}
        for partition, lane in lanes(readings.partition).items():
            names = [readings.flow[i] for i in lane]
            found = self.table.find(partition, names)
            slots = np.array([-1 if slot is None else slot for slot in found], np.int64)
            index, known = np.array(lane, np.intp), slots >= 0
            before[index[known]] = self.table.rows["time"][slots[known]]
            for i in np.flatnonzero(~known).tolist():
                key = partition, names[i]
                slots[i] = unknown_flows.setdefault(key, -1 - len(unknown_flows))
            flows[index] = slots
        closing = closing_steps(flows, readings.time / step_s, before / step_s)
        closing = np.minimum(closing, self.config.grid.gap_max + grid.OPEN_MAX)
        fits = self._budget.fitting(flows, closing)
        return max(1, int(portion.record[fits])) if fits < count else len(portion.records)

    def _decode(self, records: Sequence[Record]) -> Portion:
        """*records* as readings and rejects; records that made a turn fail are rejected."""
        failed = [self._failure(record, Action.REJECT) for record in records]
        sound = np.array([each is None for each in failed], bool)
        kept = [record for record, fine in zip(records, sound, strict=True) if fine]
        heard = wire.decode(kept, self.config.input)
        heard.record = np.flatnonzero(sound)[heard.record]
        config = self.config.grid
        portion = (
            trimmed(heard, records, int(config.step), config.gap_max)
            if self._budget is not None
            else Portion(list(records), heard.readings, heard.rejects, heard.record, heard.counts)
        )
        for record, error in zip(records, failed, strict=True):
            if error is not None:
                portion.rejects.append(Reject(record, Reason.FAILED, None, error))
                portion.counts[f"rejected.{Reason.FAILED}"] += 1
        return portion

    def _failure(self, record: Record, action: Action) -> str | None:
        """The name of the exception that *record* raised, if the action on it is *action*."""
        progress = self._progress.get(record.partition)
        failure = None if progress is None else progress.failed.get(record.offset)
        return failure.error if failure is not None and failure.action is action else None

    def _apart(self, records: Sequence[Record]) -> Iterator[Sequence[Record]]:
        """*records* in runs; a record before which flows are reset is in a run of its own."""
        first = 0
        for nth, record in enumerate(records):
            if self._failure(record, Action.RESET) is not None:
                yield records[first:nth]
                yield records[nth : nth + 1]
                first = nth + 1
        yield records[first:]

    def _start_anew(self, records: Sequence[Record], readings: Readings) -> int:
        """Clear the rows of flows whose record made a turn fail; returns the number of rows."""
        if not any(self._failure(record, Action.RESET) for record in records):
            return 0
        number = 0
        for partition, lane in lanes(readings.partition).items():
            found = self.table.find(partition, {readings.flow[i]: None for i in lane})
            slots = np.array([slot for slot in found if slot is not None], np.intp)
            self.table.scatter(slots, np.zeros(len(slots), self.table.rows.dtype))
            number += len(slots)
        return number

    def _failure_entries(self, records: Sequence[Record]) -> list[StateRecord]:
        """The entries to save for those of *records* that made a turn fail."""
        return [
            checkpoint.failure_entry(
                record.partition, record.offset, progress.failed[record.offset]
            )
            for record in records
            if (progress := self._progress.get(record.partition)) is not None
            and record.offset in progress.failed
        ]

    def _new_tally(self) -> ScoreTotals:
        return ScoreTotals(self.outlook.step_s, int(self.config.scores.every))

    def step_without_saving(
        self,
        records: Sequence[Record],
        wanted: Callable[[str], bool],
        look: Look = lambda: None,
    ) -> list[Forecasts]:
        """
        Take in the readings of flows that are *wanted*, as `step` would; nothing is saved.

        For the trainer, which needs only a sample of the flows.
        """
        readings = self._decode(records).readings
        places = [place for place, flow in enumerate(readings.flow) if wanted(flow)]
        run = readings.take(np.array(places, np.intp))
        forecasts = list(self._process(run, SlotAllocator(), Counter(), look))
        self._pending_records.clear()
        self._tally = self._new_tally()
        self.rollout.drain_migrated_pages()
        self.rollout.finished()
        return forecasts

    def rows_of(self, partition: Partition, flows: Sequence[str]) -> tuple[NDArray[np.bool_], Rows]:
        """Which of *flows* have a slot in an assigned partition, and copies of their rows."""
        found = self.table.find(partition, flows)
        slots = [slot for slot in found if slot is not None]
        seated = np.array([slot is not None for slot in found], bool)
        return seated, self.table.gather(np.array(slots, np.intp))

    def _known_before(self, readings: Readings) -> NDArray[np.int64]:
        """For each reading, the offset before which its flow, in a slot or evicted, is complete."""
        known = np.zeros(len(readings), np.int64)
        for partition, lane in lanes(readings.partition).items():
            flows = [readings.flow[i] for i in lane]
            found = self.table.find(partition, flows)
            needed = self._needed.get(partition, {})
            slots = np.array([-1 if slot is None else slot for slot in found], np.intp)
            evicted = np.array([needed.get(flow, 0) for flow in flows], np.int64)
            known[lane] = np.where(slots >= 0, self.table.rows["offset"][slots], evicted)
        return known

    def _process(
        self, readings: Readings, allocator: SlotAllocator, counts: Counter[str], look: Look
    ) -> Iterator[Forecasts]:
        for run, slots in allocator.allocate_batches(self.table, readings):
            for places in waves(slots):
                for part in self._by_generation(slots, places):
                    for made in self._process_wave(run.take(part), slots[part], counts):
                        yield made
                        look()
                look()
        for each in allocator.evictions:
            counts["evicted"] += len(each.flows)
            progress = self._progress[each.partition]
            self._pending_records += checkpoint.record_evictions(
                progress, each.partition, each.flows, each.offset
            )

    def _by_generation(self, slots: Slots, places: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
        """Cut a wave so that one model steps all rows of a part."""
        of_each = self.table.generation_of(slots[places])
        if (of_each == of_each[0]).all():  # the usual case
            yield places
            return
        for generation in np.unique(of_each):
            yield places[of_each == generation]

    def _known(self, generation: int, digest: str) -> bool:
        """Whether the weights of that *generation* are available and their digest is *digest*."""
        model = self.generations.fetch(generation)
        return model is not None and digest in {"", model.digest}

    def _process_wave(
        self, wave: Readings, slots: Slots, counts: Counter[str]
    ) -> Iterator[Forecasts]:
        """Process one wave: no flow is in it twice, so whole columns are processed at once."""
        rows = self.table.gather(slots)
        units.convert(rows, wave, counts)
        taken, odd = verdicts.resolve_held(rows, wave, self.config.grid.rate_max)
        if taken.any():  # held readings come before the readings that confirm them
            index = np.flatnonzero(taken)
            some, now = rows[index], wave.take(index)
            held = verdicts.held_wave(some, now)
            some["held"] = verdicts.Held.NOTHING
            yield from self._advance(some, held, slots[index], counts, trusted=True)
            rows[index] = some
        if odd.any():
            counts["verdict.odd"] += int(odd.sum())
            twofold = verdicts.leave_out(rows, odd)
            self._notices += [Notice("two_sources", wave.flow[i]) for i in twofold.tolist()]
        yield from self._advance(rows, wave, slots, counts, trusted=False)
        rows["offset"] = wave.offset + 1
        self.table.scatter(slots, rows)

    def _advance(
        self, rows: Rows, wave: Readings, slots: Slots, counts: Counter[str], *, trusted: bool
    ) -> Iterator[Forecasts]:
        """Update *rows* with *wave*, and forecast after each step that it closes."""
        config = self.config.grid
        heard = grid.match(rows, wave, config, trusted=trusted)
        for nth in range(int(heard.steps.max(initial=0))):
            due = np.flatnonzero(heard.steps > nth)
            every = len(due) == len(rows)  # the usual case: no rows need to be selected
            closing = rows if every else rows[due]
            rates, steps = grid.close(closing, grid.take(heard, due), nth, config)
            now = (wave, slots) if every else (wave.take(due), slots[due])
            made = self._forecast(closing, rates, steps, *now)
            if not every:
                rows[due] = closing
            yield made
        other = (heard.verdicts == Verdict.FIRST) & (rows["kind"] != 0)
        rows[other] = np.zeros((), rows.dtype)  # another kind of reading starts a new flow
        pipeline.restart(rows, heard.verdicts == Verdict.GAP)
        grid.store_open(rows, wave, heard, config, trusted=trusted)
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
        """Forecasts after the steps that *wave* has just closed; all rows have the same model."""
        model = self.generations[int(self.table.generation_of(slots[:1])[0])]
        inputs = pipeline.prepare(rows, rates, steps, self.outlook)
        if self.input_hook is not None:
            self.input_hook(wave.flow, steps, rates, inputs)
        outputs, rows["state"] = model.step(inputs, rows["state"])
        if self.rollout.trial is not None:
            self.rollout.trial.observe(slots, rows, inputs, outputs, rates, steps)
        bands = pipeline.postprocess(rows, outputs, inputs, steps, self.outlook)
        self._tally.take(rows, steps, model.served_by, model.generation)
        made = Forecasts(
            partition=wave.partition,
            flow=wave.flow,
            unit=grid.unit_of_rate(rows),
            made_at=(steps + 1) * int(self.config.grid.step),
            rate=rates,
            bands=bands,
            served_by=selection.names(rows, model.served_by),
            generation=model.generation,
        )
        before = grid.forecast_before(rows, steps)
        return made if not before.any() else made.take(np.flatnonzero(~before))


def no_room(refused: Refused, records: Sequence[Record]) -> Reject:
    """The reject of a record if some of its flows got no slot."""
    where = refused.partition, refused.offset
    record = next(r for r in records if (r.partition, r.offset) == where)
    return Reject(record, Reason.NO_ROOM, detail=f"{refused.flows} flows found no room")


def waves(slots: Slots) -> Iterator[NDArray[np.intp]]:
    """
    Cut readings into waves: a slot is at most once in a wave, and its readings keep their order.

    The second reading of a flow needs the row as the first one has left
    it, so it is in the second wave. A wave has at most WAVE_ROWS readings.
    """
    nth = occurrence(slots)
    by_wave = np.argsort(nth, kind="stable")
    for wave in np.split(by_wave, np.cumsum(np.bincount(nth))[:-1]) if len(slots) else ():
        for first in range(0, len(wave), WAVE_ROWS):
            yield wave[first : first + WAVE_ROWS]
