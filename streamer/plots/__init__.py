"""
Plots of measurements, for --plot.

matplotlib is an extra that nothing else needs, so its presence is checked before a long
computation, not after.
"""

from __future__ import annotations

import importlib

NEEDED = "matplotlib>=3.8,<4"  # as in pyproject.toml


class NoMatplotlib(Exception):
    """matplotlib is missing; the message names the package to install."""


def require_matplotlib() -> None:
    """Raise NoMatplotlib if it is missing."""
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        raise NoMatplotlib(
            f"a picture needs matplotlib, which is not installed: pip install '{NEEDED}'"
        ) from error
