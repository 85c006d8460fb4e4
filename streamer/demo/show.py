"""The two displays of a demo: a live screen on a terminal, otherwise plain lines."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live

from streamer.demo.live_scores import Tally, Trace
from streamer.demo.view import Scene, chosen, screen
from streamer.text.format import moment, span

FRAME_S = 0.125
LINE_S = 2.0
LOOK_S = 12.0  # how long the same flows are shown
PACE_S = 3.0

__all__ = ["Lines", "Pace", "Scene", "Screen"]


class Pace:
    """The recent growth rate of a counter."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def mark(self, at_s: float, count: int) -> None:
        """Note that the counter is *count* at *at_s*."""
        self._marks.append((at_s, count))
        while self._marks[-1][0] - self._marks[0][0] > PACE_S:
            self._marks.popleft()

    @property
    def per_s(self) -> float:
        """Return its growth per second, over the last seconds."""
        (first_s, first), (last_s, last) = self._marks[0], self._marks[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0


class Screen:
    """A full-screen display that is redrawn several times a second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, screen=True, auto_refresh=False)
        self._next_s = 0.0
        self._look_s = 0.0
        self._flows: list[Trace] = []

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def due(self, at_s: float) -> bool:
        """Return whether it is time to redraw."""
        return at_s >= self._next_s

    def update(self, tally: Tally, scene: Scene) -> None:
        """Redraw."""
        self._next_s = scene.seconds + FRAME_S
        if scene.seconds >= self._look_s:
            self._flows = chosen(tally)
            self._look_s = scene.seconds + (LOOK_S if self._flows else 0)
        width, height = self._console.size
        self._live.update(screen(tally, scene, self._flows, width, height), refresh=True)


class Lines:
    """A line every other second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_s = 0.0
        self._shown = False  # whether the console's address was printed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def due(self, at_s: float) -> bool:
        """Return whether it is time for the next line."""
        return at_s >= self._next_s

    def update(self, tally: Tally, scene: Scene) -> None:
        """Print the next line."""
        self._next_s = scene.seconds + LINE_S
        if scene.console and not self._shown:
            self._shown = True
            self._console.print(f"console: {scene.console}", highlight=False)
        if not tally.forecasts:
            self._console.print(f"{scene.seconds:4.0f} s  loading the network", highlight=False)
            return
        parts = [
            f"{scene.seconds:4.0f} s",
            f"{moment(tally.made_at)} UTC",
            f"{len(tally.traces):,} flows",
            f"{scene.readings:,} readings ({scene.readings_per_s:,.0f}/s)",
            f"{tally.forecasts:,} forecasts",
        ]
        for horizon in tally.horizons:
            error = tally.error(horizon, "streamer")
            if error is not None:
                parts.append(f"error {span(horizon * scene.step_s)} ahead {error:.2f}")
        ledger = tally.alerts.ledger
        if ledger["raised"]:
            parts.append(f"{ledger['raised']} alerts, {ledger['true']} before their spike")
        self._console.print("  ".join(parts), highlight=False, soft_wrap=True)
