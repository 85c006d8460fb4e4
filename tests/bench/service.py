"""What it costs a forecaster to be watched: scraped each second, its metrics sent, a console."""

from __future__ import annotations

import os
import socket
import statistics
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from functools import partial
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

    Both run on one core, and what watches on the other one: a scraper, and for the cost a
    console.
    """
    with tempfile.TemporaryDirectory(prefix="bench-", dir=memory()) as home:
        url = f"sqlite:///{Path(home) / 'log.db'}"
        address = f"127.0.0.1:{free_port()}"
        plain = Lane(url, "bench.plain", 1, ("http.bind=null", "metrics.topic=null"))
        seen = Lane(url, "bench.seen", 1, (f"http.bind={address}", f"metrics.every={SENT_EVERY}"))
        members = Apart(daemon, plain.overrides), Apart(watched, seen.overrides)
        console = [*seen.overrides, "console.bind=127.0.0.1:0"]
        both = tuple(zip((plain, seen), members, strict=True))
        cores = sorted(os.sched_getaffinity(0))
        with running(*members), Scraper(f"http://{address}/metrics") as scraper:
            pin(os.getpid(), cores[-1:])
            for member in members:
                member.ready()
                pin(member.process.pid, cores[:1])
            with running_console(console, Path(home)) as (process, page):
                until_ready(page)
                pin(process.pid, cores[-1:])
                took = interleaved([partial(cpu_s, *each) for each in both], repeats)
            rate = STEPS * FLOWS / statistics.median(took[0])
            yield Row(
                "cpu_while_watched",
                median_ratio(took[1], took[0]),
                "x",
                1.02,
                at_most=True,
                note=f"{rate:,.0f} readings/s of CPU without; {scraper.answers} scrapes",
            )
            # Without the console: it would take its core from what feeds, in one lane alone.
            slowest = interleaved([partial(p99_s, *each, LOAD * rate) for each in both], repeats)
            yield Row(
                "turn_p99_while_scraped",
                median_ratio(slowest[1], slowest[0]),
                "x",
                1.05,
                at_most=True,
                note=f"{1000 * statistics.median(slowest[0]):,.0f} ms without",
            )
            pin(os.getpid(), cores)


def cpu_s(lane: Lane, member: Apart) -> float:
    """The CPU time of *member* for a stretch that lies ready."""
    return lane.stretch(member, STEPS).cpu_s


def p99_s(lane: Lane, member: Apart, rate: float) -> float:
    """The 99th percentile of the turns of *member*, at so many readings a second."""
    return float(np.percentile(paced(lane, member, rate).turns_s, 99))


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
