"""
What the models topic says: weights by generation, and which of them serve.

    weights/7      safetensors, as `core/model.py` packs them
    incumbent      {"generation": 7, "previous": 6, "since": 1700000100, "reason": "promoted"}
    contest/7      who won and by how much, flat JSON
    rollback/7     why generation 7 was taken back, flat JSON

The topic is compacted and has one partition, so its records have one order: the last
`incumbent` decides, and it comes after the weights that it names. Generation 0 is what
the settings have; its weights are never in the topic.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

INCUMBENT = b"incumbent"
KEY = re.compile(rb"(weights|contest|rollback)/([1-9][0-9]{0,17})")

Number = Annotated[int, msgspec.Meta(ge=0, lt=10**18)]  # of a generation


class Incumbent(msgspec.Struct, frozen=True):
    """Which generation serves from now on. Fields that are not known here are passed over."""

    generation: Number  # 0: what the settings have
    previous: Number  # that served before
    since: float  # event time of the newest reading that the decision rests on
    reason: Literal["promoted", "rolled_back", "by_hand", "shipped"]


INCUMBENTS = msgspec.json.Decoder(Incumbent)


def weights_key(generation: int) -> bytes:
    """Under which the weights of a generation lie."""
    return b"weights/%d" % generation


def contest_key(generation: int) -> bytes:
    """Under which lies the contest that a challenger of this number fought."""
    return b"contest/%d" % generation


def rollback_key(generation: int) -> bytes:
    """Under which lies why a generation was taken back."""
    return b"rollback/%d" % generation


def numbered(key: bytes | None) -> tuple[str, int] | None:
    """What a key is of: `("weights", 7)`; None for `incumbent` and for what is no key of ours."""
    found = KEY.fullmatch(key or b"")
    return None if found is None else (found[1].decode(), int(found[2]))


def encode(incumbent: Incumbent) -> bytes:
    """As the topic has it under INCUMBENT."""
    return msgspec.json.encode(incumbent)


def decode(value: bytes) -> Incumbent:
    """Back from `encode`; raises ValueError where it says nothing of the kind."""
    return INCUMBENTS.decode(value)
