"""
How rows come back: a partition's entries of the state topic, read into the arena.

Nothing in them can stop it. A page that cannot be read, a key that is none of ours, a row that
cannot be right: each is told, its flows are read again from the input, and what is of no use is
ended with the next full round.
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
from streamer.core.state.checkpoint import CheckpointProgress, ReplayOffset, gone_key, prefix
from streamer.core.state.loading import Finding, Loaded, Loader
from streamer.core.state.page_format import Unreadable
from streamer.core.state.table import FlowTable
from streamer.core.types import Partition

NOWHERE = (0, -1)  # an offset that nobody needs, and no page
DIGITS_MAX = 19
TEXT_MAX = 200
SPARSE = 16  # how many times as many pages as its flows need a partition may have had


@dataclass(frozen=True, slots=True)
class Restored:
    """What a partition's state said."""

    progress: CheckpointProgress
    needed: Mapping[str, int]  # the next offset of flows that were evicted; all before is known
    generations: frozenset[int]  # of the pages that were read
    unreadable: tuple[str, ...]  # pages that were not, and why: the input is read from the start
    unprimed: Slots  # of rows whose state is not their page's: before they step they are re-primed
    findings: Mapping[Finding, int] = field(default_factory=dict)  # what became of how many rows


@dataclass(slots=True)
class Reading:
    """What has been read of a partition's state so far."""

    progress: CheckpointProgress
    needed: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    findings: Counter[Finding] = field(default_factory=Counter)
    sound: dict[int, Loaded] = field(default_factory=dict)
    touched: set[int] = field(default_factory=set)  # pages that do not stand in the topic as here
    unprimed: list[str] = field(default_factory=list)


def restore(  # noqa: PLR0913 - what is restored, and what is known of it
    arena: FlowTable,
    partition: Partition,
    table: Mapping[bytes, bytes],
    committed: int,
    known: Callable[[int, str], bool],
    loader: Loader = Loader(),  # noqa: B008 - frozen
) -> Restored:
    """
    Seat the rows that a partition's state holds.

    A flow that was seated anew after an eviction may stand in two pages: the
    row that knows more counts, and the other page is written again. Rows of
    pages that were larger once are seated in others, which are saved before those
    are. Without any state the partition begins at *committed*; where a page cannot be
    read the floor is 0, and its flows come back from the input. So do those whose rows
    *loader* drops.

    A page stays of its generation if the weights with that digest are *known*; else it is
    of the present one, and its rows are to be re-primed.
    """
    pages_max = arena.quota(partition) // arena.page_rows + 1
    read = take_in(table, partition, committed, loader, arena.rows.dtype, pages_max)
    best: dict[str, tuple[int, int]] = {}  # flow -> the offset its row needs, and its page
    for page, held in read.sound.items():
        claim(best, read.needed, page, held.flows, held.rows["offset"])
    seat(arena, partition, read, best, known)
    progress = read.progress
    for page in range(arena.pages(partition)):
        if page in read.touched:
            arena.mark_dirty(partition, page)
    if read.unreadable or any(finding.effect == "dropped" for finding in read.findings):
        progress.floor, progress.told = 0, False  # told at once: a crash must not forget it
    slots = [slot for slot in arena.find(partition, read.unprimed) if slot is not None]
    return Restored(
        progress,
        read.needed,
        frozenset(held.generation for held in read.sound.values()),
        tuple(read.unreadable),
        np.array(slots, np.intp),
        read.findings,
    )


def take_in(  # noqa: PLR0913 - what is read, and how
    table: Mapping[bytes, bytes],
    partition: Partition,
    committed: int,
    loader: Loader,
    dtype: np.dtype[np.void],
    pages_max: int,
) -> Reading:
    """What *table* says of a partition, whose flows fill *pages_max* pages as a rule."""
    key = prefix(partition)
    stored = {k: v for k, v in table.items() if k.startswith(key)}
    state = parse_entries(stored, len(key))
    gone, floor, unreadable = state.gone, state.floor, state.unreadable
    saved = state.pages
    progress = CheckpointProgress(
        floor=committed if floor is None else floor, told=floor is not None
    )
    progress.meaning, progress.junk = loader.meaning, dict.fromkeys(state.junk, -1)
    for at, failure in state.failed.items():
        if at < committed:
            progress.failed[at] = failure
        else:  # of an input that was deleted and made anew
            progress.junk[key + b"failed/%d" % at] = -1
    if progress.floor > committed:  # of an input that was deleted and made anew
        progress.floor, progress.told = committed, False
    read = Reading(progress, unreadable=unreadable)
    for at, part in sorted(gone):
        if at > committed:  # likewise
            progress.junk[gone_key(key, at, part)] = -1
            continue
        progress.gone.setdefault(at, []).append(part)
        read.needed.update(dict.fromkeys(gone[at, part], at))
    for page, value in sorted(saved.items()):
        try:
            if page >= len(saved) + SPARSE * pages_max:  # it would be filled up to there
                raise Unreadable("no page has such a number")  # noqa: TRY301 - as any other
            read.sound[page] = loader.load(value, dtype, read.findings)
        except Unreadable as error:
            unreadable.append(f"page {page}: {error}"[:TEXT_MAX])
            progress.junk[key + b"page/%d" % page] = page
            read.touched.add(page)
    read.sound = loader.checked(read.sound, committed, read.findings)
    read.touched |= {page for page, held in read.sound.items() if held.changed}
    return read


def seat(
    arena: FlowTable,
    partition: Partition,
    read: Reading,
    best: Mapping[str, tuple[int, int]],
    known: Callable[[int, str], bool],
) -> None:
    """Give the rows of all pages that were *read* a slot, each flow's *best* one."""
    spilled: dict[str, tuple[Rows, int]] = {}  # pages were larger once
    unprimed = read.unprimed
    for page, held in read.sound.items():
        names, rows = held.flows, held.rows
        ready = held.intact and known(held.generation, held.digest)
        generation = held.generation if ready else -1
        if held.intact and not ready:
            read.findings[Finding("rebuilt", "weights are not at hand")] += len(names)
        unprimed += held.primed_anew if ready else ()
        kept = [i for i, flow in enumerate(names) if best.get(flow, NOWHERE)[1] == page]
        if ready and len(kept) == len(names) <= arena.page_rows:
            arena.load_page(partition, page, names, rows, generation)
            continue  # so it is with nearly all pages
        spilled |= {names[i]: (rows[i], generation) for i in kept[arena.page_rows :]}
        kept = kept[: arena.page_rows]
        seated = [names[i] for i in kept]
        arena.load_page(
            partition, page, seated, rows[kept], generation if ready else arena.generation
        )
        if len(kept) < len(names) or not ready:
            arena.mark_dirty(partition, page)
        unprimed += seated if not ready else ()
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
    """Take *page* down as where a flow's row is, if no other page's row of it knows more."""
    if not needed and best.keys().isdisjoint(names) and bool((offsets > 0).all()):
        best.update(zip(names, zip(offsets.tolist(), repeat(page)), strict=False))
        return  # so it is with nearly all pages
    for flow, offset in zip(names, offsets.tolist(), strict=True):
        if offset > max(needed.get(flow, 0), best.get(flow, NOWHERE)[0]):
            best[flow] = offset, page


@dataclass(slots=True)
class Stored:
    """A partition's entries of the state topic, by what they are."""

    pages: dict[int, bytes] = field(default_factory=dict)
    gone: dict[tuple[int, int], list[str]] = field(default_factory=dict)  # by offset and part
    failed: dict[int, Failure] = field(default_factory=dict)
    floor: int | None = None
    unreadable: list[str] = field(default_factory=list)  # what is no entry of ours, and why …
    junk: list[bytes] = field(default_factory=list)  # … and its keys


def parse_entries(stored: Mapping[bytes, bytes], skip: int) -> Stored:
    """What is *stored*; keys are cut at *skip*."""
    found = Stored()
    for key, value in stored.items():
        what, _, number = key[skip:].decode(errors="replace").partition("/")
        try:
            if what == "page":
                found.pages[numbered(number)] = value
            elif what == "gone":
                at, _, part = number.partition(".")
                place = numbered(at), numbered(part or "0")
                found.gone[place] = msgspec.json.decode(value, type=list[str])
            elif what == "failed":
                found.failed[numbered(number)] = msgspec.json.decode(value, type=Failure)
            elif what == "floor":
                found.floor = msgspec.json.decode(value, type=ReplayOffset).offset
        except (ValueError, msgspec.DecodeError) as why:
            found.unreadable.append(f"{what} {number}: {why}"[:TEXT_MAX])
            found.junk.append(key)
    return found


def numbered(text: str) -> int:
    """The number that we would write as *text*; raises ValueError where it is none."""
    number = int(text) if len(text) < DIGITS_MAX else -1
    if str(number) != text or number < 0:
        raise ValueError("no number of ours")
    return number
