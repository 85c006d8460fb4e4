"""
A real Apache Kafka in KRaft mode that tests may kill and start again.

`Broker` keeps its ports and its data folder from `start` to `discard`, so that a
broker killed in the middle comes back as the same one. Its controller is a process
of its own, as in production, and outlives it: a node that is both comes back
believing that it still leads, and if it was killed just after a commit it takes
the transaction for done without ending it (Kafka 4.3).
"""

from __future__ import annotations

import base64
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from tests.broker import installation
from tests.broker.installation import Installation, NoBroker

START_S_MAX = 60.0
STOP_S_MAX = 20.0
SESSION_S = 3.0  # the controller misses a broker that has been killed for so long

COMMON = """\
controller.quorum.voters=100@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
broker.session.timeout.ms=3000
auto.create.topics.enable=true
"""
CONTROLLER = """\
process.roles=controller
node.id=100
listeners=CONTROLLER://127.0.0.1:{controller}
log.dirs={home}/data
"""
BROKER = """\
process.roles=broker
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
log.dirs={home}/data
broker.heartbeat.interval.ms=500
# One broker is all there is, and a test does not wait for others to join.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# What takes a while in production takes a second here.
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
log.retention.check.interval.ms=1000
log.cleaner.backoff.ms=1000
"""


class Node:
    """One process of Kafka's, with a folder of its own that outlives it."""

    def __init__(self, found: Installation, home: Path, properties: str, identity: str) -> None:
        self.installation = found
        self.home = home
        self.process: subprocess.Popen[bytes] | None = None
        home.mkdir()
        (home / "server.properties").write_text(properties)
        ended = subprocess.run(
            found.format_command(home, identity), capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise NoBroker(f"Kafka could not format its storage:\n{ended.stderr[-2000:]}")

    def start(self) -> None:
        assert self.process is None, "it runs already"
        with (self.home / "node.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.installation.run_command(self.home),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests, which stop it in order
            )

    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None, "it does not run"
        if self.installation.container:
            installation.succeeds(["docker", "kill", f"--signal={number.name}", self.home.name])
        else:
            self.process.send_signal(number)

    def kill9(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_S_MAX)
                self.process = None
            except subprocess.TimeoutExpired:
                self.kill9()

    def log_tail(self) -> str:
        return (self.home / "node.log").read_text(errors="replace")[-2000:]


class Broker:
    """
    One broker. `bootstrap` is its address, from before its start to after its end.

    *extra* lines of its configuration come after our own.
    """

    def __init__(self, *, extra: str = "") -> None:
        found = installation.find()
        self.home = Path(tempfile.mkdtemp(prefix="kafka-"))
        port, controller = free_ports(2)
        self.bootstrap = f"127.0.0.1:{port}"
        identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        self._missed_s = 0.0  # from when on a killed broker has been missed by its controller

        def node(role: str, properties: str) -> Node:
            home = self.home / f"{self.home.name}-{role}"
            text = COMMON + properties
            return Node(
                found, home, text.format(port=port, controller=controller, home=home), identity
            )

        self.controller = node("controller", CONTROLLER)
        self.node = node("broker", BROKER + extra)

    def start(self) -> None:
        """Return when it answers."""
        time.sleep(max(0.0, self._missed_s - time.monotonic()))
        if self.controller.process is None:
            self.controller.start()
        self.node.start()
        deadline = time.monotonic() + START_S_MAX
        while not answers(self.bootstrap):
            if self.node.ended() or self.controller.ended() or time.monotonic() > deadline:
                logged = self.controller.log_tail() + self.node.log_tail()
                self.discard()
                raise NoBroker(f"Kafka did not start:\n{logged}")
            time.sleep(0.1)

    def kill9(self) -> None:
        """As a power cut would: without a word to anyone."""
        self.node.kill9()
        self._missed_s = time.monotonic() + SESSION_S + 0.5

    def stop(self) -> None:
        """In order; killed where that takes too long."""
        self.node.stop()

    def restart(self) -> None:
        """Stop if it still runs, and start on the same ports with the same data."""
        self.stop()
        self.start()

    def suspend(self) -> None:
        """Hold its breath: connections stay open and nothing answers."""
        self.node.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.node.signal(signal.SIGCONT)

    def discard(self) -> None:
        """The end of it and of its data."""
        self.node.kill9()
        self.controller.kill9()
        shutil.rmtree(self.home, ignore_errors=True)


def answers(bootstrap: str) -> bool:
    """A connection alone is not enough: a broker that starts listens before it serves."""
    host, port = bootstrap.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
        admin = KafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=3000)
    except (OSError, KafkaError):
        return False
    try:
        return bool(admin.describe_cluster()["brokers"])
    except KafkaError:
        return False
    finally:
        admin.close()


def free_ports(count: int) -> list[int]:
    """
    Ports without a listener, below those that the system hands out.

    A port from the system's own range may be another program's outgoing connection
    by the time that a killed broker wants it back.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(20000, 30000)
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if port not in ports and trial.connect_ex(("127.0.0.1", port)):
                ports.append(port)
    return ports
