"""The demo's processes: a feeder and a forecaster on one SQLite log, as in production."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

LEAVE_S = 15.0  # how long a process may take to end after a request
COUNTED = ("wrapped", "reset", "gap", "late")  # verdicts that are displayed


class Lost(Exception):
    """A process of the demo ended unexpectedly."""


class Process:
    """`python -m streamer …` whose output goes to a file."""

    def __init__(self, name: str, arguments: Sequence[str], folder: Path) -> None:
        self.name = name
        self.journal = folder / f"{name}.log"
        with self.journal.open("w") as sink:
            # It runs in a session of its own: Ctrl-C reaches the demo only, which then ends the
            # others.
            self._process = subprocess.Popen(  # noqa: S603 - runs our own interpreter
                [sys.executable, "-m", "streamer", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        self._read = 0  # bytes of its output that were read

    def exit_code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    def news(self) -> Iterator[Mapping[str, Any]]:
        """Yield the JSON lines that it wrote since the last call."""
        with self.journal.open("rb") as lines:
            lines.seek(self._read)
            for line in lines:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

    def last_words(self, lines: int = 8) -> str:
        """Return the end of its output."""
        return "\n".join(self.journal.read_text().splitlines()[-lines:])

    def end(self) -> None:
        """Ask it to end, and kill it if it does not."""
        self._process.terminate()
        try:
            self._process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Processes:
    """Feeder, forecaster and console, and the forecaster's own measurements."""

    def __init__(
        self, folder: Path, run: Sequence[str], feed: Sequence[str], *, console: bool
    ) -> None:
        self.forecaster = Process(
            "forecaster", ["run", "--role", "forecaster", "--log-format", "json", *run], folder
        )
        self.feeder = Process("feeder", ["feed", *feed], folder)
        shown = ["run", "--role", "console", "--log-format", "json", *run]
        self.console = Process("console", shown, folder) if console else None
        self.counts: Counter[str] = Counter()
        self.readings_per_s = 0.0
        self.lag: int | None = None
        self.busy_s = 0.0  # spent in turns, without waiting for records

    def listen(self) -> None:
        """Process the forecaster's output since the last call."""
        for line in self.forecaster.news():
            if line.get("event") != "turns.summary":
                continue
            self.readings_per_s = line.get("readings_per_s", 0)
            self.lag = line.get("lag")
            self.busy_s += line.get("busy", 0) * line["seconds"]
            self.counts["readings"] += line["readings"]
            for verdict in COUNTED:
                self.counts[verdict] += line.get(f"verdict.{verdict}", 0)

    def muster(self) -> None:
        """Raise Lost if one of them has ended."""
        for each in (self.forecaster, self.feeder):
            if each.exit_code() is not None:
                raise Lost(f"the {each.name} ended with {each.exit_code()}:\n{each.last_words()}")

    def end(self) -> None:
        """End feeder and forecaster, in this order; the console goes on until `close`."""
        self.feeder.end()
        self.forecaster.end()

    def close(self) -> None:
        """End all."""
        self.end()
        if self.console is not None:
            self.console.end()
