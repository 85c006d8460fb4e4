"""Partitions of the input for which our own topics have no place yet."""

import pytest

from streamer.core.types import Partition, Record
from streamer.daemon.widening import ASK_S, Places
from streamer.log import PollResult, Unavailable

OLD, NEW = Partition("in", 0), Partition("in", 2)


class Narrow:
    """A log that widens nothing until another member has."""

    width = 1
    asked = 0

    def widen(self, topics, partitions):
        self.asked += 1
        return dict.fromkeys(topics, self.width)


class Watcher:
    def __init__(self):
        self.reported = []

    def unplaced(self, partitions, widths):
        self.reported.append((set(partitions), dict(widths)))


def record(partition):
    return Record(partition, 7, None, b"", -1)


def test_a_partition_without_a_state_partition_waits_and_the_others_continue():
    """It is reported once, its records are not read, and its revocation is not passed on."""
    log, watcher = Narrow(), Watcher()
    places = Places(["state", "scores"], watcher)
    both = PollResult(frozenset(), {OLD: 3, NEW: 0}, [record(NEW), record(OLD)], 3)
    placed = places.placed(both, log, 0.0)
    assert placed.assigned == {OLD: 3}
    assert placed.records == [record(OLD)]
    assert watcher.reported == [({NEW}, {"state": 1, "scores": 1})]
    later = places.placed(PollResult(frozenset(), {}, [record(NEW)], 3), log, 1.0)
    assert later.records == []
    assert log.asked == 1
    lost = places.placed(PollResult(frozenset({NEW, OLD}), {}, [], 3), log, 2.0)
    assert lost.revoked == {OLD}


def test_an_added_state_partition_is_found():
    """The membership ends: the next one is assigned all partitions."""
    log = Narrow()
    places = Places(["state"], Watcher())
    places.placed(PollResult(frozenset(), {OLD: 3, NEW: 0}, [], 3), log, 0.0)
    log.width = 3
    places.placed(PollResult(frozenset(), {}, [], 3), log, ASK_S / 2)
    with pytest.raises(Unavailable, match="3 partitions now"):
        places.placed(PollResult(frozenset(), {}, [], 3), log, ASK_S + 1)
    again = Places(["state"], Watcher())
    everything = PollResult(frozenset(), {OLD: 3, NEW: 0}, [record(NEW)], 3)
    assert again.placed(everything, log, 0.0) is everything
