"""Real `streamer` processes that a test may kill, put to sleep, and ask what became of them."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.processes import Process, run

STOP_S_MAX = 60.0
TRAINERS = ("teach1", "teach2")  # instances that train; all others forecast


@dataclass(eq=False)
class Daemon:
    """One instance, and the file that it logs to."""

    instance: str
    role: str
    process: Process
    log: Path
    since: int = 0  # what its log held when it was started

    @property
    def has_started(self) -> bool:
        """Whether the program has started so far that it handles signals itself."""
        return f"{self.role}.started" in self.log_text(self.since)

    @property
    def lives(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """As the kernel does it when memory runs out: no last word."""
        self.process.kill()
        self.process.wait()

    def sleep(self) -> None:
        """Hold its breath, as a machine does that is suspended or out of memory."""
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """As an operator does it; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S_MAX)

    def log_text(self, since: int) -> str:
        """All that those of this name have logged from byte *since* on."""
        return self.log.read_bytes()[since:].decode(errors="replace")


class Group:
    """Forecasters of one group, all with the same settings."""

    def __init__(self, home: Path, settings: Mapping[str, object]) -> None:
        self.home = home
        self.config = home / "streamer.json"
        self.config.write_text(json.dumps(settings))  # JSON is YAML
        self.running: dict[str, Daemon] = {}
        self.executed: set[str] = set()  # instances that are started as from a shell
        self.constants: dict[str, object] = {}  # of modules, for those that are not

    def call(self, *arguments: str) -> None:
        """A `streamer` command that must succeed."""
        run(*arguments, check=True)

    def make_topics(self, partitions: int) -> None:
        self.call("topics", "-c", str(self.config), "--create", "--partitions", str(partitions))

    def start(self, instance: str) -> Daemon:
        """One more; a former daemon of this name is no longer stopped by us."""
        log = self.home / f"{instance}.log"
        role = "trainer" if instance in TRAINERS else "forecaster"
        settings = ["-c", str(self.config), "--set", f"instance={instance}"]
        with log.open("ab") as out:
            since = out.tell()
            process = Process(
                *("run", "--role", role, *settings),
                stdout=out,
                stderr=out,
                env={**os.environ, "PYTHONFAULTHANDLER": "1"},
                executed=instance in self.executed,
                constants=self.constants,
            )
        self.running[instance] = Daemon(instance, role, process, log, since)
        return self.running[instance]

    def stop(self) -> list[int]:
        """Stop all; their exit codes."""
        codes = [daemon.stop() for daemon in self.running.values()]
        self.running.clear()
        return codes

    def kill(self) -> None:
        for daemon in self.running.values():
            daemon.kill()


def until(done: Callable[[], bool], patience_s: float, what: str) -> None:
    """Wait for something that the daemons bring about."""
    ends = time.monotonic() + patience_s
    while not done():
        assert time.monotonic() < ends, f"not within {patience_s:.0f} s: {what}"
        time.sleep(0.2)
