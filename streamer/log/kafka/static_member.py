"""
The name of a static member: who is fenced by it, and who only seems to be.

The group knows an instance by the id of the member that joined last under its name,
and fences whoever speaks by another id. But a broker tells a joining member its id
before it writes it down, which it does once the partitions are shared out: one that
dies in between comes back with the id of a former life, and fences a member whose
name is nobody else's.
"""

from __future__ import annotations

from kafka import KafkaConsumer, errors

ASK_MAX_MS = 5_000


class Name:
    """Ours, in the group that *consumer* joins."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer
        self._known: str | None = None  # the id by which the group has last known us at rest
        self._joined_anew = False

    def known(self, member_id: str) -> None:
        """The group is at rest, and we are of it by that id."""
        self._known, self._joined_anew = member_id, False

    def join_anew(self) -> bool:
        """
        Fenced: take the name again with the next poll, unless another has it.

        It is another's where the group has known us by this very id; and so it is at the second
        time running, since two who join at once would take it from each other without end.
        """
        if self._joined_anew or self._known == self._consumer.group_metadata().member_id:
            return False
        self._joined_anew = True
        self._consumer._coordinator.reset_generation()  # noqa: SLF001 - there is no public way
        return True

    def is_taken(self) -> bool:
        """
        Whether the group knows another member by it.

        The client hears of it with its heartbeats, and then merely stops sending any: so the
        group is asked once more. Who can't be asked, or is joining anew, has not said so.
        """
        coordinator = self._consumer._coordinator  # noqa: SLF001 - there is no public way to ask
        if not coordinator.stable():
            return False
        try:
            coordinator.ensure_coordinator_ready(timeout_ms=ASK_MAX_MS)
            coordinator._net.run(coordinator._send_heartbeat_request)  # noqa: SLF001 - likewise
        except errors.FencedInstanceIdError:
            return True
        except (errors.KafkaError, OSError):
            return False
        return False
