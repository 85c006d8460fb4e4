"""The console beside a forecaster: started with it, kept alive, and no trouble to it."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from streamer.__main__ import cli
from streamer.cli import _console
from streamer.config.schema import load, open_client
from streamer.core.types import Message
from tests.console.scene import create_topics
from tests.processes import Process

START = 1_700_000_000 // 60 * 60
FLOWS = [f"edge{n}/in" for n in range(8)]
PATIENCE_S = 120.0


def wait_for(what, *, patience_s=PATIENCE_S):
    """The first result of *what* that is true; exceptions count as none."""
    until = time.monotonic() + patience_s
    last: object = None
    while time.monotonic() < until:
        try:
            last = what()
        except Exception as error:  # noqa: BLE001 - what is not there yet fails in many ways
            last = error
        else:
            if last:
                return last
        time.sleep(0.2)
    raise AssertionError(f"nothing came: {last}")


def events(journal: Path) -> list[dict]:
    """Log lines of a process and of those beside it."""
    found = []
    for line in journal.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def readings(steps: range) -> list[Message]:
    """A gauge a flow and step."""
    return [
        Message(
            "traffic.counters",
            0,
            flow.encode(),
            json.dumps(
                {"flow": flow, "time": START + 60 * n, "value": 1e6 + n, "kind": "gauge"}
            ).encode(),
        )
        for n in steps
        for flow in FLOWS
    ]


def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def running(tmp_path):
    """A forecaster with a console beside it; its settings, address, journal and process."""
    settings, number, journal = tmp_path / "streamer.yaml", port(), tmp_path / "lines"
    settings.write_text(
        f"log: sqlite:///{tmp_path / 'log.db'}\ngroup: test\nhttp: {{bind: null}}\n"
        f"console: {{enabled: true, bind: 127.0.0.1:{number}}}\ntrainer: {{enabled: false}}\n"
        "state: {interval: 1s}\n"
    )
    config = load(settings)
    create_topics(config)
    with journal.open("w") as sink:
        arguments = ["run", "-c", settings, "--log-format", "json"]
        process = Process(*arguments, stdout=sink, stderr=sink)
    try:
        yield config, f"http://127.0.0.1:{number}", journal, process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


def ask(url: str, path: str) -> dict:
    with urllib.request.urlopen(f"{url}/api/v1/{path}", timeout=90) as answer:
        return json.load(answer)


def console_pid(process: Process) -> int | None:
    """Of the child whose role it is."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for each in children:
        if b"console" in Path(f"/proc/{each}/cmdline").read_bytes():
            return int(each)
    return None


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc here")
def test_a_console_that_is_killed_comes_back(running):
    """It shows what the forecaster published; killed, it begins again, and no turn is lost."""
    config, url, journal, process = running
    client = open_client(config)
    wait_for(lambda: "traffic.counters" in client.topics())
    client.send(readings(range(20)))
    client.flush()
    wait_for(lambda: ask(url, "flows")["flows"] == len(FLOWS))
    wait_for(lambda: ask(url, "flow?name=edge3/in")["made_at"] == START + 60 * 19)

    state = wait_for(lambda: ask(url, "flow/state?name=edge3/in"))
    assert state["flow"] == "edge3/in"
    assert state["no_gates"] == ""
    assert len(state["layers"][0]["f"]) >= 10

    os.kill(wait_for(lambda: console_pid(process)), signal.SIGKILL)
    client.send(readings(range(20, 40)))
    client.flush()
    wait_for(lambda: ask(url, "flow?name=edge3/in")["made_at"] == START + 60 * 39)
    logged = events(journal)
    assert [each["code"] for each in logged if each["event"] == "console.exited"] == [-9]
    assert process.poll() is None
    assert not [each for each in logged if each["event"] in {"log.failed", "turn.failed"}]
    client.close()

    process.terminate()
    assert process.wait(60) == 0
    assert events(journal)[-1]["event"] == "forecaster.stopped"
    assert "console.stopped" in {each["event"] for each in events(journal)}


@pytest.mark.parametrize("options", [["--role", "console"], ["--set", "console.enabled=true"]])
def test_a_package_that_is_missing_is_named(monkeypatch, tmp_path, options):
    """And how to install it."""
    monkeypatch.setattr(_console, "NEEDED", ("starlette", "no_such_package"))
    log = f"log=sqlite:///{tmp_path / 'log.db'}"
    done = CliRunner().invoke(cli, ["run", "--set", log, *options])
    assert done.exit_code == 78
    assert "console: needs no_such_package (pip install 'streamer[console]')" in done.output
