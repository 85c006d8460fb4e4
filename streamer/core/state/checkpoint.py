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
from streamer.core.state.table import FlowTable
from streamer.core.types import Partition, StateRecord

GONE_BYTES_MAX = 200_000  # of an entry that lists evicted flows


class ReplayOffset(msgspec.Struct, frozen=True):
    """The offset at which the last full round began."""

    offset: Annotated[int, msgspec.Meta(ge=0)]


@dataclass(slots=True)
class CheckpointProgress:
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


def due_pages(  # noqa: PLR0913 - named, and each of them decides
    progress: CheckpointProgress,
    arena: FlowTable,
    partition: Partition,
    *,
    next_offset: int,
    share: float,
    digests: Mapping[int, str],
) -> list[StateRecord]:
    """
    Save the pages whose turn it is: *share* of a round, 1.0 or more being all of it.

    *digests* are of the weights that pages belong to, by generation.
    Called at the end of a turn, when rows hold all before *next_offset*. The
    first floor of a partition is written at once, so that whoever comes
    next begins where we did.
    """
    entries: list[StateRecord] = []
    if not progress.told:
        progress.told = True
        entries.append(floor_entry(partition, progress.floor))
    if not progress.queue:
        if next_offset == progress.floor:
            return entries
        progress.began, progress.credit = next_offset, 0.0
        every = range(arena.pages(partition))
        progress.queue = sorted(every, key=lambda page: (page in progress.first, -page))
        progress.size = len(progress.queue)
    progress.credit += share * max(progress.size, 1)
    while progress.queue and progress.credit >= 1:
        progress.credit -= 1
        page = progress.queue.pop()
        progress.first.discard(page)
        if arena.changed(partition, page):
            entries.append(page_entry(arena, partition, page, digests, progress.meaning))
    if not progress.queue:
        progress.floor = progress.began
        entries.append(floor_entry(partition, progress.floor))
        entries += settled(progress, arena, partition)
    return entries


def settled(
    progress: CheckpointProgress, arena: FlowTable, partition: Partition
) -> list[StateRecord]:
    """The ends of keys that say nothing any more, now that a round is complete."""
    key = prefix(partition)
    entries: list[StateRecord] = []
    for at in [at for at in progress.gone if at < progress.floor]:
        entries += [
            StateRecord(partition, gone_key(key, at, n), None) for n in progress.gone.pop(at)
        ]
    for at in [at for at in progress.failed if at < progress.floor]:
        del progress.failed[at]
        entries.append(StateRecord(partition, key + b"failed/%d" % at, None))
    for junk, page in progress.junk.items():
        if page < 0 or page >= arena.pages(partition):
            entries.append(StateRecord(partition, junk, None))
    progress.junk.clear()
    return entries


def save_now(
    progress: CheckpointProgress,
    arena: FlowTable,
    partition: Partition,
    page: int,
    digests: Mapping[int, str],
) -> list[StateRecord]:
    """
    A page that can't wait for its turn.

    It may have been larger once: whatever pages took in its rows are told with it.
    """
    due, progress.first = progress.first | {page}, set()
    meaning = progress.meaning
    return [page_entry(arena, partition, each, digests, meaning) for each in sorted(due)]


def page_entry(
    arena: FlowTable,
    partition: Partition,
    page: int,
    digests: Mapping[int, str],
    meaning: Meaning,
) -> StateRecord:
    """A page as it stands; one in which nobody sits is no more."""
    generation = arena.page_generation(partition, page)
    flows, rows = arena.rows_of_page(partition, page)
    value = encode(flows, rows, generation, digests[generation], meaning) if flows else None
    return StateRecord(partition, prefix(partition) + b"page/%d" % page, value)


def floor_entry(partition: Partition, floor: int) -> StateRecord:
    """Where restoring a partition begins to read its input, from now on."""
    return StateRecord(
        partition, prefix(partition) + b"floor", msgspec.json.encode(ReplayOffset(floor))
    )


def record_evictions(
    progress: CheckpointProgress, partition: Partition, flows: Sequence[str], offset: int
) -> list[StateRecord]:
    """Tell that *flows* were evicted just before *offset* was read, in entries of bounded size."""
    parts = progress.gone.setdefault(offset, [])
    entries: list[StateRecord] = []
    for chunk in chunks(flows, GONE_BYTES_MAX):
        part = max(parts, default=-1) + 1
        parts.append(part)
        key = gone_key(prefix(partition), offset, part)
        entries.append(StateRecord(partition, key, msgspec.json.encode(chunk)))
    return entries


def failure_entry(partition: Partition, offset: int, failure: Failure) -> StateRecord:
    """What is done about the record at *offset*, for whoever replays it."""
    key = prefix(partition) + b"failed/%d" % offset
    return StateRecord(partition, key, msgspec.json.encode(failure))


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
