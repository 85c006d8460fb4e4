"""Datagrams over loopback at a known rate, and the kernel's own count of what passed."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

HEADERS = 28  # bytes of IPv4 and UDP before each payload
EVERY_S = 0.01


@dataclass
class Datagrams:
    """Sends *size* bytes a datagram, headers included, *rate* bytes a second, while it is open."""

    rate: float
    size: int = 1000
    sent: int = 0  # datagrams
    port: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sink.bind(("127.0.0.1", 0))
        self.port = self._sink.getsockname()[1]
        return self

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._sink.close()

    @property
    def amount(self) -> int:
        """All bytes that were sent, headers included."""
        return self.sent * self.size

    def _run(self) -> None:
        payload, began = bytes(self.size - HEADERS), time.monotonic()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
            while not self._stop.wait(EVERY_S):
                due = int((time.monotonic() - began) * self.rate / self.size)
                for _ in range(due - self.sent):
                    source.sendto(payload, ("127.0.0.1", self.port))
                    self.sent += 1


class Counter:
    """Reads the kernel's count of the bytes that came in over an interface, again and again."""

    def __init__(self, interface: str) -> None:
        self._path = Path(f"/sys/class/net/{interface}/statistics/rx_bytes")
        self._seen: list[tuple[float, int]] = []
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def rate(self, first: float, last: float) -> float:
        """The mean rate between two times, epoch seconds."""
        return (self._at(last) - self._at(first)) / (last - first)

    def _at(self, moment: float) -> float:
        """The count at a moment, between the two counts around it."""
        after = next(i for i, (seen, _) in enumerate(self._seen) if seen >= moment)
        (t0, n0), (t1, n1) = self._seen[after - 1], self._seen[after]
        return n0 + (n1 - n0) * (moment - t0) / (t1 - t0)

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            self._seen.append((time.time(), int(self._path.read_text())))
