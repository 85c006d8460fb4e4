"""
The elements of a record whose value is JSON: one object, an array of them, or one on each line.

An invalid element becomes a refusal and its neighbours are kept. A decoder of one element raises
for what it cannot read: `Unfit` with a reason, or whatever accessing an unexpected
structure raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from streamer.core.types import Reason
from streamer.core.wire.context import Context
from streamer.core.wire.parsed import Found, Reading, Refusal, Unfit
from streamer.core.wire.readings import reason_of
from streamer.core.wire.words import plainly

JSON_ERRORS = (msgspec.DecodeError, UnicodeError, RecursionError)
STRUCTURE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError)
DECODER = msgspec.json.Decoder()

Element = Callable[[Any, Context], Sequence[Reading]]


def elements_of(value: bytes) -> tuple[list[Any], list[Refusal]]:
    """The elements of a JSON value, and the lines of it that are not JSON."""
    try:
        whole = DECODER.decode(value)
    except JSON_ERRORS as error:
        first = error
    else:
        return (whole if isinstance(whole, list) else [whole]), []
    lines = [line for line in value.split(b"\n") if line.strip()]
    if len(lines) < 2:
        return [], [Refusal(reason_of(first), None, plainly(first))]
    found: list[Any] = []
    refusals: list[Refusal] = []
    for line in lines:
        try:
            each = DECODER.decode(line)
        except JSON_ERRORS as error:
            refusals.append(Refusal(reason_of(error), line, plainly(error)))
        else:
            found += each if isinstance(each, list) else [each]
    return found, refusals


def collect(
    elements: Sequence[Any], refusals: list[Refusal], one: Element, context: Context
) -> Found:
    """The readings that *one* finds in each of *elements*."""
    readings: list[Reading] = []
    skipped = int(not elements and not refusals)
    alone = len(elements) + len(refusals) == 1
    for element in elements:
        try:
            found = one(element, context)
        except Unfit as error:
            refusals.append(refusal(error.reason, error, element, alone=alone))
        except STRUCTURE as error:
            refusals.append(refusal(Reason.WRONG_TYPE, error, element, alone=alone))
        else:
            readings += found
            skipped += not found
    return Found(readings, refusals, skipped)


def refusal(reason: Reason, error: Exception, element: object, *, alone: bool) -> Refusal:
    """The refusal of one element; *alone* if it is the whole record."""
    part = None
    if not alone:
        try:
            part = element if isinstance(element, bytes) else msgspec.json.encode(element)
        except (*STRUCTURE, msgspec.MsgspecError):
            part = None
    return Refusal(reason, part, plainly(error))


def number(value: object) -> int | float | str | None:
    """A value that may be a number: None for null, raises TypeError for what is none."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError("the value is not a number")
    return value


def text(value: object) -> str | None:
    """A name: text without the quotes that some devices add, or an integer as text."""
    if isinstance(value, str):
        return value.strip('"') or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def first_of(tags: Mapping[str, Any], names: Iterable[str]) -> Any:  # noqa: ANN401 - JSON
    """The value of the first of *names* that has one in *tags*; None if none has."""
    for name in names:
        found = tags.get(name)
        if found:
            return found
    return None


@lru_cache(maxsize=65_536)
def host_of(address: str) -> str:
    """`host:port` without the port; IPv6 without its brackets."""
    if address[:1] == "[":
        return address[1:].partition("]")[0]
    host, _, port = address.rpartition(":")
    return host if host and ":" not in host and port.isdigit() else address
