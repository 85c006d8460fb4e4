"""
Notifies systemd of the process's state: ready, alive, stopping.

The protocol of sd_notify(3) is one datagram and needs no package. Without `NOTIFY_SOCKET` in
the environment, nothing is sent.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping


class Systemd:
    """
    The systemd service that runs this process, if there is one.

    Call `alive` in the loop that does the work, so that systemd detects a loop that hangs; a
    separate thread would report it as alive.
    """

    def __init__(
        self, environ: Mapping[str, str], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.address = environ.get("NOTIFY_SOCKET", "")
        ours = environ.get("WATCHDOG_PID") in (None, str(os.getpid()))
        watchdog_us = int(environ.get("WATCHDOG_USEC", "0")) if ours else 0
        self.ping_s = watchdog_us / 2e6  # half the watchdog's interval; 0: without a watchdog
        self.monotonic = monotonic
        self.told_s = float("-inf")
        self.told_ready = False

    def ready(self) -> None:
        """Report that startup is complete. Only the first call has an effect."""
        if not self.told_ready:
            self.told_ready = True
            self.tell("READY=1")

    def alive(self) -> None:
        """Report that the loop is running; sends no more often than the watchdog needs."""
        now_s = self.monotonic()
        if self.ping_s and now_s - self.told_s >= self.ping_s:
            self.told_s = now_s
            self.tell("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """Extend the startup timeout by *seconds* from now."""
        if not self.told_ready:
            self.tell(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def status(self, text: str) -> None:
        """Set the status line of `systemctl status`."""
        self.tell(f"STATUS={text}")

    def stopping(self) -> None:
        """Report an orderly shutdown."""
        self.tell("STOPPING=1")

    def tell(self, word: str) -> None:
        """Send one assignment. Raises OSError if the socket exists and rejects it."""
        if not self.address:
            return
        abstract = self.address.startswith("@")
        address = "\0" + self.address[1:] if abstract else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.sendto(word.encode(), address)
