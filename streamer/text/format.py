"""Numbers and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def si(value: float | None, unit: str = "") -> str:
    """*value* to three digits with a prefix: `1.23 MB/s`; `-` where there is none."""
    if value is None:
        return "-"
    size, nth = abs(value), 0
    while size >= 999.5 and nth < len(PREFIXES) - 1:
        size, nth = size / 1000, nth + 1
    digits = 2 if size < 9.995 else 1 if size < 99.95 else 0
    text = f"{size:.{digits}f}" if size or nth else "0"
    space = " " if unit or PREFIXES[nth] else ""
    return f"{'-' if value < 0 else ''}{text}{space}{PREFIXES[nth]}{unit}"


def moment(time_s: float) -> str:
    """Epoch seconds as `2026-01-31 23:59:00`, UTC."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S")


def span(seconds: float, digits: int = 3) -> str:
    """A length of time in its largest fitting unit: `90 s`, `12 min`, `3 h`, `2 d`."""
    for unit_s, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit_s or seconds == unit_s:
            return f"{seconds / unit_s:.{digits}g} {unit}"
    return f"{seconds:.{digits}g} s"
