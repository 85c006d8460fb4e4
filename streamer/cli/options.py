"""Options that several commands share, and the settings that they lead to."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from streamer.config.types import Duration

if TYPE_CHECKING:
    from streamer.config.schema import Config

Command = TypeVar("Command", bound=Callable[..., Any])

FILE = click.Path(dir_okay=False, path_type=Path)
SETTINGS = click.Path(path_type=Path)  # what is no file is refused where it is read


class DurationType(click.ParamType[Duration]):
    """A duration as in the settings: 500ms, 60s, 5m, 1h, 7d, or 600 for so many seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Duration:
        """Fail with a usage error if *value* is not a duration."""
        try:
            return Duration.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = DurationType()


class SinceType(click.ParamType[float]):
    """A time in the past: an ISO time (UTC unless it has a zone), or how long ago, as 90s or 2h."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Epoch seconds; fail with a usage error if *value* is neither."""
        if isinstance(value, float):
            return value
        try:
            return time.time() - Duration.parse(value)
        except ValueError:
            pass
        try:
            when = datetime.fromisoformat(str(value))
            return when.replace(tzinfo=when.tzinfo or UTC).timestamp()
        except (ValueError, OverflowError):
            self.fail(f"is neither a time nor a duration: {value!r}", param, ctx)


SINCE = SinceType()


def examples(*lines: str) -> str:
    """The end of a command's help: an example of its use."""
    return "\n".join(
        ("\b", "Example:" if len(lines) == 1 else "Examples:", *(f"  {line}" for line in lines))
    )


def config_options(command: Command) -> Command:
    """Add `-c FILE` and `--set path=value`: arguments `path` and `overrides` of *command*."""
    file = click.option(
        "-c",
        "--config",
        "path",
        type=SETTINGS,
        help="Settings, a YAML file. [default: the defaults]",
    )
    override = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="PATH=VALUE",
        help="Override one key, as in --set input.kind=delta. May be given often.",
    )
    return file(override(command))


def log_option(command: Command) -> Command:
    """Add `--log URL`, for commands that need no settings but where the log is."""
    return click.option(
        "--log",
        "url",
        metavar="URL",
        help="kafka://host:port[,host:port] or sqlite:///file; over the settings' own.",
    )(command)


def drawable(plotted: Path | None) -> None:
    """Raise before any long work if *plotted* is wanted and no plotting library is installed."""
    from streamer.plots import NoMatplotlib, require_matplotlib

    if plotted is not None:
        try:
            require_matplotlib()
        except NoMatplotlib as error:
            raise click.ClickException(str(error)) from None


def settings(path: Path | None, overrides: tuple[str, ...] = (), url: str | None = None) -> Config:
    """The settings that the options and the environment lead to; raises ConfigError."""
    from streamer.config.schema import load

    named = () if url is None else (f"log={json.dumps(url)}",)
    return load(path, (*overrides, *named), os.environ)
