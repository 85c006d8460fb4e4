"""
Records in, a `TurnResult` out. The engine has no clock, no log and no randomness.

`Engine.step` is the way of a counter message: decode, allocate slots, run the pipeline, checkpoint.
`Engine.replay` is the same way without results, for the input that a restored row has not seen yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.config.types import Settings
from streamer.core.alerts.rules import SILENCE, AlertsConfig
from streamer.core.alerts.silence import seen
from streamer.core.budget import Budget, occurrence
from streamer.core.columns import Columns, Rows, Slots
from streamer.core.failures import Failure, Failures
from streamer.core.features.grid import GridConfig
from streamer.core.features.inputs import Inputs
from streamer.core.features.scale import Floats, Steps
from streamer.core.intake import Intake
from streamer.core.network.config import Model, PeakModel
from streamer.core.predict.forecast import ForecastSpec
from streamer.core.predict.pipeline import InputHook, OutputHook, Pipeline
from streamer.core.registry.models import ModelRegistry, RegistryUpdate, WeightsValidator
from streamer.core.registry.rollout import ModelRollout
from streamer.core.rehearsal import copies
from streamer.core.state.allocation import CapacityExceeded, SlotAllocator
from streamer.core.state.checkpoint import keys_key
from streamer.core.state.flow_state import FlowState
from streamer.core.state.loading import Loader, bounds, meaning_of
from streamer.core.state.open_alerts import OpenAlerts
from streamer.core.state.partition_clock import Noted
from streamer.core.state.restoring import Restored
from streamer.core.state.silent_flows import SilentFlows
from streamer.core.state.table import PAGE_ROWS, FlowTable
from streamer.core.types import (
    Forecasts,
    Notice,
    Partition,
    Readings,
    Reason,
    Record,
    Reject,
    TurnResult,
)
from streamer.core.wire import InputConfig
from streamer.core.wire.forecasts import ForecastsConfig
from streamer.core.wire.scores import ScoresConfig

Look = Callable[[], None]  # called between two pieces of work; it may raise to end the turn
Check = Callable[[Forecasts], None]  # raises what publishing these forecasts would raise

NOTICES_MAX = 100  # of one turn
WAVE_ROWS = 1024  # rows that fit a processor's cache together with all that is computed from them


class EngineConfig(Settings, frozen=True, kw_only=True):
    """All that decides what is forecast; equal settings and input give equal forecasts."""

    # of all partitions together
    flows_max: Annotated[int, msgspec.Meta(ge=1, le=50_000_000)] = 200_000
    input: InputConfig = InputConfig()
    grid: GridConfig = GridConfig()
    forecasts: ForecastsConfig = ForecastsConfig()
    scores: ScoresConfig = ScoresConfig()
    alerts: AlertsConfig = AlertsConfig()


class Engine:
    """The pipeline, the state of the flows, and the models, put together."""

    def __init__(  # noqa: PLR0913 - each is a part, or limits one
        self,
        model: Model,
        config: EngineConfig,
        page_rows: int = PAGE_ROWS,
        admit: WeightsValidator | None = None,
        budget: Budget | None = None,
        input_hook: InputHook | None = None,
        peak_head: PeakModel | None = None,
    ) -> None:
        """
        *model* is the one of the settings; *admit* makes models from learned weights.

        With a *budget*, a step takes so much work at most and leaves the other records for the
        steps after it; without one, it takes all records. *input_hook* observes what the network
        reads. *peak_head* forecasts peaks; without one the step quantiles stand in for it.
        """
        self.config = config
        self.outlook = ForecastSpec(
            step_s=int(config.grid.step),
            horizons=config.forecasts.horizons,
            quantiles=config.forecasts.quantiles,
            peaks=config.forecasts.spans,
        )
        self.generations = ModelRegistry(model, admit)
        self.pipeline = Pipeline(
            config.grid,
            self.outlook,
            int(config.scores.every),
            input_hook,
            [rule for rule in config.alerts.in_force if rule.kind != SILENCE],
            peak_head,
        )
        silence = [rule for rule in config.alerts.in_force if rule.kind == SILENCE]
        self.silent = SilentFlows(silence, self.outlook.step_s, int(config.scores.every))
        self.alerts = OpenAlerts(self.pipeline.alerts, self.silent)
        self.state = FlowState(
            self.columns(), config.flows_max, config.input.flow_bytes_max, page_rows
        )
        self._arena = self.state.table  # `table`, unless a rehearsal is under way
        self._arena.generation = model.generation
        self.rollout = ModelRollout(self._arena, self.generations, self.outlook.step_s)
        self._intake = Intake(
            config.input, config.grid, self.state, budget, labels=config.forecasts.labels
        )
        self.current: Sequence[Record] = ()  # those of the step or replay that is under way
        self.untouched = True  # whether what raised last was a rehearsal, which changes no rows

    def columns(self) -> Columns:
        """The columns that the stages keep of a flow."""
        return self.pipeline.columns(self.model.config)

    @property
    def table(self) -> FlowTable:
        """The rows of all flows."""
        return self.state.table

    @property
    def loader(self) -> Loader:
        """How rows are loaded that were saved under these settings, or under others."""
        shape = self.model.config
        cell = f"{shape.cell} of {shape.layers} x {shape.hidden}"
        spec = self.outlook
        return Loader(meaning_of(cell, spec.step_s, spec.horizons, spec.quantiles), bounds())

    @property
    def model(self) -> Model:
        """The incumbent's, which pages move to."""
        return self.generations.model

    def load_models(self, table: Mapping[bytes, bytes]) -> RegistryUpdate:
        """Load the models topic's *table*: before a restore, and when weights are missing."""
        update = self.generations.load(table)
        self._arena.generation = self.generations.incumbent
        return update

    def apply_models(self, records: Sequence[Record]) -> RegistryUpdate:
        """Apply new *records* of the models topic."""
        update = self.generations.apply(records)
        self._arena.generation = self.generations.incumbent
        return update

    def install(self, model: Model) -> None:
        """Make *model* the incumbent of every page at once, outside of a turn."""
        self.generations.install(model)
        self.table.generation = model.generation
        self.rollout.advance(self.rollout.stale_pages())

    def release(self, partitions: Iterable[Partition]) -> None:
        """Forget the flows of partitions that were revoked."""
        revoked = frozenset(partitions) & set(self.table.partitions)
        self._intake.release(revoked)
        for partition in revoked:
            self.rollout.forget(partition)
        self.state.release(revoked)
        self.alerts.release(revoked)

    def restore(  # noqa: PLR0913 - what is restored, and what is known of it
        self,
        partition: Partition,
        table: Mapping[bytes, bytes],
        committed: int,
        partitions_total: int,
        suspects: Failures | None = None,
        unreadable: str = "",
    ) -> tuple[int, Restored]:
        """
        Load a partition from its *table* of state records; as `FlowState.restore`.

        Returns the offset from which its input is to be replayed up to *committed*, the group's
        next one, and what was found. *unreadable* is why a restore with the pages of *table*
        failed: they are dropped, and the input is read from the start.
        """
        loader = replace(self.loader, unreadable=unreadable)
        start, restored = self.state.restore(
            partition, table, committed, partitions_total, self._known, loader, suspects
        )
        self._intake.keys.restore(partition, table.get(keys_key(partition)), start)
        self.rollout.schedule_rebuild(restored.unprimed)
        self.alerts.restore(partition, table, committed)
        return start, restored

    def replay(
        self, records: Sequence[Record], look: Look = lambda: None, check: Check | None = None
    ) -> None:
        """
        Read records again that were published before; each row skips those that it has seen.

        Call it only after all states are rebuilt, so that no row is stepped with weights that did
        not produce its state. Whether a row has seen a record is decided before any of the records
        is taken, because a record may hold several readings of one flow. With *check*, each run of
        records is rehearsed first.
        """
        for run in self.state.apart(records):
            self.current = run
            settled = self._intake.keys.settle(self._intake.decode(run).readings)
            fresh = settled.readings.offset >= self.state.known_before(settled.readings)
            readings = settled.readings.take(np.flatnonzero(fresh))
            if check is not None:
                self._on_copies(run, readings, check, look)
            self._intake.keys.adopt(settled)
            self.state.reset_flows(run, readings)
            allocator = SlotAllocator()
            for _ in self._process(readings, allocator, Counter(), look):
                pass  # it was published before
            self.state.evicted(allocator.evictions)
            self.state.save_failures(run)

    @property
    def waiting(self) -> bool:
        """Whether there are records left that no step has taken yet."""
        return bool(self._intake)

    def backlog(self) -> Counter[Partition]:
        """How many records of each partition no step has taken yet."""
        return self._intake.backlog()

    def receive(self, records: Sequence[Record]) -> None:
        """Add *records* to those that wait for a step."""
        if records:
            self._intake.add(records)

    def rehearse(self, records_max: int | None, check: Check, look: Look = lambda: None) -> None:
        """
        Process the records that the next step would take on copies of their rows.

        Raises what the step would raise because of these records, and leaves everything as it was.
        """
        if self._intake:
            portion = self._intake.peek(records_max)
            self._on_copies(portion.records, portion.readings, check, look)

    def blame(self, record: Record, failure: Failure) -> None:
        """Handle *record*, the first one that waits or one of a replay, as *failure* requires."""
        self.state.blame(record, failure)
        self._intake.decode_again(record)

    def step(
        self,
        records: Sequence[Record],
        share: float = 0.0,
        records_max: int | None = None,
        look: Look = lambda: None,
    ) -> TurnResult:
        """
        Process records: what is to be published, saved and committed.

        *share* is the part of a round over the pages that is saved with it. At most *records_max*
        records are taken, and as many as the budget allows; the others are taken by the next
        steps. The result must be published as a whole or not at all. What *look* raises, and any
        other exception, leaves rows half changed: forget them and restore.
        """
        assert not self.rollout.pending_rebuild, "a restored row's state is not its page's"
        self.untouched = False
        self.state.restored()
        self.pipeline.begin()  # periods that ended in a replay were published before
        self.current = records
        if records or not self._intake:
            self._intake.add(records)
        taken = self._intake.take(records_max)
        self.current = taken.records
        rejects, counts, allocator = taken.rejects, taken.counts, SlotAllocator()
        counts["flows_reset"] += self.state.reset_flows(taken.records, taken.readings)
        failed = self.rollout.drain_failed()
        counts["flows_reset"] += len(failed)

        watch = self.silent if self.silent.rules else None
        forecasts = list(self._process(taken.readings, allocator, counts, look, watch))
        moved, rule_scores, wiped = self.pipeline.drain_alerts()
        scores, notices = self.pipeline.drain()
        notices += [Notice("state_failed", flow) for flow in failed]

        counts["evicted"] += self.state.evicted(allocator.evictions)
        compare = bool(wiped or counts["evicted"] or counts["flows_reset"])
        alerts, alert_entries, silence_scores = self.alerts.conclude(
            moved, self.table, compare=compare
        )
        rule_scores += silence_scores
        spread = self.state.in_two_partitions(allocator.met)
        counts["flows_in_two_partitions"] += len(spread)
        rejects += [no_room(refused, taken.records) for refused in allocator.refused]
        counts[f"rejected.{Reason.NO_ROOM}"] += len(allocator.refused)

        offsets = self.state.advance(taken.records)
        self.state.save_failures(taken.records)
        migrated = self.rollout.drain_migrated_pages()
        counts["rollouts_unmeasured"], self.rollout.unmeasured = self.rollout.unmeasured, 0
        entries = self.state.checkpoint(
            share, self.generations.digests, migrated, self._intake.keys.save
        )
        entries += alert_entries
        for entry in entries:  # an instance may only save partitions that it still holds
            offsets.setdefault(entry.partition, self.state.partitions[entry.partition].next_offset)

        counts["pages_taken_up"] = len(migrated)
        counts["forecasts"] = sum(len(wave.flow) for wave in forecasts)
        counts["pages"] = len(entries)
        counts["scores"] = len(scores)
        if self.config.alerts.in_force or alerts:
            counts["alerts_raised"] = sum(each.raised for each in rule_scores)
            counts["alerts"] = len(alerts)
        return TurnResult(
            forecasts,
            rejects,
            entries,
            offsets,
            scores,
            counts,
            self.rollout.finished(),
            spread,
            notices[:NOTICES_MAX],
            alerts,
            rule_scores,
        )

    def forecasts_of(
        self,
        records: Sequence[Record],
        wanted: Callable[[str], bool],
        look: Look = lambda: None,
    ) -> list[Forecasts]:
        """Process the readings of *wanted* flows, as `step` does, without publishing or saving."""
        settled = self._intake.keys.settle(self._intake.decode(records).readings)
        self._intake.keys.adopt(settled)
        readings = settled.readings
        index = [i for i, flow in enumerate(readings.flow) if wanted(flow)]
        run = readings.take(np.array(index, np.intp))
        return list(self._process(run, SlotAllocator(), Counter(), look))

    def reset_flows(self, record: Record) -> None:
        """Empty the rows of the flows in *record*, whose processing raised an exception."""
        settled = self._intake.keys.settle(self._intake.decode([record]).readings)
        self.state.empty_rows(settled.readings)

    def rows_of(self, partition: Partition, flows: Sequence[str]) -> tuple[NDArray[np.bool_], Rows]:
        """As `FlowState.rows_of`."""
        return self.state.rows_of(partition, flows)

    def _on_copies(
        self, records: Sequence[Record], readings: Readings, check: Check, look: Look
    ) -> None:
        """Process *readings* on copies of their rows, without any effect but an exception."""
        self.current, self.untouched = records, True
        trial, self.rollout.trial = self.rollout.trial, None
        try:
            self.state.table = copies(self._arena, self.columns(), readings)
            self.state.reset_flows(records, readings)
            for made in self._process(readings, SlotAllocator(), Counter(), look):
                check(made)
        finally:
            self.state.table, self.rollout.trial = self._arena, trial
            self.pipeline.begin()
        self.untouched = False

    def _process(
        self,
        readings: Readings,
        allocator: SlotAllocator,
        counts: Counter[str],
        look: Look,
        silent: SilentFlows | None = None,
    ) -> Iterator[Forecasts]:
        """Run the pipeline over *readings*, wave by wave; *silent* observes what they do."""
        for run, slots in allocator.allocate_batches(self.table, readings):
            noted = None if silent is None else Noted(run, slots)
            for index in waves(slots):
                for part in self._by_generation(slots, index):
                    if noted is not None:
                        noted.before[part] = seen(self.table.rows, slots[part])
                    for made in self._process_wave(run.take(part), slots[part], counts):
                        yield made
                        look()
                    if noted is not None:
                        noted.after[part] = seen(self.table.rows, slots[part])
                look()
            if silent is not None and noted is not None:
                silent.take(noted, self.table)

    def _by_generation(self, slots: Slots, index: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
        """A wave, cut so that one model steps all rows of a part."""
        of_each = self.table.generation_of(slots[index])
        if (of_each == of_each[0]).all():  # the usual case
            yield index
            return
        for generation in np.unique(of_each):
            yield index[of_each == generation]

    def _known(self, generation: int, digest: str) -> bool:
        """Whether the weights of that *generation* are here, and have that *digest*."""
        model = self.generations.fetch(generation)
        return model is not None and digest in {"", model.digest}

    def _process_wave(
        self, wave: Readings, slots: Slots, counts: Counter[str]
    ) -> Iterator[Forecasts]:
        """One wave, in which no flow occurs twice, by one model."""
        model = self.generations[int(self.table.generation_of(slots[:1])[0])]
        rows = self.table.gather(slots)
        yield from self.pipeline.run(rows, wave, model, counts, self._observer(slots))
        self.table.scatter(slots, rows)

    def _observer(self, slots: Slots) -> OutputHook | None:
        """The comparison of old and new weights, if a rollout is being measured."""
        trial = self.rollout.trial
        if trial is None:
            return None

        def observe(  # noqa: PLR0913 - as `OutputHook`
            index: NDArray[np.intp],
            rows: Rows,
            inputs: Inputs,
            outputs: Floats,
            rates: NDArray[np.float64],
            steps: Steps,
        ) -> None:
            try:
                trial.observe(slots[index], rows, inputs, outputs, rates, steps)
            except Exception:  # noqa: BLE001 - a figure for people must not stop a turn
                self.rollout.drop_trial()

        return observe


def no_room(refused: CapacityExceeded, records: Sequence[Record]) -> Reject:
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
    nth = occurrence(slots)
    by_wave = np.argsort(nth, kind="stable")
    for wave in np.split(by_wave, np.cumsum(np.bincount(nth))[:-1]) if len(slots) else ():
        for first in range(0, len(wave), WAVE_ROWS):
            yield wave[first : first + WAVE_ROWS]
