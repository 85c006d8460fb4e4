"""Members of a group in processes of their own: they work on demand, and report the time."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

PATIENCE_S = 300.0


class Spent(NamedTuple):
    """What a stretch of work took a process."""

    wall_s: float
    cpu_s: float  # of all its threads
    turns_s: list[float]  # each turn from its first record to its commit


class Apart:
    """A process that calls *member* with its end of a pipe, and *arguments*."""

    def __init__(self, member: Callable[..., None], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, remote = context.Pipe()
        self.process = context.Process(target=member, args=(remote, *arguments), daemon=True)
        self.process.start()
        remote.close()
        self._ready_s: float | None = None

    def ready(self) -> float:
        """Return when it stands ready; what its turns until then took, in seconds."""
        if self._ready_s is None:
            self._ready_s = float(self.answer())
        return self._ready_s

    def ask(self, question: object) -> Any:
        """Send a request; return the answer."""
        self._pipe.send(question)
        return self.answer()

    def answer(self) -> Any:
        """Its next message; raises EOFError if it has died."""
        assert self._pipe.poll(PATIENCE_S), "a member of the bench does not answer"
        return self._pipe.recv()

    def stop(self) -> None:
        """Let it leave in order."""
        self._pipe.send(None)
        self.process.join(30)
        self.process.kill()


@dataclass
class Gate:
    """Holds a member after each stretch of work until the next one is requested."""

    pipe: Connection
    stop: threading.Event
    left: int = 0  # records of this stretch that are still to be taken
    wall_s: float = 0.0
    cpu_s: float = 0.0
    started: bool = False

    def __post_init__(self) -> None:
        self.turns_s: list[float] = []

    def passed(self, records: int, took_s: float) -> None:
        """A turn of so many *records* was published."""
        if self.stop.is_set():
            return
        self.left -= records
        if records:
            self.turns_s.append(took_s)
        if self.left > 0:
            return
        wall_s, cpu_s = time.monotonic() - self.wall_s, time.process_time() - self.cpu_s
        self.pipe.send(Spent(wall_s, cpu_s, self.turns_s))
        self.wait()

    def ready(self, took_s: float) -> None:
        """The first stretch may begin; getting there took so long."""
        self.started = True
        self.pipe.send(took_s)
        self.wait()

    def wait(self) -> None:
        """Wait until the next stretch begins; None ends the process."""
        records = self.pipe.recv()
        if records is None:
            self.stop.set()
            return
        self.left, self.turns_s = records, []
        self.wall_s, self.cpu_s = time.monotonic(), time.process_time()
