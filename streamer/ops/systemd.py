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
        own = environ.get("WATCHDOG_PID") in (None, str(os.getpid()))
        watchdog_us = int(environ.get("WATCHDOG_USEC", "0")) if own else 0
        self.ping_s = watchdog_us / 2e6  # half the watchdog's interval; 0: without a watchdog
        self.monotonic = monotonic
        self.pinged_s = float("-inf")
        self.ready_sent = False

    def ready(self) -> None:
        """Report that startup is complete. Only the first call has an effect."""
        if not self.ready_sent:
            self.ready_sent = True
            self.send("READY=1")

    def alive(self) -> None:
        """Report that the loop is running; sends no more often than the watchdog needs."""
        now_s = self.monotonic()
        if self.ping_s and now_s - self.pinged_s >= self.ping_s:
            self.pinged_s = now_s
            self.send("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """Extend the startup timeout by *seconds* from now."""
        if not self.ready_sent:
            self.send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def status(self, text: str) -> None:
        """Set the status line of `systemctl status`."""
        self.send(f"STATUS={text}")

    def stopping(self) -> None:
        """Report an orderly shutdown."""
        self.send("STOPPING=1")

    def send(self, word: str) -> None:
        """Send one assignment. Raises OSError if the socket exists and rejects it."""
        if not self.address:
            return
        abstract = self.address.startswith("@")
        address = "\0" + self.address[1:] if abstract else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.sendto(word.encode(), address)
