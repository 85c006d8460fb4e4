"""Times as collectors write them: numbers of any usual unit, ISO 8601, digits as text."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

PER_S = (1.0, 1e3, 1e6, 1e9, 1e1, 1e2, 1e4, 1e5, 1e7, 1e8)
DAYS_S = (1.2e9, 4.0e9)  # 2008 to 2096: no neighbouring unit gives a time in this range


@lru_cache(maxsize=1024, typed=True)  # many readings of one message, or of one scrape, share it
def epoch(timestamp: float | str, timezone: str = "UTC") -> float:
    """
    Epoch seconds. The unit is inferred from the size: s, ms, µs, ns, or 10 or 100 times these.

    Text is ISO 8601 or digits; *timezone* applies to text without a zone. Raises ValueError if text
    is not a time, OverflowError if a number is out of range, TypeError for anything else.
    """
    if isinstance(timestamp, str):
        if "-" in timestamp[1:]:
            moment = datetime.fromisoformat(timestamp)
            return (moment if moment.tzinfo else moment.replace(tzinfo=zone(timezone))).timestamp()
        timestamp = float(timestamp) if "." in timestamp else int(timestamp)
    elif isinstance(timestamp, bool) or not isinstance(timestamp, (int, float)):
        raise TypeError("the time is neither a number nor text")
    for per_s in PER_S:  # a writer may count in 10 ms too; only one unit gives a present-day time
        if DAYS_S[0] <= timestamp / per_s < DAYS_S[1]:
            return timestamp / per_s
    for most, per_s in ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6)):
        if abs(timestamp) < most:
            return timestamp / per_s
    return timestamp / 1e9


@lru_cache(maxsize=16)
def zone(name: str) -> tzinfo:
    """The time zone of that name; raises ValueError."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"is no time zone: {name!r}") from error
