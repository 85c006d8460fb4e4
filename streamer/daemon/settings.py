"""The settings of a forecaster's turns, of saved pages, and of new generations."""

from __future__ import annotations

from typing import Annotated

import msgspec

from streamer.config.types import Duration, Settings


class TurnConfig(Settings, frozen=True, kw_only=True):
    """Limits of one turn."""

    records_max: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000
    # approximate, as a record may hold many readings
    readings_max: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 50_000
    poll_timeout: Duration = Duration(0.1)  # how long a poll waits for records


class StateConfig(Settings, frozen=True, kw_only=True):
    """The topic that rows are saved to, and the interval."""

    topic: str | None = None  # None: <group>.state
    interval: Duration = Duration(60)  # each page is saved once per interval


class GenerationConfig(Settings, frozen=True, kw_only=True):
    """The topic that generations are read from, and the speed of a rollout."""

    topic: str | None = None  # None: <group>.models
    rollout_time_share: Annotated[float, msgspec.Meta(ge=0.01, le=1)] = (
        0.2  # share of the duration of each turn
    )
