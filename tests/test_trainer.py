"""The trainer as a process on the embedded log: it learns, is replaced, and disturbs nobody."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from streamer.__main__ import cli
from streamer.config import open_client
from streamer.core.facts import Message
from streamer.core.wire import contests, generations
from streamer.edge.child import Child
from tests.learning import scene

WAIT_S = 300.0


@pytest.fixture
def start():
    """Start `streamer run`; whatever runs at the end is killed."""
    started = []

    def begin(file, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "streamer", "run", "-c", str(file), *arguments],
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def hear(process, event):
    """Read a process's lines up to the one that tells of *event*, which is returned."""
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
    """It learns from the log and tells who serves; killed, another goes on where it ended."""
    file, config = scene.settings(tmp_path)
    rates = scene.rates(5)
    scene.feed(config, rates[: 3 * scene.DAY + 1])
    first = start(file, "--role", "trainer", "--set", "instance=first")
    hear(first, "trainer.learning")
    second = start(file, "--role", "trainer", "--set", "instance=second")
    hear(second, "trainer.waiting")
    await_(lambda: len(held(config)) >= 2)
    before = held(config)
    first.kill()
    scene.feed(
        config, rates[3 * scene.DAY + 1 : 4 * scene.DAY + 2], scene.FIRST + 3 * scene.DAY + 1
    )
    hear(second, "trainer.learning")
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
    told = CliRunner().invoke(cli, ["generations", "-c", str(file), "--json"])
    lines = [json.loads(line) for line in told.output.splitlines()]
    assert [each["generation"] for each in lines] == sorted(after)
    assert [each["generation"] for each in lines if each["serves"]] == won[-1:]
    back = CliRunner().invoke(cli, ["generations", "-c", str(file), "--rollback"])
    assert back.exit_code == 0, back.output
    assert scene.incumbents(config)[-1]["reason"] == "by_hand"
    nobody = CliRunner().invoke(cli, ["generations", "-c", str(file), "--promote", "77"])
    assert nobody.exit_code == 1
    assert "its weights are not kept" in nobody.output


def test_a_forecaster_does_not_mind_its_trainer(tmp_path, start):
    """Stopped, killed, or out of memory at once: forecasts come, and it is begun again."""
    file, config = scene.settings(tmp_path)
    process = start(file, "--set", f"trainer.memory_bytes_max={2**28}")  # torch needs more
    scene.feed(config, scene.rates(1))
    line = hear(process, "trainer.ended")
    assert "again_s=1" in line

    def forecasts():
        client = open_client(config)
        batches = client.follow([config.forecasts.topic], from_start=True, wait_s=0.01)
        number = len(next(batches))
        client.close()
        return number

    await_(lambda: forecasts() > 100)
    hear(process, "trainer.ended")  # it was begun again, and ended again
    assert process.poll() is None
    process.terminate()
    assert process.wait(60) == 0


def test_a_trainer_outlives_nobody(tmp_path, start):
    """When the forecaster that started it is killed, a trainer ends by itself."""
    file, _ = scene.settings(tmp_path)
    process = start(file)
    hear(process, "trainer.started")
    hear(process, "trainer.learning")
    (child,) = subprocess.check_output(["pgrep", "-P", str(process.pid)], text=True).split()
    os.kill(process.pid, signal.SIGKILL)

    def gone():
        try:
            os.kill(int(child), 0)
        except ProcessLookupError:
            return True
        stat = Path(f"/proc/{child}/stat").read_text()
        return stat.split(")")[1].split()[0] == "Z"

    await_(gone)


def test_a_child_that_dies_is_begun_again_ever_later():
    """Pauses double, and a long life ends that."""
    now = 0.0
    child = Child(["no-such-command"], clock=lambda: now)
    pauses = []
    while len(pauses) < 3:
        ended = child.tick()
        if ended is not None:
            assert ended.code == 2
            pauses.append(ended.again_s)
            now += ended.again_s - 0.01
            assert child.tick() is None
            assert child.pid is None  # too early
            now += 0.02
        time.sleep(0.01)
    assert pauses == [1, 2, 4]
    child.end()


def test_junk_on_the_models_topic_stops_no_trainer(tmp_path, start):
    """What another version or a broken one left there is named, and learning goes on."""
    file, config = scene.settings(tmp_path)
    named = generations.Incumbent(generation=4, previous=0, since=0.0, reason="promoted")
    client = open_client(config)
    client.send(
        [
            Message(config.models_topic, 0, b"weights/4", b"\x99" * 5000),
            Message(config.models_topic, 0, b"contest/3", b"{"),
            Message(config.models_topic, 0, b"incumbent", generations.encode(named)),
        ]
    )
    client.flush()
    client.close()
    scene.feed(config, scene.rates(3)[: 2 * scene.DAY + 1])
    process = start(file, "--role", "trainer")
    assert "contest" in hear(process, "generation.unfit")
    assert "weights/4" in hear(process, "generation.unfit")
    found = await_(lambda: (now := scene.models(config)) and b"contest/5" in now and now)
    assert contests.decode_contest(found[b"contest/5"]).incumbent == 0


def test_a_trainer_that_hangs_ends_itself():
    """Without a sign of life it says where it stood, and leaves its place to a new one."""
    hang = (
        "import time; from streamer.commands.learning import Watch;"
        "Watch(None, 0.3, lambda word: None); time.sleep(60)"
    )
    done = subprocess.run(
        [sys.executable, "-c", hang], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 1
    assert "Timeout" in done.stderr
