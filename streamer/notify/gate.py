"""
What holds back the beginning of an alert: quiet hours of its rule, and its limit a minute.

Only beginnings are held back: an alert that a receiver was sent goes on being sent, and so is its
end. What is held back and still fires when the window ends, or in a later minute, is sent then.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence

from streamer.core.alerts.quiet import quiet_since
from streamer.core.alerts.rules import RuleConfig
from streamer.notify.table import HeldAlert

MINUTE_S = 60.0
WITHHELD = "alerts_withheld"  # the count of alerts that were held back, by rule


class Gate:
    """
    Admits beginnings of alerts for one receiver; *rules* are by name.

    *counts* gets a key for each rule that can hold back.
    """

    def __init__(self, rules: Iterable[RuleConfig], counts: Counter[str]) -> None:
        self._rules: Mapping[str, RuleConfig] = {
            rule.name: rule for rule in rules if rule.quiet or rule.alerts_per_minute
        }
        self._counts = counts
        for name in self._rules:
            counts[f"{WITHHELD}.{name}"] += 0
        self._admitted: dict[str, None] = {}  # ids of alerts
        self._withheld: dict[str, None] = {}
        self._times: dict[str, deque[float]] = {name: deque() for name in self._rules}

    def admitted(self, firing: Sequence[HeldAlert], now: float) -> list[HeldAlert]:
        """Those of the alerts *firing* that may be sent *now*, in real time."""
        if not self._rules:
            return list(firing)
        known = {each.id for each in firing}
        self._admitted = {name: None for name in self._admitted if name in known}
        self._withheld = {name: None for name in self._withheld if name in known}
        quiet = {name: quiet_since(rule.quiet, now) for name, rule in self._rules.items()}
        return [each for each in firing if self._admits(each, now, quiet)]

    def _admits(self, held: HeldAlert, now: float, quiet: Mapping[str, float | None]) -> bool:
        name = str(held.fields["rule"])
        if name not in self._rules or held.id in self._admitted:
            return True
        begin = quiet[name]
        if (begin is None or held.started_at < begin) and self._has_room(name, now):
            self._admitted[held.id] = None
            return True
        if held.id not in self._withheld:
            self._withheld[held.id] = None
            self._counts[f"{WITHHELD}.{name}"] += 1
        return False

    def _has_room(self, name: str, now: float) -> bool:
        limit, times = self._rules[name].alerts_per_minute, self._times[name]
        if limit is None:
            return True
        while times and times[0] <= now - MINUTE_S:
            times.popleft()
        if len(times) >= limit:
            return False
        times.append(now)
        return True
