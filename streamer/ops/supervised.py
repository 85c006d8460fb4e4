"""
A process of ours beside us: begun again when it ends, and never waited for.

It shares nothing with us but the log. Whether it is there, dies over and over or hangs changes
no turn of ours: all that we do is ask the system, now and then, whether it has ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

PAUSE_S = 1.0  # before it is begun again, doubled up to …
PAUSE_MAX_S = 300.0
HEALTHY_S = 600.0  # so long a life ends the doubling
LEAVE_S = 10.0  # when it was told to end
TO_SYSTEMD = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")  # is ours to speak with


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """It ended though nobody asked for it."""

    code: int  # negative: the signal that killed it
    lived_s: float
    retry_in_s: float  # after which it is begun again


class SupervisedProcess:
    """`python -m streamer …`, kept alive by whoever calls `tick` now and then."""

    def __init__(
        self, arguments: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._command = [sys.executable, "-m", "streamer", *arguments]
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._begun_at = 0.0
        self._begin_at = clock()
        self._pause_s = PAUSE_S

    @property
    def pid(self) -> int | None:
        """Of the process, where there is one."""
        return None if self._process is None else self._process.pid

    def tick(self) -> ExitStatus | None:
        """Begin it if it is time, and notice if it has ended. Takes no time."""
        now = self._clock()
        if self._process is None:
            if now >= self._begin_at:
                self._begin(now)
            return None
        code = self._process.poll()
        if code is None:
            return None
        self._process = None
        lived_s = now - self._begun_at
        if lived_s >= HEALTHY_S:
            self._pause_s = PAUSE_S
        ended = ExitStatus(code, lived_s, self._pause_s)
        self._begin_at = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)
        return ended

    def end(self) -> None:
        """Ask it to end, and see that it does."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _begin(self, now: float) -> None:
        environ = {name: told for name, told in os.environ.items() if name not in TO_SYSTEMD}
        try:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                self._command, stdin=subprocess.DEVNULL, env=environ
            )
        except OSError:  # no process to be had: later, perhaps
            self._begin_at = now + self._pause_s
            self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)
            return
        self._begun_at = now
