"""
All that the console knows, under one lock.

A thread for each topic adds to it in small pieces, so that no reader waits long. Everything in it
is bounded: flows by `flows_max`, their history by `history_bytes_max`, the rest by constants
beside each book.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from streamer.config.schema import Config
from streamer.console.alerts import AlertBook
from streamer.console.decoding import Decoder
from streamer.console.flows import FlowTable, Shape
from streamer.console.instances import InstanceBook
from streamer.console.models import ModelBook
from streamer.console.rejects import RejectBook
from streamer.console.scores import ScoreBook
from streamer.core.types import Record

PIECE = 1_024  # forecasts, about, that are decoded at once, and added under one hold of the lock
SMALL_MAX = 20_000  # records of each other topic that are read at the start
BREATH_S = 0.0005  # between pieces: a waiting thread gets the lock
TIDY_S = 60.0  # between two looks for flows that have been silent for too long


@dataclass(slots=True)
class Topic:
    """How far a topic has been read."""

    role: str  # what it holds: forecasts, alerts, …
    name: str
    newest: int  # offsets of each partition that are read at the start, at most
    state: str = "starting"  # starting, missing, unavailable, catching_up or following
    reason: str = ""
    records: int = 0
    behind: int = 0  # offsets still to read when catching up
    behind_first: int = 0  # likewise at the start
    newest_ms: int = 0  # the newest timestamp of a record
    junk: Counter[str] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        """How much of what was there at the start has been read, 0 to 1."""
        if self.state == "following":
            return 1.0
        if not self.behind_first:
            return 0.0
        return 1 - self.behind / self.behind_first


class Store:
    """What was read, and how far."""

    def __init__(self, config: Config, now: Callable[[], float] = time.time) -> None:
        self.config, self.now = config, now
        made, keep_s = config.forecasts, float(config.console.keep)
        self.shape = Shape(int(config.step), made.quantiles, made.horizons, made.spans)
        self.lock = threading.Lock()
        self.decoder = Decoder(made, int(config.step))
        console = config.console
        self.flows = FlowTable(self.shape, console.flows_max, console.history_bytes_max, keep_s)
        self.alerts = AlertBook()
        self.scores = ScoreBook(keep_s)
        self.instances = InstanceBook()
        self.models = ModelBook()
        self.rejects = RejectBook()
        self.started_at = now()
        self._tidied_at = self.started_at
        names = {
            "forecasts": made.topic,
            "alerts": config.alerts.topic,
            "scores": config.scores.topic,
            "metrics": config.metrics.topic,
            "models": config.models_topic,
            "rejects": config.rejects_topic,
        }
        self.topics = {
            role: Topic(role, name, console.catch_up_max if role == "forecasts" else SMALL_MAX)
            for role, name in names.items()
            if name is not None
        }
        self.topics["forecasts"].junk = self.decoder.junk
        for role, book in self._books.items():
            if role in self.topics:
                self.topics[role].junk = book.junk

    @property
    def _books(self) -> dict[str, AlertBook | ScoreBook | InstanceBook | ModelBook | RejectBook]:
        return {
            "alerts": self.alerts,
            "scores": self.scores,
            "metrics": self.instances,
            "models": self.models,
            "rejects": self.rejects,
        }

    def since_ms(self) -> int:
        """The time of the oldest record that is read at the start."""
        return round((self.now() - self.config.console.keep) * 1000)

    def read(self, role: str, records: Sequence[Record]) -> None:
        """Take in *records* of the topic of *role*."""
        topic = self.topics[role]
        for piece in pieces(records):
            if role == "forecasts":
                self._forecasts(piece)
            else:
                with self.lock:
                    self._books[role].read(piece)
            topic.records += len(piece)
            topic.newest_ms = max(topic.newest_ms, *(r.time_ms or 0 for r in piece))

    def tidy(self) -> None:
        """Forget flows without a forecast for `console.keep`; now and then."""
        now = self.now()
        if now - self._tidied_at >= TIDY_S:
            self._tidied_at = now
            with self.lock:
                self.flows.forget_silent(self.since_ms())

    def _forecasts(self, records: Sequence[Record]) -> None:
        found = self.decoder.columns(records)
        for first in range(0, len(found), 2 * PIECE):
            part = found
            if len(found) > 2 * PIECE:
                part = found.take(np.arange(first, min(first + 2 * PIECE, len(found))))
            with self.lock:
                self.flows.add(part)
            time.sleep(BREATH_S)


def pieces(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """*records* in runs of about PIECE lines: what is decoded at once should fit a CPU's cache."""
    first = lines = 0
    for place, record in enumerate(records):
        lines += 1 + (record.value or b"").count(b"\n")
        if lines >= PIECE:
            yield records[first : place + 1]
            first, lines = place + 1, 0
    if first < len(records):
        yield records[first:]
