"""
From the log to a real Alertmanager: `amtool` shows what fires, across restarts of either side.

Alertmanager is Debian's (tests/debian.py); the notifier is a process, as it is in service.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from streamer.__main__ import cli
from streamer.config.schema import load, open_client
from streamer.core.wire.alerts import messages
from streamer.log import TopicConfig
from tests.cli.test_alerts import alert
from tests.debian import program
from tests.notify.receiver import Receiver, status
from tests.processes import Process, run

PACKAGE = "prometheus-alertmanager"
LIMIT_S = 60.0
ROUTES = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def until(holds, limit_s: float = LIMIT_S):
    """Wait until *holds* returns something true, and return it."""
    ends = time.monotonic() + limit_s
    while not (found := holds()):
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.1)
    return found


class Alertmanager:
    """A real one, without a cluster: it forgets all alerts when it ends."""

    def __init__(self, folder: Path) -> None:
        self.binary = program("prometheus-alertmanager", PACKAGE)
        self.amtool = program("amtool", PACKAGE)
        self.port = free_port()
        self.folder = folder
        folder.mkdir()
        (folder / "alertmanager.yml").write_text(ROUTES)
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [
            *(self.binary, f"--config.file={self.folder / 'alertmanager.yml'}"),
            *(f"--storage.path={self.folder / 'data'}", "--cluster.listen-address="),
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until(self.answers)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)

    def answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "log").read_text()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False

    def alerts(self) -> dict[str, dict]:
        """What amtool shows, by the flow."""
        command = [self.amtool, f"--alertmanager.url={self.url}", "alert", "query", "-o", "json"]
        done = subprocess.run(command, check=True, capture_output=True, timeout=30)
        return {each["labels"]["flow"]: each for each in json.loads(done.stdout)}


class Scene:
    """A log, a settings file, and processes."""

    def __init__(self, folder: Path, log: str, receivers: str, more: str = "") -> None:
        self.folder = folder
        self.path = folder / "streamer.yaml"
        self.path.write_text(
            f"log: {log}\ngroup: {folder.name}\ninstance: one\nmetrics: {{topic: null}}\n"
            f"alerts: {{enabled: true, topic: {folder.name}.alerts}}\n"
            f"notify: {{{receivers}, resend: 2s, resolved_for: 60s, retry_max: 2s}}\n{more}"
        )
        self.config = load(self.path)
        self.client = open_client(self.config)
        self.client.create(self.config.alerts.topic, TopicConfig(2, compact=True))
        self.processes: list[Process] = []

    def start(self, role: str = "notifier") -> Process:
        with (self.folder / f"{role}.log").open("ab") as log:
            process = Process("run", "--role", role, "-c", self.path, stderr=log, stdout=log)
        self.processes.append(process)
        return process

    def send(self, *flows: str, **fields) -> None:
        alerts = [alert(flow=flow, **fields) for flow in flows]
        self.client.send(list(messages(alerts, self.config.alerts.topic)))
        self.client.flush()

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        self.client.close()


def stop(process: Process) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


@pytest.fixture
def member(tmp_path):
    found = Alertmanager(tmp_path / "alertmanager")
    yield found
    if found.process.poll() is None:
        found.stop()


@pytest.fixture(params=["sqlite", "kafka"])
def log(request, tmp_path):
    """Both logs."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'log.db'}"
    return f"kafka://{request.getfixturevalue('bootstrap')}"


def test_amtool_shows_what_fires(log, member, tmp_path):
    """Raised and resolved, in spite of restarts of the notifier and of Alertmanager."""
    scene = Scene(tmp_path, log, f"alertmanagers: [{{url: '{member.url}'}}]")
    now = int(time.time())
    scene.send("a", "b", since=now - 600, labels={"team": "core"})
    process = scene.start()
    try:
        until(lambda: set(member.alerts()) == {"a", "b"})
        shown = member.alerts()["a"]
        assert shown["labels"]["alertname"] == "spike"
        assert shown["labels"]["team"] == "core"
        assert "expected above" in shown["annotations"]["summary"]
        assert datetime.fromisoformat(shown["startsAt"]).timestamp() == now - 600
        ends_at = datetime.fromisoformat(shown["endsAt"]).timestamp()
        assert time.time() < ends_at <= time.time() + 9

        # Alertmanager restarts and has forgotten everything.
        member.stop()
        scene.send("a", since=now - 600, state="resolved")
        scene.send("c", since=now + 900)  # event time is ahead: the begin is that of the sending
        member.start()
        until(lambda: set(member.alerts()) == {"b", "c"})

        # The notifier is killed; an alert ends meanwhile, and another begins.
        process.kill()
        process.wait()
        scene.send("b", since=now - 600, state="resolved")
        scene.send("d", since=now)
        process = scene.start()
        until(lambda: set(member.alerts()) == {"c", "d"})
        assert datetime.fromisoformat(member.alerts()["d"]["startsAt"]).timestamp() == now
        scene.send("c", since=now + 900, state="resolved")
        until(lambda: set(member.alerts()) == {"d"})
        stop(process)

        # It is not sent again: it ends by itself, some intervals later.
        until(lambda: not member.alerts(), 20)
    finally:
        scene.close()


def test_every_member_of_a_cluster_gets_the_alerts(member, tmp_path):
    """One that is away delays no other, and gets what fires when it is back."""
    other = Alertmanager(tmp_path / "other")
    urls = f"alertmanagers: [{{url: '{member.url}'}}, {{url: '{other.url}'}}]"
    scene = Scene(tmp_path, f"sqlite:///{tmp_path / 'log.db'}", urls)
    try:
        process = scene.start()
        scene.send("a")
        until(lambda: set(member.alerts()) == set(other.alerts()) == {"a"})
        other.stop()
        scene.send("a", state="resolved")
        scene.send("b")
        until(lambda: set(member.alerts()) == {"b"})
        lines = tmp_path / "notifier.log"
        until(lambda: b"receiver.failed" in lines.read_bytes())
        other.start()
        until(lambda: set(other.alerts()) == {"b"})
        stop(process)
        assert b"receiver.recovered" in lines.read_bytes()
    finally:
        scene.close()
        if other.process.poll() is None:
            other.stop()


def test_a_forecaster_starts_a_notifier(tmp_path):
    """As a child, if a receiver is set; it ends with the forecaster, even if that is killed."""
    receiver = Receiver()
    receiver.behaviours = [status(500)]
    log, bind = f"sqlite:///{tmp_path / 'log.db'}", f"127.0.0.1:{free_port()}"
    more = (
        f"trainer: {{enabled: false}}\nhttp: {{bind: null, notifier_bind: '{bind}'}}\n"
        f"input: {{topics: [counters]}}\n"
    )
    scene = Scene(tmp_path, log, f"webhooks: [{{url: '{receiver.url}', name: hook}}]", more)
    try:
        run("topics", "--create", "-c", scene.path, check=True)
        forecaster = scene.start("all")
        scene.send("a")
        receiver.wait(2, 3 * LIMIT_S)  # two processes load their libraries, one after the other
        sent = 'streamer_alerts_sent_total{receiver="hook"} 1.0'
        until(lambda: sent in fetched(bind, "/metrics"), 20)  # it is counted after the answer
        text = fetched(bind, "/metrics")
        assert 'streamer_deliveries_failed_total{receiver="hook"} 1.0' in text
        assert 'streamer_receiver_up{receiver="hook"} 1.0' in text
        assert "streamer_alerts_firing 1.0" in text
        assert fetched(bind, "/readyz").endswith("ok\n")
        os.kill(forecaster.pid, signal.SIGKILL)
        forecaster.wait()
        until(lambda: not listens(bind), 20)
    finally:
        scene.close()
        receiver.close()


def test_a_notifier_without_a_receiver_is_refused(tmp_path):
    log = f"log=sqlite:///{tmp_path / 'log.db'}"
    done = CliRunner().invoke(cli, ["run", "--role", "notifier", "--set", log])
    assert done.exit_code == 78
    assert "notify.alertmanagers: must name a receiver" in done.output


def fetched(bind: str, path: str) -> str:
    host, _, port = bind.rpartition(":")
    with socket.create_connection((host, int(port)), 5) as to:
        to.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return b"".join(iter(lambda: to.recv(65536), b"")).decode()


def listens(bind: str) -> bool:
    host, _, port = bind.rpartition(":")
    with contextlib.suppress(OSError):
        socket.create_connection((host, int(port)), 1).close()
        return True
    return False
