"""The loop's life: what it does when the log refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.engine import Engine, EngineConfig
from streamer.core.facts import Partition, Record
from streamer.forecaster import MOVES, Forecaster, GenerationConfig, Phase, StateConfig, TurnConfig
from streamer.log import Delivery, Displaced, Fenced, Refused, TopicMissing, Unavailable
from tests.simulation.fingerprint import Fingerprint

P = Partition("counters", 0)
NOTHING = Delivery(frozenset(), {}, [], 1)


class Script:
    """A log that answers polls as it is told to; what has no answer stops the loop."""

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

    def news(self, topic, start):
        return (), 0

    def table(self, topic, number):
        return {}

    def replay(self, partition, start, end):
        return iter(())

    def publish(self, messages, offsets): ...

    def close(self):
        self.closed = True


class Diary:
    """Notes what it is told."""

    def __init__(self):
        self.phases, self.refusals, self.turns = [], [], 0

    def moved(self, phase):
        self.phases.append(phase)

    def turned(self, turn):
        self.turns += 1

    def restored(self, back): ...

    def heard(self, tidings): ...

    def refused(self, error, pause_s):
        self.refusals.append((type(error), pause_s))


def live(answers, joins=(), turn=TurnConfig(), logs=None):  # noqa: B008 - it is frozen
    """Run a forecaster through *answers*; *joins* are refusals of the first attempts to join."""
    diary, logs, joins = Diary(), [] if logs is None else logs, list(joins)

    def join():
        if joins:
            raise joins.pop(0)
        logs.append(Script(answers))
        return logs[-1]

    forecaster = Forecaster(
        join=join,
        engine=lambda: Engine(Fingerprint(), EngineConfig(flows_max=64)),
        turn=turn,
        state=StateConfig(),
        generation=GenerationConfig(),
        models_topic="models",
        state_topic="state",
        rejects_topic="rejects",
        observer=diary,
        clock=lambda: 0.0,
        pause=lambda _: None,
    )
    try:
        forecaster.run(lambda: not answers)
    finally:
        assert all(log.closed for log in logs)
    return diary


def test_a_log_that_is_away_is_asked_again_ever_more_patiently():
    """Until it is back; then patience begins anew."""
    away = [Unavailable("no route")] * 3
    diary = live([NOTHING, Unavailable("gone"), NOTHING], joins=away)
    assert [pause for _, pause in diary.refusals] == [0.5, 1.0, 2.0, 0.5]
    assert diary.turns == 2


@pytest.mark.parametrize("error", [Refused("not a database"), Displaced("another one")])
def test_what_cannot_be_mended_ends_the_loop(error):
    """A wrong password stays wrong, and of two with one name the older goes."""
    with pytest.raises(type(error)):
        live([NOTHING, error, NOTHING])


REFUSALS = st.sampled_from([Unavailable("x"), Fenced("x"), TopicMissing(["x"])])


@given(st.lists(REFUSALS | st.just(NOTHING), max_size=12), st.lists(REFUSALS, max_size=3))
def test_every_move_of_its_life_is_in_the_table(answers, joins):
    """From the first to the last phase, whatever the log says."""
    diary = live([*answers, NOTHING], joins)
    for before, after in zip([Phase.STARTING, *diary.phases], diary.phases, strict=False):
        assert after in MOVES[before]
    assert diary.phases[-1] is Phase.STOPPED


def dense(readings, records, offset=0, flow=0):
    """A delivery of so many records of so many readings each."""
    told = [
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
    return Delivery(frozenset(), {} if offset else {P: 0}, told, 1)


def test_turns_of_dense_records_take_in_fewer_of_them():
    """As many readings as is allowed, about; never none; and more again when they thin out."""
    logs = []
    answers = [dense(10, 4), dense(10, 4, 4), dense(1, 4, 8), dense(1, 4, 12), NOTHING, NOTHING]
    live(answers, turn=TurnConfig(records_max=1000, readings_max=400), logs=logs)
    assert logs[0].asked == [4, 8, 16, 32, 64, 64]
    few = []
    live([dense(10, 1), NOTHING], turn=TurnConfig(records_max=5, readings_max=1), logs=few)
    assert few[0].asked == [1, 1]
