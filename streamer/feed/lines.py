"""
The lines of a file or a pipe, unpacked where they are gzip, a chunk at a time.

A pipe may fall silent in the middle. Then a batch without lines comes, and
another each half second, so that the reader can send what it has, and stop.
"""

from __future__ import annotations

import codecs
import os
import select
import stat
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import IO

CHUNK_BYTES = 256 << 10  # read at once
PIECE_BYTES = 1 << 20  # unpacked at once, however much a chunk holds
LINE_BYTES_MAX = 8 << 20  # a longer line comes in pieces
WAIT_S = 0.5
GZIP = b"\x1f\x8b"


class Lines:
    """
    Iterating gives batches of lines, without their ends; may be done once.

    How far it is can be seen in `bytes_read` beside `bytes_total` (as they lie in
    the file, packed or not; None if it is unknown), and in `broken` after the
    end: why it ended too early, None if it didn't.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._fd = file.fileno()
        status = os.fstat(self._fd)
        self._may_wait = not stat.S_ISREG(status.st_mode)
        self.bytes_total = None if self._may_wait else status.st_size
        self.bytes_read = 0
        self.broken: str | None = None

    def __iter__(self) -> Iterator[Sequence[bytes]]:
        rest = b""
        try:
            for chunk in as_utf8(self._unpacked()):
                whole, newline, tail = chunk.rpartition(b"\n")
                if newline:
                    yield (rest + whole).split(b"\n")
                    rest = tail
                elif not chunk or len(rest) + len(tail) > LINE_BYTES_MAX:
                    yield [rest + tail] if chunk else []
                    rest = b"" if chunk else rest
                else:
                    rest += tail
        except (zlib.error, OSError) as error:
            self.broken = str(error)
        if rest and self.broken is None:  # else it may be half a line, with half a number
            yield [rest]

    def _unpacked(self) -> Iterator[bytes]:
        """Chunks as they were before they were packed; an empty one if nothing has arrived yet."""
        head = b""
        chunks = self._chunks()
        for chunk in chunks:
            head += chunk
            if len(head) >= len(GZIP):
                break
            yield b""
        if not head.startswith(GZIP):
            yield from chain([head] if head else [], chunks)
            return
        unpacker = Unpacker()
        for chunk in chain([head], chunks):
            yield from unpacker.pieces(chunk) if chunk else [b""]
        if not unpacker.is_complete:
            self.broken = "it ends in the middle of what was packed"

    def _chunks(self) -> Iterator[bytes]:
        while True:
            if self._may_wait and not self._is_ready(0):
                yield b""
                if not self._is_ready(WAIT_S):
                    continue
            chunk = os.read(self._fd, CHUNK_BYTES)
            if not chunk:
                return
            self.bytes_read += len(chunk)
            yield chunk

    def _is_ready(self, wait_s: float) -> bool:
        return bool(select.select([self._fd], [], [], wait_s)[0])


def as_utf8(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """UTF-16 with a byte order mark as UTF-8, and UTF-8 without its mark; the rest as it is."""
    decoder: codecs.IncrementalDecoder | None = None
    started = False
    for chunk in chunks:
        first = bool(chunk) and not started
        if first:
            started = True
            if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                decoder = codecs.getincrementaldecoder("utf-16")(errors="replace")
        text = chunk if decoder is None else decoder.decode(chunk).encode()
        yield text.removeprefix(codecs.BOM_UTF8) if first else text


class Unpacker:
    """Gzip files, strung together or filled up with zeros as they may be."""

    def __init__(self) -> None:
        self._file = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    @property
    def is_complete(self) -> bool:
        """Whether the end of a file was reached."""
        return self._file.eof

    def pieces(self, packed: bytes) -> Iterator[bytes]:
        """What is in the next bytes; raises zlib.error if they are invalid."""
        while packed:
            if self._file.eof:
                packed = packed.lstrip(b"\0")
                if not packed:
                    return
                self._file = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
            if piece := self._file.decompress(packed, PIECE_BYTES):
                yield piece
            packed = self._file.unconsumed_tail or self._file.unused_data
