"""
Saved rows of single flows, read on request by a process of their own: `streamer explain --json`.

Reading pages of the state topic takes memory, and stepping the network takes torch; neither
should trouble the console. One process runs at a time, and an answer is kept for a while.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from streamer.console.payloads import FlowState

TIMEOUT_S = 60.0
WAIT_S = 30.0  # for the request before this one
FRESH_S = 30.0
KEPT_MAX = 64
ANSWER_BYTES_MAX = 16 << 20


class Unanswered(Exception):
    """The row was not read; the text is the reason."""


class SavedFlows:
    """Reads rows with the settings that *options* of the command line name."""

    def __init__(self, options: Sequence[str]) -> None:
        self._options = list(options)
        self._one = threading.Lock()
        self._known: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    def read(self, flow: str, partition: int) -> bytes:
        """A `FlowState` as JSON; raises Unanswered."""
        if not self._one.acquire(timeout=WAIT_S):
            raise Unanswered("another flow's saved state is being read; try again later")
        try:
            known = self._known.get(flow)
            if known is not None and time.monotonic() - known[0] < FRESH_S:
                return known[1]
            answer = self._explained(flow, partition)
            self._known[flow] = time.monotonic(), answer
            self._known.move_to_end(flow)
            while len(self._known) > KEPT_MAX:
                self._known.popitem(last=False)
            return answer
        finally:
            self._one.release()

    def _explained(self, flow: str, partition: int) -> bytes:
        command = [sys.executable, "-m", "streamer", "explain", "--json"]
        command += ["--partition", str(partition), *self._options, "--", flow]
        environ = os.environ | {"OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(  # noqa: S603 - our own interpreter; the flow is one argument
                command,
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT_S,
                env=environ,
            )
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise Unanswered(f"the saved state was not read: {error}") from error
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            raise Unanswered(lines[-1][:500] if lines else f"it ended with {done.returncode}")
        try:
            found = msgspec.json.decode(done.stdout[:ANSWER_BYTES_MAX], type=FlowState)
        except (msgspec.DecodeError, ValueError) as error:
            raise Unanswered(f"the saved state is not readable: {error}") from error
        return msgspec.json.encode(found)
