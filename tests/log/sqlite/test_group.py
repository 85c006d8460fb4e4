"""Groups: leases, shares, handover, and fencing of the older of two with one name."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.config.types import Duration
from streamer.core.types import Message, Partition
from streamer.log import Fenced, TopicConfig
from streamer.log.sqlite.group import shares
from streamer.log.sqlite.log import SqliteClient, SqliteLog, SqliteSettings

PARTITIONS = [Partition("in", number) for number in range(4)]
SETTINGS = SqliteSettings(session_timeout=Duration(10))


class Box:
    """A file with an input of four partitions, and a clock that is set by hand."""

    def __init__(self, folder):
        self.path = folder / "box.db"
        self.now_s = 1_000_000.0
        self.client = SqliteClient(self.path, SETTINGS, clock=self.clock)
        self.client.create("in", TopicConfig(4, compact=False))
        self.client.create("out", TopicConfig(1, compact=False))
        self.open = [self.client]

    def clock(self):
        return self.now_s

    def join(self, instance, **more):
        log = SqliteLog(
            self.path,
            SETTINGS,
            group="readers",
            instance=instance,
            topics=["in"],
            clock=self.clock,
            **more,
        )
        self.open.append(log)
        return log

    def feed(self, *values):
        for partition in PARTITIONS:
            self.client.send([Message("in", partition.number, None, value) for value in values])
        self.client.flush()

    def published(self):
        follower = self.client.follow(["out"], from_start=True, wait_s=0)
        return [record.value for record in next(follower)]


@pytest.fixture
def box(tmp_path):
    box = Box(tmp_path)
    yield box
    for each in box.open:
        each.close()


def test_the_only_member_gains_every_partition(box):
    """And receives the partition count of all input topics."""
    delivery = box.join("a").poll(0, 10)
    assert dict(delivery.assigned) == dict.fromkeys(PARTITIONS, 0)
    assert delivery.partitions_total == 4
    assert not delivery.revoked


def test_a_newcomer_waits_until_the_other_has_given_up_its_surplus(box):
    """A turn that is under way when a member joins is not fenced."""
    first = box.join("a")
    first.poll(0, 10)
    second = box.join("b")
    assert not second.poll(0, 10).assigned
    first.publish([], dict.fromkeys(PARTITIONS, 0))  # the turn that was under way

    lost = first.poll(0, 10).revoked
    gained = second.poll(0, 10).assigned
    assert lost == set(gained)
    assert len(lost) == 2
    with pytest.raises(Fenced):
        first.publish([], dict.fromkeys(lost, 0))


def test_a_member_that_leaves_hands_over_at_once(box):
    """After an orderly leave its partitions are free at once."""
    first = box.join("a")
    first.poll(0, 10)
    second = box.join("b")
    first.close()
    assert set(second.poll(0, 10).assigned) == set(PARTITIONS)


def test_partitions_of_a_silent_member_are_taken_when_its_lease_is_over(box):
    """Not before, and from then on its word counts no more."""
    first = box.join("a")
    first.poll(0, 10)
    second = box.join("b")
    box.now_s += 9
    assert not second.poll(0, 10).assigned
    box.now_s += 2
    assert set(second.poll(0, 10).assigned) == set(PARTITIONS)
    with pytest.raises(Fenced, match="session"):
        first.publish([Message("out", 0, b"k", b"too late")], {PARTITIONS[0]: 1})
    assert not box.published()


def test_an_expired_lease_continues_if_no_member_noticed(box):
    """A lone member may sleep for an hour."""
    log = box.join("a")
    log.poll(0, 10)
    box.now_s += 3600
    log.publish([Message("out", 0, b"k", b"v")], {PARTITIONS[0]: 1})
    assert box.published() == [b"v"]


@pytest.mark.parametrize("keep", ["poll", "publish", "table", "replay"])
def test_whatever_a_member_does_keeps_its_lease(box, keep):
    """A long restore is no silence."""
    first = box.join("a")
    box.client.create("state", TopicConfig(1, compact=True))
    box.feed(b"v")
    first.poll(0, 10)
    second = box.join("b")
    for _ in range(4):
        box.now_s += 6
        match keep:
            case "poll":
                first.poll(0, 10)
            case "publish":
                first.publish([], {})
            case "table":
                first.read_table("state", 0)
            case "replay":
                assert list(first.replay(PARTITIONS[0], 0, 1))
        second.poll(0, 10)
    first.publish([Message("out", 0, None, b"still here")], {PARTITIONS[0]: 1})
    assert box.published() == [b"still here"]


def test_a_member_that_was_struck_off_joins_again_when_it_polls(box):
    """All it held is lost, even what comes back to it in the same poll."""
    first = box.join("a")
    first.poll(0, 10)
    second = box.join("b")
    box.now_s += 11
    second.poll(0, 10)
    second.close()
    delivery = first.poll(0, 10)
    assert delivery.revoked == set(PARTITIONS) == set(delivery.assigned)


def test_the_second_of_one_name_goes_on_in_the_firsts_place(box):
    """It was started again: it has the partitions at once, and the first is fenced."""
    box.feed(b"0", b"1", b"2")
    first = box.join("a")
    first.poll(0, 100)
    first.publish([], {PARTITIONS[1]: 2})
    second = box.join("a")
    assert dict(second.poll(0, 100).assigned) == {
        partition: 2 * (partition.number == 1) for partition in PARTITIONS
    }
    with pytest.raises(Fenced, match="another a"):
        first.publish([], {})
    with pytest.raises(Fenced, match="another a"):
        first.poll(0, 100)


def test_the_first_of_one_name_takes_nothing_along_when_it_closes(box):
    """Its epoch is over: what is there belongs to the second."""
    first = box.join("a")
    first.poll(0, 10)
    second = box.join("a")
    second.poll(0, 10)
    first.close()
    second.publish([], dict.fromkeys(PARTITIONS, 0))


def test_an_epoch_is_never_given_out_twice(box):
    """A name that came, left and came again fences all earlier members of that name."""
    first = box.join("a")
    first.poll(0, 10)
    box.join("a").close()
    second = box.join("a")
    second.poll(0, 10)
    with pytest.raises(Fenced):
        first.publish([], {})


def test_offsets_and_messages_of_a_fenced_turn_are_both_forgotten(box):
    """All or nothing: messages from before the check are not published."""
    box.feed(b"0")
    first = box.join("a")
    first.poll(0, 10)
    second = box.join("b")
    lost = first.poll(0, 10).revoked
    second.poll(0, 10)
    kept = set(PARTITIONS) - lost
    with pytest.raises(Fenced):
        first.publish([Message("out", 0, None, b"v")], dict.fromkeys(PARTITIONS, 1))
    assert not box.published()
    first.close()
    assert {p: box.join("c").poll(0, 10).assigned.get(p, 0) for p in kept} == dict.fromkeys(kept, 0)


def test_groups_are_independent(box):
    """Each has its own members and offsets."""
    box.feed(b"0")
    member = box.join("a")
    member.poll(0, 10)
    member.publish([], {PARTITIONS[0]: 1})
    other = SqliteLog(box.path, SETTINGS, group="others", instance="a", topics=["in"])
    assert dict(other.poll(0, 10).assigned) == dict.fromkeys(PARTITIONS, 0)
    other.close()


members = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6, unique=True)
holders = st.dictionaries(st.integers(0, 20), st.sampled_from("abcdefgh"))


@given(st.sets(st.integers(0, 20)), members, holders)
def test_shares_are_even_and_move_no_more_than_they_must(lanes, members, held):
    """Each lane has one owner, and a member keeps what it holds up to its share."""
    share = shares(sorted(lanes), members, held)
    sizes = Counter(share.values())
    assert share.keys() == lanes
    assert max(sizes[m] for m in members) - min(sizes[m] for m in members) <= 1
    held_now = Counter(held[lane] for lane in lanes if held.get(lane) in members)
    kept = Counter(member for lane, member in share.items() if held.get(lane) == member)
    assert all(kept[m] == min(held_now[m], sizes[m]) for m in members)


@given(st.sets(st.integers(0, 20)), members, holders)
def test_shares_stay_when_everyone_has_its_share(lanes, members, held):
    """Else members would hand partitions back and forth for ever."""
    share = shares(sorted(lanes), members, held)
    assert shares(sorted(lanes), members, share) == share


@given(st.sets(st.integers(0, 20)), members, holders, st.data())
def test_no_partition_moves_twice_in_any_order_of_polls(lanes, members, held, data):
    """Members that give up and take in any order end with even shares."""
    held = {lane: holder for lane, holder in held.items() if lane in lanes and holder in members}
    taken = set()
    polls = data.draw(st.lists(st.sampled_from(members), max_size=12))
    for member in polls + 3 * members:
        own = {lane for lane, of in shares(sorted(lanes), members, held).items() if of == member}
        surplus = {lane for lane, holder in held.items() if holder == member} - own
        assert not surplus & taken
        taken |= own - held.keys()
        held = {lane: holder for lane, holder in held.items() if lane not in surplus}
        held |= dict.fromkeys(own - held.keys(), member)
    assert held.keys() == lanes
    assert shares(sorted(lanes), members, held) == held
