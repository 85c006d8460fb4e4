"""What it costs a forecaster to be watched: scraped each second, its metrics sent, a console."""

from __future__ import annotations

import os
import socket
import statistics
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np

from tests.bench.apart import Apart
from tests.bench.beside import memory, pin
from tests.bench.console import running as running_console
from tests.bench.console import until_ready
from tests.bench.members import daemon, watched
from tests.bench.rows import Row, interleaved, median_ratio
from tests.bench.state import LOAD, paced
from tests.bench.through import FLOWS, Lane, running

STEPS = 20  # of all flows, in a stretch: some seconds, so that it is scraped a few times
EVERY_S = 1.0  # between two scrapes
SENT_EVERY = "5s"  # metrics to the log, more often than by default


def rows(repeats: int = 4) -> Iterator[Row]:
    """
    Two forecasters on the SQLite log, one of them watched, in turns.

    Both run on one core, and what watches on the other one: a scraper and a console.
    """
    with tempfile.TemporaryDirectory(prefix="bench-", dir=memory()) as home:
        url = f"sqlite:///{Path(home) / 'log.db'}"
        address = f"127.0.0.1:{free_port()}"
        plain = Lane(url, "bench.plain", 1, ("http.bind=null", "metrics.topic=null"))
        seen = Lane(url, "bench.seen", 1, (f"http.bind={address}", f"metrics.every={SENT_EVERY}"))
        members = Apart(daemon, plain.overrides), Apart(watched, seen.overrides)
        console = [*seen.overrides, "console.bind=127.0.0.1:0"]
        with (
            running(*members),
            Scraper(f"http://{address}/metrics") as scraper,
            running_console(console, Path(home)) as (process, page),
        ):
            until_ready(page)
            cores = sorted(os.sched_getaffinity(0))
            for member in members:
                member.ready()
                pin(member.process.pid, cores[:1])
            for watching in (process.pid, os.getpid()):
                pin(watching, cores[-1:])
            took = interleaved(
                [
                    lambda: plain.stretch(members[0], STEPS).cpu_s,
                    lambda: seen.stretch(members[1], STEPS).cpu_s,
                ],
                repeats,
            )
            rate = STEPS * FLOWS / statistics.median(took[0])
            yield Row(
                "cpu_while_watched",
                median_ratio(took[1], took[0]),
                "x",
                1.02,
                at_most=True,
                note=f"{rate:,.0f} readings/s of CPU without; {scraper.answers} scrapes",
            )
            slowest = interleaved(
                [
                    lambda: p99(paced(plain, members[0], LOAD * rate).turns_s),
                    lambda: p99(paced(seen, members[1], LOAD * rate).turns_s),
                ],
                repeats,
            )
            yield Row(
                "turn_p99_while_watched",
                median_ratio(slowest[1], slowest[0]),
                "x",
                1.05,
                at_most=True,
                note=f"{1000 * statistics.median(slowest[0]):,.0f} ms without",
            )
            pin(os.getpid(), cores)


def p99(turns_s: list[float]) -> float:
    """The 99th percentile of the turns' seconds."""
    return float(np.percentile(turns_s, 99))


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Scraper:
    """Reads an address each EVERY_S, as Prometheus would."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answers = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            try:
                with urllib.request.urlopen(self._url, timeout=10) as answer:
                    self.answers += b"streamer_" in answer.read()
            except OSError:  # it does not listen yet
                continue
