"""
Checkpoints: pages of rows, replay offsets, and evicted flows.

A partition's state is its pages and the input after them. A page is the rows of about 64 flows of
one partition under one key of a compacted topic. Pages are written in rounds, each
dirty page once a round; when a round is complete, the offset at which it began
is written as the partition's replay offset (key `floor`). A restore reads the pages, then the
input from the replay offset on; each row stores the next offset that it needs and skips
earlier records. An eviction is written under its own key, because the page that
still contains the flow may be written only later in the round.

    topic/partition/page/7      rows, see `streamer.core.state.page_format`
    topic/partition/floor       {"offset": 1234}
    topic/partition/keys        the keys of flow records at that offset, msgpack
    topic/partition/gone/1300   ["flow", …]: evicted just before offset 1300 was read;
                                a list too long for one entry continues in gone/1300.1 …
    topic/partition/failed/1305 {"action": "reject", …}: the record at 1305 made a turn fail
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from streamer.core.failures import Failure
from streamer.core.state.page_format import Meaning, encode
from streamer.core.state.table import FlowTable
from streamer.core.types import Partition, StateRecord

EVICTIONS_BYTES_MAX = 200_000  # size of an entry that lists evicted flows


class ReplayOffset(msgspec.Struct, frozen=True):
    """The offset at which the last full round began."""

    offset: Annotated[int, msgspec.Meta(ge=0)]


@dataclass(slots=True)
class CheckpointProgress:
    """The progress of the checkpoints of one partition's pages."""

    floor: int  # the replay offset that was written last, or that is to be written first
    floor_saved: bool  # whether `floor` was written
    began: int = 0  # the next offset when the present round began
    queue: list[int] = field(default_factory=list)  # pages that are left in this round
    size: int = 0  # pages in this round
    credit: float = 0.0  # fraction of a page that is due, added up over turns
    evictions: dict[int, list[int]] = field(
        default_factory=dict
    )  # parts of eviction lists that were written, by offset
    meaning: Meaning = field(default_factory=Meaning)  # of the columns that are saved
    junk: dict[bytes, int] = field(default_factory=dict)  # keys to delete, and their page or -1
    first: set[int] = field(default_factory=set)  # pages that received rows from shrinking pages
    failed: dict[int, Failure] = field(default_factory=dict)  # by the offset of the record
    keys: bytes | None = None  # of flow records, when the present round began
    keys_saved: bool = False  # whether the topic may have an entry of them


def prefix(partition: Partition) -> bytes:
    """The prefix of the keys of a partition's state."""
    return f"{partition.topic}/{partition.number}/".encode()


def keys_key(partition: Partition) -> bytes:
    """The key of a partition's keys of flow records."""
    return prefix(partition) + b"keys"


def due_pages(  # noqa: PLR0913 - all are needed, and most are named
    progress: CheckpointProgress,
    arena: FlowTable,
    partition: Partition,
    *,
    next_offset: int,
    share: float,
    digests: Mapping[int, str],
    keys: Callable[[Partition, int], bytes | None] = lambda _partition, _offset: None,
) -> list[StateRecord]:
    """
    Save the pages that are due: *share* of a round; 1.0 or more saves all of it.

    *digests* are those of the weights that pages belong to, by generation.
    Must be called at the end of a turn, when rows contain all records before *next_offset*. The
    first replay offset of a partition is written at once, so that the next owner
    begins at the same offset. *keys* gives the keys of flow records before an offset; a replay
    needs those at its begin.
    """
    entries: list[StateRecord] = []
    if not progress.floor_saved:
        progress.floor_saved = True
        entries.append(floor_entry(partition, progress.floor))
    if not progress.queue:
        if next_offset == progress.floor:
            return entries
        progress.began, progress.credit = next_offset, 0.0
        progress.keys = keys(partition, next_offset)
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
        if progress.keys is not None or progress.keys_saved:
            entries.append(StateRecord(partition, keys_key(partition), progress.keys))
            progress.keys_saved = progress.keys is not None
        entries += settled(progress, arena, partition)
    return entries


def settled(
    progress: CheckpointProgress, arena: FlowTable, partition: Partition
) -> list[StateRecord]:
    """Tombstones for keys that are obsolete after a complete round."""
    key = prefix(partition)
    entries: list[StateRecord] = []
    for at in [at for at in progress.evictions if at < progress.floor]:
        entries += [
            StateRecord(partition, eviction_key(key, at, n), None)
            for n in progress.evictions.pop(at)
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
    Save a page at once, out of its turn.

    The stored page may hold more rows than fit now. The pages that received the overflow are
    returned with it.
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
    """The entry of a page with its present rows; a tombstone if the page is empty."""
    generation = arena.page_generation(partition, page)
    flows, rows = arena.rows_of_page(partition, page)
    value = encode(flows, rows, generation, digests[generation], meaning) if flows else None
    return StateRecord(partition, prefix(partition) + b"page/%d" % page, value)


def floor_entry(partition: Partition, floor: int) -> StateRecord:
    """The entry of a partition's replay offset."""
    return StateRecord(
        partition, prefix(partition) + b"floor", msgspec.json.encode(ReplayOffset(floor))
    )


def record_evictions(
    progress: CheckpointProgress, partition: Partition, flows: Sequence[str], offset: int
) -> list[StateRecord]:
    """Entries of bounded size that list *flows*, evicted just before *offset* was read."""
    parts = progress.evictions.setdefault(offset, [])
    entries: list[StateRecord] = []
    for chunk in chunks(flows, EVICTIONS_BYTES_MAX):
        part = max(parts, default=-1) + 1
        parts.append(part)
        key = eviction_key(prefix(partition), offset, part)
        entries.append(StateRecord(partition, key, msgspec.json.encode(chunk)))
    return entries


def failure_entry(partition: Partition, offset: int, failure: Failure) -> StateRecord:
    """The entry that determines how a replay handles the record at *offset*."""
    key = prefix(partition) + b"failed/%d" % offset
    return StateRecord(partition, key, msgspec.json.encode(failure))


def eviction_key(key: bytes, offset: int, part: int) -> bytes:
    """The key of a *part* of the flows that were evicted before *offset*."""
    return key + (b"gone/%d.%d" % (offset, part) if part else b"gone/%d" % offset)


def chunks(flows: Sequence[str], bytes_max: int) -> Iterator[list[str]]:
    """*flows* in order, in lists that take at most *bytes_max* as JSON or contain one flow."""
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
