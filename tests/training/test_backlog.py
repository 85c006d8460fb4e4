"""When a reader has caught up."""

from streamer.core.types import Partition, Record
from streamer.training.backlog import SILENT_ROUNDS, Backlog

A, B = Partition("in", 0), Partition("in", 1)


def record(partition, offset):
    return Record(partition, offset, None, b"", 0)


def test_a_backlog_is_read_when_every_partition_is_at_its_end():
    """What came after it began is none of it, and a partition without records has none."""
    backlog = Backlog({A: 10, B: 3, Partition("in", 2): 0})
    assert backlog.left == 2
    backlog.note([record(A, 4), record(B, 2)])
    assert backlog.left == 1
    backlog.note([record(A, 8), record(B, 100)])
    assert backlog.left == 1
    backlog.note([record(A, 9)])
    assert backlog.left == 0


def test_one_silence_is_not_the_end():
    """A broker may be slow to answer; markers at the end of a partition never come as records."""
    backlog = Backlog({A: 10, B: 10})
    for _ in range(SILENT_ROUNDS - 1):
        backlog.note([record(B, 3)])
        assert backlog.left == 2
    backlog.note([record(A, 8)])
    for _ in range(SILENT_ROUNDS - 1):
        backlog.note([])
    assert backlog.left == 1  # B has been silent for longer
    backlog.note([])
    assert backlog.left == 0
