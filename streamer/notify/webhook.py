"""
Webhooks: each change of an alert as a CloudEvent in structured JSON, one a request.

What is due is read from the table, so a change that was overtaken by another is not sent, and a
receiver that was away gets the current state: alerts that fire now, and the ends of those that it
was sent before. An event that is sent again, after a restart or because its answer was lost, has
the same `id`.

Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from streamer.notify.alertmanager import rfc3339
from streamer.notify.connection import Answer, Connection, Outcome
from streamer.notify.gate import Gate
from streamer.notify.settings import NotifyConfig
from streamer.notify.table import AlertTable, HeldAlert

CONTENT_TYPE = "application/cloudevents+json; charset=UTF-8"
TYPE = "streamer.alert.{state}.v1"


class Webhook:
    """One receiver: the changes that are due for it, and requests with them."""

    def __init__(
        self, config: NotifyConfig, connection: Connection, gate: Gate, source: str
    ) -> None:
        self._config, self.connection, self._gate = config, connection, gate
        self._source = source
        self._sent: dict[str, int] = {}  # the version that was sent, by id
        self._table: AlertTable | None = None

    def due(self, table: AlertTable, now: float) -> list[HeldAlert]:
        """What must be sent, the oldest change first, at most `notify.queue_max` at once."""
        self._table = table
        firing, ended = table.firing(), table.ended()
        known = {each.id for each in firing} | {each.id for each in ended}
        for name in self._sent.keys() - known:
            del self._sent[name]
        admitted = self._gate.admitted(firing, now)
        found = [each for each in (*admitted, *ended) if self.undelivered(each)]
        found.sort(key=lambda each: each.version)
        return found[: self._config.queue_max]

    def next_at(self, now: float) -> float:
        """When something will be due if nothing changes: not soon."""
        return now + self._config.resend

    def send(self, found: Sequence[HeldAlert], now: float) -> Iterator[tuple[Answer, int]]:  # noqa: ARG002
        """As `AlertmanagerMember.send`; what has changed meanwhile is left to the next round."""
        for each in found:
            if self._table is not None and self._table.newest(each.id) is not each:
                continue
            answer = self.connection.post(event(each, self._source), CONTENT_TYPE)
            yield answer, 1
            if answer.outcome is Outcome.RETRY:
                return
            self._sent[each.id] = each.version

    def undelivered(self, held: HeldAlert) -> bool:
        """
        Whether a change must be sent.

        The end of an alert matters only to a receiver that was sent its beginning, by this process
        or perhaps by an earlier one.
        """
        sent = self._sent.get(held.id)
        if held.ended_at is not None and sent is None:
            return held.replayed
        return sent != held.version


def event(held: HeldAlert, source: str) -> bytes:
    """A change of an alert as a CloudEvent, whose data is the record of the topic."""
    fields = held.fields
    return msgspec.json.encode({
        "specversion": "1.0",
        "id": f"{held.id}/{fields['state']}/{fields['updated_at']}",
        "source": source,
        "type": TYPE.format(state=fields["state"]),
        "subject": fields["flow"],
        "time": rfc3339(fields["updated_at"]),
        "datacontenttype": "application/json",
        "partitionkey": fields["flow"],
        "data": msgspec.Raw(held.value),
    })  # fmt: skip
