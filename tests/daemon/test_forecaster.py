"""The loop's life: what it does when the log refuses."""

from dataclasses import replace
from itertools import count, pairwise
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.cli._forecasting import Watch
from streamer.core.budget import Budget
from streamer.core.engine import Engine, EngineConfig
from streamer.core.types import Partition, Record
from streamer.daemon import forecaster, pacing
from streamer.daemon.events import MOVES, Phase
from streamer.daemon.forecaster import Forecaster
from streamer.daemon.pacing import Pacing
from streamer.daemon.settings import GenerationConfig, StateConfig, TurnConfig
from streamer.log import (
    Fenced,
    InstanceReplaced,
    PermanentError,
    PollResult,
    TopicMissing,
    Unavailable,
)
from streamer.ops.coverage_slo import CoverageSLO, ObjectiveConfig
from streamer.ops.systemd import Systemd
from streamer.ops.telemetry import Telemetry, TelemetryConfig
from tests.simulation.fingerprint import Fingerprint

P = Partition("counters", 0)
CONFIG = EngineConfig(flows_max=64)
NOTHING = PollResult(frozenset(), {}, [], 1)


class Script:
    """A log whose polls return the given answers; a poll without an answer stops the loop."""

    def __init__(self, answers):
        self.answers = answers
        self.asked = []  # how many records at most
        self.closed = False

    def poll(self, wait_s, records_max):
        self.asked.append(records_max)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def poll_topic(self, topic, start):
        return (), 0

    def read_table(self, topic, number):
        return {}

    def widen(self, topics, partitions):
        return dict.fromkeys(topics, partitions)

    def replay(self, partition, start, end):
        return iter(())

    def publish(self, messages, offsets): ...

    def close(self):
        self.closed = True


class Diary:
    """Records the events."""

    def __init__(self):
        self.phases, self.refusals, self.turns, self.lags = [], [], 0, []

    def moved(self, phase):
        self.phases.append(phase)

    def turned(self, turn):
        self.turns += 1
        self.lags.append(turn.lag)

    def alive(self): ...

    def restored(self, back): ...

    def unplaced(self, partitions, widths): ...

    def registry_updated(self, update): ...

    def refused(self, error, pause_s):
        self.refusals.append((type(error), pause_s))


def live(
    answers,
    joins=(),
    turn=TurnConfig(),  # noqa: B008 - it is frozen
    logs=None,
    script=Script,
    model=Fingerprint,
    observer=None,
    config=CONFIG,
    clock=lambda: 0.0,
    budget=None,
):
    """Run a forecaster through *answers*; *joins* are refusals of the first attempts to join."""
    diary, logs, joins = observer or Diary(), [] if logs is None else logs, list(joins)

    def join():
        if joins:
            raise joins.pop(0)
        logs.append(script(answers))
        return logs[-1]

    made = Forecaster(
        join=join,
        engine=lambda: Engine(model(), config, budget=budget),
        pacing=Pacing(turn, StateConfig(), GenerationConfig(), clock),
        models_topic="models",
        state_topic="state",
        rejects_topic="rejects",
        observer=diary,
        clock=clock,
        pause=lambda _: None,
    )
    try:
        made.run(lambda: not answers)
    finally:
        assert all(log.closed for log in logs)
    return diary


def test_a_log_that_is_away_is_retried_with_growing_delays():
    """Until it is back; then the delay starts small again."""
    away = [Unavailable("no route")] * 3
    diary = live([NOTHING, Unavailable("away"), NOTHING], joins=away)
    assert [pause for _, pause in diary.refusals] == [0.5, 1.0, 2.0, 0.5]
    assert diary.turns == 2


@pytest.mark.parametrize(
    "error", [PermanentError("not a database"), InstanceReplaced("another one")]
)
def test_a_permanent_error_ends_the_loop(error):
    """A wrong password stays wrong, and of two members of one name the older ends."""
    with pytest.raises(type(error)):
        live([NOTHING, error, NOTHING])


REFUSALS = st.sampled_from([Unavailable("x"), Fenced("x"), TopicMissing(["x"])])


@given(st.lists(REFUSALS | st.just(NOTHING), max_size=12), st.lists(REFUSALS, max_size=3))
def test_every_change_of_phase_is_in_the_table(answers, joins):
    """From the first to the last phase, whatever the log raises."""
    diary = live([*answers, NOTHING], joins)
    for before, after in zip([Phase.STARTING, *diary.phases], diary.phases, strict=False):
        assert after in MOVES[before]
    assert diary.phases[-1] is Phase.STOPPED


class Replayed(Script):
    """A partition whose replay lasts: a stop is asked for before it is over."""

    def replay(self, partition, start, end):
        self.answers.clear()
        yield dense(1, 5).records

    def read_table(self, topic, number):
        return {b"counters/0/floor": b'{"offset":0}'} if topic == "state" else {}


def test_a_stop_during_a_restore_ends_it_without_an_error():
    ticks = count()
    gained = PollResult(frozenset(), {P: 5}, [], 1)
    diary = live([gained, NOTHING], script=Replayed, clock=lambda: float(next(ticks)))
    assert diary.phases == [Phase.RUNNING, Phase.RESTORING, Phase.STOPPED]
    assert diary.turns == 0


def dense(readings, records, offset=0, flow=0):
    """A delivery of so many records of so many readings each."""
    delivered = [
        Record(
            P,
            offset + n,
            None,
            b"\n".join(
                b'{"flow":"f%d","time":%d,"value":1}' % (flow + i, 60 * (offset + n))
                for i in range(readings)
            ),
            -1,
        )
        for n in range(records)
    ]
    return PollResult(frozenset(), {} if offset else {P: 0}, delivered, 1)


def test_a_long_restore_sends_signs_of_life_but_not_ready(monkeypatch):
    """Each part, rebuilt or read again, is reported to systemd; READY follows the first turn."""
    monkeypatch.setattr(forecaster, "SETTLE_ROWS", 8)
    now, notified, piece_s = 0.0, [], 20.0
    before = Engine(Fingerprint(), CONFIG)
    before.restore(P, {}, 0, 1)
    epochs = [before.step(dense(60, 2, first).records, share=1.0) for first in (0, 2)]
    saved = {entry.key: entry.value for epoch in epochs for entry in epoch.entries}

    def work():
        nonlocal now
        now += piece_s

    class Others(Fingerprint):
        """Other weights under the number of those that the pages are of."""

        def __init__(self):
            super().__init__()
            self.digest = "others"

        def prime(self, *window):
            work()
            return super().prime(*window)

    class Slow(Script):
        def read_table(self, topic, number):
            return saved if topic == "state" else {}

        def replay(self, partition, start, end):
            for _ in range(8):
                work()
                yield []

    class Notifier(Systemd):
        def send(self, word):
            notified.append((now, word))

    lines = Mock()
    systemd = Notifier({"WATCHDOG_USEC": "60000000"}, monotonic=lambda: now)
    parts = Telemetry(TelemetryConfig(), lines), CoverageSLO(ObjectiveConfig(), lines), systemd
    watch = Watch(lines, *parts, None, {})
    gained = PollResult(frozenset(), {P: 4}, [], 1)
    again = PollResult(frozenset({P}), {P: 4}, [], 1)
    live([gained, NOTHING, again, NOTHING], script=Slow, model=Others, observer=watch)
    (ready,) = [at for at, word in notified if word == "READY=1"]
    assert ready == 16 * piece_s  # eight pieces that are re-primed, eight that are read again
    assert now == 2 * ready
    starting = [at for at, word in notified if word.startswith("EXTEND_TIMEOUT_USEC=30")]
    assert all(later - at < 30 for at, later in pairwise([0.0, *starting, ready]))
    alive = [at for at, word in notified if word == "WATCHDOG=1"]
    assert all(later - at < 60 for at, later in pairwise([0.0, *alive, now]))
    status = [word for _, word in notified if word.startswith("STATUS") or word == "READY=1"]
    assert status[:4] == ["STATUS=running", "STATUS=restoring", "STATUS=running", "READY=1"]


def test_turns_of_dense_records_take_fewer_of_them():
    """About as many readings as are allowed, in one record at least; more when they are sparse."""
    logs = []
    answers = [dense(10, 4), dense(10, 4, 4), dense(1, 4, 8), dense(1, 4, 12), NOTHING, NOTHING]
    live(answers, turn=TurnConfig(records_max=1000, readings_max=400), logs=logs)
    assert logs[0].asked == [4, 8, 16, 32, 64, 64]
    few = []
    live([dense(10, 1), NOTHING], turn=TurnConfig(records_max=5, readings_max=1), logs=few)
    assert few[0].asked == [1, 1]


def test_lag_includes_the_records_that_wait_for_a_turn():
    """They were read, but no forecast has been made of them."""
    held = replace(NOTHING, assigned={P: 0}, lag={P: 3})
    read = replace(dense(50, 4), lag={P: 3})
    rest = [replace(NOTHING, lag={P: 3}) for _ in range(5)]
    diary = live([held, read, *rest], budget=Budget(passes_max=50, rows_max=60))
    found = [lag.get(P, 0) for lag in diary.lags]
    assert max(found) > 3
    assert found == [3, *sorted(found[1:], reverse=True)]
    assert found[-1] == 3


def test_after_a_long_pause_no_turn_saves_everything(monkeypatch):
    """Every page is due, and with many flows they would be more than a transaction takes."""
    monkeypatch.setattr(pacing, "ROWS_A_TURN", 128)
    hours, pages = count(step=3600.0), []

    class Saving(Script):
        def publish(self, messages, offsets):
            saved = [message for message in messages if message.topic == "state"]
            pages.append(sum(b"/page/" in message.key for message in saved))

    answers = [dense(400, 1), dense(400, 1, 1), NOTHING, NOTHING, NOTHING, NOTHING]
    config = EngineConfig(flows_max=512)
    live(answers, script=Saving, config=config, clock=lambda: next(hours))
    _, *others = pages  # at its beginning there was no row, and so no measure
    assert max(others) == 2
    assert sum(others) >= 400 / 64


def test_an_exception_outside_of_the_records_is_reported_and_retried():
    """A turn that was published stays published; the loop starts again."""

    class Clumsy(Diary):
        def __init__(self):
            super().__init__()
            self.failures = []

        def turned(self, turn):
            super().turned(turn)
            if self.turns == 2:
                raise ValueError("planted")

        def failed(self, failed):
            self.failures.append((str(failed), failed.has_records))

    diary = live([NOTHING] * 4, observer=Clumsy())
    assert diary.failures == [("ValueError: planted", False)]
    assert diary.turns == 4


def test_an_exception_in_every_turn_ends_the_loop():
    """The service manager starts the process again, with a growing delay."""
    diary = Diary()
    diary.failed = diary.refusals.append
    with pytest.raises(ValueError, match="planted"):
        live([ValueError("planted")] * 9, observer=diary)
    assert len(diary.refusals) == 2
