"""Any JSON object by a mapping of the settings: paths to the flow's name, time and values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from streamer.config.types import Settings
from streamer.core.wire.context import Context
from streamer.core.wire.documents import number, text
from streamer.core.wire.parsed import KindName, Reading
from streamer.core.wire.times import epoch

Path = Annotated[str, msgspec.Meta(min_length=1)]


class MappingConfig(Settings, frozen=True, kw_only=True):
    """Paths are names with dots between them, as `device.name`; a whole name may have dots too."""

    flow: Annotated[tuple[Path, ...], msgspec.Meta(min_length=1)]  # joined by / to the flow's name
    values: Annotated[dict[str, Path], msgspec.Meta(min_length=1)]  # by the end of the flow's name
    time: Path | None = None  # None: the record's timestamp
    kind: KindName = "counter"
    unit: Annotated[str, msgspec.Meta(min_length=1, max_length=12, pattern="^[ -~]*$")] = "B"
    capacity: Path | None = None  # in units per second


def matches(d: Mapping[str, Any], mapping: MappingConfig) -> bool:
    """Whether an object has the flow's name and one of the values."""
    return all(text(at(d, path)) for path in mapping.flow) and any(
        at(d, path) is not None for path in mapping.values.values()
    )


def readings(d: Mapping[str, Any], mapping: MappingConfig, context: Context) -> list[Reading]:
    """The readings of one object; raises LookupError if it lacks a path."""
    names = [text(at(d, path)) for path in mapping.flow]
    if not all(names):
        raise LookupError(f"it has no {mapping.flow[names.index(None)]}")
    stamp = None if mapping.time is None else at(d, mapping.time)
    time = context.now() if mapping.time is None else epoch(stamp, context.options.timezone)
    speed = None if mapping.capacity is None else at(d, mapping.capacity)
    capacity = float(speed) if isinstance(speed, (int, float)) else None
    base = "/".join(str(name) for name in names)
    found = []
    for end, path in mapping.values.items():
        value = number(at(d, path))
        if value is None:
            context.skip(path)
            continue
        flow = f"{base}/{end}" if end else base
        found.append(Reading(flow, time, value, mapping.kind, mapping.unit, capacity))
    return found


def at(d: Any, path: str) -> Any:  # noqa: ANN401 - JSON
    """What stands at *path*; None if there is nothing."""
    if isinstance(d, dict) and path in d:
        return d[path]
    first, _, rest = path.partition(".")
    if isinstance(d, dict):
        inner = d.get(first)
    elif isinstance(d, list) and first.isdigit() and int(first) < len(d):
        inner = d[int(first)]
    else:
        return None
    return at(inner, rest) if rest else inner
