"""
The project's own format: `{"flow": "edge1/xe-0/0/1/in", "time": 1700000000.5, "value": 123}`.

A record is one reading, an array of readings, or one reading per line. `kind`,
`unit` and `capacity` are optional in each reading; the defaults come from the settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from streamer.core.types import Reason
from streamer.core.wire.parsed import Found, Reading, Refusal
from streamer.core.wire.words import plainly

ONE = msgspec.json.Decoder(Reading)
MANY = msgspec.json.Decoder(list[Reading])
RAW = msgspec.json.Decoder(list[msgspec.Raw])


def decode(value: bytes) -> Found:
    """
    The readings of a record.

    Nearly all records are valid, so they are decoded directly into structs.
    If that fails, each element is decoded separately.
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
    The readings of records that contain one each, or None if that is not so.

    They are decoded as the lines of one text, for a third less time than one by one. If the text
    has only the line feeds between the records, and as many readings as records,
    no reading spans two records. *unless* matches text that is not to be tried.
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
    """Decode each element of an invalid record separately."""
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
            found.refusals.append(Refusal(reason_of(error), part, plainly(error)))
    return found


def reason_of(error: Exception) -> Reason:
    """The reason for a parser's error."""
    if "out of range" in str(error):
        return Reason.NOT_FINITE
    return Reason.WRONG_TYPE if isinstance(error, msgspec.ValidationError) else Reason.NOT_JSON
