"""
How rows are saved: pages, floors, and flows that are gone.

State is pages and the input after them. A page is the rows of some 64 flows of
one partition under one key of a compacted topic. Pages are written in rounds, each
dirty page once a round; when a round is complete, the offset at which it began
is written as the partition's floor. Whoever restores reads the pages, then the
input from the floor on; each row knows which offset it needs next and skips
what came before. An eviction is told under a key of its own, since the page that
still holds the flow may be written only later in the round.

    topic/partition/page/7      rows, see `streamer.core.page_bytes`
    topic/partition/floor       {"offset": 1234}
    topic/partition/gone/1300   ["flow", …]: forgotten just before offset 1300 was read
    topic/partition/failed/1305 {"action": "reject", …}: the record at 1305 made a turn fail
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.core.arena import Arena, Rows, Slots
from streamer.core.facts import Entry, Partition
from streamer.core.failures import Failure
from streamer.core.page_bytes import Page, Unreadable, decode, encode

NOWHERE = (0, -1)  # an offset that nobody needs, and no page


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
    gone: dict[int, list[str]] = field(default_factory=dict)  # by the offset that they need
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
    key = prefix(partition)
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
            entries.append(page_entry(arena, partition, page, digests))
    if not keeping.queue:
        keeping.floor = keeping.began
        entries.append(floor_entry(partition, keeping.floor))
        for at in [at for at in keeping.gone if at < keeping.floor]:
            del keeping.gone[at]
            entries.append(Entry(partition, key + b"gone/%d" % at, None))
        for at in [at for at in keeping.failed if at < keeping.floor]:
            del keeping.failed[at]
            entries.append(Entry(partition, key + b"failed/%d" % at, None))
    return entries


def out_of_turn(
    keeping: Keeping, arena: Arena, partition: Partition, page: int, digests: Mapping[int, str]
) -> list[Entry]:
    """
    A page that can't wait for its turn.

    It may have been larger once: whatever pages took in its rows are told with it.
    """
    due, keeping.first = keeping.first | {page}, set()
    return [page_entry(arena, partition, each, digests) for each in sorted(due)]


def page_entry(arena: Arena, partition: Partition, page: int, digests: Mapping[int, str]) -> Entry:
    """A page as it stands; one in which nobody sits is no more."""
    generation = arena.page_generation(partition, page)
    flows, rows = arena.take(partition, page)
    value = encode(flows, rows, generation, digests[generation]) if flows else None
    return Entry(partition, prefix(partition) + b"page/%d" % page, value)


def floor_entry(partition: Partition, floor: int) -> Entry:
    """Where restoring a partition begins to read its input, from now on."""
    return Entry(partition, prefix(partition) + b"floor", msgspec.json.encode(Floor(floor)))


def forget(keeping: Keeping, partition: Partition, flows: list[str], offset: int) -> Entry:
    """Tell that *flows* were evicted just before *offset* was read."""
    told = keeping.gone.setdefault(offset, [])
    told += flows
    return Entry(partition, prefix(partition) + b"gone/%d" % offset, msgspec.json.encode(told))


def failure_entry(partition: Partition, offset: int, failure: Failure) -> Entry:
    """What is done about the record at *offset*, for whoever replays it."""
    key = prefix(partition) + b"failed/%d" % offset
    return Entry(partition, key, msgspec.json.encode(failure))


@dataclass(frozen=True, slots=True)
class Restored:
    """What a partition's state said."""

    keeping: Keeping
    needed: Mapping[str, int]  # the next offset of flows that were evicted; all before is known
    generations: frozenset[int]  # of the pages that were read
    unreadable: tuple[str, ...]  # pages that were not, and why: the input is read from the start
    unprimed: Slots  # of rows whose state is not their page's: before they step they are re-primed


def restore(
    arena: Arena,
    partition: Partition,
    table: Mapping[bytes, bytes],
    committed: int,
    known: Callable[[int, str], bool],
) -> Restored:
    """
    Seat the rows that a partition's state holds.

    A flow that was seated anew after an eviction may stand in two pages: the
    row that knows more counts, and the other page is written again. Rows of
    pages that were larger once are seated in others, which are saved before those
    are. Without any state the partition begins at *committed*; where a page cannot be
    read the floor is 0, and its flows come back from the input.

    A page stays of its generation if the weights with that digest are *known*; else it is
    of the present one, and its rows are to be re-primed.
    """
    stored = {k: v for k, v in table.items() if k.startswith(prefix(partition))}
    saved, gone, failed, floor, unreadable = sort_out(stored, len(prefix(partition)))
    keeping = Keeping(floor=committed if floor is None else floor, told=floor is not None)
    keeping.gone, keeping.failed = gone, failed
    needed: dict[str, int] = {}
    for at, flows in sorted(gone.items()):
        needed.update(dict.fromkeys(flows, at))

    generations: set[int] = set()
    best: dict[str, tuple[int, int]] = {}  # flow -> the offset its row needs, and its page
    sound: dict[int, Page] = {}
    for page, value in sorted(saved.items()):
        try:
            sound[page] = held = decode(value, arena.rows.dtype)
        except Unreadable as why:
            unreadable.append(f"page {page}: {why}")
            continue
        generations.add(held.generation)
        claim(best, needed, page, held.flows, held.rows["offset"])
    spilled: dict[str, tuple[Rows, int]] = {}  # pages were larger once
    unprimed: list[str] = []
    for page, held in sound.items():
        names, rows = held.flows, held.rows
        ready = held.intact and known(held.generation, held.digest)
        generation = held.generation if ready else -1
        kept = [i for i, flow in enumerate(names) if best.get(flow, NOWHERE)[1] == page]
        if ready and len(kept) == len(names) <= arena.page_rows:
            arena.put(partition, page, names, rows, generation)
            continue  # so it is with nearly all pages
        spilled |= {names[i]: (rows[i], generation) for i in kept[arena.page_rows :]}
        kept = kept[: arena.page_rows]
        seated = [names[i] for i in kept]
        arena.put(partition, page, seated, rows[kept], generation if ready else arena.generation)
        if len(kept) < len(names) or not ready:
            arena.touch(partition, page)
        unprimed += seated if not ready else ()
    for flow, (row, generation) in spilled.items():
        slot = np.array([arena.seat(partition, flow)], np.intp)
        arena.scatter(slot, row)
        unprimed += [flow] if arena.generation_of(slot) != generation else ()
    keeping.first = arena.pages_of(partition, spilled)
    if unreadable:
        keeping.floor = 0
    slots = np.array(arena.find(partition, unprimed), np.intp)
    return Restored(keeping, needed, frozenset(generations), tuple(unreadable), slots)


def claim(
    best: dict[str, tuple[int, int]],
    needed: Mapping[str, int],
    page: int,
    names: Sequence[str],
    offsets: NDArray[np.int64],
) -> None:
    """Take *page* down as where a flow's row is, if no other page's row of it knows more."""
    if not needed and best.keys().isdisjoint(names) and bool((offsets > 0).all()):
        best.update(zip(names, zip(offsets.tolist(), repeat(page)), strict=False))
        return  # so it is with nearly all pages
    for flow, offset in zip(names, offsets.tolist(), strict=True):
        if offset > max(needed.get(flow, 0), best.get(flow, NOWHERE)[0]):
            best[flow] = offset, page


def sort_out(
    stored: Mapping[bytes, bytes], skip: int
) -> tuple[dict[int, bytes], dict[int, list[str]], dict[int, Failure], int | None, list[str]]:
    """Pages by number, evictions, failures, the floor, and junk; keys are cut at *skip*."""
    saved: dict[int, bytes] = {}
    gone: dict[int, list[str]] = {}
    failed: dict[int, Failure] = {}
    floor = None
    unreadable: list[str] = []
    for key, value in stored.items():
        what, _, number = key[skip:].decode(errors="replace").partition("/")
        try:
            if what == "page":
                saved[int(number)] = value
            elif what == "gone":
                gone[int(number)] = msgspec.json.decode(value, type=list[str])
            elif what == "failed":
                failed[int(number)] = msgspec.json.decode(value, type=Failure)
            elif what == "floor":
                floor = msgspec.json.decode(value, type=Floor).offset
        except (ValueError, msgspec.DecodeError) as why:
            unreadable.append(f"{what} {number}: {why}")
    return saved, gone, failed, floor, unreadable
