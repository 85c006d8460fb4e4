"""What became of alerts, from the topics of alerts and scores, as any consumer could see it."""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Iterable

import msgspec

from streamer.core.types import Record

COUNTS = ("raised", "true", "late", "false", "missed", "lead_s")
OF_RULE = b"rule/"  # before the rule's name in the keys of the scores topic
KEPT = 20


class AlertRecord(msgspec.Struct):
    """The fields of an alert's record that are used."""

    id: str
    flow: str
    rule: str
    state: str
    verdict: str | None
    since: int
    lead_s: int | None
    chance: float | None
    threshold: float | None
    unit: str


class RuleCounts(msgspec.Struct):
    """The counts of a rule in a part of a period."""

    raised: int
    true: int
    late: int
    false: int
    missed: int
    lead_s: int


class AlertTally:
    """The alerts that fire, those that came before their spike, and the ledger of all rules."""

    def __init__(self) -> None:
        self.firing: dict[str, AlertRecord] = {}  # by the id
        self.predicted: deque[AlertRecord] = deque(maxlen=KEPT)  # that came true, the oldest first
        self.ledger: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
        self._seen: deque[str] = deque(maxlen=10 * KEPT)  # ids in `predicted`, lately
        self._alert = msgspec.json.Decoder(AlertRecord).decode
        self._score = msgspec.json.Decoder(RuleCounts).decode

    def read_alerts(self, records: Iterable[Record]) -> None:
        """Take *records* of the alerts topic."""
        for record in records:
            with contextlib.suppress(msgspec.DecodeError):
                self._take(self._alert(record.value or b""))

    def read_scores(self, records: Iterable[Record]) -> None:
        """Take *records* of the scores topic, and those of the ledger among them."""
        for record in records:
            if (record.key or b"").startswith(OF_RULE):
                with contextlib.suppress(msgspec.DecodeError):
                    counts = self._score(record.value or b"")
                    self.ledger.update({name: getattr(counts, name) for name in COUNTS})

    @property
    def precision(self) -> float | None:
        """The share of alerts with a verdict that came before what they predicted."""
        judged = sum(self.ledger[name] for name in ("true", "late", "false"))
        return self.ledger["true"] / judged if judged else None

    @property
    def recall(self) -> float | None:
        """The share of spikes that an alert preceded."""
        came = self.ledger["true"] + self.ledger["missed"]
        return self.ledger["true"] / came if came else None

    @property
    def lead_s(self) -> float | None:
        """The mean time from an alert to its spike."""
        return self.ledger["lead_s"] / self.ledger["true"] if self.ledger["true"] else None

    def _take(self, record: AlertRecord) -> None:
        raised = self.firing.get(record.id)
        if raised is not None:  # the chance is the one that raised it, not the one of now
            record.chance = raised.chance
        if record.state == "firing":
            self.firing[record.id] = record
        else:
            self.firing.pop(record.id, None)
        if record.verdict == "true" and record.lead_s and record.id not in self._seen:
            self._seen.append(record.id)
            self.predicted.append(record)
