"""
Our own format: `{"flow": "edge1/xe-0/0/1/in", "time": 1700000000.5, "value": 123}`.

A record is one reading, an array of readings, or readings line by line; `kind`,
`unit` and `capacity` may stand in each and else come from the settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from streamer.core.types import Reason
from streamer.core.wire.parsed import Found, Reading, Refusal

ONE = msgspec.json.Decoder(Reading)
MANY = msgspec.json.Decoder(list[Reading])
RAW = msgspec.json.Decoder(list[msgspec.Raw])
DETAIL_MAX = 200  # characters of a parser's complaint that are kept


def decode(value: bytes) -> Found:
    """
    The readings of a record.

    Nearly all records are sound, so they are decoded straight into structs;
    only where that fails is each element looked at by itself.
    """
    try:
        if value[:1] == b"{" and b"\n" not in value:
            return Found([ONE.decode(value)], [])
        if value.lstrip()[:1] == b"[":
            many = MANY.decode(value)
            return Found(many, [], skipped=not many)
        lines = ONE.decode_lines(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return sift(value)
    return Found(lines, []) if lines else sift(value)


def one_each(
    values: Sequence[bytes], unless: Callable[[bytes], bool] | None
) -> list[Reading] | None:
    """
    The readings of records that hold one each, or None where it is not so.

    They are decoded as the lines of one text, for a third less than one by one. With no more
    line ends than lie between the records, and as many readings as there are records,
    none can have come from two of them. *unless* says what text not to try.
    """
    text = b"\n".join(values)
    if text.count(b"\n") != len(values) - 1 or (unless is not None and unless(text)):
        return None
    try:
        found = ONE.decode_lines(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return found if len(found) == len(values) else None


def sift(value: bytes) -> Found:
    """Each element of a record that is not sound as a whole, by itself."""
    try:
        elements = [bytes(raw) for raw in RAW.decode(value)]
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        elements = [line for line in value.split(b"\n") if line.strip()] or [value]
    found = Found([], [])
    for element in elements:
        try:
            found.readings.append(ONE.decode(element))
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            part = None if len(elements) == 1 else element
            found.refusals.append(Refusal(reason_of(error), part, str(error)[:DETAIL_MAX]))
    return found


def reason_of(error: Exception) -> Reason:
    """A parser's complaint as a reason."""
    if "out of range" in str(error):
        return Reason.NOT_FINITE
    return Reason.WRONG_TYPE if isinstance(error, msgspec.ValidationError) else Reason.NOT_JSON
