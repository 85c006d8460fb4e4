"""The settings of the console."""

from __future__ import annotations

from typing import Annotated

import msgspec

from streamer.config.types import Duration, Settings

Bind = Annotated[str, msgspec.Meta(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^:\[\]\s]+):\d{1,5}\Z")]


class ConsoleConfig(Settings, frozen=True, kw_only=True):
    """Where the console is served, and how much of the log it keeps in memory."""

    enabled: bool = False
    bind: Bind = "127.0.0.1:8080"
    hosts: tuple[str, ...] = ()  # names, beside addresses and localhost, that it answers to
    keep: Duration = Duration(86400)
    flows_max: Annotated[int, msgspec.Meta(ge=1, le=2_000_000)] = 200_000
    history_bytes_max: Annotated[int, msgspec.Meta(ge=1 << 20, le=1 << 36)] = 256 << 20
    catch_up_max: Annotated[int, msgspec.Meta(ge=1000, le=100_000_000)] = (
        300_000  # forecasts read at the start
    )
