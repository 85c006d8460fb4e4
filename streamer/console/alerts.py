"""The newest record of each alert, and the newest changes of all."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

import msgspec

from streamer.core.types import Record

ALERTS_MAX = 20_000
CHANGES_MAX = 2_000
TEXT_MAX = 4096
SEVERITIES = ("critical", "warning", "info")


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert as its newest record has it."""

    id: str
    flow: str
    rule: str
    kind: str
    severity: str
    state: str  # firing or resolved
    reason: str
    verdict: str | None  # open, true, late or false; null: it is not a prediction
    since: int
    updated_at: int
    lead_s: int | None
    step_s: int
    within_s: int
    chance: float | None
    threshold: float | None
    unit: str
    rate: float | None
    usual: float | None
    expected_at: int | None
    capacity: float | None
    generation: int
    served_by: str
    text: str


class AlertBook:
    """Alerts by flow and rule, as many as ALERTS_MAX; the oldest that have ended go first."""

    def __init__(self) -> None:
        self.current: dict[tuple[str, str], Alert] = {}
        self.changes: deque[Alert] = deque(maxlen=CHANGES_MAX)
        self.verdicts: Counter[tuple[str, str]] = Counter()  # by rule, of the alerts in `changes`
        self.junk: Counter[str] = Counter()
        self._decoder = msgspec.json.Decoder(Alert)

    def read(self, records: Iterable[Record]) -> None:
        """Take in *records* of the alerts topic."""
        for record in records:
            if record.value is None:  # a tombstone
                flow, _, rule = (record.key or b"").decode(errors="replace").rpartition("|")
                self.current.pop((flow, rule), None)
                continue
            try:
                alert = self._decoder.decode(record.value)
            except (msgspec.DecodeError, ValueError, RecursionError):
                self.junk["not_an_alert"] += 1
                continue
            if max(len(alert.flow), len(alert.text), len(alert.rule)) > TEXT_MAX:
                self.junk["too_long"] += 1
                continue
            self.current.pop((alert.flow, alert.rule), None)  # the newest stands last
            self.current[alert.flow, alert.rule] = alert
            self.changes.append(alert)
        if len(self.current) > ALERTS_MAX:
            self._forget()

    def firing(self) -> list[Alert]:
        """Those that fire, the most severe and then the newest first."""
        rank = {severity: place for place, severity in enumerate(SEVERITIES)}
        found = [alert for alert in self.current.values() if alert.state == "firing"]
        return sorted(found, key=lambda a: (rank.get(a.severity, 9), -a.since, a.flow, a.rule))

    def of_flow(self, flow: str) -> list[Alert]:
        """The newest change of each alert of *flow* that is kept, the newest first."""
        found = {alert.id: alert for alert in self.changes if alert.flow == flow}
        found |= {alert.id: alert for alert in self.current.values() if alert.flow == flow}
        return sorted(found.values(), key=lambda alert: -alert.updated_at)

    def _forget(self) -> None:
        excess = len(self.current) - ALERTS_MAX
        ended = [key for key, alert in self.current.items() if alert.state != "firing"]
        firing = [key for key, alert in self.current.items() if alert.state == "firing"]
        for key in [*ended, *firing][:excess]:
            del self.current[key]
