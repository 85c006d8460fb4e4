"""
Formats log lines on standard error: coloured on a terminal, as plain text, or as JSON.

Lines of libraries that use the standard `logging` have the same format.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal, TypeAlias

import structlog
from structlog.typing import EventDict, Processor

from streamer.text.escape import visible

LogFormat: TypeAlias = Literal["auto", "logfmt", "json", "pretty"]


def begin(look: LogFormat = "auto", level: str = "info") -> None:
    """Write every log line of *level* and above to standard error, in format *look*."""
    if look == "auto":
        look = "pretty" if sys.stderr.isatty() else "logfmt"
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*before, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *looks(look),
            ],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[lines], force=True)


def looks(look: LogFormat) -> list[Processor]:
    """Return the formatters. Tracebacks omit local variables, since some are secrets."""
    plain = structlog.processors.format_exc_info
    if look == "pretty":
        return [
            escaped,
            structlog.dev.ConsoleRenderer(
                timestamp_key="time",
                pad_event_to=20,
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    if look == "json":
        return [plain, structlog.processors.JSONRenderer(ensure_ascii=False, default=str)]
    order = ["time", "level", "event"]
    return [plain, structlog.processors.LogfmtRenderer(key_order=order, drop_missing=True)]


def escaped(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Escape control characters in external text, including newlines; format lists by `repr`."""
    return {
        name: visible(value) if isinstance(value, str) and name != "exception" else value
        for name, value in event.items()
    }
