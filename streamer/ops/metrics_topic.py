"""
Metrics through the log: one record every `metrics.every`, from a thread and a client of its own.

A report is outside of every transaction. At most one is under way; one that the log does not take
is dropped and counted, and the next one includes its counts, because counters are cumulative since
the start of the process.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import isfinite
from typing import Annotated, Literal, NamedTuple

import msgspec
from prometheus_client.core import Metric as Family

from streamer.config.types import Duration, Settings
from streamer.core.types import Message
from streamer.log import Client, LogError
from streamer.ops.coverage_slo import Lines
from streamer.text import influx

MEASUREMENT = "streamer"
PREFIX = "streamer_"
DROPPED = "metrics_dropped"  # the count of reports that the log did not take
LEAVE_S = 2.0  # for a report that is under way when the process ends

Format = Literal["influx", "telegraf_json"]
Topic = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,249}\Z")]


class MetricsConfig(Settings, frozen=True, kw_only=True):
    """Where metrics go on the log, how often, and in which format."""

    topic: Topic | None = "traffic.metrics"
    every: Duration = Duration(30)
    format: Format = "influx"


class Point(NamedTuple):
    """The metrics that share their labels."""

    tags: Mapping[str, str]
    fields: Mapping[str, float]


def points(families: Iterable[Family], tags: Mapping[str, str]) -> Iterator[Point]:
    """Metrics as points: one for each set of labels, those without labels first."""
    found: dict[tuple[tuple[str, str], ...], dict[str, float]] = defaultdict(dict)
    found[()] = {}
    for family in families:
        for sample in family.samples:
            if isfinite(sample.value):
                labels = tuple(sorted(sample.labels.items()))
                found[labels][sample.name.removeprefix(PREFIX)] = float(sample.value)
    for of_it, fields in found.items():
        if fields:
            yield Point({**dict(of_it), **tags}, fields)


def encoded(found: Iterable[Point], kind: Format, time_s: float) -> bytes:
    """Points as the value of one record: influx lines, or Telegraf's JSON in its batch form."""
    if kind == "influx":
        time_ns = round(time_s * 1000) * 1_000_000
        lines = [influx.line(MEASUREMENT, tags, fields, time_ns) for tags, fields in found]
        return "\n".join(lines).encode()
    rows = [
        {"name": MEASUREMENT, "tags": tags, "fields": fields, "timestamp": round(time_s)}
        for tags, fields in found
    ]
    return msgspec.json.encode({"metrics": rows})


class MetricsTopic:
    """Sends what *collect* returns to a topic until `close`."""

    def __init__(  # noqa: PLR0913 - what is sent, by whom, and with what
        self,
        config: MetricsConfig,
        collect: Callable[[], Iterable[Family]],
        tags: Mapping[str, str],
        client: Callable[[], Client],
        counts: Counter[str],
        lines: Lines,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._config, self._collect, self._tags = config, collect, tags
        self._open, self._counts, self._lines, self._now = client, counts, lines, now
        counts[DROPPED] += 0  # the key is there: no thread changes the size of the loop's counts
        self._client: Client | None = None
        self._refusal = ""  # the kind that was logged
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        """Report from now on, unless the settings have no topic."""
        if self._config.topic is not None:
            self._thread.start()

    def close(self) -> None:
        """Report no more; what is under way gets a moment."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(LEAVE_S)

    def _run(self) -> None:
        while not self._closing.wait(max(1.0, self._config.every)):
            self.report()
        self._let_go()

    def report(self) -> None:
        """Send one record. Whatever goes wrong, it is counted and logged once for its kind."""
        try:
            value = encoded(points(self._collect(), self._tags), self._config.format, self._now())
            if self._client is None:
                self._client = self._open()
            key = self._tags["instance"].encode()
            assert self._config.topic is not None
            self._client.send([Message(self._config.topic, None, key, value)])
            self._client.flush()
        except Exception as error:  # noqa: BLE001 - a report must never end the process
            self._counts[DROPPED] += 1
            self._let_go()
            kind = error.code if isinstance(error, LogError) else type(error).__name__
            if kind != self._refusal:
                self._refusal = kind
                self._lines.warning(
                    "metrics.dropped", topic=self._config.topic, kind=kind, reason=str(error)
                )
        else:
            self._refusal = ""

    def _let_go(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                client.close()
