"""
The loop: hear, think, say.

A turn is an epoch: what one poll brought is thought through and published before
the next poll, so nothing is half done when partitions come or go. There is one
way back from every failure: forget, and restore from the log.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from streamer.config.types import Duration, Settings
from streamer.core.engine import Engine
from streamer.core.types import Message, Partition, Record, TurnResult
from streamer.core.wire import alerts, rejects, scores
from streamer.core.wire.forecasts import Encoder
from streamer.daemon.events import MOVES, Observer, Phase, Return, Turn
from streamer.daemon.isolation import Isolation, TurnFailed
from streamer.daemon.widening import Places
from streamer.log import InstanceReplaced, Log, LogError, PermanentError

FOLLOW_S = 1.0  # between two looks at what is new of generations
PAGE_S = 0.02  # what rolling out a page may cost, before any was …
PAGE_S_MIN = 0.0005  # … and at the least
CREDIT_MAX_S = 1.0  # of time for a rollout, however long a turn took
SETTLE_ROWS = 2048  # restored rows that are re-primed before anybody hears of us again
READINGS_A_ROUND = 30  # of each flow: pages are saved sooner where readings come fast
ROWS_A_TURN = 50_000  # that are saved: after a long standstill all would be due, in one transaction
READINGS_A_RECORD = 100.0  # until it is known
LOOK_S = 0.5  # between two looks, in the middle of a turn, at whether it is to stop
PAUSE_S = 0.5  # before the log is asked again, doubled up to …
PAUSE_MAX_S = 10.0


class TurnConfig(Settings, frozen=True, kw_only=True):
    """How much one turn takes in."""

    records_max: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    readings_max: Annotated[int, msgspec.Meta(ge=1)] = 50_000  # about: a record may hold many
    poll_timeout: Duration = Duration(0.1)  # how long a poll waits for records


class StateConfig(Settings, frozen=True, kw_only=True):
    """Where rows are saved, and how often."""

    topic: str | None = None  # None: <group>.state
    interval: Duration = Duration(60)  # each page is saved once in it


class GenerationConfig(Settings, frozen=True, kw_only=True):
    """Where generations of weights come from, and how fast they are taken up."""

    topic: str | None = None  # None: <group>.models
    rollout_time_share: Annotated[float, msgspec.Meta(ge=0.01, le=1)] = (
        0.2  # of the time of each turn
    )


class Stopped(Exception):
    """It was told to stop in the middle of a turn, which is then not published."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is to be published, written out as it is read: the log sends the first meanwhile."""

    write: Callable[[], Iterator[Message]]

    def __iter__(self) -> Iterator[Message]:
        """From the beginning, each time."""
        return self.write()


class Forecaster:
    """
    Turns a log of counters into a log of forecasts.

    *join* makes a membership, *engine* an engine without rows; both are
    called again on each way back. *clock* and *pause* are the world's time:
    they pace the saving of pages and the rollout of generations, and nothing else.
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
        self._readings = 0  # of the last turn
        self._dense = READINGS_A_RECORD
        self._models_at: int | None = None  # the next offset of the models topic, once it was read
        self._asked_at = clock()
        self._credit_s = 0.0  # for rolling out pages
        self._page_s = PAGE_S
        self._stopping: Callable[[], bool] = lambda: False
        self._looked_at = clock()
        self._isolation = Isolation()  # outlives the engine: a failed turn forgets all rows
        self.log: Log | None = None
        self.engine: Engine | None = None

    def run(self, stopping: Callable[[], bool]) -> None:
        """
        Turn until *stopping*, and again from the log after each refusal.

        Raises PermanentError where asking again would change nothing, and
        InstanceReplaced where another instance goes on under our name: two that fence
        each other in turn would both get nowhere.
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
            except TurnFailed as failed:
                self.forget()
                self._observer.failed(failed)
                if not stopping():
                    self._move(Phase.STARTING)
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
        if self.log is not None:
            self.log.close()
        self._move(Phase.STOPPED)

    def start(self) -> None:
        """Join the group, with no rows yet: partitions come with the first polls."""
        self.engine = self._make_engine()
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
        """What one poll brought, thought through and published."""
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
        self._take_up(elapsed_s)
        records_max = self._isolation.records_max
        try:
            epoch = self.engine.step(
                delivery.records, self._share(elapsed_s), records_max, self._look
            )
            messages = Told(functools.partial(self.messages, epoch))
            told = epoch.forecasts, epoch.scores, epoch.rejects, epoch.entries, epoch.alerts
            if any(map(len, told)) or epoch.offsets:
                self.log.publish(messages, epoch.offsets)
        except (LogError, Stopped):
            raise
        except Exception as error:
            raise self._isolation.failed(self.engine.current, error) from error
        self._isolation.passed(len(self.engine.current))
        self._readings = epoch.counts["readings"]
        if delivery.records:  # a dense record among others does not take us by surprise twice
            self._dense = max(self._readings / len(delivery.records), self._dense / 2)
        self._observer.turned(
            Turn(
                epoch, len(self.engine.table), self._clock() - began, delivery.lag, delivery.missed
            )
        )

    def messages(self, epoch: TurnResult) -> Iterator[Message]:
        """An epoch as what is to be published."""
        yield from self._encoder.messages(epoch.forecasts)
        yield from scores.messages(epoch.scores, self._scores_topic, self._step_s)
        yield from alerts.messages(epoch.alerts, self._alerts_topic)
        yield from alerts.score_messages(epoch.rule_scores, self._scores_topic, self._step_s)
        for reject in epoch.rejects:
            yield rejects.message(reject, self._rejects_topic)
        for entry in epoch.entries:
            yield Message(self._state_topic, entry.partition.number, entry.key, entry.value)

    def forget(self) -> None:
        """Leave the log and drop all rows: they may differ from what was told."""
        self._move(Phase.RETURNING)
        if self.log is not None:
            self.log.close()
        self.log = self.engine = None

    def _restore(self, partition: Partition, committed: int, partitions_total: int) -> None:
        """Its pages, then the input after them, in silence."""
        assert self.log is not None
        assert self.engine is not None
        self._move(Phase.RESTORING)
        began, replayed = self._clock(), 0
        flows_before = len(self.engine.table)
        start, restored = self.engine.restore(
            partition,
            # The table is as large as its rows, so no name keeps it alive.
            self.log.read_table(self._state_topic, partition.number),
            committed,
            partitions_total,
            self._isolation.suspects,
        )
        self._observer.alive()
        while self.engine.rollout.rebuild_pending(SETTLE_ROWS):
            self._observer.alive()
            self._follow()  # and so the log hears of us
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
        """Replay *records*; as many at once as may be while one is searched that raises."""
        assert self.engine is not None
        at_once = self._isolation.records_max or len(records)
        for first in range(0, len(records), max(1, at_once)):
            try:
                self.engine.replay(records[first : first + at_once], self._look)
            except (LogError, Stopped):
                raise
            except Exception as error:
                raise self._isolation.failed(self.engine.current, error) from error

    def _look(self) -> None:
        """Between two pieces of a turn: whether to stop, and that the service and the log know."""
        now = self._clock()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        self._observer.alive()
        if self._stopping():
            raise Stopped
        self._follow()  # and so the log hears of us

    def _records_max(self) -> int:
        """How many records a turn may take in, as dense as they have been of late."""
        assert self.engine is not None
        if self.engine.waiting:
            return 0
        fitting = int(self._turn.readings_max / max(1.0, self._dense))
        isolated = self._isolation.records_max or self._turn.records_max
        return max(1, min(self._turn.records_max, fitting, isolated))

    def _survey(self) -> None:
        """Before rows come back: which generations there are, and which of them serves."""
        assert self.log is not None
        assert self.engine is not None
        _, self._models_at = self.log.poll_topic(self._models_topic, None)
        self._observer.heard(self.engine.load_models(self.log.read_table(self._models_topic, 0)))

    def _follow(self) -> None:
        """Hear what is new of generations, now and then; the table has what was not kept."""
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

    def _take_up(self, elapsed_s: float) -> None:
        """Hand over as many pages as their share of the time since the last turn allows."""
        assert self.engine is not None
        behind = self.engine.rollout.stale_pages()
        if not behind:
            self._credit_s = 0.0
            return
        self._credit_s += self._generation.rollout_time_share * elapsed_s
        self._credit_s = min(self._credit_s, max(CREDIT_MAX_S, self._page_s))
        pages = min(behind, int(self._credit_s / self._page_s))
        if pages:
            began = self._clock()
            self.engine.rollout.advance(pages)
            took_s = self._clock() - began
            self._credit_s -= took_s
            self._page_s = max(PAGE_S_MIN, (self._page_s + took_s / pages) / 2)

    def _elapsed_s(self) -> float:
        """Since this was asked last, a turn ago."""
        now = self._clock()
        elapsed, self._turned_at = now - self._turned_at, now
        return elapsed

    def _share(self, elapsed_s: float) -> float:
        """The part of a round over the pages that is due: by time, or by readings."""
        assert self.engine is not None
        rows = max(1, len(self.engine.table))
        by_time = elapsed_s / max(float(self._state.interval), 1e-3)
        by_readings = self._readings / (READINGS_A_ROUND * rows)
        return min(max(by_time, by_readings), ROWS_A_TURN / rows)

    def _move(self, phase: Phase) -> None:
        assert phase in MOVES[self._phase], f"no move from {self._phase} to {phase}"
        self._phase = phase
        self._observer.moved(phase)
