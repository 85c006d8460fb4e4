"""
Where the tests' Kafka comes from: Java and Maven, or else an image.

Nothing but this machine's package tools is asked: `apt-get` for Java and
Maven where they are missing and we are root, Maven for Kafka's jars, which
stay in `.cache/kafka`, and the engine for the image where there is no Java.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
POM = Path(__file__).with_name("pom.xml")
JARS = ROOT / ".cache" / "kafka" / "jars"
IMAGE = "apache/kafka:4.3.0"
JAVA_MIN = 17
HEAP = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx1g", "-Dlog4j2.level=WARN"]


class NoBroker(Exception):
    """There is no broker on this machine; the message is the reason in one line."""


@dataclass(frozen=True, slots=True)
class Installation:
    """How a tool of Kafka's is run: in this machine's Java, or in a container of the image."""

    container: bool = False

    def format_command(self, home: Path, cluster_id: str) -> Sequence[str]:
        """Prepare the empty data folder that `home/server.properties` names."""
        arguments = ["format", f"--cluster-id={cluster_id}", "-c", str(home / "server.properties")]
        if self.container:
            return [
                *engine(home),
                "--entrypoint=/opt/kafka/bin/kafka-storage.sh",
                IMAGE,
                *arguments,
            ]
        return [*self.java(), "kafka.tools.StorageTool", *arguments]

    def run_command(self, home: Path) -> Sequence[str]:
        """Be a broker until it is stopped."""
        properties = str(home / "server.properties")
        if self.container:
            script = "--entrypoint=/opt/kafka/bin/kafka-server-start.sh"
            return [*engine(home), f"--name={home.name}", script, IMAGE, properties]
        return [*leash(), *self.java(), "kafka.Kafka", properties]

    def java(self) -> Sequence[str]:
        return ["java", *HEAP, "-cp", f"{JARS}/*"]


def engine(home: Path) -> Sequence[str]:
    """A container that sees *home* under its own path, and our ports as its own."""
    user = f"{os.getuid()}:{os.getgid()}"
    options = ["--rm", "--network=host", f"--user={user}", f"--volume={home}:{home}"]
    heap = ["--env=KAFKA_HEAP_OPTS=-Xmx1g", f"--env=LOG_DIR={home}/logs"]
    return ["docker", "run", *options, *heap]


def leash() -> Sequence[str]:
    """The broker dies with the process that started it, however that one dies."""
    return ["setpriv", "--pdeathsig=KILL"] if shutil.which("setpriv") else []


def find() -> Installation:
    """Raise NoBroker where neither Java and Maven nor an engine can be had."""
    reasons = []
    try:
        provide_java()
        provide_jars()
    except NoBroker as error:
        reasons.append(str(error))
    else:
        return Installation()
    if succeeds(["docker", "info"]):
        return Installation(container=True)
    reasons.append("no container engine runs")
    raise NoBroker("; ".join(reasons))


def provide_java() -> None:
    if java_version() >= JAVA_MIN and (shutil.which("mvn") or has_jars()):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        succeeds(["apt-get", "update", "-qq"], quiet)
        succeeds(["apt-get", "install", "-yqq", "default-jre-headless", "maven"], quiet)
    if java_version() < JAVA_MIN:
        raise NoBroker(f"Java {JAVA_MIN} or newer is missing")


def java_version() -> int:
    """Of the `java` on the path; 0 where there is none."""
    if not shutil.which("java"):
        return 0
    shown = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(\d+)', shown.stderr)
    return int(found[1]) if found else 0


def provide_jars() -> None:
    if has_jars():
        return
    if not shutil.which("mvn"):
        raise NoBroker("Maven is missing")
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
    if not succeeds([*command, f"-DoutputDirectory={JARS}"]):
        raise NoBroker("Maven could not fetch Kafka's jars")
    mark().write_text(POM.read_text())


def has_jars() -> bool:
    """Fetched wholly, and for this very pom."""
    return mark().is_file() and mark().read_text() == POM.read_text()


def mark() -> Path:
    return JARS / "fetched.pom"


def succeeds(command: Sequence[str], environment: dict[str, str] | None = None) -> bool:
    if not shutil.which(command[0]):
        return False
    ended = subprocess.run(command, capture_output=True, env=environment, check=False)
    return ended.returncode == 0
