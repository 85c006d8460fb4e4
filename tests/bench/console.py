"""What the console costs with a hundred thousand flows, as forecasts pour in."""

from __future__ import annotations

import json
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from streamer.config.schema import load, open_client
from streamer.core.wire.forecasts import Encoder
from streamer.log import TopicConfig
from tests.bench.beside import memory
from tests.bench.rows import Row
from tests.console.scene import forecast

FLOWS = 100_000
ROUNDS = 3  # forecasts of each flow, before the answers are timed
REQUESTS = 300
POURED_PER_S = 5_000  # three times what a hundred thousand flows publish with steps of a minute
SORTS = ("rate", "unusual", "chance", "skill", "flow", "error")


def rows() -> Iterator[Row]:
    """One console on the SQLite log."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=memory()) as home:
        overrides = [f"log=sqlite:///{Path(home) / 'log.db'}", "forecasts.batch=200"]
        config = load(None, overrides)
        client = open_client(config)
        client.create(config.forecasts.topic, TopicConfig(4, compact=False, retention_s=600))
        encoder = Encoder(config.forecasts, int(config.step))
        flows = [f"edge{n // 48}/xe-0/0/{n % 48}/{'in' if n % 2 else 'out'}" for n in range(FLOWS)]
        for step in range(ROUNDS):
            client.send(list(encoder.messages([forecast(flows, step)])))
        client.flush()
        began = time.monotonic()
        options = [*overrides, "console.bind=127.0.0.1:0"]
        with running(options, Path(home)) as (process, url):
            until_ready(url)
            took = time.monotonic() - began
            yield Row("console_catch_up", took, "s", 30, at_most=True, note=f"{FLOWS:,} flows")
            stop = threading.Event()
            pouring = threading.Thread(target=pour, args=(config, flows, stop))
            pouring.start()
            try:
                spent = sorted(answers(url))
            finally:
                stop.set()
                pouring.join()
            p99 = spent[int(len(spent) * 0.99)]
            median = statistics.median(spent)
            note = f"median {1000 * median:.0f} ms, {POURED_PER_S:,} forecasts/s come in"
            yield Row("console_flows_p99", 1000 * p99, "ms", 200, at_most=True, note=note)
            resident = rss(process.pid) / 1e9
            yield Row("console_memory", resident, "GB", 1.0, at_most=True, note=f"{FLOWS:,} flows")


class running:  # noqa: N801 - reads as a statement
    """A console as a process, and its address."""

    def __init__(self, overrides: list[str], home: Path) -> None:
        self._lines = home / "console.log"
        command = [sys.executable, "-m", "streamer", "run", "--role", "console"]
        command += ["--log-format", "json", *(w for each in overrides for w in ("--set", each))]
        with self._lines.open("w") as sink:
            self.process = subprocess.Popen(command, stdout=sink, stderr=sink)

    def __enter__(self) -> tuple[subprocess.Popen[bytes], str]:
        until = time.monotonic() + 60
        while time.monotonic() < until and self.process.poll() is None:
            for line in self._lines.read_text().splitlines():
                if (event := json.loads(line)).get("event") == "http.listening":
                    return self.process, f"http://{event['address']}"
            time.sleep(0.1)
        raise RuntimeError(self._lines.read_text())

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def until_ready(url: str) -> None:
    """Wait for the end of catching up."""
    while True:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=10):
                return
        except OSError:
            time.sleep(0.1)


def pour(config, flows: list[str], stop: threading.Event) -> None:
    """Publish forecasts at an even pace, some hundred flows at a time."""
    client, encoder = open_client(config), Encoder(config.forecasts, int(config.step))
    step, first, share = ROUNDS, 0, 500
    while not stop.is_set():
        made = forecast(flows, step).take(np.arange(first, first + share))
        client.send(list(encoder.messages([made])))
        client.flush()
        first += share
        if first >= len(flows):
            step, first = step + 1, 0
        stop.wait(share / POURED_PER_S)
    client.close()


def answers(url: str) -> Iterator[float]:
    """Seconds of each request, as people ask: a sort, a word, a page."""
    chance = random.Random(7)
    for _ in range(REQUESTS):
        sort, page = chance.choice(SORTS), chance.randint(1, 40)
        search = chance.choice(["", "", f"edge{chance.randint(1, 200)}", "xe-0 in"])
        query = f"sort={sort}&page={page}&search={search.replace(' ', '+')}&order=desc"
        began = time.monotonic()
        with urllib.request.urlopen(f"{url}/api/v1/flows?{query}", timeout=30) as answer:
            answer.read()
        yield time.monotonic() - began


def rss(pid: int) -> int:
    """Resident bytes of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024
