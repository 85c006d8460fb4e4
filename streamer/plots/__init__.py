"""
Pictures of what was measured, for --plot.

matplotlib is an extra: everything else does without, so it is asked for before
any long work begins, not after.
"""

from __future__ import annotations

import importlib

NEEDED = "matplotlib>=3.8,<4"  # as pyproject.toml has it


class NoMatplotlib(Exception):
    """There is nothing to draw with; says how to get it."""


def require_matplotlib() -> None:
    """Raise NoMatplotlib where it is missing."""
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        raise NoMatplotlib(
            f"a picture needs matplotlib, which is not installed: pip install '{NEEDED}'"
        ) from error
