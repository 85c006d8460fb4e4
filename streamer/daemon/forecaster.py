"""
The forecaster's loop: poll, compute, publish.

A turn handles the records of one poll: it computes and publishes their results before the next
poll, so nothing is half done when partitions are assigned or revoked. Every failure has the
same recovery: drop all rows, and restore them from the log.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from streamer.config.types import Duration, Settings
from streamer.core.engine import Engine
from streamer.core.registry.models import WeightsFailed
from streamer.core.types import Forecasts, Message, Partition, Record, TurnResult
from streamer.core.wire import alerts, rejects, scores
from streamer.core.wire.forecasts import Encoder
from streamer.daemon.events import MOVES, Observer, Phase, Return, Turn
from streamer.daemon.isolation import Isolation, TurnFailed
from streamer.daemon.widening import Places
from streamer.log import InstanceReplaced, Log, LogError, PermanentError

FOLLOW_S = 1.0  # seconds between two polls of the models topic
PAGE_S = 0.02  # estimated time to roll out a page, before the first measurement
PAGE_S_MIN = 0.0005  # the lower limit of that estimate
CREDIT_MAX_S = 1.0  # seconds of rollout time that can be saved up, however long a turn took
SETTLE_ROWS = 2048  # restored rows that are rebuilt before the next sign of life
# readings per flow in which all pages are saved once, if sooner than the interval
READINGS_A_ROUND = 30
# limit of rows saved at once: after a long pause all would be due in one transaction
ROWS_A_TURN = 50_000
READINGS_A_RECORD = 100.0  # estimate before the first measurement
LOOK_S = 0.5  # seconds between two checks for a stop request within a turn
NEWEST_SAMPLE = 256  # records of a turn whose timestamps are read, so that the cost is constant
PAUSE_S = 0.5  # delay of the first retry after a LogError, doubled up to PAUSE_MAX_S
PAUSE_MAX_S = 10.0


class TurnConfig(Settings, frozen=True, kw_only=True):
    """Limits of one turn."""

    records_max: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000
    # approximate, as a record may hold many readings
    readings_max: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 50_000
    poll_timeout: Duration = Duration(0.1)  # how long a poll waits for records


class StateConfig(Settings, frozen=True, kw_only=True):
    """The topic that rows are saved to, and the interval."""

    topic: str | None = None  # None: <group>.state
    interval: Duration = Duration(60)  # each page is saved once per interval


class GenerationConfig(Settings, frozen=True, kw_only=True):
    """The topic that generations are read from, and the speed of a rollout."""

    topic: str | None = None  # None: <group>.models
    rollout_time_share: Annotated[float, msgspec.Meta(ge=0.01, le=1)] = (
        0.2  # share of the duration of each turn
    )


class Stopped(Exception):
    """A stop was requested in the middle of a turn, which is then not published."""


@dataclass(frozen=True, slots=True)
class Told:
    """Messages that are encoded during iteration, while the log sends the first ones."""

    write: Callable[[], Iterator[Message]]

    def __iter__(self) -> Iterator[Message]:
        """Start again from the first message, each time."""
        return self.write()


class Forecaster:
    """
    Turns a log of counters into a log of forecasts.

    *join* creates a membership, *engine* an engine without rows; both are called again for each
    recovery. *clock* and *pause* are real time: they pace the saving of pages and the rollout of
    generations, and nothing else.
    """

    def __init__(  # noqa: PLR0913 - the parts of a loop, wired in one place
        self,
        *,
        join: Callable[[], Log],
        engine: Callable[[], Engine],
        turn: TurnConfig,
        state: StateConfig,
        generation: GenerationConfig,
        state_topic: str,
        rejects_topic: str,
        models_topic: str,
        observer: Observer,
        clock: Callable[[], float],
        pause: Callable[[float], None],
    ) -> None:
        self._join = join
        self._make_engine = engine
        self._turn = turn
        self._state = state
        self._state_topic = state_topic
        self._rejects_topic = rejects_topic
        self._models_topic = models_topic
        self._generation = generation
        self._observer = observer
        self._clock = clock
        self._pause = pause
        self._phase = Phase.STARTING
        self._turned_at = clock()
        self._readings = 0  # number of readings in the last turn
        self._dense = READINGS_A_RECORD
        self._models_at: int | None = None  # the next offset of the models topic, once it was read
        self._asked_at = clock()
        self._credit_s = 0.0  # time available for the rollout of pages
        self._page_s = PAGE_S
        self._stopping: Callable[[], bool] = lambda: False
        self._looked_at = clock()
        self._isolation = Isolation()  # outlives the engine: a failed turn drops all rows
        self.log: Log | None = None
        self.engine: Engine | None = None

    def run(self, stopping: Callable[[], bool]) -> None:
        """
        Run turns until *stopping*; after each LogError, restart from the log.

        Raises PermanentError if a retry would change nothing, and InstanceReplaced if another
        process runs under our instance id: two that fence each other in turn would both make no
        progress.
        """
        self._stopping = stopping
        pause_s = PAUSE_S
        while not stopping():
            try:
                self.start()
                while not stopping():
                    self.turn()
                    pause_s = PAUSE_S
            except Stopped:
                break
            except LogError as error:
                self.forget()
                self._observer.refused(error, pause_s)
                if isinstance(error, PermanentError | InstanceReplaced):
                    self._move(Phase.STOPPED)
                    raise
                self._pause(pause_s)
                pause_s = min(2 * pause_s, PAUSE_MAX_S)
                if not stopping():
                    self._move(Phase.STARTING)
            except Exception as error:  # noqa: BLE001 - no exception may end the daemon at once
                self._recover(error)
        if self.log is not None:
            self.log.close()
        self._move(Phase.STOPPED)

    def _recover(self, error: Exception) -> None:
        """Restart after an unexpected exception; raises it if it recurs without any records."""
        self.forget()
        if isinstance(error, WeightsFailed):
            self._isolation.barred[error.generation] = str(error)
        failed = error if isinstance(error, TurnFailed) else self._isolation.failed((), error)
        self._observer.failed(failed)
        if not self._stopping():
            self._move(Phase.STARTING)

    def start(self) -> None:
        """Join the group, without rows: partitions are assigned in the first polls."""
        self.engine = self._make_engine()
        self.engine.generations.barred = self._isolation.barred
        config = self.engine.config
        self._step_s, self._scores_topic = int(config.grid.step), config.scores.topic
        self._alerts_topic = config.alerts.topic
        self._encoder = Encoder(config.forecasts, self._step_s)
        self.log = self._join()
        own: tuple[str, ...] = (self._state_topic, self._rejects_topic, config.forecasts.topic)
        own += (self._alerts_topic,) if config.alerts.enabled else ()
        self._places = Places(own, self._observer)
        self._turned_at, self._readings = self._clock(), 0
        self._models_at, self._credit_s = None, 0.0
        self._move(Phase.RUNNING)

    def turn(self) -> None:
        """Run one turn: poll, compute, publish."""
        assert self.log is not None
        assert self.engine is not None
        wait_s = 0.0 if self.engine.waiting else float(self._turn.poll_timeout)
        delivery = self.log.poll(wait_s, self._records_max())
        began = self._looked_at = self._clock()
        delivery = self._places.placed(delivery, self.log, began)
        self.engine.release(delivery.revoked)
        if delivery.assigned:
            self._survey()
        for partition, committed in delivery.assigned.items():
            self._restore(partition, committed, delivery.partitions_total)
        self._follow()
        elapsed_s = self._elapsed_s()
        stale = self._take_up(elapsed_s)
        records = delivery.records
        computing = self._clock()
        try:
            if self._isolation.rehearses:
                self.engine.receive(records)
                self._rehearse()
                records = ()
            records_max = self._isolation.records_max
            epoch = self.engine.step(records, self._share(elapsed_s), records_max, self._look)
            stepped = self._clock()
            messages = Told(functools.partial(self.messages, epoch))
            told = epoch.forecasts, epoch.scores, epoch.rejects, epoch.entries, epoch.alerts
            if any(map(len, told)) or epoch.offsets:
                self.log.publish(messages, epoch.offsets)
        except (LogError, Stopped):
            raise
        except Exception as error:
            raise self._isolation.failed(self.engine.current, error) from error
        self._isolation.passed(len(self.engine.current), epoch.offsets)
        self._readings = epoch.counts["readings"]
        if delivery.records:  # decay slowly, so one dense record keeps the next polls small
            self._dense = max(self._readings / len(delivery.records), self._dense / 2)
        ended = self._clock()
        self._observer.turned(
            Turn(
                epoch,
                len(self.engine.table),
                ended - began,
                delivery.lag,
                delivery.missed,
                step_s=stepped - computing,
                publish_s=ended - stepped,
                newest_ms=newest(self.engine.current),
                pages_stale=stale,
            )
        )

    def _rehearse(self) -> None:
        """Find the records of the next turn that would make it fail, without a restore."""
        assert self.engine is not None
        while True:
            try:
                self.engine.rehearse(self._isolation.records_max, self._check, self._look)
            except (LogError, Stopped):
                raise
            except Exception as error:  # noqa: BLE001 - what a record causes, whatever it is
                self._note_failure(error)
            else:
                return

    def _note_failure(self, error: Exception) -> None:
        """Narrow down the search for the record that raised *error* in a rehearsal."""
        assert self.engine is not None
        failed = self._isolation.failed(self.engine.current, error)
        if failed.record is not None and failed.failure is not None:
            self.engine.blame(failed.record, failed.failure)
        self._observer.failed(failed)
        self._observer.alive()

    def _check(self, made: Forecasts) -> None:
        """Raise what encoding *made* raises."""
        for _ in self._encoder.messages((made,)):
            pass

    def messages(self, epoch: TurnResult) -> Iterator[Message]:
        """Yield the messages that a TurnResult publishes."""
        yield from self._encoder.messages(epoch.forecasts)
        yield from scores.messages(epoch.scores, self._scores_topic, self._step_s)
        yield from alerts.messages(epoch.alerts, self._alerts_topic)
        yield from alerts.score_messages(epoch.rule_scores, self._scores_topic, self._step_s)
        for reject in epoch.rejects:
            yield rejects.message(reject, self._rejects_topic)
        for entry in epoch.entries:
            yield Message(self._state_topic, entry.partition.number, entry.key, entry.value)

    def forget(self) -> None:
        """Leave the group and drop all rows: they may differ from what was published."""
        self._move(Phase.RETURNING)
        if self.log is not None:
            self.log.close()
        self.log = self.engine = None

    def _restore(self, partition: Partition, committed: int, partitions_total: int) -> None:
        """Read the partition's pages, then replay the input after them without publishing."""
        assert self.log is not None
        assert self.engine is not None
        self._move(Phase.RESTORING)
        began, replayed = self._clock(), 0
        flows_before = len(self.engine.table)
        how = committed, partitions_total, self._isolation.suspects
        try:
            start, restored = self.engine.restore(
                partition,
                # passed without a name, so that the table, as large as all rows, is freed early
                self.log.read_table(self._state_topic, partition.number),
                *how,
            )
        except LogError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is saved there: the input is read
            self.engine.release({partition})
            saved = self.log.read_table(self._state_topic, partition.number)
            start, restored = self.engine.restore(partition, saved, *how, unreadable=told(error))
        self._observer.alive()
        while self.engine.rollout.rebuild_pending(SETTLE_ROWS):
            self._observer.alive()
            self._follow()  # a poll also shows the log that we are alive
        for records in self.log.replay(partition, start, committed):
            self._replay(records)
            self._observer.alive()
            replayed += len(records)
        flows = len(self.engine.table) - flows_before
        took_s = self._clock() - began
        why, findings = restored.unreadable, restored.findings
        self._observer.restored(Return(partition, flows, replayed, why, took_s, findings))
        self._move(Phase.RUNNING)

    def _replay(self, records: Sequence[Record]) -> None:
        """Replay *records*; in smaller portions while the search for a failing record lasts."""
        assert self.engine is not None
        check = self._check if self._isolation.rehearses else None
        first = 0
        while first < len(records):
            portion = records[first : first + (self._isolation.records_max or len(records))]
            try:
                self.engine.replay(portion, self._look, check)
            except (LogError, Stopped):
                raise
            except Exception as error:
                if check is None or not self.engine.untouched:
                    raise self._isolation.failed(self.engine.current, error) from error
                if self.engine.current:  # the runs of records before it are done
                    first += portion.index(self.engine.current[0])
                self._note_failure(error)
            else:
                first += len(portion)
                self._isolation.widen(len(portion))

    def _look(self) -> None:
        """Within a turn: check for a stop request, and report to service manager and log."""
        now = self._clock()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        self._observer.alive()
        if self._stopping():
            raise Stopped
        self._follow()  # a poll also shows the log that we are alive

    def _records_max(self) -> int:
        """Return the most records that a turn may take, given their recent density."""
        assert self.engine is not None
        if self.engine.waiting:
            return 0
        fitting = int(self._turn.readings_max / max(1.0, self._dense))
        isolated = self._isolation.records_max or self._turn.records_max
        return max(1, min(self._turn.records_max, fitting, isolated))

    def _survey(self) -> None:
        """Before rows are restored: read all generations, and determine the incumbent."""
        assert self.log is not None
        assert self.engine is not None
        _, self._models_at = self.log.poll_topic(self._models_topic, None)
        self._observer.heard(self.engine.load_models(self.log.read_table(self._models_topic, 0)))

    def _follow(self) -> None:
        """Poll the models topic now and then; read all of it if weights are missing."""
        assert self.log is not None
        assert self.engine is not None
        now = self._clock()
        if self._models_at is None or now - self._asked_at < FOLLOW_S:
            return
        self._asked_at = now
        records, self._models_at = self.log.poll_topic(self._models_topic, self._models_at)
        if records:
            tidings = self.engine.apply_models(records)
            self._observer.heard(tidings)
            if tidings.weights_missing:
                self._survey()

    def _take_up(self, elapsed_s: float) -> int:
        """
        Hand over as many pages as their share of the time since the last turn allows.

        Returns how many are not handed over yet.
        """
        assert self.engine is not None
        behind = self.engine.rollout.stale_pages()
        if not behind:
            self._credit_s = 0.0
            return 0
        self._credit_s += self._generation.rollout_time_share * elapsed_s
        self._credit_s = min(self._credit_s, max(CREDIT_MAX_S, self._page_s))
        pages = min(behind, int(self._credit_s / self._page_s))
        if pages:
            began = self._clock()
            self.engine.rollout.advance(pages)
            took_s = self._clock() - began
            self._credit_s -= took_s
            self._page_s = max(PAGE_S_MIN, (self._page_s + took_s / pages) / 2)
        return behind - pages

    def _elapsed_s(self) -> float:
        """Return the seconds since the last call, a turn ago."""
        now = self._clock()
        elapsed, self._turned_at = now - self._turned_at, now
        return elapsed

    def _share(self, elapsed_s: float) -> float:
        """Return the share of all pages that is due: by time, or by readings."""
        assert self.engine is not None
        rows = max(1, len(self.engine.table))
        by_time = elapsed_s / max(float(self._state.interval), 1e-3)
        by_readings = self._readings / (READINGS_A_ROUND * rows)
        return min(max(by_time, by_readings), ROWS_A_TURN / rows)

    def _move(self, phase: Phase) -> None:
        assert phase in MOVES[self._phase], f"no move from {self._phase} to {phase}"
        self._phase = phase
        self._observer.moved(phase)


def told(error: Exception) -> str:
    """The name of an exception, and what it says."""
    return f"{type(error).__name__}: {error}"


def newest(records: Sequence[Record]) -> dict[Partition, int]:
    """
    The timestamp of the last record of each partition.

    Of many records, a sample with an even stride that ends at the last one is looked at, so a
    partition with only a few of them may be missing.
    """
    stride = 1 + len(records) // NEWEST_SAMPLE
    sample = records[(len(records) - 1) % stride :: stride] if records else ()
    return dict(map(operator.itemgetter(0, 4), sample))
