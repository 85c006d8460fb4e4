"""The trainer as a process on the SQLite log: it trains, is replaced, delays no forecaster."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from streamer.__main__ import cli
from streamer.config.schema import open_client
from streamer.core.engine import Engine
from streamer.core.network.config import ModelConfig
from streamer.core.network.model import Network, pack
from streamer.core.types import Message, Partition, Record
from streamer.core.wire import contests, generations
from streamer.log import TooLarge
from streamer.ops.supervised import SupervisedProcess
from streamer.weights import open_model
from tests.processes import PIPE, Process
from tests.training import scene
from tests.training.pair import Pair

WAIT_S = 300.0


@pytest.fixture
def start():
    """Start `streamer run`; whatever runs at the end is killed."""
    started = []

    def begin(file, *arguments):
        process = Process("run", "-c", file, *arguments, stderr=PIPE)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.close()


def read_until(process, event):
    """Read a process's lines up to the one that logs *event*, which is returned."""
    for line in process.stderr:
        if f"event={event}" in line:
            return line
    pytest.fail(f"it ended without {event}")


def await_(condition):
    ends = time.monotonic() + WAIT_S
    while not (found := condition()):
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.2)
    return found


def held(config):
    """The contests on the topic, by number."""
    return {
        of[1]: contests.decode_contest(value)
        for key, value in scene.models(config).items()
        if (of := generations.numbered(key)) and of[0] == "contest"
    }


def test_a_trainer_is_replaced_by_the_next(tmp_path, start):
    """It trains from the log and publishes the incumbent; after a kill, another continues."""
    file, config = scene.settings(tmp_path)
    rates = scene.rates(5)
    scene.feed(config, rates[: 3 * scene.DAY + 1])
    first = start(file, "--role", "trainer", "--set", "instance=first")
    read_until(first, "trainer.learning")
    second = start(file, "--role", "trainer", "--set", "instance=second")
    read_until(second, "trainer.waiting")
    await_(lambda: held(config))
    before = held(config)
    first.kill()
    scene.feed(
        config, rates[3 * scene.DAY + 1 : 4 * scene.DAY + 2], scene.FIRST + 3 * scene.DAY + 1
    )
    read_until(second, "trainer.learning")
    after = await_(lambda: (now := held(config)) and len(now) > len(before) and now)
    assert {n: after[n] for n in before} == before  # none was held again
    assert min(set(after) - set(before)) == max(before) + 1
    assert after[max(after)].judged_until > before[max(before)].judged_until
    named = scene.incumbents(config)
    won = [each.generation for each in after.values() if each.verdict == "promoted"]
    assert [each["generation"] for each in named] == won
    second.terminate()
    assert second.wait(60) == 0

    shown = CliRunner().invoke(cli, ["generations", "-c", str(file)])
    assert shown.exit_code == 0, shown.output
    assert f"generation {won[-1]} serves: it won its contest" in shown.output
    result = CliRunner().invoke(cli, ["generations", "-c", str(file), "--json"])
    lines = [json.loads(line) for line in result.output.splitlines()]
    assert [each["generation"] for each in lines] == sorted(after)
    assert [each["generation"] for each in lines if each["serves"]] == won[-1:]
    back = CliRunner().invoke(cli, ["generations", "-c", str(file), "--rollback"])
    assert back.exit_code == 0, back.output
    assert scene.incumbents(config)[-1]["reason"] == "by_hand"
    missing = CliRunner().invoke(cli, ["generations", "-c", str(file), "--promote", "77"])
    assert missing.exit_code == 1
    assert "its weights are not kept" in missing.output


def test_on_kafka_a_challenger_wins_and_forecasts_are_of_its_generation(tmp_path, start, bootstrap):
    """All of `streamer run` over a real broker, from the counters to the forecasts."""
    suffix = uuid.uuid4().hex[:8]
    file, config = scene.settings(
        tmp_path,
        log=f"kafka://{bootstrap}",
        group=f"group-{suffix}",
        input={"topics": [f"counters-{suffix}"], "kind": "gauge"},
        forecasts={"topic": f"forecasts-{suffix}"},
        scores={"topic": f"scores-{suffix}"},
        kafka={"session_timeout": "6s"},
        finetune={"every": "12h", "steps_max": 20, "learning_rate": 2e-3},
    )
    rates, sent = scene.rates(4), 2 * scene.DAY + 1
    scene.feed(config, rates[:sent])
    process = start(file)
    read_until(process, "trainer.learning")
    won = int(re.search(r"\bgeneration=(\d+)", read_until(process, "challenger.promoted"))[1])
    table = scene.models(config)
    contest = contests.decode_contest(table[generations.contest_key(won)])
    assert (contest.verdict, contest.incumbent) == ("promoted", 0)
    assert generations.weights_key(won) in table
    assert generations.decode(table[generations.INCUMBENT]).generation >= won

    by_flow = {}  # by flow and moment: the generations of what was forecast then
    ends = time.monotonic() + WAIT_S
    client = open_client(config)
    with contextlib.closing(client.follow([config.forecasts.topic], from_start=True)) as batches:
        while any(of[max(of)][0] < won for of in by_flow.values()) or len(by_flow) < scene.FLOWS:
            assert time.monotonic() < ends, "no page migrated"
            batch = next(batches)
            for made in (json.loads(line) for each in batch for line in each.value.splitlines()):
                by_time = by_flow.setdefault(made["flow"], {})
                by_time.setdefault(made["made_at"], []).append(made["generation"])
            if not batch:  # pages migrate between readings, too, but only forecasts show it
                scene.feed(config, rates[sent : sent + 1], scene.FIRST + sent)
                sent += 1
    client.close()
    for by_time in by_flow.values():
        assert all(len(once) == 1 for once in by_time.values())
        served = [once[0] for _, once in sorted(by_time.items())]
        assert served == sorted(served), "a page migrated and came back"
        assert served[0] == 0
    process.terminate()
    assert process.wait(60) == 0


@pytest.fixture
def pair():
    """Begin a forecaster and a trainer over one log, that let go of it at the end."""
    with contextlib.ExitStack() as ends:

        def begin(config):
            made = Pair(config)
            ends.callback(made.close)
            return made

        yield begin


def by_hand(file, *asked):
    """`streamer generations` with an operator's options."""
    return CliRunner().invoke(cli, ["generations", "-c", str(file), *map(str, asked)])


def test_a_manually_promoted_generation_serves_and_is_trained_further(tmp_path, pair):
    """Forecasters switch to it, and the next challenger is trained from it."""
    file, config = scene.settings(tmp_path, sqlite={"session_timeout": "10m"})
    rates = scene.rates(6)
    day, sent = 3, 0

    def feed(until):
        nonlocal sent
        scene.feed(config, rates[sent:until], scene.FIRST + sent)
        sent = until

    pair = pair(config)
    pair.until(lambda: pair.trainer.learner)  # with nothing to catch up: each contest is held
    feed(day * scene.DAY + 1)
    pair.until(lambda: len(pair.contests) == day - 1 and pair.is_agreed())
    won = [each for each in pair.contests if each.verdict == "promoted"][-1]
    assert pair.serves == won.generation
    shipped = open_model(config.model).digest
    for chosen, parent in ((0, shipped), (won.generation, won.digest)):
        assert pair.serves != chosen
        done = by_hand(file, "--promote", chosen)
        assert done.exit_code == 0, done.output
        assert f"generation {chosen} serves from now on" in done.stderr
        assert f"generation {chosen} serves: by hand" in done.stdout
        pair.until(lambda chosen=chosen: pair.serves == chosen)
        since = (scene.FIRST + sent) * scene.STEP_S
        feed(sent + 3)
        pair.until(lambda since=since: len(pair.forecasts(since)) > 2 * scene.FLOWS)
        assert {each["generation"] for each in pair.forecasts(since)} == {chosen}
        day += 1
        feed(day * scene.DAY + 1)
        pair.until(lambda day=day: len(pair.contests) == day - 1 and pair.is_agreed())
        assert (pair.contests[-1].incumbent, pair.contests[-1].parent) == (chosen, parent)
        if (
            chosen == 0
        ):  # weights that are easily improved upon: the manual promotion holds until then
            assert pair.serves == pair.contests[-1].generation
    assert pair.diary.oddities == []


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (1, "its weights are not kept"),
        (2, "holds no weights"),
        (3, "hidden 8"),
        (4, "a weight is not finite"),
    ],
)
def test_weights_that_could_not_serve_are_not_promoted_manually(tmp_path, wanted, why):
    """What every forecaster would reject is rejected before it is published."""
    file, config = scene.settings(tmp_path)
    network = Network(ModelConfig())
    with torch.no_grad():
        network.output.bias[3] = float("nan")
    other = pack(Network(ModelConfig(hidden=8)), {})
    kept = {b"weights/2": b"junk", b"weights/3": other, b"weights/4": pack(network, {})}
    scene.publish_models(config, kept)
    done = by_hand(file, "--promote", wanted)
    assert done.exit_code == 1
    assert why in done.stderr
    assert scene.incumbents(config) == []


def test_promoting_the_incumbent_changes_nothing(tmp_path):
    """Otherwise the generation before it could not be rolled back to."""
    file, config = scene.settings(tmp_path)
    packed = pack(Network(ModelConfig()), {})
    scene.publish_models(config, {b"weights/1": packed, b"weights/2": packed})
    outputs = [by_hand(file, "--promote", n).stderr for n in (0, 1, 2, 2)]
    assert [line.partition("serves")[2].strip() for line in outputs] == [
        "already",
        "from now on",
        "from now on",
        "already",
    ]
    assert by_hand(file, "--rollback").exit_code == 0
    assert [each["generation"] for each in scene.incumbents(config)][-1] == 1
    scene.publish_models(config, {b"incumbent": b"{"})
    assert "from now on" in by_hand(file, "--promote", 0).stderr  # it mends what is junk


def test_a_manual_promotion_takes_effect_before_a_contest(tmp_path, pair):
    """It is older than the counters that end the contest, and may be read after them."""
    _, config = scene.settings(tmp_path)
    pair = pair(config)
    pair.until(lambda: pair.trainer.learner)
    learner, against = pair.trainer.learner, []
    learner.due = lambda: True
    learner.turn = lambda rows_of, **_: against.append(learner.serving.generation) or []
    named = generations.Incumbent(generation=1, previous=0, since=0.0, reason="by_hand")
    weights = {b"weights/1": pack(Network(ModelConfig()), {})}
    scene.publish_models(config, weights | {b"incumbent": generations.encode(named)})
    pair.trainer._read([Record(Partition("counters", 0), 0, None, b"{}", 0)])
    assert against == [1]


def test_a_manual_promotion_during_a_contest_is_kept(tmp_path, pair):
    """The winner was compared with a model that no longer serves; the next contest decides."""
    _, config = scene.settings(tmp_path, sqlite={"session_timeout": "10m"})
    rates = scene.rates(4)
    pair = pair(config)
    pair.until(lambda: pair.trainer.learner)
    scene.feed(config, rates[: 2 * scene.DAY + 1], scene.FIRST)
    learner = pair.trainer.learner
    turn = learner.turn
    named = generations.Incumbent(generation=7, previous=0, since=0.0, reason="by_hand")
    weights = {b"weights/7": pack(Network(ModelConfig()), {})}

    def interrupted(rows_of, **options):
        outcomes = turn(rows_of, **options)
        if any(each.serving is not None for each in outcomes) and weights:
            scene.publish_models(config, weights | {b"incumbent": generations.encode(named)})
            weights.clear()
        return outcomes

    learner.turn = interrupted
    pair.until(lambda: not weights and pair.serves == 7)
    assert pair.contests == []
    assert learner.serving.generation == 7
    scene.feed(
        config, rates[2 * scene.DAY + 1 : 3 * scene.DAY + 1], scene.FIRST + 2 * scene.DAY + 1
    )
    pair.until(lambda: pair.contests)
    assert pair.contests[0].incumbent == 7


class Lopsided:
    """A client of a log where one partition's old records come long before another's."""

    def __init__(self, client):
        self._client = client

    def follow(self, topics, **options):
        batches = self._client.follow(topics, **options)
        old = sorted(
            (record for batch in takewhile(bool, batches) for record in batch),
            key=lambda record: (record.partition, record.offset),
        )
        for first in range(0, len(old), 500):
            yield old[first : first + 500]
        yield from batches

    def __getattr__(self, name):
        return getattr(self._client, name)


def test_no_contest_is_held_before_all_old_counters_are_read(tmp_path, pair):
    """Otherwise a part of the flows would decide; the last one due is then held at once."""
    _, config = scene.settings(tmp_path, sqlite={"session_timeout": "10m"})
    scene.feed(config, scene.rates(3)[: 3 * scene.DAY - 20])
    pair = pair(config)
    pair.trainer._client = lambda: Lopsided(open_client(config))
    began = []  # whether old counters were still to be read when a contest was held

    def concluded(outcome, concluded=pair.diary.concluded):
        began.append(pair.trainer._backlog is not None)
        concluded(outcome)

    pair.diary.concluded = concluded
    pair.until(lambda: pair.trainer.learner and pair.trainer._backlog is None)
    assert began == [False]
    assert pair.contests[0].judged_until > (scene.FIRST + 2 * scene.DAY) * scene.STEP_S


def test_a_forecaster_runs_on_when_its_trainer_fails(tmp_path, start):
    """Stopped, killed, or out of memory at once: forecasts continue, and it is started again."""
    file, config = scene.settings(tmp_path)
    process = start(file, "--set", f"trainer.memory_bytes_max={2**28}")  # torch needs more
    scene.feed(config, scene.rates(1))
    line = read_until(process, "trainer.exited")
    assert "retry_in_s=1" in line

    def forecasts():
        client = open_client(config)
        batches = client.follow([config.forecasts.topic], from_start=True, wait_s=0.01)
        number = len(next(batches))
        client.close()
        return number

    await_(lambda: forecasts() > 100)
    read_until(process, "trainer.exited")  # it was started again, and ended again
    assert process.poll() is None
    process.terminate()
    assert process.wait(60) == 0


def test_a_trainer_ends_with_its_forecaster(tmp_path, start):
    """When the forecaster that started it is killed, a trainer ends by itself."""
    file, _ = scene.settings(tmp_path)
    process = start(file)
    read_until(process, "trainer.started")
    read_until(process, "trainer.learning")
    (child,) = subprocess.check_output(["pgrep", "-P", str(process.pid)], text=True).split()
    os.kill(process.pid, signal.SIGKILL)

    def ended():
        try:
            os.kill(int(child), 0)
        except ProcessLookupError:
            return True
        stat = Path(f"/proc/{child}/stat").read_text()
        return stat.split(")")[1].split()[0] == "Z"

    await_(ended)


def test_a_child_that_dies_is_started_again_after_growing_delays():
    """Pauses double, and a long life ends that."""
    now = 0.0
    child = SupervisedProcess(["no-such-command"], clock=lambda: now)
    pauses = []
    while len(pauses) < 3:
        ended = child.tick()
        if ended is not None:
            assert ended.code == 2
            pauses.append(ended.retry_in_s)
            now += ended.retry_in_s - 0.01
            assert child.tick() is None
            assert child.pid is None  # too early
            now += 0.02
        time.sleep(0.01)
    assert pauses == [1, 2, 4]
    child.end()


def test_junk_on_the_models_topic_does_not_stop_a_trainer(tmp_path, start):
    """Records of another version or a broken one are logged, and training continues."""
    file, config = scene.settings(tmp_path)
    named = generations.Incumbent(generation=4, previous=0, since=0.0, reason="promoted")
    junk = {b"weights/4": b"\x99" * 5000, b"contest/3": b"{"}
    scene.publish_models(config, junk | {b"incumbent": generations.encode(named)})
    scene.feed(config, scene.rates(3)[: 2 * scene.DAY + 1])
    process = start(file, "--role", "trainer")
    assert "contest" in read_until(process, "generation.rejected")
    assert "weights/4" in read_until(process, "generation.rejected")
    found = await_(lambda: (now := scene.models(config)) and b"contest/5" in now and now)
    assert contests.decode_contest(found[b"contest/5"]).incumbent == 0


def test_a_trainer_that_hangs_ends_itself():
    """Without a sign of life it prints its stack and exits, so that a new one is started."""
    hang = (
        "import time; from streamer.cli._training import Watch;"
        "Watch(None, None, 0.3, lambda word: None); time.sleep(60)"
    )
    done = subprocess.run(
        [sys.executable, "-c", hang], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 1
    assert "Timeout" in done.stderr


def test_a_record_that_raises_does_not_stop_a_trainer(tmp_path, pair, monkeypatch):
    """It is skipped, and counters after it are read; the forecaster rejects it."""
    _, config = scene.settings(tmp_path, sqlite={"session_timeout": "10m"})
    scene.feed(config, scene.rates(1)[:20])
    bad = {"flow": "bad", "time": scene.FIRST * scene.STEP_S, "value": 1, "unit": "poison"}
    client = open_client(config)
    client.send([Message(config.input.topics[0], 0, b"bad", json.dumps(bad).encode())] * 2)
    client.close()
    scene.feed(config, scene.rates(1)[20:40], scene.FIRST + 20)
    process_wave = Engine._process_wave

    def fragile(self, wave, slots, counts):
        if (wave.unit == b"poison").any():
            raise ZeroDivisionError("planted")
        yield from process_wave(self, wave, slots, counts)

    monkeypatch.setattr(Engine, "_process_wave", fragile)
    pair = pair(config)
    while not (pair.trainer.learner and pair.trainer._backlog is None):
        pair.trainer.turn()
    assert [str(error) for error, _ in pair.diary.failures] == ["planted"] * 2
    assert pair.trainer.learner.history.now() == scene.FIRST + 38


def test_weights_that_the_log_does_not_accept_are_not_trained(tmp_path, pair):
    """It is reported before any training, with both numbers, and tried again later."""
    _, config = scene.settings(tmp_path)
    scene.feed(config, scene.rates(1)[:20])
    pair = pair(config)
    wide = pair.trainer._client

    class Narrow:
        def __init__(self):
            self._client = wide()

        def topics(self):
            every = dict(self._client.topics())
            topic = config.models_topic
            every[topic] = replace(every[topic], message_bytes_max=10_000)
            return every

        def __getattr__(self, name):
            return getattr(self._client, name)

    pair.trainer._client = Narrow

    def turns():
        for _ in range(50):
            pair.trainer.turn()

    with pytest.raises(TooLarge, match=r"weights take [\d,]+ bytes, and max\.message\.bytes"):
        turns()
    pair.trainer.forget()
