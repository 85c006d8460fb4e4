"""The table holds the newest record of each alert, and its versions show what changed."""

from __future__ import annotations

import pytest

from streamer.core.types import Partition, Record
from streamer.notify.table import AlertTable, Unreadable, read
from tests.notify.conftest import P, record

NOW = 2_000_000_000.0
OTHER = Partition("traffic.alerts", 1)


class Clock:
    now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def table(clock):
    return AlertTable(clock, 300, 100)


def take(table, *records, replayed=False):
    return table.take(records, lambda _: replayed)


def test_an_alert_fires_and_ends(table, clock):
    """Its beginning stays the same; its end is the time at which it was taken."""
    take(table, record(4, flow="a", since=1000))
    (held,) = table.firing()
    assert (held.key, held.started_at, held.ended_at) == (("a", "spike"), 1000, None)
    clock.now += 60
    take(table, record(5, flow="a", since=1000, verdict="true", updated_at=1300))
    (later,) = table.firing()
    assert later.version > held.version
    clock.now += 60
    take(table, record(6, flow="a", since=1000, state="resolved", updated_at=1600))
    assert table.firing() == []
    (over,) = table.ended()
    assert (over.started_at, over.ended_at) == (1000, NOW + 120)


def test_event_time_ahead_of_the_clock(table):
    """An alert cannot begin in the future: Alertmanager refuses it."""
    take(table, record(flow="a", since=int(NOW) + 900))
    (held,) = table.firing()
    assert held.started_at == NOW


def test_the_same_record_again_changes_nothing(table):
    take(table, record(4, flow="a"))
    version = table.version
    take(table, record(4, flow="a"))
    assert table.version == version


def test_what_is_no_alert(table):
    """Feedback is another kind of record; anything else is counted."""
    values = [b"", b"junk", b"[]", b"{}", b'{"state": "firing"}', b"\xff", b"[" * 99_999]
    assert take(table, *(Record(P, n, b"k", value, -1) for n, value in enumerate(values))) == 7
    assert take(table, Record(P, 9, b"k", b'{"feedback": "useful"}', -1)) == 0
    assert take(table, record(10, since=-5)) == 1
    assert table.firing() == []
    with pytest.raises(Unreadable, match="since"):
        read(record(since=10**15).value)


def test_a_tombstone_ends_the_alert(table):
    take(table, record(1, flow="a"), Record(P, 2, b"a|spike", None, -1))
    assert table.firing() == []
    (over,) = table.ended()
    assert (over.fields["state"], over.offset) == ("resolved", 2)
    take(table, Record(P, 3, b"nothing|spike", None, -1), Record(P, 4, None, None, -1))


def test_an_alert_whose_end_was_compacted_away(table):
    """The next alert of its flow and rule implies its end."""
    take(table, record(1, flow="a", since=1000), record(2, flow="a", since=5000))
    assert [held.fields["since"] for held in table.firing()] == [5000]
    assert [held.fields["since"] for held in table.ended()] == [1000]
    assert table.ended()[0].fields["state"] == "resolved"


def test_a_restore_brings_what_fires_and_what_just_ended(table):
    """Old ends are of no use to anybody."""
    old, new = round((NOW - 900) * 1000), round((NOW - 100) * 1000)
    records = [
        record(1, flow="a", time_ms=old),
        record(2, flow="b", state="resolved", time_ms=old),
        record(3, flow="c", state="resolved", time_ms=new),
    ]
    assert table.restore(P, [*records, Record(P, 4, b"k", b"junk", -1)], 5) == 1
    assert [held.key[0] for held in table.firing()] == ["a"]
    (over,) = table.ended()
    assert (over.key[0], over.ended_at) == ("c", NOW - 100)


def test_a_restore_after_an_outage_changes_nothing_that_stayed(table):
    """Alerts that the topic no longer has are dropped; the others keep their versions."""
    take(table, record(1, flow="a"), record(2, flow="b"), record(7, flow="c"))
    before = {held.key[0]: held.version for held in table.firing()}
    table.restore(P, [record(1, flow="a")], 5)
    assert {held.key[0]: held.version for held in table.firing()} == {
        name: before[name] for name in ("a", "c")
    }


def test_partitions_leave_as_a_whole(table):
    take(table, record(1, flow="a"), record(1, OTHER, flow="b"))
    take(table, record(2, OTHER, flow="b", state="resolved"))
    table.release([OTHER])
    assert [held.key[0] for held in table.firing()] == ["a"]
    assert table.ended() == []
    assert table.offsets(lambda _: False) == {P: 2}


def test_offsets_stay_before_what_was_not_delivered(table):
    take(table, record(1, flow="a"), record(2, flow="b"), record(3, flow="c"))
    take(table, record(8, OTHER, flow="d"))
    assert table.offsets(lambda held: held.key[0] == "b") == {P: 2, OTHER: 9}
    assert table.offsets(lambda _: False) == {P: 4, OTHER: 9}


def test_ended_alerts_do_not_pile_up(table, clock):
    """They go after a while, unless a receiver waits for them; there is a limit at all."""
    take(table, record(1, flow="a", state="resolved"), record(2, flow="b", state="resolved"))
    table.prune(lambda _: False)
    assert len(table.ended()) == 2
    clock.now += 301
    table.prune(lambda held: held.key[0] == "b")
    assert [held.key[0] for held in table.ended()] == ["b"]
    take(table, *(record(n, flow=f"f{n}", state="resolved") for n in range(150)))
    table.prune(lambda _: True)
    assert len(table.ended()) == 100
    assert table.dropped == 51
