"""
Formatting of numbers as text, many rows at once.

A Python object for each number of a forecast costs more than the rest of the encoding,
and even a serializer of arrays spends most of its time on finding the shortest digits. Therefore
the numbers of a row are rounded to a common decimal place, as integer multiples of at most one
hundred thousandth of the largest of them (to five places if that is between .1 and 1). Such a
multiple has six digits, which are looked up in tables, three at a time, and written into a cell
of fixed width.

Unused bytes of a cell are NUL, which JSON never contains: `squeezed`
removes them when rows are cut into records.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

DIGITS = 6  # of a row's largest number; finer than the accuracy of any forecast
TINY = 1e-30  # a row whose numbers are all smaller is written as zeros
POINT_MAX = DIGITS - 1  # digits after the point
ZEROS_MAX = 6  # zeros after the digits; larger numbers are written with an exponent
ZEROS_FEW = 3  # zeros that fit a cell of three words …
EXPONENT_FEW = 9  # … and negative exponents: e-9 does, e-10 does not
FORMS = POINT_MAX + 2  # forms of six digits: one per position of the point, and one before zeros
EXPONENT_MAX = 39  # no number of single precision needs a larger one

Texts = NDArray[np.bytes_]  # each padded with NUL bytes
Lines = NDArray[np.uint8]  # (B, width) bytes, padded with NUL bytes
Words = NDArray[np.uint32]  # four bytes of text each


def cells(values: NDArray[np.float32]) -> Words:
    """
    The text of each number of B rows, (B, …), followed by a comma: (B, …, 3 or 4).

    A negative number is written as zero, and a number that is not finite as null.
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
    few = bool(end.max(initial=0) <= ZEROS_FEW and end.min(initial=0) >= -EXPONENT_FEW)
    encoded = np.empty((*values.shape, 3 if few else 4), np.uint32)
    encoded[..., 0] = heads.take(head)
    encoded[..., 1] = tails.take(number)
    if few:
        encoded[..., 2] = ends_few.take(end + EXPONENT_MAX)[inner]
    else:
        encoded.view(np.uint64)[..., 1] = ends.take(end + EXPONENT_MAX)[inner]
    if lost is not None:
        encoded[lost] = np.frombuffer(
            b"null".ljust(4 * encoded.shape[-1] - 1, b"\0") + b",", np.uint32
        )
    return encoded


def after_point(largest: NDArray[np.float32]) -> NDArray[np.int32]:
    """The number of digits after the point for each row; negative: places before the point."""
    known = np.where(largest < TINY, 10.0**POINT_MAX, largest.astype(np.float64))
    size = np.floor(np.log10(known * (1 + 2e-6)))  # so that rounding up does not add a digit
    places = (POINT_MAX - size).astype(np.int32)
    return np.where(places == POINT_MAX + 1, POINT_MAX, places)  # 0.5 rather than 5.0e-1


def listed(words: Words) -> Texts:
    """Cells (B, …, N, words) of N numbers as the inside of a JSON array, (B, …)."""
    text = words.view(np.uint8)
    text[..., -1, -1] = 0
    return text.reshape(*words.shape[:-2], -1).view(f"S{words.shape[-2] * text.shape[-1]}")[..., 0]


def beside(parts: Sequence[bytes | Texts], rows: int) -> Lines:
    """Texts joined side by side: texts that all *rows* share and texts of each row."""
    kinds: list[np.dtype[Any]] = [np.asarray(part).dtype for part in parts]
    line = np.zeros(rows, [(str(place), kind) for place, kind in enumerate(kinds)])
    for place, part in enumerate(parts):
        line[str(place)] = part
    return line.view(np.uint8).reshape(rows, -1)


def squeezed(lines: Lines) -> bytes:
    """The text of *lines*, joined, without padding."""
    return lines.tobytes().translate(None, b"\0")


def shared(values: Sequence[Any], text: Callable[[Any], bytes]) -> bytes | Texts:
    """The *text* of each of *values*, of which few differ; a single text if all are equal."""
    known = {value: text(value) for value in set(values)}
    if len(known) == 1:
        return next(iter(known.values()))
    return np.array([known[value] for value in values])


class Tables(NamedTuple):
    """
    Lookup tables of texts.

    Heads are the first three of six digits: 1000 entries for each form. Tails are the last
    three: 1000 entries for each form without digits before them, and again for each form with
    digits before them. The middle entry of the ends has no exponent.
    """

    heads: Words
    tails: Words
    ends: NDArray[np.uint64]
    ends_few: Words


@functools.cache
def tables() -> Tables:
    """The tables, computed on first use in a few milliseconds."""
    points, numbers = [*range(POINT_MAX + 1), 0], range(1000)
    heads = [head(f"{number:03}", DIGITS - point) for point in points for number in numbers]
    tails = [
        tail(f"{number:03}", DIGITS - 3 - point, after_digit=after_digit)
        for after_digit in (False, True)
        for point in points
        for number in numbers
    ]
    tails[1000 * (FORMS - 1)] = "0."  # because 00 is not a valid number
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
    """The first three of six digits, *whole* of which are before the point."""
    if whole >= len(digits):
        return digits.lstrip("0") or "0" * (whole == len(digits))
    return f"{int(digits[:whole])}.{digits[whole:]}"


def tail(digits: str, whole: int, *, after_digit: bool) -> str:
    """The last three digits, *whole* of them before the point; *after_digit*: others precede."""
    if whole <= 0:
        return "." * (whole == 0) + digits
    before = digits[:whole] if after_digit else str(int(digits[:whole]))
    return before + "." * (whole < len(digits)) + digits[whole:]
