"""
Threads that follow topics and hand their records to the store.

A follower belongs to no group and commits nothing. When the log or the topic is away it waits and
tries again; it goes on after the last record that it has read.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from streamer.console.store import Store, Topic
from streamer.core.types import Partition, Record
from streamer.log import Client, LogError, TopicMissing
from streamer.ops.backoff import Backoff

RETRY_S = 2.0  # after the first failure, doubled each time
RETRY_MAX_S = 30.0
WAIT_S = 0.5  # of a poll that brings nothing
PROBE = 20  # records, of each partition, that show how many forecasts a record holds


class Lines(Protocol):
    """Where log lines go."""

    def info(self, event: str, **fields: Any) -> Any: ...  # noqa: ANN401, D102 - structlog's

    def warning(self, event: str, **fields: Any) -> Any: ...  # noqa: ANN401, D102 - likewise


class Follower:
    """Reads one topic until `stop` is set."""

    def __init__(
        self,
        store: Store,
        topic: Topic,
        client: Callable[[], Client],
        stop: threading.Event,
        lines: Lines,
    ) -> None:
        self._store, self._topic, self._open = store, topic, client
        self._stop, self._lines = stop, lines
        self._next: dict[Partition, int] = {}
        self._left: dict[Partition, int] = {}  # offsets to read before it has caught up
        self._refusal = ""  # the kind that was logged
        self._backoff = Backoff(RETRY_S, RETRY_MAX_S)
        self.thread = threading.Thread(target=self.run, name=f"follow-{topic.role}", daemon=True)

    def run(self) -> None:
        """Follow, and try again whatever goes wrong."""
        while not self._stop.is_set():
            try:
                self._follow()
            except Exception as error:  # noqa: BLE001 - a topic of junk must not end the console
                self._stop.wait(self._refused(error))

    def _follow(self) -> None:
        topic = self._topic
        client = self._open()
        try:
            if topic.name not in client.topics():
                raise TopicMissing([topic.name])
            ends = client.ends([topic.name])
            # A topic that was deleted and made again begins with offset 0.
            self._next = {p: at for p, at in self._next.items() if at <= ends.get(p, 0)}
            newest = self._newest(client)
            begins = {p: self._next.get(p, max(0, end - newest)) for p, end in ends.items()}
            self._left = {p: max(0, end - begins[p]) for p, end in ends.items()}
            topic.behind = topic.behind_first = sum(self._left.values())
            topic.state, topic.reason = "catching_up", ""
            since_ms = max(self._since_ms(), topic.newest_ms)
            batches = client.follow(
                [topic.name], from_start=True, wait_s=WAIT_S, since_ms=since_ms, newest=newest
            )
            with contextlib.closing(batches):  # type: ignore[type-var]  # both are generators
                for batch in batches:
                    if self._stop.is_set():
                        return
                    self._take(batch, ends)
                    self._refusal = ""
                    self._backoff.reset()
        finally:
            with contextlib.suppress(Exception):
                client.close()

    def _take(self, batch: Sequence[Record], ends: Mapping[Partition, int]) -> None:
        topic = self._topic
        fresh = [record for record in batch if record.offset >= self._next.get(record.partition, 0)]
        if fresh:
            self._store.read(topic.role, fresh)
        for record in fresh:
            self._next[record.partition] = record.offset + 1
        if topic.state == "catching_up":
            for partition in {record.partition for record in fresh} & ends.keys():
                self._left[partition] = max(0, ends[partition] - self._next[partition])
            topic.behind = sum(self._left.values())
            if not batch or not topic.behind:
                topic.state, topic.behind = "following", 0
                self._lines.info("console.caught_up", topic=topic.name, records=topic.records)
        self._store.tidy()

    def _since_ms(self) -> int:
        """Of topics with few records the whole is read: the newest of each key may be old."""
        return 0 if self._topic.role in {"alerts", "models"} else self._store.since_ms()

    def _newest(self, client: Client) -> int:
        """How many records of a partition are read at the start."""
        topic = self._topic
        partitions = max(1, len(client.ends([topic.name])))
        if topic.role != "forecasts":
            return topic.newest
        lines = records = 0
        batches = client.follow([topic.name], from_start=True, wait_s=WAIT_S, newest=PROBE)
        with contextlib.closing(batches):  # type: ignore[type-var]  # both are generators
            for batch in batches:
                records += len(batch)
                lines += sum((record.value or b"").count(b"\n") + 1 for record in batch)
                if not batch or records >= PROBE:
                    break
        return max(PROBE, round(topic.newest * max(records, 1) / max(lines, 1) / partitions))

    def _refused(self, error: Exception) -> float:
        """Note that the topic cannot be read; seconds until the next attempt."""
        topic, delay_s = self._topic, self._backoff.take()
        topic.state = "missing" if isinstance(error, TopicMissing) else "unavailable"
        topic.reason = str(error)
        kind = error.code if isinstance(error, LogError) else type(error).__name__
        if kind != self._refusal:
            self._refusal = kind
            self._lines.warning(
                "console.topic_unavailable",
                topic=topic.name,
                kind=kind,
                reason=str(error),
                retry_in_s=delay_s,
            )
        return delay_s
