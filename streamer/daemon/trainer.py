"""
The trainer's loop: read the counters, train, hold contests, and publish generations.

Several trainers may run; the one that is assigned the models topic's only partition trains, the
others stand by. After a reassignment the new trainer reads the counters again from the oldest
that the log keeps: only the trainer holds rows and rates of the sampled flows in memory, and
the log is the replay buffer. Contests up to the last published one are not repeated, and none
is held before the trainer has caught up with the end of the log at its start, since a part of
the flows is not enough to decide.

Results are published with the offset of the models topic in one transaction: a trainer that has
lost the partition meanwhile is fenced, and publishes nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from streamer.core.engine import Engine
from streamer.core.network.config import weights_bytes
from streamer.core.network.model import Forecaster
from streamer.core.registry.models import WeightsValidator
from streamer.core.registry.promotion import ContestConfig
from streamer.core.types import Partition, Record
from streamer.daemon.recovery import run_turns
from streamer.log import (
    Client,
    Fenced,
    Log,
    LogError,
    TooLarge,
)
from streamer.training.backlog import Backlog
from streamer.training.inline import begin, install_generation
from streamer.training.learner import Learner
from streamer.training.outcome import Outcome
from streamer.training.records import ModelsTopic, UnusableRecord, messages, read_models_topic
from streamer.training.settings import FinetuneConfig, TrainerConfig

# limit of one poll of the models topic: more than it holds, so the latest record is included
RECORDS_MAX = 10_000
STANDBY_WAIT_S = 1.0
ALIVE_EVERY_S = 1.0  # how often the trainer polls the log during training
# steps of each flow per batch, so that no batch extends far beyond an evaluation interval
STEPS_AT_ONCE = 8
BATCH_MIN = 64  # minimum records of a batch


class Observer(Protocol):
    """Receives events; the trainer does not depend on what the observer does."""

    def alive(self) -> None:
        """The process is alive."""

    def entered(self, phase: str, **fields: object) -> None:
        """The trainer entered *phase*: it stands by, or it trains."""

    def read(self, records: int, event_time: float, flows: int) -> None:
        """*records* more records were read; the sampled flows are at *event_time*."""

    def concluded(self, outcome: Outcome) -> None:
        """A contest or a rollback was published."""

    def odd(self, why: str) -> None:
        """The models topic holds weights that cannot be used."""

    def failed(self, error: Exception, record: Record) -> None:
        """*record* raised an exception; it is skipped, and its flows start again."""

    def refused(self, error: LogError, pause_s: float) -> None:
        """A LogError occurred; a retry follows after *pause_s*, unless the error is permanent."""


class Stopped(Exception):
    """A stop was requested during training."""


class Trainer:
    """
    Turns a log of counters into generations.

    *join* creates a membership for the models topic, *client* the connection that reads the
    counters; *model* is the incumbent if the models topic names none. *now* and *pause* are real
    time: they pace the loop, and do not influence what is published.
    """

    def __init__(  # noqa: PLR0913 - the parts of a loop, wired in one place
        self,
        *,
        join: Callable[[], Log],
        client: Callable[[], Client],
        inputs: Callable[[Client], Sequence[str]],
        model: Callable[[], Forecaster],
        admit: WeightsValidator,
        engine: Callable[[Forecaster], Engine],
        models_topic: str,
        settings: TrainerConfig,
        finetune: FinetuneConfig,
        rules: ContestConfig,
        observer: Observer,
        pause: Callable[[float], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._join, self._client, self._inputs = join, client, inputs
        self._model, self._admit, self._make_engine = model, admit, engine
        self._partition = Partition(models_topic, 0)
        self._settings, self._finetune, self._rules = settings, finetune, rules
        self._observer, self._pause, self._now = observer, pause, now
        self._stopping: Callable[[], bool] = lambda: False
        self._alive_at = now()
        self._log: Log | None = None
        self._reading: Client | None = None
        self._counters: Iterator[Sequence[Record]] = iter(())
        self._ahead: Sequence[Record] | None = None  # counters that were read and not yet processed
        self._backlog: Backlog | None = None  # unread old counters; None: caught up
        self._next = 0  # the next offset of the models topic: that after the last processed record
        self._pending: list[Record] = []  # records of the models topic that arrived during training
        self.learner: Learner | None = None
        self._engine: Engine | None = None
        self._models: ModelsTopic | None = None

    def run(self, stopping: Callable[[], bool]) -> None:
        """Run turns until *stopping*; see `run_turns`."""
        self._stopping = stopping
        run_turns(self, stopping, self._observer.refused, self._pause)

    def start(self) -> None:
        """Join the group; may raise a LogError."""
        self._log = self._join()
        self._observer.entered("waiting")

    def turn(self) -> None:
        """Process a rebalance and the models topic, then one batch of counters."""
        with contextlib.suppress(Stopped):
            self._turn()

    def finish(self) -> None:
        """Results that were not published are made again after the next start."""

    def _turn(self) -> None:
        assert self._log is not None
        self._observer.alive()
        self._alive_at = self._now()
        wait_s = 0.0 if self.learner is not None else STANDBY_WAIT_S
        delivery = self._log.poll(wait_s, RECORDS_MAX)
        if self._partition in delivery.revoked:
            self._stop_learning()
            self._observer.entered("waiting")
        if self._partition in delivery.assigned:
            self._start_learning(delivery.assigned[self._partition])
        came, self._pending = [*self._pending, *delivery.records], []
        self._apply_models(came)
        if self.learner is not None:
            self._read(self._round())

    def forget(self) -> None:
        """Leave the log, and drop all unpublished results."""
        self._stop_learning()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _start_learning(self, committed: int) -> None:
        """Start training: read the models topic, then the counters from the oldest on."""
        assert self._log is not None
        self._next = committed
        shipped = self._model()
        self._models = read_models_topic(
            self._log.read_table(*self._partition), shipped, self._admit
        )
        for why in self._models.skipped:
            self._observer.odd(why)
        serving = self._models.serving
        self._engine = self._make_engine(shipped)
        install_generation(self._engine, serving)
        self.learner = begin(
            shipped, self._engine, self._settings, self._finetune, self._rules, self._alive
        )
        self.learner.serving, self.learner.past = serving, self._models.past
        self._reading = self._client()
        self._check_size(self._reading, shipped)
        topics = self._inputs(self._reading)
        self._backlog = Backlog(self._reading.ends(topics))
        self._counters = self._reading.follow(topics, from_start=True)
        self._observer.entered("learning", generation=serving.generation, topics=",".join(topics))

    def _check_size(self, client: Client, shipped: Forecaster) -> None:
        """Raise TooLarge before any training if the log takes no weights of this size."""
        topic = self._partition.topic
        shape, size = client.topics().get(topic), weights_bytes(shipped.config)
        most = None if shape is None else shape.message_bytes_max
        if most is not None and size > most:
            raise TooLarge(
                f"weights take {size:,} bytes, and max.message.bytes of {topic} is {most:,}:"
                " raise it, or set a smaller model.hidden"
            )

    def _stop_learning(self) -> None:
        if self._reading is not None:
            self._counters, self._ahead = iter(()), None
            self._reading.close()
        self._reading = self.learner = self._engine = self._models = None

    def _round(self) -> list[Record]:
        """
        Return one batch of each partition with new records, ordered by record time.

        During catch-up, this keeps partitions at about the same event time. The order within a
        partition is kept.
        """
        seen: set[Partition] = set()
        keyed: list[tuple[int, Record]] = []
        batch, self._ahead = self._ahead or next(self._counters), None
        while batch and not seen & {record.partition for record in batch}:
            newest: dict[Partition, int] = {}
            for record in batch:
                at = max(newest.get(record.partition, -1), record.time_ms)
                newest[record.partition] = at
                keyed.append((at, record))
            seen |= newest.keys()
            batch = next(self._counters)
        self._ahead = batch or None
        keyed.sort(key=lambda each: each[0])
        return [record for _, record in keyed]

    def _read(self, records: Sequence[Record]) -> None:
        """Process counters, and train if an evaluation interval ends with them."""
        assert self.learner is not None
        assert self._engine is not None
        learner, engine = self.learner, self._engine
        relevant = [record for record in records if self._concerns(record)]
        for partition in {record.partition for record in relevant} - set(engine.table.partitions):
            engine.restore(partition, {}, 0, 1)
        first = 0
        while first < len(relevant):
            batch = relevant[
                first : first + max(BATCH_MIN, STEPS_AT_ONCE * len(learner.history.sample))
            ]
            first += len(batch)
            self._process(batch)
            if learner.due():
                # a record of the models topic that is older than these counters takes effect
                # first
                self._catch_up()
                self._conclude(learner.turn(engine.rows_of, contests=self._backlog is None))
            self._alive()
        self._work_off(records)
        if records:
            at = learner.history.now() * learner.history.step_s
            self._observer.read(len(records), at, len(learner.history.sample))

    def _process(self, batch: Sequence[Record]) -> None:
        """Process a batch of counters; a record that raises is found, and skipped."""
        assert self.learner is not None
        assert self._engine is not None
        learner, engine = self.learner, self._engine
        try:
            for made in engine.forecasts_of(batch, learner.history.admits, self._alive):
                learner.observe(made)
        except (LogError, Stopped):
            raise
        except Exception as error:  # noqa: BLE001 - what a record causes, whatever it is
            if len(batch) > 1:  # readings that were taken before are duplicates now
                for record in batch:
                    self._process([record])
                return
            engine.reset_flows(batch[0])
            self._observer.failed(error, batch[0])

    def _work_off(self, records: Sequence[Record]) -> None:
        """After catch-up, allow contests, and hold the last one that was due before."""
        if self._backlog is None:
            return
        assert self.learner is not None
        self._backlog.note(records)
        if not self._backlog.left:
            self._backlog = None
            self._observer.entered("caught_up", flows=len(self.learner.history.sample))
            self._catch_up()
            self._conclude(self.learner.hold_missed())

    def _concerns(self, record: Record) -> bool:
        """Return whether a record may concern a sampled flow; judged by its key, if possible."""
        assert self.learner is not None
        key, value = record.key, record.value
        if key is None or value is None or value.count(b'"flow"') != 1:
            return True
        if b'"%s"' % key not in value:
            return True
        return self.learner.history.admits(key.decode(errors="replace"))

    def _conclude(self, outcomes: Sequence[Outcome]) -> None:
        """
        Publish *outcomes*, and apply them.

        If an operator changed the generation during the contest, drop the result: it was measured
        against a model that no longer serves.
        """
        assert self._log is not None
        assert self._models is not None
        assert self.learner is not None
        if any(outcome.serving for outcome in outcomes):
            against = self._models.serving.generation
            self._catch_up()
            if self._models.serving.generation != against:
                return
        for outcome in outcomes:
            results = messages(outcome, self._models, self._partition.topic)
            self._log.publish(results, {self._partition: self._next})
            self._models.note(outcome)
            if outcome.serving is not None and self._engine is not None:
                install_generation(self._engine, outcome.serving)
            self._observer.concluded(outcome)

    def _apply_models(self, records: Sequence[Record]) -> None:
        """Process records of the models topic, our own and an operator's: the last one counts."""
        for record in records:
            self._next = record.offset + 1
            if self._models is not None:
                try:
                    self._models.apply(record.key, record.value)
                except UnusableRecord as error:
                    self._observer.odd(str(error))
        if self._models is None or self.learner is None or self._engine is None:
            return
        serving = self._models.serving
        if serving.generation != self.learner.serving.generation:
            self.learner.serve(serving)
            install_generation(self._engine, serving)

    def _catch_up(self) -> None:
        """Process all records that the models topic has so far."""
        self._poll_models()
        self._apply_models(self._pending)
        self._pending = []

    def _alive(self) -> None:
        """Now and then during training: check for a stop request, and report that we are alive."""
        if self._now() - self._alive_at < ALIVE_EVERY_S:
            return
        assert self._log is not None
        self._alive_at = self._now()
        self._observer.alive()
        if self._stopping():
            raise Stopped
        self._poll_models()

    def _poll_models(self) -> None:
        """Fetch the models topic's new records; raise Fenced if its partition was revoked."""
        assert self._log is not None
        delivery = self._log.poll(0.0, RECORDS_MAX)
        self._pending += delivery.records
        if self._partition in delivery.revoked:
            raise Fenced("another trainer learns now")
