"""
A real Apache Kafka in KRaft mode that tests may kill and start again.

`Broker` keeps its ports and its data folder from `start` to the last `stop`,
so that a broker killed in the middle comes back as the same one.
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
from collections.abc import Sequence
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from tests.broker import installation
from tests.broker.installation import Installation, NoBroker

START_S_MAX = 60.0
STOP_S_MAX = 20.0

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={home}/data
# One node is all there is, and a test does not wait for others to join.
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
# As in production: a client that asks carelessly makes topics by accident.
auto.create.topics.enable=true
{extra}
"""


class Broker:
    """One node. `bootstrap` says where it is reached, from before its start to after its end."""

    def __init__(self, *, extra: str = "") -> None:
        self.installation: Installation = installation.find()
        self.home = Path(tempfile.mkdtemp(prefix="kafka-"))
        self.port, controller = free_ports(2)
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        text = PROPERTIES.format(port=self.port, controller=controller, home=self.home, extra=extra)
        (self.home / "server.properties").write_text(text)
        identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        self._run(self.installation.format_command(self.home, identity))

    def start(self) -> None:
        """Return when it answers."""
        assert self.process is None, "it runs already"
        with (self.home / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.installation.run_command(self.home),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests, which stop it in order
            )
        deadline = time.monotonic() + START_S_MAX
        while not answers(self.bootstrap):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill9()
                raise NoBroker(f"Kafka did not start:\n{self.log_tail()}")
            time.sleep(0.1)

    def kill9(self) -> None:
        """As a power cut would: nothing is said to anyone."""
        process, self.process = self.process, None
        if process is not None:
            self._signal(process, signal.SIGKILL)
            process.wait()

    def stop(self) -> None:
        """In order; killed where that takes too long."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                self.kill9()
            self.process = None

    def restart(self) -> None:
        """Stop if it still runs, and start on the same ports with the same data."""
        self.stop()
        self.start()

    def suspend(self) -> None:
        """Hold its breath: connections stay open and nothing answers."""
        assert self.process is not None
        self._signal(self.process, signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self._signal(self.process, signal.SIGCONT)

    def discard(self) -> None:
        """The end of it and of its data."""
        self.kill9()
        shutil.rmtree(self.home, ignore_errors=True)

    def log_tail(self) -> str:
        return (self.home / "broker.log").read_text(errors="replace")[-2000:]

    def _signal(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        if self.installation.container:
            number_option = f"--signal={number.name}"
            installation.succeeds(["docker", "kill", number_option, self.home.name])
        else:
            process.send_signal(number)

    def _run(self, command: Sequence[str]) -> None:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise NoBroker(f"Kafka could not format its storage:\n{ended.stderr[-2000:]}")


def answers(bootstrap: str) -> bool:
    """A connection alone says little: a broker that starts listens before it serves."""
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
    Ports that nobody listens on, below those that the system hands out.

    A port from the system's own range may be somebody's outgoing connection
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
