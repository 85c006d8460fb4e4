"""The command line, as one types it: what it prints, how it ends, and that help comes at once."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from itertools import takewhile
from unittest.mock import Mock

import pytest
import yaml
from click.testing import CliRunner

from streamer.__main__ import COMMANDS, cli
from streamer.cli._forecasting import Watch
from streamer.config.schema import load, open_client
from streamer.core.types import Message, TurnResult
from streamer.daemon.events import Turn
from streamer.log import TopicConfig, TopicMissing, Unavailable
from streamer.ops.coverage_slo import CoverageSLO, ObjectiveConfig
from streamer.ops.systemd import Systemd
from streamer.ops.telemetry import Telemetry, TelemetryConfig

FLOWS = ("edge1/in", "edge1/out", "edge2/in")
STEPS = 30
START = 1_700_000_000 // 300 * 300
STREAMER = (sys.executable, "-m", "streamer")


def call(*arguments, **options):
    """Run a command in this process."""
    return CliRunner().invoke(cli, [str(each) for each in arguments], **options)


@pytest.fixture
def config(tmp_path):
    """A settings file whose log is an empty SQLite file beside it."""
    path = tmp_path / "streamer.yaml"
    path.write_text(f"log: sqlite:///{tmp_path / 'log.db'}\nstep: 5m\ngroup: test\n")
    return path


def feed(config, messages):
    """Put records on topics."""
    client = open_client(load(config))
    client.send(messages)
    client.close()


def readings():
    """Counters that grow, of some flows: one message a reading."""
    return [
        Message(
            "traffic.counters",
            None,
            flow.encode(),
            json.dumps({"flow": flow, "time": START + 300 * n, "value": n * n * 1e6}).encode(),
        )
        for n in range(STEPS + 1)
        for flow in FLOWS
    ]


def forecasts(config):
    """What lies on the forecasts topic."""
    client = open_client(load(config))
    batches = takewhile(bool, client.follow(["traffic.forecasts"], from_start=True, wait_s=0.01))
    found = [json.loads(record.value) for batch in batches for record in batch]
    client.close()
    return found


def await_(condition, seconds=240.0):
    """Wait until *condition* holds."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.05)


def read_until(process, event):
    """Read a process's lines up to the one that logs *event*, which is returned."""
    for line in process.stderr:
        if event in line:
            return line
    pytest.fail(f"it ended without {event}")


@pytest.fixture
def run(config):
    """Start `streamer run` on a log that has its topics; whatever runs at the end is killed."""
    started = []

    def start(*arguments, **environ):
        process = subprocess.Popen(
            [*STREAMER, "run", "--role", "forecaster", "-c", config, *arguments],
            stderr=subprocess.PIPE,
            env=os.environ | environ,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_a_summary_and_an_example(name):
    """A summary that ends, and, if it is not obvious, an example."""
    done = call(name, "--help")
    assert done.exit_code == 0, done.output
    summary = done.output.split("\n\n")[1].strip()
    assert summary.endswith((".", ":"))
    assert f"streamer {name}" in done.output


def test_help_does_not_wait_for_the_network():
    """Nor does anything that needs only the settings: torch takes seconds to import."""
    script = (
        "import sys, streamer.config.schema\n"
        "from click.testing import CliRunner\n"
        "from streamer.__main__ import COMMANDS, cli\n"
        "for name in COMMANDS: assert CliRunner().invoke(cli, [name, '--help']).exit_code == 0\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_check_prints_what_is_in_force(config):
    """The file, under the environment, under --set; as YAML that loads back."""
    done = call("check", config, "--set", "gap_max=7", env={"STREAMER__GROUP": "other"})
    assert done.exit_code == 0
    printed = yaml.safe_load(done.output)
    assert (printed["step"], printed["gap_max"], printed["group"]) == ("5m", 7, "other")


@pytest.mark.parametrize("command", [["check"], ["run", "-c"], ["topics", "-c"]])
def test_a_wrong_setting_exits_78_and_is_named(command, config):
    """Before anything else is done."""
    config.write_text("forecasts: {bacth: 3}\n")
    done = call(*command, config)
    assert done.exit_code == 78
    assert done.stderr.startswith("streamer: forecasts.bacth: is no key; is batch meant?")


def test_topics_names_what_is_missing_and_how_to_create_it(config):
    """And exits 1, so that a script notices."""
    done = call("topics", "-c", config)
    assert done.exit_code == 1
    assert done.stdout.count("missing") == 7
    assert f"streamer topics -c {config} --create" in done.stderr


def test_topics_creates_what_is_missing(config):
    """The input's with N partitions, the others with as many as the input, the state compacted."""
    client = open_client(load(config))
    client.create("traffic.counters", TopicConfig(3, compact=False))
    done = call("topics", "-c", config, "--create", "--partitions", "5")
    assert done.exit_code == 0, done.output
    made = client.topics()
    models = made.pop("test.models")
    assert (models.partitions, models.compact) == (1, True)
    assert {shape.partitions for shape in made.values()} == {3}
    assert [topic for topic, shape in made.items() if shape.compact] == ["test.state"]
    assert call("topics", "-c", config).exit_code == 0
    client.close()


def test_topics_reports_wrong_settings(config):
    """A state topic that forgets loses rows; one that has too few partitions is widened."""
    client = open_client(load(config))
    client.create("traffic.counters", TopicConfig(4, compact=False))
    client.create("test.state", TopicConfig(4, compact=False))
    client.create("test.rejects", TopicConfig(2, compact=False))
    client.close()
    done = call("topics", "-c", config, "--create")
    assert done.exit_code == 1
    assert "cleanup.policy must be compact" in done.output
    client = open_client(load(config))
    assert client.topics()["test.rejects"].partitions == 4
    client.close()


def test_tail_needs_an_existing_topic(config):
    """It would wait for ever otherwise; a missing file is not created."""
    for command in (("tail", "nowhere"), ("explain", "a"), ("generations",)):
        done = call(*command, "-c", config)
        assert done.exit_code == 69
        assert "there is no such file" in done.stderr
    open_client(load(config)).close()
    done = call("tail", "nowhere", "-c", config)
    assert (done.exit_code, done.stderr) == (72, "streamer: no such topic: nowhere\n")


def test_tail_shows_readings_rejects_and_whatever_else(config):
    """Each as well as it can be shown."""
    client = open_client(load(config))
    client.create("mixed", TopicConfig(1, compact=False))
    client.close()
    values = [
        b'{"flow": "a", "time": 0, "value": 7, "unit": "B"}\n{"flow": "b", "time": 1, "value": 8}',
        b"\x00\x01",
        b'{"other": "thing"}',
    ]
    feed(config, [Message("mixed", 0, b"key", value) for value in values])
    reject = (("reason", b"not_json"), ("topic", b"traffic.counters"))
    feed(config, [Message("mixed", 0, None, b"{", reject), Message("mixed", 0, b"gone", None)])
    done = call("tail", "mixed", "-c", config, "--from-start", "-n", 6)
    assert done.output.splitlines() == [
        "1970-01-01 00:00:00  a  7 B",
        "1970-01-01 00:00:01  b  8",
        "mixed/0@1  key  2 bytes",
        'mixed/0@2  {"other": "thing"}',
        "mixed/0@3  not_json: {",
        "mixed/0@4  gone  deleted",
    ]


def test_run_forecasts_and_ends_on_a_signal(config, run):
    """SIGTERM: it finishes its turn and exits 0; nothing is published twice after a restart."""
    assert call("topics", "-c", config, "--create").exit_code == 0
    feed(config, readings())
    for once_more in (False, True):
        process = run("--set", "state.interval=100ms")
        if not once_more:
            await_(lambda: len(forecasts(config)) == len(FLOWS) * STEPS)
        read_until(process, "forecaster.started")
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    published = {(each["flow"], each["made_at"]) for each in forecasts(config)}
    assert len(published) == len(forecasts(config)) == len(FLOWS) * STEPS

    shown = call("tail", "traffic.forecasts", "-c", config, "--from-start", "-n", 1).output
    assert re.match(r"2023-11-14 22:\d\d:00  edge\d/\w+  [\d.]+ k?B/s   \+5 min ", shown)
    raw = call("tail", "traffic.forecasts", "-c", config, "--from-start", "-n", 1, "--json").output
    assert json.loads(raw) == forecasts(config)[0]

    explained = call("explain", "edge1/in", "-c", config)
    assert explained.exit_code == 0, explained.output
    for word in (
        "counter, at 900,000,000",
        "forecast made at",
        "weekly_rest",
        "what of the cell state stays",
    ):
        assert word in explained.output
    assert call("explain", "edge9/in", "-c", config).exit_code == 1


def test_run_notifies_systemd_when_it_is_ready_alive_and_stopping(config, run, tmp_path):
    """From the loop's own turns; Ctrl-C ends it like SIGTERM."""
    assert call("topics", "-c", config, "--create").exit_code == 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(tmp_path / "notify"))
        line.settimeout(240)
        process = run(NOTIFY_SOCKET=line.getsockname(), WATCHDOG_USEC="200000")
        received = []
        while received.count("WATCHDOG=1") < 3:
            received.append(line.recv(1000).decode())
        process.send_signal(signal.SIGINT)
        while received[-1] != "STATUS=stopped":
            received.append(line.recv(1000).decode())
        assert process.wait(120) == 0
    assert received.index("READY=1") < received.index("STOPPING=1")


def test_run_creates_the_topics_of_a_file(config, run):
    """A file has no operator of its own; existing topics are left as they are."""
    assert call("topics", "-c", config).exit_code == 1
    process = run("--log-format", "json")
    created = [json.loads(read_until(process, "topic.created")) for _ in range(7)]
    assert {each["partitions"] for each in created} == {4, 1}
    assert call("topics", "-c", config).exit_code == 0
    feed(config, readings())
    await_(lambda: len(forecasts(config)) == len(FLOWS) * STEPS)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 0


def test_run_waits_for_topics_that_match_its_pattern(config, run):
    """One warning names the pattern, and the process stops on request like any other."""
    process = run("--log-format", "json", "--set", "input.pattern=^none$")
    warned = json.loads(read_until(process, "input.unmatched"))
    assert warned["pattern"] == "^none$"
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 0
    assert "input.unmatched" not in process.stderr.read()


def test_a_log_that_is_away_is_logged_once():
    """However many retries there are, whatever their messages; and once when it is back."""
    lines, logger = [], Mock()
    logger.warning = logger.info = lambda event, **fields: lines.append((event, fields.get("kind")))
    objective = CoverageSLO(ObjectiveConfig(), logger)
    watch = Watch(logger, Telemetry(TelemetryConfig(), logger), objective, Systemd({}), None, {})
    for attempt in range(3):
        watch.refused(Unavailable(f"no answer, attempt {attempt}"), pause_s=1.0)
    watch.turned(Turn(TurnResult([], [], [], {}, [], {}), flows=0, took_s=0.0, lag={}))
    watch.refused(Unavailable("no answer"), pause_s=1.0)
    watch.refused(TopicMissing(["a"]), pause_s=1.0)
    watch.refused(TopicMissing(["a"]), pause_s=1.0)
    assert lines == [
        ("log.failed", "unavailable"),
        ("log.recovered", None),
        ("log.failed", "unavailable"),
        ("log.failed", "topic_missing"),
    ]


def test_size_measures(config):
    """Figures, not constants: the row's own bytes, a pace above zero."""
    done = call("size", "--flows", "200", "-c", config, "--set", "model.cell=lstm")
    assert done.exit_code == 0, done.output
    figures = {line[:14].strip(): line[14:] for line in done.output.splitlines()}
    assert int(re.search(r"([\d,]+) a second", figures["readings"])[1].replace(",", "")) > 100
    assert re.search(r"\d kB", figures["a row"])


def test_size_counts_what_a_process_takes_without_any_flow(config):
    """A limit of memory is set by it; rows and names of a million flows are 2.9 GB."""
    few, many = (
        float(re.search(r"memory +([\d.]+) GB", call("size", "--flows", n, "-c", config).output)[1])
        for n in ("1000000", "2000000")
    )
    assert few > 3
    assert many - few > 2.5


def test_the_demo_ends_by_itself_and_sums_up(tmp_path):
    """Plain lines without a terminal; the forecasts beat nothing by much in so short a time."""
    done = subprocess.run(
        [*STREAMER, "demo", "--seconds", "8", "--flows", "20", "--folder", tmp_path / "demo"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    summed = re.search(r"^\d+ s: ([\d,]+) readings of 20 flows", done.stdout, re.MULTILINE)
    assert int(summed[1].replace(",", "")) > 100
    assert re.search(r"the median's error is \d\.\d\d of the last value's", done.stdout)
    assert "\x1b" not in done.stdout
