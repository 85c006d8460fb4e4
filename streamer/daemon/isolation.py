"""
Finds the record that makes a turn fail.

An exception that a record causes must not end the daemon, and must not recur forever. The
failed turn is dropped, and the rows are restored. From then on each turn is rehearsed on copies of
its rows, so that another failure costs no restore, however many records fail. A rehearsal that
fails is repeated with half as many records, until the failing record is alone. Then its flows are
reset, in case a damaged row is the cause. If the record fails again, it is rejected. Each
successful turn doubles the number of records of the next one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from streamer.core.failures import Action, Failure
from streamer.core.types import Partition, Record

RECORDS_MAX = 100_000  # above this number the limit is lifted
WITHOUT_RECORDS_MAX = 3  # failures of turns without records, before the daemon ends
REHEARSED_TURNS = 200  # turns that are rehearsed after a failure: each is computed twice


class TurnFailed(Exception):
    """An unexpected exception in a turn. It was not published; the next one takes fewer records."""

    def __init__(
        self,
        error: Exception,
        failure: Failure | None,
        record: Record | None,
        *,
        has_records: bool = True,
    ) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.error = error
        self.has_records = has_records  # whether a record may be the cause
        self.failure = failure  # what is done with the record, once it is alone
        self.record = record


class Isolation:
    """Limits the records of a turn, and narrows down which record fails."""

    def __init__(self) -> None:
        self.records_max: int | None = None  # None: no limit
        self.suspects: dict[Partition, dict[int, Failure]] = defaultdict(dict)
        self.barred: dict[int, str] = {}  # generations whose weights failed on sound rows
        self._without_records = 0
        self._rehearsals = 0  # turns that are still to be rehearsed

    @property
    def rehearses(self) -> bool:
        """Whether the next turn is to be rehearsed."""
        return self._rehearsals > 0

    def failed(self, records: Sequence[Record], error: Exception) -> TurnFailed:
        """Note that a turn with *records* raised *error*; re-raise it if no record is to blame."""
        self._rehearsals = REHEARSED_TURNS
        if not records:
            self._without_records += 1
            if self._without_records >= WITHOUT_RECORDS_MAX:
                raise error
            return TurnFailed(error, None, None, has_records=False)
        if len(records) > 1:
            self.records_max = len(records) // 2
            return TurnFailed(error, None, None)
        (record,) = records
        self.records_max = 1
        before = self.suspects[record.partition].get(record.offset)
        if before is not None and before.action is Action.REJECT:
            raise error  # the record was rejected already: there is another cause
        action = Action.RESET if before is None else Action.REJECT
        failure = Failure(action, type(error).__name__)
        self.suspects[record.partition][record.offset] = failure
        return TurnFailed(error, failure, record)

    def passed(self, records: int, offsets: Mapping[Partition, int]) -> None:
        """Note that a turn with *records* records was published, and the *offsets* committed."""
        self._without_records = 0
        for partition, suspects in self.suspects.items():  # the others are in the state topic now
            for offset in [each for each in suspects if each < offsets.get(partition, 0)]:
                del suspects[offset]
        self._rehearsals = max(0, self._rehearsals - 1)
        self.widen(records)

    def widen(self, records: int) -> None:
        """Note that *records* records were processed without an exception."""
        if self.records_max is not None and records:
            doubled = 2 * self.records_max
            self.records_max = None if doubled > RECORDS_MAX else doubled
