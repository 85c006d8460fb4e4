"""
Restoring: a partition's entries of the state topic are read into the flow table.

Invalid entries do not stop it. An unreadable page, an unknown key and an invalid row are each
reported, their flows are read again from the input, and obsolete keys are deleted with the next
full round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Rows, Slots
from streamer.core.failures import Failure
from streamer.core.state.checkpoint import CheckpointProgress, ReplayOffset, eviction_key, prefix
from streamer.core.state.loading import Finding, Loaded, Loader
from streamer.core.state.page_format import Unreadable
from streamer.core.state.table import FlowTable
from streamer.core.types import Partition

NOWHERE = (0, -1)  # an offset below any other, and an invalid page
DIGITS_MAX = 19
TEXT_MAX = 200
SPARSE = 16  # bound of a partition's pages, as a multiple of the pages that its flows need


@dataclass(frozen=True, slots=True)
class Restored:
    """The result of restoring a partition."""

    progress: CheckpointProgress
    needed: Mapping[str, int]  # the next offset of evicted flows; earlier records were processed
    generations: frozenset[int]  # of the pages that were read
    unreadable: tuple[str, ...]  # unreadable entries and why: the input is read from the start
    unprimed: Slots  # rows whose state is not their page's: it is rebuilt before they step
    findings: Mapping[Finding, int] = field(default_factory=dict)  # number of rows of each


@dataclass(slots=True)
class Reading:
    """What has been read of a partition's state so far."""

    progress: CheckpointProgress
    needed: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    findings: Counter[Finding] = field(default_factory=Counter)
    sound: dict[int, Loaded] = field(default_factory=dict)
    touched: set[int] = field(default_factory=set)  # pages that differ from those in the topic
    unprimed: list[str] = field(default_factory=list)


def restore(  # noqa: PLR0913 - the state, and what is known about it
    arena: FlowTable,
    partition: Partition,
    table: Mapping[bytes, bytes],
    committed: int,
    known: Callable[[int, str], bool],
    loader: Loader = Loader(),  # noqa: B008 - frozen
) -> Restored:
    """
    Load the rows of a partition's state into the table.

    A flow that got a new slot after an eviction may be in two pages: the
    row with the later offset counts, and the other page is written again. Rows of
    pages that are larger than a page is now get slots in other pages, which are saved before
    those are. Without any state the partition begins at *committed*. If a page is unreadable,
    the replay offset is 0, and its flows are rebuilt from the input. The same holds for flows whose
    rows *loader* drops.

    A page keeps its generation if the weights with that digest are *known*; else it gets
    the present generation, and the states of its rows are rebuilt.
    """
    pages_max = arena.quota(partition) // arena.page_rows + 1
    read = take_in(table, partition, committed, loader, arena.rows.dtype, pages_max)
    best: dict[str, tuple[int, int]] = {}  # flow -> the offset its row needs, and its page
    for page, held in read.sound.items():
        claim(best, read.needed, page, held.flows, held.rows["offset"])
    place_rows(arena, partition, read, best, known)
    progress = read.progress
    for page in range(arena.pages(partition)):
        if page in read.touched:
            arena.mark_dirty(partition, page)
    if read.unreadable or any(finding.effect == "dropped" for finding in read.findings):
        progress.floor, progress.floor_saved = 0, False  # written at once, so that a crash keeps it
    slots = [slot for slot in arena.find(partition, read.unprimed) if slot is not None]
    return Restored(
        progress,
        read.needed,
        frozenset(held.generation for held in read.sound.values()),
        tuple(read.unreadable),
        np.array(slots, np.intp),
        read.findings,
    )


def take_in(  # noqa: PLR0913 - the entries, and the settings for reading them
    table: Mapping[bytes, bytes],
    partition: Partition,
    committed: int,
    loader: Loader,
    dtype: np.dtype[np.void],
    pages_max: int,
) -> Reading:
    """Read a partition's state from *table*; its flows usually fill *pages_max* pages."""
    key = prefix(partition)
    stored = {k: v for k, v in table.items() if k.startswith(key)}
    state = parse_entries(stored, len(key))
    evictions, floor, unreadable = state.evictions, state.floor, state.unreadable
    saved = state.pages
    progress = CheckpointProgress(
        floor=committed if floor is None else floor, floor_saved=floor is not None
    )
    progress.meaning, progress.junk = loader.meaning, dict.fromkeys(state.junk, -1)
    progress.keys_saved = key + b"keys" in stored
    for at, failure in state.failed.items():
        if at < committed:
            progress.failed[at] = failure
        else:  # from an input topic that was deleted and recreated
            progress.junk[key + b"failed/%d" % at] = -1
    if progress.floor > committed:  # from an input topic that was deleted and recreated
        progress.floor, progress.floor_saved = committed, False
    read = Reading(progress, unreadable=unreadable)
    for at, part in sorted(evictions):
        if at > committed:  # from an input topic that was deleted and recreated
            progress.junk[eviction_key(key, at, part)] = -1
            continue
        progress.evictions.setdefault(at, []).append(part)
        read.needed.update(dict.fromkeys(evictions[at, part], at))
    for page, value in sorted(saved.items()):
        try:
            if page >= len(saved) + SPARSE * pages_max:  # the table would allocate pages up to it
                raise Unreadable("no page has such a number")  # noqa: TRY301 - as other errors
            read.sound[page] = loader.load(value, dtype, read.findings)
        except Unreadable as error:
            unreadable.append(f"page {page}: {error}"[:TEXT_MAX])
            progress.junk[key + b"page/%d" % page] = page
            read.touched.add(page)
    read.sound = loader.checked(read.sound, committed, read.findings)
    read.touched |= {page for page, held in read.sound.items() if held.changed}
    return read


def place_rows(
    arena: FlowTable,
    partition: Partition,
    read: Reading,
    best: Mapping[str, tuple[int, int]],
    known: Callable[[int, str], bool],
) -> None:
    """Allocate slots for the rows of all pages that were *read*, for each flow its *best* row."""
    spilled: dict[str, tuple[Rows, int]] = {}  # rows that exceed the present size of a page
    unprimed = read.unprimed
    for page, held in read.sound.items():
        names, rows = held.flows, held.rows
        ready = held.intact and known(held.generation, held.digest)
        generation = held.generation if ready else -1
        if held.intact and not ready:
            read.findings[Finding("rebuilt", "weights are not at hand")] += len(names)
        unprimed += held.unprimed if ready else ()
        kept = [i for i, flow in enumerate(names) if best.get(flow, NOWHERE)[1] == page]
        if ready and len(kept) == len(names) <= arena.page_rows:
            arena.load_page(partition, page, names, rows, generation)
            continue  # nearly all pages take this path
        spilled |= {names[i]: (rows[i], generation) for i in kept[arena.page_rows :]}
        kept = kept[: arena.page_rows]
        placed = [names[i] for i in kept]
        arena.load_page(
            partition, page, placed, rows[kept], generation if ready else arena.generation
        )
        if len(kept) < len(names) or not ready:
            arena.mark_dirty(partition, page)
        unprimed += placed if not ready else ()
    for flow, (row, generation) in spilled.items():
        slot = np.array([arena.allocate(partition, flow)], np.intp)
        arena.scatter(slot, row)
        unprimed += [flow] if arena.generation_of(slot) != generation else ()
    read.progress.first = arena.pages_of(partition, spilled)


def claim(
    best: dict[str, tuple[int, int]],
    needed: Mapping[str, int],
    page: int,
    names: Sequence[str],
    offsets: NDArray[np.int64],
) -> None:
    """Record *page* as the best one for each of its rows, unless another row has a later offset."""
    if not needed and best.keys().isdisjoint(names) and bool((offsets > 0).all()):
        best.update(zip(names, zip(offsets.tolist(), repeat(page)), strict=False))
        return  # nearly all pages take this path
    for flow, offset in zip(names, offsets.tolist(), strict=True):
        if offset > max(needed.get(flow, 0), best.get(flow, NOWHERE)[0]):
            best[flow] = offset, page


@dataclass(slots=True)
class Stored:
    """A partition's entries of the state topic, by type."""

    pages: dict[int, bytes] = field(default_factory=dict)
    evictions: dict[tuple[int, int], list[str]] = field(default_factory=dict)  # by offset and part
    failed: dict[int, Failure] = field(default_factory=dict)
    floor: int | None = None
    unreadable: list[str] = field(default_factory=list)  # unknown or invalid entries, and why
    junk: list[bytes] = field(default_factory=list)  # their keys


def parse_entries(stored: Mapping[bytes, bytes], skip: int) -> Stored:
    """Parse the *stored* entries; the first *skip* bytes of each key are the prefix."""
    found = Stored()
    for key, value in stored.items():
        what, _, number = key[skip:].decode(errors="replace").partition("/")
        try:
            if what == "page":
                found.pages[numbered(number)] = value
            elif what == "gone":
                at, _, part = number.partition(".")
                place = numbered(at), numbered(part or "0")
                found.evictions[place] = msgspec.json.decode(value, type=list[str])
            elif what == "failed":
                found.failed[numbered(number)] = msgspec.json.decode(value, type=Failure)
            elif what == "floor":
                found.floor = msgspec.json.decode(value, type=ReplayOffset).offset
        except (ValueError, msgspec.DecodeError) as why:
            found.unreadable.append(f"{what} {number}: {why}"[:TEXT_MAX])
            found.junk.append(key)
    return found


def numbered(text: str) -> int:
    """The number whose decimal form is exactly *text*; raises ValueError if there is none."""
    number = int(text) if len(text) < DIGITS_MAX else -1
    if str(number) != text or number < 0:
        raise ValueError("not a decimal number")
    return number
