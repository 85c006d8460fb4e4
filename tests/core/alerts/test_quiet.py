"""Quiet hours are those of a wall clock, in a named zone, over midnight and changes of clocks."""

from __future__ import annotations

from datetime import datetime

import msgspec
import pytest

from streamer.core.alerts.quiet import QuietConfig, quiet_since
from streamer.core.alerts.rules import RuleConfig


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


NIGHTS = QuietConfig(start="22:00", end="06:00", days="mon-fri", timezone="Europe/Berlin")
NOON = QuietConfig(start="12:00", end="13:30", days="sat,sun")
ONCE = QuietConfig(start="2026-02-01T00:00", end="2026-02-01T04:00", timezone="America/New_York")


@pytest.mark.parametrize(
    ("window", "now", "begin"),
    [
        (NIGHTS, "2026-01-05T21:59+01:00", None),  # a Monday
        (NIGHTS, "2026-01-05T22:00+01:00", "2026-01-05T22:00+01:00"),
        (NIGHTS, "2026-01-06T05:59+01:00", "2026-01-05T22:00+01:00"),
        (NIGHTS, "2026-01-06T06:00+01:00", None),
        (NIGHTS, "2026-01-10T03:00+01:00", "2026-01-09T22:00+01:00"),  # Friday night
        (NIGHTS, "2026-01-10T23:00+01:00", None),  # Saturday
        (NIGHTS, "2026-01-05T03:00+01:00", None),  # Sunday night
        (NIGHTS, "2026-07-06T22:00+02:00", "2026-07-06T22:00+02:00"),  # summer
        (NIGHTS, "2026-07-06T21:30+02:00", None),
        (NOON, "2026-01-10T12:00+00:00", "2026-01-10T12:00+00:00"),
        (NOON, "2026-01-12T12:00+00:00", None),
        (ONCE, "2026-02-01T04:59+00:00", None),
        (ONCE, "2026-02-01T05:00+00:00", "2026-02-01T05:00+00:00"),
        (ONCE, "2026-02-01T09:00+00:00", None),
    ],
)
def test_a_window_contains_its_times(window, now, begin):
    assert window.since(at(now)) == (None if begin is None else at(begin))


def test_the_earliest_of_several_windows_counts():
    later = QuietConfig(start="23:00", end="23:30", timezone="Europe/Berlin")
    now = at("2026-01-05T23:10+01:00")
    assert quiet_since([later, NIGHTS], now) == at("2026-01-05T22:00+01:00")
    assert quiet_since([], now) is None


@pytest.mark.parametrize(
    ("window", "complaint"),
    [
        ({"start": "22:00", "end": "2026-01-01T00:00"}, "end: must be a time of the day"),
        ({"start": "soon", "end": "later"}, "start: must be as 22:00"),
        ({"start": "2026-01-02T00:00", "end": "2026-01-01T00:00"}, "end: must be after start"),
        ({"start": "1:00", "end": "2:00", "days": "monday"}, "days: must be as mon-fri"),
        ({"start": "1:00", "end": "2:00", "timezone": "Mars/Base"}, "timezone: is no time zone"),
        ({"start": "25:00", "end": "26:00"}, "start: must be as 22:00"),
    ],
)
def test_a_wrong_window_is_refused(window, complaint):
    with pytest.raises(msgspec.ValidationError, match=complaint):
        msgspec.convert({"name": "a", "kind": "spike", "quiet": [window]}, RuleConfig)


def test_delivery_does_not_change_what_a_rule_decides():
    """Quiet hours may change, and the rows stay as they are."""
    plain = RuleConfig(name="a", kind="spike")
    quiet = RuleConfig(name="a", kind="spike", quiet=(NIGHTS,), alerts_per_minute=9)
    assert plain.version == quiet.version
    assert plain.version != RuleConfig(name="a", kind="spike", factor=3).version
