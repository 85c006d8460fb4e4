"""
Readings in the order of their times, however many there are.

Runs that fit in memory are sorted and written to a temporary file; then all runs are merged. Equal
times keep the order of the file.
"""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import IO

import msgspec

from streamer.core.wire.parsed import Reading

RUN_MAX = 500_000  # readings of a run: about 150 MB
CHUNK = 10_000  # readings that are written or given at once
LENGTH_BYTES = 4

ENCODER = msgspec.msgpack.Encoder()
DECODER = msgspec.msgpack.Decoder(list[Reading])
BY_TIME = attrgetter("time")


def in_order(
    batches: Iterable[Sequence[Reading]], run_max: int = RUN_MAX
) -> Iterator[Sequence[Reading]]:
    """The readings of all *batches*, sorted by time; all are read before the first is given."""
    with tempfile.TemporaryFile(prefix="streamer-sort-") as file:
        places: list[list[int]] = []  # of each run: where its chunks begin in the file
        run: list[Reading] = []
        for batch in batches:
            run += batch
            if len(run) >= run_max:
                places.append(_written(run, file))
                run = []
        run.sort(key=BY_TIME)
        if not places:
            yield from _chunks(run)
            return
        runs = [_read(file, place) for place in places]
        yield from _chunks(heapq.merge(*runs, run, key=BY_TIME))


def _written(run: list[Reading], file: IO[bytes]) -> list[int]:
    """Write a run, sorted; returns where its chunks begin."""
    run.sort(key=BY_TIME)
    places = []
    file.seek(0, 2)
    for chunk in _chunks(run):
        places.append(file.tell())
        packed = ENCODER.encode(chunk)
        file.write(len(packed).to_bytes(LENGTH_BYTES) + packed)
    return places


def _read(file: IO[bytes], places: Iterable[int]) -> Iterator[Reading]:
    for place in places:
        file.seek(place)
        packed = file.read(int.from_bytes(file.read(LENGTH_BYTES)))
        yield from DECODER.decode(packed)


def _chunks(readings: Iterable[Reading]) -> Iterator[list[Reading]]:
    remaining = iter(readings)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk
