"""Rejected records: how many for which reason, and a sample of the newest."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import NamedTuple

from streamer.core.types import Reason, Record

SAMPLE = 100
SHOWN_BYTES = 1_000
KNOWN = frozenset(str(reason) for reason in Reason)


class Rejected(NamedTuple):
    """A record of the rejects topic."""

    time_ms: int
    reason: str
    detail: str
    place: str  # where it was: topic/partition@offset
    key: str
    value: str  # its beginning; bytes that are no text as escapes
    size: int


class RejectBook:
    """Counts since the console began to read, and the newest records."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.sample: deque[Rejected] = deque(maxlen=SAMPLE)
        self.by_reason: dict[str, Rejected] = {}  # the newest of each reason
        self.junk: Counter[str] = Counter()

    def read(self, records: Iterable[Record]) -> None:
        """Take in *records* of the rejects topic."""
        for record in records:
            headers = {name: text(value) for name, value in record.headers}
            reason = headers.get("reason", "")
            if reason not in KNOWN:
                self.junk["no_reason"] += 1
                continue
            value = record.value or b""
            size = headers.get("bytes", "")
            rejected = Rejected(
                time_ms=record.time_ms or 0,
                reason=reason,
                detail=headers.get("detail", ""),
                place=f"{headers.get('topic', '?')}/{headers.get('partition', '?')}"
                f"@{headers.get('offset', '?')}",
                key=text(record.key),
                value=text(value),
                size=int(size) if size.isdigit() and len(size) < 16 else len(value),
            )
            self.counts[reason] += 1
            self.sample.append(rejected)
            self.by_reason[reason] = rejected


def text(value: bytes | None) -> str:
    """The beginning of *value*, bytes that are no UTF-8 as escapes."""
    return (value or b"")[:SHOWN_BYTES].decode(errors="backslashreplace")
