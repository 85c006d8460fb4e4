"""
How rows are saved: pages, floors, and flows that are gone.

State is pages and the input after them. A page is the rows of some 64 flows of
one partition under one key of a compacted topic. Pages are written in rounds, each
dirty page once a round; when a round is complete, the offset at which it began
is written as the partition's floor. Whoever restores reads the pages, then the
input from the floor on; each row knows which offset it needs next and skips
what came before. An eviction is told under a key of its own, since the page that
still holds the flow may be written only later in the round.

    topic/partition/page/7      rows, see `streamer.core.state.page_format`
    topic/partition/floor       {"offset": 1234}
    topic/partition/gone/1300   ["flow", …]: forgotten just before offset 1300 was read;
                                what is too long for one entry goes on in gone/1300.1 …
    topic/partition/failed/1305 {"action": "reject", …}: the record at 1305 made a turn fail
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from streamer.core.failures import Failure
from streamer.core.state.page_format import Meaning, encode
from streamer.core.state.table import Arena
from streamer.core.types import Entry, Partition

GONE_BYTES_MAX = 200_000  # of an entry that lists evicted flows


class Floor(msgspec.Struct, frozen=True):
    """The offset at which the last full round began."""

    offset: Annotated[int, msgspec.Meta(ge=0)]


@dataclass(slots=True)
class Keeping:
    """How far the saving of one partition's pages has come."""

    floor: int  # the last one written, or to be written first
    told: bool  # whether it was written
    began: int = 0  # the next offset when the present round began
    queue: list[int] = field(default_factory=list)  # pages that the round has not come to yet
    size: int = 0  # pages in this round
    credit: float = 0.0  # of a page that is due, gathered over turns
    gone: dict[int, list[int]] = field(default_factory=dict)  # parts told, by the flows' offset
    meaning: Meaning = field(default_factory=Meaning)  # of the columns that are saved
    junk: dict[bytes, int] = field(default_factory=dict)  # keys to be ended, and their page or -1
    first: set[int] = field(default_factory=set)  # pages that took in rows of others, which shrink
    failed: dict[int, Failure] = field(default_factory=dict)  # by the offset of the record


def prefix(partition: Partition) -> bytes:
    """What the keys of a partition's state begin with."""
    return f"{partition.topic}/{partition.number}/".encode()


def advance(  # noqa: PLR0913 - named, and each of them decides
    keeping: Keeping,
    arena: Arena,
    partition: Partition,
    *,
    next_offset: int,
    share: float,
    digests: Mapping[int, str],
) -> list[Entry]:
    """
    Save the pages whose turn it is: *share* of a round, 1.0 or more being all of it.

    *digests* are of the weights that pages belong to, by generation.
    Called at the end of a turn, when rows hold all before *next_offset*. The
    first floor of a partition is written at once, so that whoever comes
    next begins where we did.
    """
    entries: list[Entry] = []
    if not keeping.told:
        keeping.told = True
        entries.append(floor_entry(partition, keeping.floor))
    if not keeping.queue:
        if next_offset == keeping.floor:
            return entries
        keeping.began, keeping.credit = next_offset, 0.0
        every = range(arena.pages(partition))
        keeping.queue = sorted(every, key=lambda page: (page in keeping.first, -page))
        keeping.size = len(keeping.queue)
    keeping.credit += share * max(keeping.size, 1)
    while keeping.queue and keeping.credit >= 1:
        keeping.credit -= 1
        page = keeping.queue.pop()
        keeping.first.discard(page)
        if arena.changed(partition, page):
            entries.append(page_entry(arena, partition, page, digests, keeping.meaning))
    if not keeping.queue:
        keeping.floor = keeping.began
        entries.append(floor_entry(partition, keeping.floor))
        entries += settled(keeping, arena, partition)
    return entries


def settled(keeping: Keeping, arena: Arena, partition: Partition) -> list[Entry]:
    """The ends of keys that say nothing any more, now that a round is complete."""
    key = prefix(partition)
    entries: list[Entry] = []
    for at in [at for at in keeping.gone if at < keeping.floor]:
        entries += [Entry(partition, gone_key(key, at, n), None) for n in keeping.gone.pop(at)]
    for at in [at for at in keeping.failed if at < keeping.floor]:
        del keeping.failed[at]
        entries.append(Entry(partition, key + b"failed/%d" % at, None))
    for junk, page in keeping.junk.items():
        if page < 0 or page >= arena.pages(partition):
            entries.append(Entry(partition, junk, None))
    keeping.junk.clear()
    return entries


def out_of_turn(
    keeping: Keeping, arena: Arena, partition: Partition, page: int, digests: Mapping[int, str]
) -> list[Entry]:
    """
    A page that can't wait for its turn.

    It may have been larger once: whatever pages took in its rows are told with it.
    """
    due, keeping.first = keeping.first | {page}, set()
    meaning = keeping.meaning
    return [page_entry(arena, partition, each, digests, meaning) for each in sorted(due)]


def page_entry(
    arena: Arena,
    partition: Partition,
    page: int,
    digests: Mapping[int, str],
    meaning: Meaning,
) -> Entry:
    """A page as it stands; one in which nobody sits is no more."""
    generation = arena.page_generation(partition, page)
    flows, rows = arena.take(partition, page)
    value = encode(flows, rows, generation, digests[generation], meaning) if flows else None
    return Entry(partition, prefix(partition) + b"page/%d" % page, value)


def floor_entry(partition: Partition, floor: int) -> Entry:
    """Where restoring a partition begins to read its input, from now on."""
    return Entry(partition, prefix(partition) + b"floor", msgspec.json.encode(Floor(floor)))


def forget(
    keeping: Keeping, partition: Partition, flows: Sequence[str], offset: int
) -> list[Entry]:
    """Tell that *flows* were evicted just before *offset* was read, in entries of bounded size."""
    parts = keeping.gone.setdefault(offset, [])
    entries: list[Entry] = []
    for chunk in chunks(flows, GONE_BYTES_MAX):
        part = max(parts, default=-1) + 1
        parts.append(part)
        key = gone_key(prefix(partition), offset, part)
        entries.append(Entry(partition, key, msgspec.json.encode(chunk)))
    return entries


def failure_entry(partition: Partition, offset: int, failure: Failure) -> Entry:
    """What is done about the record at *offset*, for whoever replays it."""
    key = prefix(partition) + b"failed/%d" % offset
    return Entry(partition, key, msgspec.json.encode(failure))


def gone_key(key: bytes, offset: int, part: int) -> bytes:
    """The key of a *part* of the flows that were forgotten before *offset*."""
    return key + (b"gone/%d.%d" % (offset, part) if part else b"gone/%d" % offset)


def chunks(flows: Sequence[str], bytes_max: int) -> Iterator[list[str]]:
    """*flows* in their order, in lists that take at most *bytes_max* as JSON, or hold one flow."""
    chunk: list[str] = []
    size = 0
    for flow in flows:
        length = len(msgspec.json.encode(flow)) + 1
        if chunk and size + length > bytes_max:
            yield chunk
            chunk, size = [], 0
        chunk.append(flow)
        size += length
    if chunk:
        yield chunk
