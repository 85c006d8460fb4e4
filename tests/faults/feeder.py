"""A `streamer feed` under steady load, that is started again whenever it ends."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from tests.processes import PIPE, Process

AGAIN = 8  # ticks that a feed started again is given again: it may have lost them
RESTART_S = 0.5
END_S_MAX = 120.0


def ticks(flows: int, chance: Random) -> Iterator[bytes]:
    """
    Counters of *flows*, each read about once in half a minute, as JSON lines; endless.

    Some wrap, some are reset, some readings are late, and some never come.
    """
    counts = {f"edge{i}/in": chance.choice([0, 2**32 - 10**7, 2**40]) for i in range(flows)}
    time_s = 1_700_000_000
    while True:
        lines = []
        for flow, count in counts.items():
            bits = 32 if count < 2**32 else 64
            counts[flow] = 0 if chance.random() < 1e-3 else (count + chance.randrange(10**6))
            counts[flow] %= 2**bits
            if chance.random() < 0.02:
                continue
            late_s = 100 if chance.random() < 0.01 else 0
            reading = {"flow": flow, "time": time_s - late_s + chance.random() * 20}
            lines.append(json.dumps(reading | {"value": counts[flow]}))
        yield "\n".join(lines).encode() + b"\n"
        time_s += 30


class Feeder:
    """Writes ticks into the pipe of a feed, one each *pace_s*, until it is stopped."""

    def __init__(
        self, home: Path, arguments: Sequence[str], source: Iterator[bytes], pace_s: float
    ) -> None:
        self.log = home / "feeder.log"
        self.restarts = -1
        self._arguments = ["feed", "-", *arguments]
        self._source = source
        self._pace_s = pace_s
        self._recent: deque[bytes] = deque(maxlen=AGAIN)
        self._stopping = threading.Event()
        self._discarded = threading.Event()
        self._process = self._start()
        self._thread = threading.Thread(target=self._feed, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def kill(self) -> None:
        """No last word; another one takes over."""
        self._process.kill()

    def stop(self) -> None:
        """Return when all that was written is on the log."""
        self._stopping.set()
        self._thread.join(END_S_MAX)
        assert not self._thread.is_alive()

    def discard(self) -> None:
        """At once; nothing is left running."""
        self._discarded.set()
        self._stopping.set()
        self._process.kill()
        if self._thread.is_alive():
            self._thread.join(END_S_MAX)

    def _start(self) -> Process:
        self.restarts += 1
        with self.log.open("ab") as out:
            return Process(*self._arguments, stdin=PIPE, stdout=out, stderr=out)

    def _feed(self) -> None:
        while not self._stopping.wait(self._pace_s):
            self._recent.append(next(self._source))
            self._write(self._recent[-1])
        while True:
            self._process.stdin.close()
            if self._process.wait(END_S_MAX) == 0 or self._discarded.is_set():
                return
            self._again()

    def _write(self, tick: bytes) -> None:
        try:
            write_all(self._process, tick)
        except OSError:  # nobody reads any more
            self._again()

    def _again(self) -> None:
        """Another feed, with what the one before may have lost."""
        while not self._discarded.is_set():
            self._process.stdin.close()
            self._process.wait()
            time.sleep(RESTART_S)
            self._process = self._start()
            try:
                for tick in self._recent:
                    write_all(self._process, tick)
            except OSError:
                continue
            return


def write_all(process: Process, what: bytes) -> None:
    """Unbuffered, so that nothing is left to be flushed into a broken pipe."""
    left = memoryview(what)
    while left:
        left = left[process.stdin.write(left) :]
