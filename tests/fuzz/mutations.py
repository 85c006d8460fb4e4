"""Bytes made from bytes, by chance: for where no guided fuzzer is to be had."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

ODD = (
    b"\0",
    b"\xff",
    b'"',
    b"{",
    b"[",
    b"]",
    b"}",
    b",",
    b"-",
    b"e999",
    b"null",
    b"9" * 30,
    b"\x1e",
)


def mutations(seeds: Sequence[bytes], number: int, seed: int) -> Iterator[bytes]:
    """The *seeds*, then *number* of their offspring; the same for the same *seed*."""
    yield from seeds
    chance = Random(seed)
    for _ in range(number):
        given = bytearray(chance.choice(seeds))
        for _ in range(chance.choice([1, 1, 2, 8])):
            at = chance.randrange(len(given) + 1)
            end = min(len(given), at + chance.choice([0, 1, 1, 4, 30]))
            other = chance.choice(seeds)
            cut = chance.randrange(len(other) + 1)
            given[at:end] = chance.choice(
                [b"", chance.choice(ODD), chance.randbytes(2), other[cut : cut + 20]]
            )
        yield bytes(given)
