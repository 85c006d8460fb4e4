"""Settings of the training, without the network, which takes seconds to import."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from streamer.config.types import Duration, Settings

Part = Annotated[float, msgspec.Meta(gt=0, le=1)]


class FinetuneConfig(Settings, frozen=True, kw_only=True):
    """How a challenger is trained; durations are in event time."""

    every: Duration = Duration(86400)  # time between challengers; shorter after a drift
    # maximum number of optimizer steps
    steps_max: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 60
    learning_rate: Part = 5e-4  # peak learning rate
    half_life: Duration = Duration(2 * 86400)  # half-life of a chunk's probability of being drawn
    drift: bool = True  # train early if losses have risen persistently


class TrainerConfig(Settings, frozen=True, kw_only=True):
    """The training process, and its limits."""

    enabled: bool = True  # whether `streamer run` starts a trainer beside the forecaster
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1
    nice: Annotated[int, msgspec.Meta(ge=0, le=19)] = 10
    flows_max: Annotated[int, msgspec.Meta(ge=2, le=1_000_000)] = 512  # maximum size of the sample
    window: Duration = Duration(8 * 86400)  # event time that the history covers
    memory_bytes_max: Annotated[int, msgspec.Meta(ge=2**28, le=2**50)] = 2 * 2**30
    # time without a sign of life before the process is restarted
    hang_timeout: Duration = Duration(600)
