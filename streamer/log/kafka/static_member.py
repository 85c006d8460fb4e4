"""
The instance id of a static member, and how real fencing differs from apparent fencing.

The group maps an instance id to the member id that joined last with it, and fences requests
with any other member id. But a broker sends a joining member its id before it persists the id,
which happens when the assignment is complete. A broker that fails in between comes back with an
earlier member id, and fences a member whose instance id no other member uses.
"""

from __future__ import annotations

from kafka import KafkaConsumer, errors

ASK_MAX_MS = 5_000


class Name:
    """Our instance id, in the group that *consumer* joins."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer
        self._known: str | None = None  # our member id when the group was last stable
        self._joined_again = False

    def known(self, member_id: str) -> None:
        """Note our *member_id* in a stable group."""
        self._known, self._joined_again = member_id, False

    def join_again(self) -> bool:
        """
        Rejoin with the next poll after a fencing error; return False if our id is taken.

        It is taken if the fenced member id was one of a stable group. A second fencing error in a
        row counts as that too, since two processes that join at once would otherwise fence each
        other without end.
        """
        if self._joined_again or self._known == self._consumer.group_metadata().member_id:
            return False
        self._joined_again = True
        self._consumer._coordinator.reset_generation()  # noqa: SLF001 - no public API
        return True

    def is_taken(self) -> bool:
        """
        Return whether the group maps our instance id to another member.

        On a fencing heartbeat response the client silently stops heartbeating, so this sends one
        itself. Errors and a rejoin in progress count as "not taken".
        """
        coordinator = self._consumer._coordinator  # noqa: SLF001 - no public API
        if not coordinator.stable():
            return False
        try:
            coordinator.ensure_coordinator_ready(timeout_ms=ASK_MAX_MS)
            coordinator._net.run(coordinator._send_heartbeat_request)  # noqa: SLF001 - no public API
        except errors.FencedInstanceIdError:
            return True
        except (errors.KafkaError, OSError):
            return False
        return False
