"""Plots how far back each cell remembers: its error, and its gradients, by distance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from streamer.experiments.memory_task import MemoryResult
from streamer.plots.paper import FORECAST, MUTED, OUTSIDE, save, sheet

COLOURS = {"lstm": FORECAST, "rnn": OUTSIDE}
NAMES = {"lstm": "LSTM", "rnn": "simple cell"}
SIGN = 0.5  # the error of the guess ±0.5 for a number that is uniform between -1 and 1
GRADIENT_MIN = 1e-12  # below it nothing is learned in single precision


def draw(found: Mapping[str, MemoryResult], path: Path) -> None:
    """Draw the errors by lag on the left, the gradient norms by distance on the right."""
    with sheet((8.4, 3.0), 1, 2) as (figure, (left, right)):
        for cell, each in found.items():
            lags, colour = list(each.errors), COLOURS[cell]
            left.plot(lags, [*each.errors.values()], "o-", ms=4, color=colour, label=NAMES[cell])
            distances = range(1, len(each.trained) + 1)
            right.plot(distances, each.trained, color=colour, label=f"{NAMES[cell]}, trained")
            right.plot(
                distances, each.untrained, ":", color=colour, label=f"{NAMES[cell]}, untrained"
            )
        for level, label in ((1.0, "no memory"), (SIGN, "only the sign")):
            left.axhline(level, color=MUTED, lw=0.8, ls="--")
            left.text(lags[0], level + 0.03, label, color=MUTED)
        left.set_title("error, over that of always forecasting the mean")
        left.set_xscale("log")
        left.set_xticks(lags, [str(lag) for lag in lags])
        left.minorticks_off()
        left.set_ylim(0, 1.15)
        left.set_xlabel("the answer lies so many steps back")
        left.legend(loc="center left", bbox_to_anchor=(0, 0.72))
        right.set_title("norm of the gradient, over that one step back")
        right.set_yscale("log")
        right.set_ylim(bottom=max(GRADIENT_MIN, right.get_ylim()[0]))
        right.set_xlabel("steps back")
        right.legend(loc="upper right", bbox_to_anchor=(1, 0.87))
        save(figure, path)
