"""
A page as bytes: the rows of some flows with their names, and how to read them.

    "page"  length of the header, 4 bytes  checksum, 4 bytes  header, msgpack
    rows, as they lie in memory

The header tells each column's name, type, shape and place, so that another version of
the program, which lays out its rows differently, carries over what it knows. It also
tells the settings that give columns their meaning: `streamer.core.state.loading` compares
them. The checksum is the CRC-32 of all that follows it.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from streamer.core.columns import Rows
from streamer.core.features import grid
from streamer.core.state import table

VERSION = 2
MAGIC = b"page"
FRONT = 12  # bytes before the header
ESSENTIAL = {column[0] for column in table.COLUMNS + grid.COLUMNS}  # no row without these


class Unreadable(ValueError):
    """These bytes are no page, or one whose rows cannot be carried over: read the input again."""


class Meaning(msgspec.Struct, frozen=True, array_like=True):
    """The settings without which the numbers in a row say something else."""

    columns: int = 1  # raised where a column of the same name and type comes to mean another thing
    step_s: int = 0  # 0: unknown
    horizons: int = 0
    quantiles: tuple[float, ...] = ()
    cell: str = ""  # of the network, with its layers and their size


class Header(msgspec.Struct, frozen=True, array_like=True):
    """What stands before a page's rows."""

    version: int
    generation: int  # of the weights that the rows' state belongs to
    flows: list[str]
    row_bytes: int
    layout: msgspec.Raw  # as `Layout`, the same in all pages but those of another version
    digest: str = ""  # of those weights; empty: not told, the number has to do
    meaning: Meaning = Meaning()


Layout = list[tuple[str, str, list[int], int]]  # of each column: name, type, shape, place
HEADER = msgspec.msgpack.Decoder(Header)
LAYOUT = msgspec.msgpack.Decoder(Layout)


class Page(NamedTuple):
    """What a page holds."""

    flows: list[str]
    rows: Rows
    generation: int  # of the weights that the rows' state belongs to …
    digest: str  # … and their mark
    intact: bool  # whether the state is there as it was: weights of another shape cannot read it
    stored: Rows  # the rows in the layout that they were saved in
    meaning: Meaning  # the settings that they were saved under


def encode(
    flows: Sequence[str],
    rows: Rows,
    generation: int,
    digest: str = "",
    meaning: Meaning = Meaning(),  # noqa: B008 - frozen
) -> bytes:
    """Rows and whose they are, with the layout by which to read them."""
    layout = msgspec.Raw(layout_of(rows.dtype))
    told = Header(VERSION, generation, list(flows), rows.dtype.itemsize, layout, digest, meaning)
    header = msgspec.msgpack.encode(told)
    body = header + rows.tobytes()
    return MAGIC + len(header).to_bytes(4, "big") + checksum(body).to_bytes(4, "big") + body


def decode(page: bytes, dtype: np.dtype[np.void]) -> Page:
    """
    What a page holds, its rows in the layout *dtype*; where they lie so, they are read in place.

    Columns are carried over by name where their type is the same, and are
    zero where it is not. Raises Unreadable where that would leave a row
    that does not know where it stands.
    """
    try:
        if page[:4] != MAGIC:
            raise Unreadable("no page")
        body = memoryview(page)[FRONT:]
        if checksum(body) != int.from_bytes(page[8:FRONT], "big"):
            raise Unreadable("checksum mismatch, or a page of an earlier version")
        end = FRONT + int.from_bytes(page[4:8], "big")
        header = HEADER.decode(page[FRONT:end])
        if header.version != VERSION:
            raise Unreadable(f"page of version {header.version}")
        stored = type_of(bytes(header.layout), header.row_bytes)
        found: Rows = np.frombuffer(page, stored, offset=end)
    except (msgspec.DecodeError, TypeError, ValueError, OverflowError) as error:
        raise Unreadable(str(error)) from error
    if len(found) != len(header.flows) or len(set(header.flows)) != len(found):
        raise Unreadable(f"{len(found)} rows for {len(header.flows)} flows")
    if stored == dtype and stored.itemsize == dtype.itemsize:
        return Page(
            header.flows, found, header.generation, header.digest, True, found, header.meaning
        )
    rows = np.zeros(len(found), dtype)
    assert dtype.names is not None
    same = {n for n in dtype.names if n in (stored.names or ()) and stored[n] == dtype[n]}
    if not same >= ESSENTIAL:
        raise Unreadable(f"columns of another type: {', '.join(sorted(ESSENTIAL - same))}")
    for name in same:
        rows[name] = found[name]
    intact = "state" in same or "state" not in dtype.names
    return Page(header.flows, rows, header.generation, header.digest, intact, found, header.meaning)


def checksum(body: bytes | memoryview) -> int:
    """Of all that follows it in a page: the CRC-32 of zlib."""
    return zlib.crc32(body)


@functools.lru_cache(maxsize=8)
def layout_of(dtype: np.dtype[np.void]) -> bytes:
    """A row's columns as the header tells them."""
    layout: Layout = []
    for name, (kind, place, *_) in (dtype.fields or {}).items():
        layout.append((name, kind.base.str, list(kind.shape), place))
    return msgspec.msgpack.encode(layout)


@functools.lru_cache(maxsize=8)
def type_of(layout: bytes, row_bytes: int) -> np.dtype[np.void]:
    """The type of the rows that a header stands before; raises Unreadable if it is no plain one."""
    names, formats, places = [], [], []
    for name, kind, shape, place in LAYOUT.decode(layout):
        if not re.fullmatch(r"[<|][biufS]\d+", kind):
            raise Unreadable(f"column {name} is of no plain type")
        names.append(name)
        formats.append((kind, tuple(shape)))
        places.append(place)
    return np.dtype({"names": names, "formats": formats, "offsets": places, "itemsize": row_bytes})
