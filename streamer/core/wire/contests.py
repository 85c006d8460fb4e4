"""
How contests and rollbacks are told, flat JSON under their keys of the models topic.

Times are event times, epoch seconds; gains are shares: 0.01 is one per cent less loss.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Contest(msgspec.Struct, frozen=True, kw_only=True):
    """A challenger against the incumbent of its time."""

    schema: int = 1
    generation: int  # the challenger's number
    incumbent: int
    verdict: Literal["promoted", "refused"]
    reason: str  # as `core/contest.py` has them
    gain: float  # mean over flows of the incumbent's loss that the challenger saves …
    gain_low: float  # … and what it may truly be
    gain_high: float
    loss_challenger: float  # mean over flows of the quantile loss over the flow's mean rate
    loss_incumbent: float
    coverage_challenger: float  # share of rates within the 90 % band, before calibration
    coverage_incumbent: float
    flows: int
    class_worst: str
    class_gain: float
    flows_worst: list[str]
    trained_from: float
    trained_until: float
    judged_from: float  # of this contest …
    judged_until: float
    contests: int = 1  # … and with it so many, one after the other, that the gain is of
    steps: int  # of the optimizer
    drifted: bool  # whether it was held because losses had risen
    digest: str  # SHA-256 of the challenger's weights
    parent: str  # of those that it was taught from
    seconds: float  # that training and contest took


class Rollback(msgspec.Struct, frozen=True, kw_only=True):
    """A generation that did worse on later traffic than the one before it would have."""

    schema: int = 1
    generation: int  # that was taken back
    restored: int  # that serves again
    reason: str
    gain: float  # of the one taken back over the one restored: below 0
    gain_low: float
    gain_high: float
    coverage: float
    coverage_restored: float
    flows: int
    flows_worst: list[str]
    trained_from: float  # the span that is never trained on again
    trained_until: float
    judged_from: float
    judged_until: float


CONTESTS = msgspec.json.Decoder(Contest)
ROLLBACKS = msgspec.json.Decoder(Rollback)


def encode(told: Contest | Rollback) -> bytes:
    """As the topic has it."""
    return msgspec.json.encode(told)


def decode_contest(value: bytes) -> Contest:
    """Back from `encode`; raises ValueError where it is none."""
    return CONTESTS.decode(value)


def decode_rollback(value: bytes) -> Rollback:
    """Back from `encode`; raises ValueError where it is none."""
    return ROLLBACKS.decode(value)
