"""The console as a process."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading

    from structlog.stdlib import BoundLogger

    from streamer.config.schema import Config

NEEDED = ("starlette", "uvicorn", "plotly")  # that the extra `console` installs
PORTS = range(8080, 8090)
HINT = "pip install 'streamer[console]'"


def lacking() -> list[str]:
    """The packages of the extra that are not installed."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def free_port() -> int:
    """A port of this machine that is free now: the usual one, one of those after it, or any."""
    for port in (*PORTS, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise OSError("there is no free port")


def require_packages() -> None:
    """Raise ConfigError if a package of the extra is not installed."""
    from streamer.config.sources import ConfigError

    if lacking():
        raise ConfigError(f"console: needs {', '.join(lacking())} ({HINT})")


def show(
    config: Config,
    options: Sequence[str],
    lines: BoundLogger,
    stop: threading.Event,
    notify: Callable[[str], None],
) -> None:
    """Serve the console until *stop* is set."""
    from streamer.console.web.server import Console
    from streamer.ops.supervised import supervisor_ended

    console = Console(config, metadata.version("streamer"), options, lines)

    def serving() -> None:
        notify("ready")
        notify("alive")

    console.run(lambda seconds: stop.wait(seconds) or supervisor_ended(), serving)
