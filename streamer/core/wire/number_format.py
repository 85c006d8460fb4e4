"""
Numbers to their text, many rows at once.

A Python object for each number of a forecast costs more than all the rest of telling it,
and even a serializer of arrays spends most of its time on finding the shortest digits. So
the numbers of a row are told to one common place, as whole multiples of at most a hundred
thousandth of the largest of them (to five places where that is between .1 and 1). Such a
multiple has six digits, which are looked up in tables, three at a time, and laid into a cell
of fixed width.

What does not fill its width is filled up with NUL bytes, which JSON never holds: `squeezed`
takes them out when rows are cut into records.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

DIGITS = 6  # of a row's largest number; finer than any forecast is true
TINY = 1e-9  # a row whose numbers are all smaller is told as zeros
POINT_MAX = DIGITS - 1  # digits after the point
ZEROS_MAX = 6  # behind the digits; what is larger is told with an exponent
ZEROS_FEW = 3  # they fit a cell of three words
FORMS = POINT_MAX + 2  # of six digits: by the place of their point, and with zeros behind them
EXPONENT_MAX = 39  # no number of single precision needs more

Texts = NDArray[np.bytes_]  # each filled up with NUL bytes
Lines = NDArray[np.uint8]  # (B, width) likewise
Words = NDArray[np.uint32]  # four bytes of text each


def cells(values: NDArray[np.float32]) -> Words:
    """
    The text of each number of B rows, (B, …), with a comma after it: (B, …, 3 or 4).

    A number below zero is told as zero, and one that is none as null.
    """
    inner = (slice(None), *[None] * (values.ndim - 1))
    largest = values.reshape(len(values), -1).max(axis=1, initial=0)
    lost = None
    if not np.isfinite(largest).all():
        lost = ~np.isfinite(values)
        values = np.where(lost, np.float32(0), values)
        largest = values.reshape(len(values), -1).max(axis=1, initial=0)
    places = after_point(largest)
    point = np.clip(places, 0, POINT_MAX)
    whole = np.empty(values.shape, np.float32)
    np.multiply(values, np.power(10.0, places).astype(np.float32)[inner], out=whole)
    number = np.maximum(np.rint(whole, out=whole), 0, out=whole).astype(np.int32)

    heads, tails, ends, ends_few = tables()
    head = number // 1000
    number -= head * 1000
    end = point - places
    row = 1000 * np.where((end > 0) & (end <= ZEROS_MAX), FORMS - 1, point)[inner]
    number += row
    number += np.minimum(head, 1) * (1000 * FORMS)
    head += row
    few = bool(end.max(initial=0) <= ZEROS_FEW)
    told = np.empty((*values.shape, 3 if few else 4), np.uint32)
    told[..., 0] = heads.take(head)
    told[..., 1] = tails.take(number)
    if few:
        told[..., 2] = ends_few.take(end + EXPONENT_MAX)[inner]
    else:
        told.view(np.uint64)[..., 1] = ends.take(end + EXPONENT_MAX)[inner]
    if lost is not None:
        told[lost] = np.frombuffer(b"null".ljust(4 * told.shape[-1] - 1, b"\0") + b",", np.uint32)
    return told


def after_point(largest: NDArray[np.float32]) -> NDArray[np.int32]:
    """How many digits after the point a row is told to; below zero: before it."""
    known = np.where(largest < TINY, 10.0**POINT_MAX, largest.astype(np.float64))
    size = np.floor(np.log10(known * (1 + 2e-6)))  # rounded up, it must not grow a digit
    places = (POINT_MAX - size).astype(np.int32)
    return np.where(places == POINT_MAX + 1, POINT_MAX, places)  # 0.5 rather than 5.0e-1


def listed(told: Words) -> Texts:
    """Cells (B, …, N, words) of N numbers as the inside of a JSON array, (B, …)."""
    text = told.view(np.uint8)
    text[..., -1, -1] = 0
    return text.reshape(*told.shape[:-2], -1).view(f"S{told.shape[-2] * text.shape[-1]}")[..., 0]


def beside(parts: Sequence[bytes | Texts], rows: int) -> Lines:
    """Texts side by side, those that are the same in all *rows* and those of each."""
    kinds: list[np.dtype[Any]] = [np.asarray(part).dtype for part in parts]
    line = np.zeros(rows, [(str(place), kind) for place, kind in enumerate(kinds)])
    for place, part in enumerate(parts):
        line[str(place)] = part
    return line.view(np.uint8).reshape(rows, -1)


def squeezed(lines: Lines) -> bytes:
    """The text of *lines*, one behind the other, without what they were filled up with."""
    return lines.tobytes().translate(None, b"\0")


def shared(values: Sequence[Any], text: Callable[[Any], bytes]) -> bytes | Texts:
    """The *text* of each of *values*, of which few differ; one for all where none does."""
    known = {value: text(value) for value in set(values)}
    if len(known) == 1:
        return next(iter(known.values()))
    return np.array([known[value] for value in values])


class Tables(NamedTuple):
    """
    Texts to look up.

    Of heads, the first three of six digits, there are 1000 of each form; of tails, the last
    three, likewise for those that stand behind no head, and again for those that do. The
    middle one of the ends is of no exponent.
    """

    heads: Words
    tails: Words
    ends: NDArray[np.uint64]
    ends_few: Words


@functools.cache
def tables() -> Tables:
    """Made when they are first needed, in some milliseconds."""
    points, numbers = [*range(POINT_MAX + 1), 0], range(1000)
    heads = [head(f"{number:03}", DIGITS - point) for point in points for number in numbers]
    tails = [
        tail(f"{number:03}", DIGITS - 3 - point, begun=begun)
        for begun in (False, True)
        for point in points
        for number in numbers
    ]
    tails[1000 * (FORMS - 1)] = "0."  # since 00 is no number
    exponents = range(-EXPONENT_MAX, EXPONENT_MAX + 1)
    ends = ["0" * e if 0 <= e <= ZEROS_MAX else f"e{e}" for e in exponents]
    few = [end[:3] for end in ends]
    return Tables(
        heads=np.array(heads, "S4").view(np.uint32),
        tails=np.array(tails, "S4").view(np.uint32),
        ends=np.array([f"{end:\0<7}," for end in ends], "S8").view(np.uint64),
        ends_few=np.array([f"{end:\0<3}," for end in few], "S4").view(np.uint32),
    )


def head(digits: str, whole: int) -> str:
    """The first three of six digits, *whole* of which stand before the point."""
    if whole >= len(digits):
        return digits.lstrip("0") or "0" * (whole == len(digits))
    return f"{int(digits[:whole])}.{digits[whole:]}"


def tail(digits: str, whole: int, *, begun: bool) -> str:
    """The last three, with *whole* of them before the point; *begun*: a digit stands before."""
    if whole <= 0:
        return "." * (whole == 0) + digits
    before = digits[:whole] if begun else str(int(digits[:whole]))
    return before + "." * (whole < len(digits)) + digits[whole:]
