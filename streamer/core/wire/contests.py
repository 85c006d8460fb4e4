"""
The records of contests and rollbacks: flat JSON under their keys of the models topic.

Times are event times, epoch seconds; gains are shares: 0.01 is one per cent less loss.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Contest(msgspec.Struct, frozen=True, kw_only=True):
    """A contest of a challenger with the incumbent at the time."""

    schema: int = 1
    generation: int  # the challenger's number
    incumbent: int
    verdict: Literal["promoted", "refused"]
    reason: str  # a value of `promotion.Reason`
    gain: float  # the share of the incumbent's loss that the challenger saves, mean over flows
    gain_low: float  # lower bound of the gain at the configured confidence
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
    judged_from: float  # the span of this contest
    judged_until: float
    contests: int = 1  # number of consecutive contests that the gain is computed from
    steps: int  # number of optimizer steps
    drifted: bool  # whether the contest was started because losses had risen
    digest: str  # SHA-256 of the challenger's weights
    parent: str  # digest of the weights that its training began with
    seconds: float  # duration of training and contest


class Rollback(msgspec.Struct, frozen=True, kw_only=True):
    """The rollback of a generation that did worse on later traffic than its predecessor."""

    schema: int = 1
    generation: int  # that was rolled back
    restored: int  # that serves again
    reason: str
    gain: float  # of the generation rolled back over the restored one: below 0
    gain_low: float
    gain_high: float
    coverage: float
    coverage_restored: float
    flows: int
    flows_worst: list[str]
    trained_from: float  # the span that is excluded from later training
    trained_until: float
    judged_from: float
    judged_until: float


CONTESTS = msgspec.json.Decoder(Contest)
ROLLBACKS = msgspec.json.Decoder(Rollback)


def encode(result: Contest | Rollback) -> bytes:
    """The record's value."""
    return msgspec.json.encode(result)


def decode_contest(value: bytes) -> Contest:
    """The inverse of `encode`; raises ValueError if the value is not a contest."""
    return CONTESTS.decode(value)


def decode_rollback(value: bytes) -> Rollback:
    """The inverse of `encode`; raises ValueError if the value is not a rollback."""
    return ROLLBACKS.decode(value)
