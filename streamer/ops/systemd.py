"""
Word to the service that started us: ready, alive, stopping.

The protocol of sd_notify(3) is one datagram; it needs no package. Without
`NOTIFY_SOCKET` in the environment nobody is told, and that is fine.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping


class Systemd:
    """
    The service that watches over this process, if there is one.

    `alive` belongs into the loop that does the work, so that a loop that
    hangs is found out; a thread of its own would go on telling lies.
    """

    def __init__(
        self, environ: Mapping[str, str], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.address = environ.get("NOTIFY_SOCKET", "")
        ours = environ.get("WATCHDOG_PID") in (None, str(os.getpid()))
        watchdog_us = int(environ.get("WATCHDOG_USEC", "0")) if ours else 0
        self.ping_s = watchdog_us / 2e6  # twice as often as it must be; 0: nobody watches
        self.monotonic = monotonic
        self.told_s = float("-inf")
        self.told_ready = False

    def ready(self) -> None:
        """What starts after us may start now. Only the first call counts."""
        if not self.told_ready:
            self.told_ready = True
            self.tell("READY=1")

    def alive(self) -> None:
        """The loop went round once more; told no oftener than the watchdog needs."""
        now_s = self.monotonic()
        if self.ping_s and now_s - self.told_s >= self.ping_s:
            self.told_s = now_s
            self.tell("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """Starting takes this much longer from now on, and is no failure."""
        if not self.told_ready:
            self.tell(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self.tell(f"STATUS={text}")

    def stopping(self) -> None:
        """The end has begun, and was asked for."""
        self.tell("STOPPING=1")

    def tell(self, word: str) -> None:
        """Send one assignment. Raises OSError where the socket is there and will not take it."""
        if not self.address:
            return
        abstract = self.address.startswith("@")
        address = "\0" + self.address[1:] if abstract else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.sendto(word.encode(), address)
