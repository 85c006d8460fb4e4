"""The common style of all plots: few colours, each with one meaning; no frame, a faint grid."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image  # installed with matplotlib

TRUTH = "#1b1b1b"  # actual rates
FORECAST = "#1f6fb4"  # forecasts: the median, and in lighter shades the bands
INNER, OUTER = "#8fbfe3", "#d3e6f5"
OUTSIDE = "#d9480f"  # highlights
MUTED = "#6b6b6b"
DPI = 110
STYLE: dict[Any, Any] = {  # the names are those of matplotlib's settings file
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": TRUTH,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "lines.linewidth": 1.0,
}


@contextmanager
def sheet(
    size: tuple[float, float], rows: int, columns: int
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Create a figure of *size* in inches with its axes, row by row; opens no window."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, dpi=DPI, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
        yield figure, list(axes.flat)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG with 256 colours, to save space; the same figure gives the same bytes."""
    drawn = BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    drawn.seek(0)
    with Image.open(drawn) as picture:
        flat = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    flat.save(path, format="PNG", optimize=True)
