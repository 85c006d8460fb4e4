"""
The forecaster's loop: poll, compute, publish.

A turn handles the records of one poll: it computes and publishes their results before the next
poll, so nothing is half done when partitions are assigned or revoked. Every failure has the
same recovery: drop all rows, and restore them from the log.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from streamer.core.engine import Engine
from streamer.core.registry.models import WeightsFailed
from streamer.core.types import Forecasts, Message, Partition, Record, TurnResult
from streamer.core.wire import alerts, rejects, scores
from streamer.core.wire.forecasts import Encoder
from streamer.daemon.events import MOVES, Observer, Phase, Return, Turn
from streamer.daemon.isolation import Isolation, TurnFailed
from streamer.daemon.pacing import Pacing
from streamer.daemon.widening import Places
from streamer.log import FINAL, Log, LogError
from streamer.ops.backoff import Backoff

FOLLOW_S = 1.0  # seconds between two polls of the models topic
SETTLE_ROWS = 2048  # restored rows that are rebuilt before the next sign of life
LOOK_S = 0.5  # seconds between two checks for a stop request within a turn
NEWEST_SAMPLE = 256  # records of a turn whose timestamps are read, so that the cost is constant
PAUSE_S = 0.5  # delay of the first retry after a LogError, doubled up to PAUSE_MAX_S
PAUSE_MAX_S = 10.0


class Stopped(Exception):
    """A stop was requested in the middle of a turn, which is then not published."""


@dataclass(frozen=True, slots=True)
class LazyMessages:
    """Messages that are encoded during iteration, while the log sends the first ones."""

    write: Callable[[], Iterator[Message]]

    def __iter__(self) -> Iterator[Message]:
        """Start again from the first message, each time."""
        return self.write()


class Forecaster:
    """
    Turns a log of counters into a log of forecasts.

    *join* creates a membership, *engine* an engine without rows; both are called again for each
    recovery. *clock* and *pause* are real time: they pace the work of turns, and nothing else.
    """

    def __init__(  # noqa: PLR0913 - the parts of a loop, wired in one place
        self,
        *,
        join: Callable[[], Log],
        engine: Callable[[], Engine],
        pacing: Pacing,
        state_topic: str,
        rejects_topic: str,
        models_topic: str,
        observer: Observer,
        clock: Callable[[], float],
        pause: Callable[[float], None],
    ) -> None:
        self._join = join
        self._make_engine = engine
        self._pacing = pacing
        self._state_topic = state_topic
        self._rejects_topic = rejects_topic
        self._models_topic = models_topic
        self._observer = observer
        self._clock = clock
        self._pause = pause
        self._phase = Phase.STARTING
        self._models_at: int | None = None  # the next offset of the models topic, once it was read
        self._asked_at = clock()
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
        backoff = Backoff(PAUSE_S, PAUSE_MAX_S)
        while not stopping():
            try:
                self.start()
                while not stopping():
                    self.turn()
                    backoff.reset()
            except Stopped:
                break
            except LogError as error:
                self.forget()
                self._observer.refused(error, backoff.delay_s)
                if isinstance(error, FINAL):
                    self._move(Phase.STOPPED)
                    raise
                self._pause(backoff.take())
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
        self._pacing.restart()
        self._models_at = None
        self._move(Phase.RUNNING)

    def turn(self) -> None:
        """Run one turn: poll, compute, publish."""
        assert self.log is not None
        assert self.engine is not None
        isolated = self._isolation.records_max
        waiting = self.engine.waiting  # for the rest of the last poll
        wait_s = 0.0 if waiting else self._pacing.poll_timeout_s
        most = 0 if waiting else self._pacing.records_max(isolated)
        delivery = self.log.poll(wait_s, most)
        began = self._looked_at = self._clock()
        delivery = self._places.placed(delivery, self.log, began)
        self.engine.release(delivery.revoked)
        if delivery.assigned:
            self._survey()
        for partition, committed in delivery.assigned.items():
            self._restore(partition, committed, delivery.partitions_total)
        self._follow()
        self._pacing.begin()
        stale = self._pacing.roll_out(self.engine.rollout)
        share = self._pacing.checkpoint_share(len(self.engine.table))
        records = delivery.records
        computing = self._clock()
        try:
            if self._isolation.rehearses:
                self.engine.receive(records)
                self._rehearse()
                records = ()
            epoch = self.engine.step(records, share, self._isolation.records_max, self._look)
            stepped = self._clock()
            messages = LazyMessages(functools.partial(self.messages, epoch))
            output = epoch.forecasts, epoch.scores, epoch.rejects, epoch.entries, epoch.alerts
            if any(map(len, output)) or epoch.offsets:
                self.log.publish(messages, epoch.offsets)
        except (LogError, Stopped):
            raise
        except Exception as error:
            raise self._isolation.failed(self.engine.current, error) from error
        self._isolation.passed(len(self.engine.current), epoch.offsets)
        self._pacing.end(len(delivery.records), epoch.counts["readings"])
        ended = self._clock()
        self._observer.turned(
            Turn(
                epoch,
                len(self.engine.table),
                ended - began,
                self._lag(delivery.lag),
                delivery.missed,
                step_s=stepped - computing,
                publish_s=ended - stepped,
                newest_ms=newest(self.engine.current),
                pages_stale=stale,
            )
        )

    def _lag(self, unread: Mapping[Partition, int]) -> Mapping[Partition, int]:
        """The records of each partition that no turn took: those not read yet, and those read."""
        assert self.engine is not None
        backlog = self.engine.backlog()
        return {at: number + backlog[at] for at, number in unread.items()} if backlog else unread

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
            start, restored = self.engine.restore(
                partition, saved, *how, unreadable=described(error)
            )
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

    def _survey(self) -> None:
        """Before rows are restored: read all generations, and determine the incumbent."""
        assert self.log is not None
        assert self.engine is not None
        _, self._models_at = self.log.poll_topic(self._models_topic, None)
        self._observer.registry_updated(
            self.engine.load_models(self.log.read_table(self._models_topic, 0))
        )

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
            update = self.engine.apply_models(records)
            self._observer.registry_updated(update)
            if update.weights_missing:
                self._survey()

    def _move(self, phase: Phase) -> None:
        assert phase in MOVES[self._phase], f"no move from {self._phase} to {phase}"
        self._phase = phase
        self._observer.moved(phase)


def described(error: Exception) -> str:
    """The name of an exception, and its message."""
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
