"""
The records of the models topic: weights by generation, and the incumbent.

    weights/7      safetensors, as `core/network/model.py` packs them
    incumbent      {"generation": 7, "previous": 6, "since": 1700000100, "reason": "promoted"}
    contest/7      the verdict on challenger 7 and its gain, flat JSON
    rollback/7     the reason why generation 7 was rolled back, flat JSON

The topic is compacted and has one partition, so its records are ordered: the last
`incumbent` decides, and it is written after the weights that it names. Generation 0 is the model
from the settings; its weights are never in the topic.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

INCUMBENT = b"incumbent"
KEY = re.compile(rb"(weights|contest|rollback)/([1-9][0-9]{0,17})")

Number = Annotated[int, msgspec.Meta(ge=0, lt=10**18)]  # the number of a generation


class Incumbent(msgspec.Struct, frozen=True):
    """The generation that serves from now on. Unknown fields are ignored."""

    generation: Number  # 0: the model from the settings
    previous: Number  # the generation that served before
    since: float  # event time of the newest reading that the decision is based on
    reason: Literal["promoted", "rolled_back", "by_hand", "shipped"]


INCUMBENTS = msgspec.json.Decoder(Incumbent)


def weights_key(generation: int) -> bytes:
    """The key of a generation's weights."""
    return b"weights/%d" % generation


def contest_key(generation: int) -> bytes:
    """The key of the contest of the challenger with this number."""
    return b"contest/%d" % generation


def rollback_key(generation: int) -> bytes:
    """The key of a generation's rollback."""
    return b"rollback/%d" % generation


def numbered(key: bytes | None) -> tuple[str, int] | None:
    """The parts of a key: `("weights", 7)`; None for `incumbent` and for unknown keys."""
    found = KEY.fullmatch(key or b"")
    return None if found is None else (found[1].decode(), int(found[2]))


def encode(incumbent: Incumbent) -> bytes:
    """The value of the record under INCUMBENT."""
    return msgspec.json.encode(incumbent)


def decode(value: bytes) -> Incumbent:
    """The inverse of `encode`; raises ValueError if the value is not an incumbent record."""
    return INCUMBENTS.decode(value)
