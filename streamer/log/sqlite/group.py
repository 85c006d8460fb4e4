"""
Consumer groups of the SQLite log: members and their assigned partitions.

Each member has a *session*. Every write renews it, and so does every poll once a third of it
has passed. The poll of any member may find that another member's session has expired, and
remove it; the removed member is then fenced, if it still runs.

All members compute the same assignment (`shares`) from the file. A member that holds more than
its share revokes the surplus when it polls, which is between its turns; the others then take
the free partitions. So a live member never loses a partition involuntarily, and a rebalance
never fences a turn.

A second member with the same name immediately replaces the first and takes its partitions: it
is the restarted instance. Every join gets a new *epoch*, a number that is never reused, and
writes with an older epoch are rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from streamer.log import Fenced, InstanceReplaced
from streamer.log.sqlite.database import File


class Membership:
    """Our membership in a group. The constructor joins; `settle` determines the assignment."""

    def __init__(
        self, file: File, group: str, instance: str, lease_s: float, clock: Callable[[], float]
    ) -> None:
        self.group = group
        self.instance = instance
        self._file = file
        self._lease_ms = round(lease_s * 1000)
        self._clock = clock
        self._held: frozenset[int] = frozenset()
        # the change counter and lanes of the last assignment
        self._seen: tuple[int, Sequence[int]] | None = None
        self._renewed_ms = 0
        with file.transaction():
            self._file.write(
                "INSERT OR IGNORE INTO groups (name, epochs, changes) VALUES (?, 0, 0)", (group,)
            )
            [(self.team,)] = self._file.query("SELECT id FROM groups WHERE name = ?", (group,))
            self._join()

    def settle(self, lanes: Sequence[int]) -> tuple[frozenset[int], int]:
        """
        Revoke and take lanes according to the shares of *lanes*, if anything has changed.

        Returns the lanes that we hold, and our epoch: if it has changed, all lanes were lost in
        between. All members of a group must pass the same lanes. Raises InstanceReplaced if another
        process has joined with our name.
        """
        changes, first_ends_ms = self._file.query(
            "SELECT changes, (SELECT min(lease_ends_ms) FROM members WHERE team = id)"
            " FROM groups WHERE id = ?",
            (self.team,),
        )[0]
        now_ms = self._now_ms()
        quiet = self._seen == (changes, lanes) and first_ends_ms is not None
        if not (quiet and first_ends_ms >= now_ms and not self._renewal_is_due(now_ms)):
            with self._file.transaction():
                self._settle(lanes, now_ms)
        return self._held, self.epoch

    def renew(self) -> None:
        """Renew the session during a long turn, if it still exists."""
        if self._renewal_is_due(self._now_ms()):
            with self._file.transaction():
                self._renew(self._now_ms())

    def check(self, lanes: Collection[int]) -> None:
        """Within a transaction: renew the session; raise Fenced unless we hold all *lanes*."""
        if not self._renew(self._now_ms()):
            raise self._fencing_error()
        if taken := set(lanes) - self._holdings():
            raise Fenced(f"{len(taken)} of the partitions are no longer {self.instance}'s")

    def leave(self) -> None:
        """Leave at once, so that the others need not wait for the session to expire."""
        with self._file.transaction():
            if self._remove(self.instance, self.epoch):
                self._note_change()

    def _settle(self, lanes: Sequence[int], now_ms: int) -> None:
        if not self._renew(now_ms):
            if self._epoch_in_file() is not None:
                raise self._fencing_error()
            self._join()  # we were removed, so we hold nothing
        changed = 0
        for instance, epoch in self._file.query(
            "SELECT instance, epoch FROM members WHERE team = ? AND lease_ends_ms < ?",
            (self.team, now_ms),
        ):
            changed += self._remove(instance, epoch)
        members = self._file.query("SELECT instance FROM members WHERE team = ?", (self.team,))
        held = dict(
            self._file.query("SELECT lane, instance FROM holdings WHERE team = ?", (self.team,))
        )
        share = shares(lanes, [instance for (instance,) in members], held)
        own = {lane for lane, instance in share.items() if instance == self.instance}
        for lane, instance in held.items():
            if instance == self.instance and lane not in own:
                changed += self._file.write(
                    "DELETE FROM holdings WHERE team = ? AND lane = ?", (self.team, lane)
                )
        for lane in own - held.keys():
            changed += self._file.write(
                "INSERT INTO holdings VALUES (?, ?, ?)", (self.team, lane, self.instance)
            )
        if changed:
            self._note_change()
        self._held = frozenset(self._holdings())
        [(changes,)] = self._file.query("SELECT changes FROM groups WHERE id = ?", (self.team,))
        self._seen = (changes, lanes)

    def _join(self) -> None:
        self._file.write("UPDATE groups SET epochs = epochs + 1 WHERE id = ?", (self.team,))
        [(self.epoch,)] = self._file.query("SELECT epochs FROM groups WHERE id = ?", (self.team,))
        now_ms = self._now_ms()
        self._file.write(
            "INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?)",
            (self.team, self.instance, self.epoch, now_ms + self._lease_ms),
        )
        self._renewed_ms = now_ms
        self._note_change()

    def _renew(self, now_ms: int) -> bool:
        self._renewed_ms = now_ms
        return bool(
            self._file.write(
                "UPDATE members SET lease_ends_ms = ?"
                " WHERE team = ? AND instance = ? AND epoch = ?",
                (now_ms + self._lease_ms, self.team, self.instance, self.epoch),
            )
        )

    def _remove(self, instance: str, epoch: int) -> bool:
        removed = self._file.write(
            "DELETE FROM members WHERE team = ? AND instance = ? AND epoch = ?",
            (self.team, instance, epoch),
        )
        if removed:
            self._file.write(
                "DELETE FROM holdings WHERE team = ? AND instance = ?", (self.team, instance)
            )
        return bool(removed)

    def _note_change(self) -> None:
        self._file.write("UPDATE groups SET changes = changes + 1 WHERE id = ?", (self.team,))

    def _holdings(self) -> set[int]:
        rows = self._file.query(
            "SELECT lane FROM holdings WHERE team = ? AND instance = ?", (self.team, self.instance)
        )
        return {lane for (lane,) in rows}

    def _epoch_in_file(self) -> int | None:
        rows = self._file.query(
            "SELECT epoch FROM members WHERE team = ? AND instance = ?", (self.team, self.instance)
        )
        return rows[0][0] if rows else None

    def _fencing_error(self) -> Fenced:
        if self._epoch_in_file() is None:
            return Fenced(f"{self.instance}'s session in {self.group} ran out")
        return InstanceReplaced(f"another {self.instance} has joined {self.group}")

    def _renewal_is_due(self, now_ms: int) -> bool:
        return not 0 <= now_ms - self._renewed_ms < self._lease_ms // 3  # or the clock was set back

    def _now_ms(self) -> int:
        return round(self._clock() * 1000)


def shares(lanes: Sequence[int], members: Sequence[str], held: Mapping[int, str]) -> dict[int, str]:
    """
    Return the member that each lane is assigned to; shares differ by one lane at most.

    Each member keeps its lanes up to its share, and the larger shares go to the members that hold
    most, so the number of moved lanes is minimal.
    """
    if not members:
        return {}
    keeps: dict[str, list[int]] = {member: [] for member in members}
    for lane in lanes:
        if held.get(lane) in keeps:
            keeps[held[lane]].append(lane)
    least, bigger = divmod(len(lanes), len(members))
    by_need = sorted(members, key=lambda member: (-len(keeps[member]), member))
    share: dict[int, str] = {}
    vacancies: list[str] = []
    for rank, member in enumerate(by_need):
        size = least + (rank < bigger)
        kept = keeps[member][:size]
        share |= dict.fromkeys(kept, member)
        vacancies += [member] * (size - len(kept))
    return share | dict(zip((lane for lane in lanes if lane not in share), vacancies, strict=True))
