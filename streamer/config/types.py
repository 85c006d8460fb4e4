"""What every part's settings are made of: frozen, keyword-only, without unknown keys."""

from __future__ import annotations

import re
from typing import Any

import msgspec

DURATION_MAX_S = 3650 * 86400.0  # ten years; timers and integers of libraries bear no more
UNITS_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    A section of the configuration; `config.py` puts the sections together.

    A section repeats `frozen=True, kw_only=True`: the second holds for the
    fields of one class only, and type checkers want to see the first.
    """


class Duration(float):
    """Seconds. Written `500ms`, `60s`, `5m`, `1h`, `7d` or as a bare number of seconds."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Duration:
        """Raise ValueError if *text* is not a duration of zero to DURATION_MAX_S."""
        if isinstance(text, (int, float)) and not isinstance(text, bool):
            seconds = float(text)
        else:
            found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w|)\s*", str(text))
            if found is None:
                raise ValueError(f"is no duration such as 500ms, 60s, 5m or 1h: {text!r}")
            seconds = float(found[1]) * UNITS_S[found[2]]
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"is no duration: {text!r}")
        if seconds > DURATION_MAX_S:
            raise ValueError(f"must be at most {Duration(DURATION_MAX_S)}, is {text}")
        return cls(seconds)

    def __str__(self) -> str:
        for unit in ("w", "d", "h", "m"):
            whole, rest = divmod(float(self), UNITS_S[unit])
            if whole and not rest:
                return f"{whole:.0f}{unit}"
        return f"{float(self):g}s" if self >= 1 or not self else f"{float(self) * 1000:g}ms"


def decode_hook(kind: type, value: object) -> Any:  # noqa: ANN401 - msgspec's own signature
    """For `msgspec.convert`: our own types."""
    if kind is Duration:
        return Duration.parse(value)
    raise NotImplementedError(kind)
