"""
Quiet hours and maintenance windows: times in which the alerts of a rule are not delivered.

    {days: mon-fri, start: "22:00", end: "06:00", timezone: Europe/Berlin}   every week
    {start: 2026-02-01T00:00, end: 2026-02-01T04:00}                         once

A window of the first form begins on the days named and may end on the next one. Times are those of
a wall clock in `timezone`, so a window keeps its hours when clocks change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

from streamer.config.types import Settings

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
OF_DAY = re.compile(r"([01]?\d|2[0-3]):[0-5]\d")


class QuietConfig(Settings, frozen=True, kw_only=True):
    """One window."""

    start: str  # a time of the day, 22:00, or a date with a time, 2026-02-01T00:00
    end: str
    days: str = "mon-sun"  # on which a window of every week begins: mon-fri, or sat,sun
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        zone_of(self.timezone)
        days_of(self.days)
        weekly = [OF_DAY.fullmatch(text) is not None for text in (self.start, self.end)]
        if weekly == [True, True]:
            return
        if any(weekly):
            raise ValueError("end: must be a time of the day if start is one, and else a date")
        for name, text in (("start", self.start), ("end", self.end)):
            try:
                datetime.fromisoformat(text)
            except ValueError:
                what = f"{name}: must be as 22:00 or 2026-02-01T00:00, is {text!r}"
                raise ValueError(what) from None
        if self.bounds()[0] >= self.bounds()[1]:
            raise ValueError("end: must be after start")

    @property
    def weekly(self) -> bool:
        """Whether it comes every week."""
        return OF_DAY.fullmatch(self.start) is not None

    def bounds(self) -> tuple[float, float]:
        """Begin and end of a window that comes once, in epoch seconds."""
        zone = zone_of(self.timezone)
        found = [datetime.fromisoformat(text) for text in (self.start, self.end)]
        begin, end = (at if at.tzinfo else at.replace(tzinfo=zone) for at in found)
        return begin.timestamp(), end.timestamp()

    def since(self, now: float) -> float | None:
        """When the window began in which *now* lies, in epoch seconds; None: in none."""
        if not self.weekly:
            begin, end = self.bounds()
            return begin if begin <= now < end else None
        zone = zone_of(self.timezone)
        local = datetime.fromtimestamp(now, zone)
        starts, ends = clock(self.start), clock(self.end)
        for days_ago in (0, 1):  # a window that began yesterday may still last
            day = local.date() - timedelta(days=days_ago)
            if day.weekday() not in days_of(self.days):
                continue
            last = day if starts < ends else day + timedelta(days=1)
            opens, closes = (
                datetime.combine(*each, zone).timestamp() for each in ((day, starts), (last, ends))
            )
            if opens <= now < closes:
                return opens
        return None


def quiet_since(windows: Iterable[QuietConfig], now: float) -> float | None:
    """When the earliest of the *windows* began in which *now* lies; None: in none."""
    found = [begin for each in windows if (begin := each.since(now)) is not None]
    return min(found, default=None)


def clock(text: str) -> time:
    """A time of the day."""
    hour, minute = text.split(":")
    return time(int(hour), int(minute))


def days_of(text: str) -> frozenset[int]:
    """The days of `mon-fri` or `sat,sun`, Monday is 0; raises ValueError."""
    found: set[int] = set()
    for part in text.lower().replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"days: must be as mon-fri or sat,sun, is {text!r}")
        at, end = DAYS.index(first), DAYS.index(last or first)
        found |= {(at + k) % 7 for k in range((end - at) % 7 + 1)}
    return frozenset(found)


def zone_of(name: str) -> tzinfo:
    """The time zone of that name; raises ValueError."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ValueError(f"timezone: is no time zone: {name!r}") from None
