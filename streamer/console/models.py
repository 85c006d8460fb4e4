"""The contents of the models topic: the incumbent, contests, rollbacks, sizes of weights."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from streamer.core.types import Record
from streamer.core.wire import contests, generations
from streamer.core.wire.contests import Contest, Rollback
from streamer.core.wire.generations import Incumbent

KEPT_MAX = 200  # contests, rollbacks and changes of the incumbent
WEIGHTS_MAX = 1_000


class ModelBook:
    """The newest records of each kind."""

    def __init__(self) -> None:
        self.incumbent: Incumbent | None = None
        self.changes: deque[tuple[int, Incumbent]] = deque(maxlen=KEPT_MAX)  # with record times
        self.contests: dict[int, Contest] = {}
        self.rollbacks: dict[int, Rollback] = {}
        self.weights: dict[int, int] = {}  # bytes by generation
        self.junk: Counter[str] = Counter()

    def read(self, records: Iterable[Record]) -> None:
        """Take in *records* of the models topic."""
        for record in records:
            try:
                self._take(record)
            except (ValueError, RecursionError):
                self.junk["unreadable"] += 1
        for table, most in (
            (self.contests, KEPT_MAX),
            (self.rollbacks, KEPT_MAX),
            (self.weights, WEIGHTS_MAX),
        ):
            for number in sorted(table)[: max(0, len(table) - most)]:
                del table[number]

    def _take(self, record: Record) -> None:
        if record.key == generations.INCUMBENT:
            if record.value is not None:
                self.incumbent = generations.decode(record.value)
                self.changes.append((record.time_ms or 0, self.incumbent))
            return
        found = generations.numbered(record.key)
        if found is None:
            self.junk["unknown_key"] += 1
            return
        kind, number = found
        if kind == "weights":
            self.weights.pop(number, None)
            if record.value is not None:
                self.weights[number] = len(record.value)
        elif record.value is not None and kind == "contest":
            self.contests[number] = contests.decode_contest(record.value)
        elif record.value is not None:
            self.rollbacks[number] = contests.decode_rollback(record.value)
