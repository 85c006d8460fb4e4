"""
Alertmanager's API v2: what is sent to one member, and when.

An alert is identified by its labels, so they hold nothing that changes; rates, chances and times
are annotations. While it fires it is sent again every `notify.resend`, with the same `startsAt` and
an `endsAt` some intervals ahead, so that it ends by itself if nothing sends it any more. Its end is
repeated for `notify.resolved_for`, since a member that restarts forgets. Each post is made from
the table as it is then: a member that was away gets the current state.

A post in which one alert is not valid is answered with 400 although the others are taken, or with
422 and none is. Such a post is halved until the alert is alone; it is then never sent again.

Source: https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from streamer.notify.connection import Answer, Connection, Outcome
from streamer.notify.gate import Gate
from streamer.notify.settings import NotifyConfig
from streamer.notify.table import LABEL, TIME_MAX, AlertTable, HeldAlert

PATH = "/api/v2/alerts"
CONTENT_TYPE = "application/json"
ALERTS_A_POST = 200
ENDS_AHEAD = 4  # resend intervals
ANNOTATIONS = (
    *("reason", "verdict", "chance", "threshold", "unit", "rate", "usual", "capacity"),
    *("peak_q50", "peak_q75", "peak_q95", "peak_q99", "within_s", "generation", "served_by"),
    *("host", "interface", "alias", "site"),
)
FIELD = re.compile(r"\{([a-z_0-9]+)\}")

Identity = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Sent:
    """What a member was sent of an alert."""

    version: int
    at: float


class AlertmanagerMember:
    """One member: the alerts that are due for it, and posts of them."""

    def __init__(
        self,
        config: NotifyConfig,
        connection: Connection,
        gate: Gate,
        annotations: Mapping[str, Mapping[str, str]],
    ) -> None:
        """*annotations* are those of each rule, by its name."""
        self._config, self.connection = config, connection
        self._gate, self._annotations = gate, annotations
        self._sent: dict[str, Sent] = {}  # by id
        self._refused: dict[str, int] = {}  # the version that was refused, by id

    def due(self, table: AlertTable, now: float) -> list[HeldAlert]:
        """
        What must be sent *now*, in real time: changes and what was sent long ago.

        An end is left out while an alert with the same labels fires, or it would end that one.
        """
        firing, ended = self._gate.admitted(table.firing(), now), table.ended()
        latest, more = now - self._config.resolved_for, self._config.labels
        standing = {identity(each, more) for each in firing} if ended else set()
        ends = [
            each
            for each in ended
            if (each.ended_at or 0) >= latest and identity(each, more) not in standing
        ]
        current = {each.id: each.version for each in (*ends, *firing)}
        self._refused = {n: v for n, v in self._refused.items() if current.get(n) == v}
        self._sent = {n: sent for n, sent in self._sent.items() if n in current}
        found = [each for each in (*ends, *firing) if self._is_due(each, now)]
        return found[: self._config.queue_max]

    def next_at(self, now: float) -> float:
        """When something will be due if nothing changes, in real time."""
        return min((sent.at for sent in self._sent.values()), default=now) + self._config.resend

    def send(self, found: Sequence[HeldAlert], now: float) -> Iterator[tuple[Answer, int]]:
        """
        Post *found*; yields each answer, and how many alerts it is about.

        Ends after an answer that asks to try later.
        """
        for first in range(0, len(found), ALERTS_A_POST):
            parts = [found[first : first + ALERTS_A_POST]]
            while parts:
                part = parts.pop()
                answer = self.connection.post(self.body(part, now), CONTENT_TYPE)
                if answer.outcome is Outcome.REFUSED and len(part) > 1:
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]
                    continue
                yield answer, len(part)
                if answer.outcome is Outcome.RETRY:
                    return
                for each in part:
                    if answer.outcome is Outcome.REFUSED:
                        self._refused[each.id] = each.version
                        self._sent.pop(each.id, None)
                    else:
                        self._sent[each.id] = Sent(each.version, now)

    def body(self, found: Sequence[HeldAlert], now: float) -> bytes:
        """The alerts as a JSON array."""
        ends_at = now + ENDS_AHEAD * self._config.resend
        return msgspec.json.encode([
            alert(each, self._config, ends_at, self._annotations.get(str(each.fields["rule"]), {}))
            for each in found
        ])  # fmt: skip

    def _is_due(self, held: HeldAlert, now: float) -> bool:
        if held.id in self._refused:
            return False
        sent = self._sent.get(held.id)
        return sent is None or sent.version != held.version or now - sent.at >= self._config.resend


def labels(held: HeldAlert, more: Mapping[str, str]) -> dict[str, str]:
    """What identifies an alert: names of its flow and its rule, and the labels of the settings."""
    fields = held.fields
    found = {"alertname": str(fields["rule"]), **more}
    found |= {
        name.removeprefix(LABEL): value
        for name, value in fields.items()
        if name.startswith(LABEL) and isinstance(value, str)
    }
    found |= {name: str(fields[name]) for name in ("flow", "rule", "severity")}
    return {name: value for name, value in found.items() if value}


def identity(held: HeldAlert, more: Mapping[str, str]) -> Identity:
    """The labels as Alertmanager compares them."""
    return tuple(sorted(labels(held, more).items()))


def alert(
    held: HeldAlert, config: NotifyConfig, ends_at: float, annotations: Mapping[str, str]
) -> dict[str, Any]:
    """One alert; *ends_at* holds while it fires, *annotations* are those of its rule."""
    fields = held.fields
    notes = {"summary": str(fields["text"])}
    for name in ANNOTATIONS:
        if fields.get(name) not in (None, ""):
            notes[name] = str(fields[name])
    expected_at = fields.get("expected_at")
    if isinstance(expected_at, int) and 0 <= expected_at <= TIME_MAX:
        notes["expected_at"] = rfc3339(expected_at)
    notes["updated_at"] = rfc3339(fields["updated_at"])
    notes |= {name: filled(text, fields) for name, text in annotations.items()}
    found = {
        "labels": labels(held, config.labels),
        "annotations": notes,
        "startsAt": rfc3339(held.started_at),
        "endsAt": rfc3339(ends_at if held.ended_at is None else held.ended_at),
    }
    if config.generator_url is not None:
        found["generatorURL"] = config.generator_url
    return found


def filled(text: str, fields: Mapping[str, Any]) -> str:
    """*text* with `{field}` replaced by the record's field; what the record lacks stays."""
    return FIELD.sub(lambda found: str(fields.get(found[1], found[0])), text)


def rfc3339(time_s: float) -> str:
    """A time with its zone, to the millisecond."""
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds")
