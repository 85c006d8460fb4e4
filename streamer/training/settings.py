"""What can be set of the learning; without the network, which takes seconds to import."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from streamer.config.types import Duration, Settings

Part = Annotated[float, msgspec.Meta(gt=0, le=1)]


class FinetuneConfig(Settings, frozen=True, kw_only=True):
    """How a challenger is trained, all in event time."""

    every: Duration = Duration(86400)  # a challenger; sooner where forecasts have become worse
    steps_max: Annotated[int, msgspec.Meta(ge=1)] = 60  # of the optimizer
    learning_rate: Part = 5e-4  # of learning, at its highest
    half_life: Duration = Duration(2 * 86400)  # of a chunk's chance to be taught
    drift: bool = True  # train before it is time, where losses have risen for good


class TrainerConfig(Settings, frozen=True, kw_only=True):
    """The process that learns, and what it may take."""

    enabled: bool = True  # whether `streamer run` starts one beside the forecaster
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, msgspec.Meta(ge=1)] = 1
    nice: Annotated[int, msgspec.Meta(ge=0, le=19)] = 10
    flows_max: Annotated[int, msgspec.Meta(ge=2)] = 512  # that it learns from
    window: Duration = Duration(8 * 86400)  # of event time that it looks back on
    memory_bytes_max: Annotated[int, msgspec.Meta(ge=2**28)] = 2 * 2**30
    hang_timeout: Duration = Duration(600)  # without a sign of life, before it is begun anew
