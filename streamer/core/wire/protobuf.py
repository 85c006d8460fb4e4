"""Reading protobuf without a schema: field numbers and raw values, as far as decoders need them."""

from __future__ import annotations

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
VARINT_BYTES_MAX = 10


def varint(value: bytes, at: int) -> tuple[int, int]:
    """The varint at *at*, and where the next byte is; raises ValueError."""
    found = shift = 0
    for place in range(at, min(at + VARINT_BYTES_MAX, len(value))):
        byte = value[place]
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found & (2**64 - 1), place + 1
        shift += 7
    raise ValueError("it ends within a varint")


def fields(value: bytes) -> list[tuple[int, int | bytes]]:
    """The fields of a message: numbers are unsigned, the rest is bytes; raises ValueError."""
    found: list[tuple[int, int | bytes]] = []
    at, end = 0, len(value)
    while at < end:
        tag = value[at]
        at += 1
        if tag >= 0x80:
            tag, at = varint(value, at - 1)
        wire, number = tag & 7, tag >> 3
        if number == 0:
            raise ValueError("a field has the number 0")
        if wire in {FIXED64, FIXED32}:
            length = 8 if wire == FIXED64 else 4
        elif wire in {VARINT, BYTES}:
            if at >= end:
                raise ValueError("it ends within a field")
            length = value[at]
            at += 1
            if length >= 0x80:
                length, at = varint(value, at - 1)
            if wire == VARINT:
                found.append((number, length))
                continue
        else:
            raise ValueError(f"the wire type {wire} is unknown")
        last = at + length
        if last > end:
            raise ValueError("it ends within a field")
        part = value[at:last]
        at = last
        found.append((number, part if wire == BYTES else int.from_bytes(part, "little")))
    return found


def frames(value: bytes) -> list[bytes]:
    """Messages that each follow their length as a varint; raises ValueError."""
    found, at = [], 0
    while at < len(value):
        length, at = varint(value, at)
        if length == 0 or at + length > len(value):
            raise ValueError("a length does not fit")
        found.append(value[at : at + length])
        at += length
    return found
