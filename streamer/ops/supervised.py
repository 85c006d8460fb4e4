"""
Runs one of our programs as a child process, and restarts it when it ends, without waiting.

The child shares nothing with us but the log. Whether it is present, crashes repeatedly or hangs
does not affect our turns: we only ask the system, now and then, whether it has ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from streamer.ops.backoff import Backoff

PAUSE_S = 1.0  # delay of the first restart, doubled each time
PAUSE_MAX_S = 300.0
HEALTHY_S = 600.0  # a life of this length resets the delay
LEAVE_S = 10.0  # how long it may take to end after a request
PARENT = "STREAMER_PARENT_PID"  # variable in a child's environment
# variables of our own service that a child must not use
TO_SYSTEMD = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")


def supervisor_ended(environ: Mapping[str, str] = os.environ) -> bool:
    """
    Whether the process that started this one as its child has ended; False without one.

    The child compares the process id that it was given: the parent may end before the child has
    loaded its libraries, and a process that was started by hand may outlive its shell.
    """
    parent = environ.get(PARENT, "")
    return parent.isdecimal() and os.getppid() != int(parent)


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """The child ended unexpectedly."""

    code: int  # negative: the signal that killed it
    lived_s: float
    retry_in_s: float  # the delay of the restart


class SupervisedProcess:
    """`python -m streamer …`, kept running by calls of `tick` now and then."""

    def __init__(
        self, arguments: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._command = [sys.executable, "-m", "streamer", *arguments]
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._begin_at = clock()
        self._backoff = Backoff(PAUSE_S, PAUSE_MAX_S)

    @property
    def pid(self) -> int | None:
        """The process id, if there is a process."""
        return None if self._process is None else self._process.pid

    def tick(self) -> ExitStatus | None:
        """Start it if it is time, and detect whether it has ended. Does not block."""
        now = self._clock()
        if self._process is None:
            if now >= self._begin_at:
                self._begin(now)
            return None
        code = self._process.poll()
        if code is None:
            return None
        self._process = None
        lived_s = now - self._started_at
        if lived_s >= HEALTHY_S:
            self._backoff.reset()
        ended = ExitStatus(code, lived_s, self._backoff.take())
        self._begin_at = now + ended.retry_in_s
        return ended

    def end(self) -> None:
        """Ask it to end, and kill it if it does not."""
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
        environ = {name: value for name, value in os.environ.items() if name not in TO_SYSTEMD}
        environ[PARENT] = str(os.getpid())
        try:
            self._process = subprocess.Popen(  # noqa: S603 - runs our own interpreter
                self._command, stdin=subprocess.DEVNULL, env=environ
            )
        except OSError:  # the process cannot be started now; retry later
            self._begin_at = now + self._backoff.take()
            return
        self._started_at = now
