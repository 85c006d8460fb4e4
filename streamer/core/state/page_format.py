"""
The binary format of a page: the rows of some flows with their names and layout.

    "page"  length of the header, 4 bytes  checksum, 4 bytes  header, msgpack
    rows, as they lie in memory

The header contains each column's name, type, shape and position, so that another version of
the program with a different row layout can carry over the columns that it has. It also
contains the settings that give columns their meaning: `streamer.core.state.loading` compares
them. The checksum is the CRC-32 of all bytes that follow it.
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
ESSENTIAL = {column[0] for column in table.COLUMNS + grid.COLUMNS}  # required in every row


class Unreadable(ValueError):
    """The bytes are not a page, or its rows cannot be carried over: the input is read again."""


class Meaning(msgspec.Struct, frozen=True, array_like=True):
    """The settings on which the meaning of the numbers in a row depends."""

    columns: int = 1  # raised when a column changes its meaning but not its name and type
    step_s: int = 0  # 0: unknown
    horizons: int = 0
    quantiles: tuple[float, ...] = ()
    cell: str = ""  # of the network, with its layers and their size


class Header(msgspec.Struct, frozen=True, array_like=True):
    """The header before a page's rows."""

    version: int
    generation: int  # of the weights that the rows' state belongs to
    flows: list[str]
    row_bytes: int
    layout: msgspec.Raw  # as `Layout`, the same in all pages of one version
    digest: str = ""  # of those weights; if empty, only the generation identifies them
    meaning: Meaning = Meaning()


Layout = list[tuple[str, str, list[int], int]]  # of each column: name, type, shape, position
HEADER = msgspec.msgpack.Decoder(Header)
LAYOUT = msgspec.msgpack.Decoder(Layout)


class Page(NamedTuple):
    """The content of a page."""

    flows: list[str]
    rows: Rows
    generation: int  # of the weights that the rows' state belongs to
    digest: str  # of the same weights
    intact: bool  # whether the state was loaded: weights of another shape cannot read it
    stored: Rows  # the rows in the layout that they were saved in
    meaning: Meaning  # the settings that they were saved under


def encode(
    flows: Sequence[str],
    rows: Rows,
    generation: int,
    digest: str = "",
    meaning: Meaning = Meaning(),  # noqa: B008 - frozen
) -> bytes:
    """Encode the rows of *flows* with their layout."""
    layout = msgspec.Raw(layout_of(rows.dtype))
    fields = Header(VERSION, generation, list(flows), rows.dtype.itemsize, layout, digest, meaning)
    header = msgspec.msgpack.encode(fields)
    body = header + rows.tobytes()
    return MAGIC + len(header).to_bytes(4, "big") + checksum(body).to_bytes(4, "big") + body


def decode(page: bytes, dtype: np.dtype[np.void]) -> Page:
    """
    The content of a page, with rows in the layout *dtype*; an equal layout is read in place.

    Columns are carried over by name if their type is the same, and are
    zero otherwise. Raises Unreadable if an essential column would be lost.
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


def names_of(page: bytes) -> list[str]:
    """The flows of a page, whatever the layout of its rows; raises Unreadable."""
    if page[:4] != MAGIC:
        raise Unreadable("no page")
    try:
        header = HEADER.decode(page[FRONT : FRONT + int.from_bytes(page[4:8], "big")])
    except (msgspec.DecodeError, ValueError) as error:
        raise Unreadable(str(error)) from error
    return header.flows


def checksum(body: bytes | memoryview) -> int:
    """The checksum of the bytes that follow it in a page: the CRC-32 of zlib."""
    return zlib.crc32(body)


@functools.lru_cache(maxsize=8)
def layout_of(dtype: np.dtype[np.void]) -> bytes:
    """A row's columns as the header lists them."""
    layout: Layout = []
    for name, (kind, place, *_) in (dtype.fields or {}).items():
        layout.append((name, kind.base.str, list(kind.shape), place))
    return msgspec.msgpack.encode(layout)


@functools.lru_cache(maxsize=8)
def type_of(layout: bytes, row_bytes: int) -> np.dtype[np.void]:
    """The type of the rows after a header; raises Unreadable if a column's type is not plain."""
    names, formats, places = [], [], []
    for name, kind, shape, place in LAYOUT.decode(layout):
        if not re.fullmatch(r"[<|][biufS]\d+", kind):
            raise Unreadable(f"column {name} is of no plain type")
        names.append(name)
        formats.append((kind, tuple(shape)))
        places.append(place)
    return np.dtype({"names": names, "formats": formats, "offsets": places, "itemsize": row_bytes})
