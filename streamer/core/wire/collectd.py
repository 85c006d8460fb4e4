"""
collectd's JSON and Command formats, and Graphite's plaintext in general.

The values are counters or rates by `StoreRates`, and the messages do not contain which: dstypes are
those of the type in both cases. By default values with a fraction are rates and integers
are counters; a mixture is refused, and whole zeros alone are skipped, because they may be either.
`input.collectd` sets it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from streamer.core.types import Reason
from streamer.core.wire.context import PLAIN, Context, reading
from streamer.core.wire.documents import collect
from streamer.core.wire.parsed import Found, KindName, Reading, Refusal, Unfit
from streamer.core.wire.times import epoch

LINE = re.compile(
    rb"\s*[^\s={\[]\S* (?:[-+0-9.eE]+|[-+]?(?:nan|inf)) -?[0-9]+(?:\.[0-9]+)?\s*(?:\n|$)",
    re.IGNORECASE,
)
COUNTED = {"derive", "counter", "absolute"}
ROOTS = {"collectd", "telegraf", "graphite", "servers", "hosts", "metrics", "stats"}
BETWEEN = {"interface", "net", "network", "snmp", "if_octets", "netlink"}
COMMAND = re.compile(r'PUTVAL\s+("[^"]*"|\S+)((?:\s+\w+=\S+)*)\s+(\S+)\s*$')


def is_json(d: Mapping[str, Any]) -> bool:
    """Whether an object is a value list of collectd's."""
    return "dstypes" in d and "values" in d and "plugin" in d


def is_graphite(value: bytes) -> bool:
    """Whether text begins with a line of a path, a value and a time."""
    return LINE.match(value[:4096]) is not None


def is_command(value: bytes) -> bool:
    """Whether text is a command of collectd's."""
    return value.lstrip()[:7].upper() == b"PUTVAL "


def json(d: Mapping[str, Any], context: Context) -> list[Reading]:
    """The readings of a value list."""
    names = [f"{d['type']}.{name}" for name in d["dsnames"]]
    interface = _interface(d.get("plugin_instance"), d.get("type_instance"))
    types = d["dstypes"]
    values = [None if value is None else value for value in d["values"]]
    return _values(d["host"], interface, names, values, types, epoch(d["time"]), context)


def decode_command(value: bytes, context: Context = PLAIN) -> Found:
    """The readings of PUTVAL lines."""
    return _lines(value, _command, context)


def decode_graphite(value: bytes, context: Context = PLAIN) -> Found:
    """The readings of plaintext lines."""
    return _lines(value, _graphite, context)


def _lines(value: bytes, one: Any, context: Context) -> Found:  # noqa: ANN401 - a decoder of lines
    lines = [line for line in value.split(b"\n") if line.strip()]
    if not lines:
        return Found([], [Refusal(Reason.WRONG_TYPE, None, "it has no lines")])
    return collect(lines, [], one, context)


def _command(line: bytes, context: Context) -> list[Reading]:
    found = COMMAND.match(line.decode().strip())
    if found is None:
        raise ValueError("it is not PUTVAL with a name and values")
    host, plugin, kind = found[1].strip('"').rsplit("/", 2)
    type_name = kind.partition("-")[0]
    if type_name != "if_octets" and context.table.find("collectd", f"{type_name}.rx") is None:
        context.skip(type_name)
        return []
    time, *values = found[3].split(":")
    names = [f"{type_name}.{name}" for name in ("rx", "tx")][: len(values)]
    numbers = [None if each in {"U", "nan"} else _number(each) for each in values]
    instance = _interface(plugin.partition("-")[2], kind.partition("-")[2])
    types = ["derive"] * len(names)
    return _values(host, instance, names, numbers, types, epoch(float(time)), context)


def _graphite(line: bytes, context: Context) -> list[Reading]:
    path, value, stamp = line.decode().split()
    name, *marks = path.split(";")
    tags = {key: value for key, _, value in (mark.partition("=") for mark in marks)}
    parts = name.split(".")
    last = ".".join(parts[-2:])
    field, used = (last, 2) if context.table.of("graphite").get(last) else (parts[-1], 1)
    row = context.table.find("graphite", field)
    if row is None:
        context.skip(last)
        return []
    if value.lower() in {"nan", "-nan"}:
        context.skip("nan")
        return []
    if tags.get("host"):
        host = tags["host"]
        interface = tags.get("plugin_instance") or tags.get("interface") or ""
    else:
        host, interface = _place(parts[:-used])
    number = _number(value)
    assert number is not None
    kind: KindName | None = context.options.kind
    if kind == "counter":
        kind = kind_of([number], ["derive"], context)
    if kind is None:
        return []
    label = "/".join(each for each in (host, interface) if each)
    time = epoch(float(stamp) if "." in stamp else int(stamp))
    labels = context.labels(host, interface, tags)
    given = value if kind == "counter" else number
    return [reading(row, label, time, given, kind=kind, labels=labels)]


def _interface(plugin_instance: str | None, type_instance: str | None) -> str:
    """The interface's name; virt names a guest by the one and the guest's port by the other."""
    return "/".join(each for each in (plugin_instance, type_instance) if each)


def _place(parts: Sequence[str]) -> tuple[str, str]:
    """The host and interface of a path, without the roots that are usual before them."""
    own = list(parts)
    while len(own) > 1 and own[0].lower() in ROOTS:
        own.pop(0)
    at = next((i for i, each in enumerate(own) if each.startswith("interface-")), None)
    if at is not None:
        interface = own[at].partition("-")[2]
        return ".".join(own[:at]), interface
    own = own[:1] + [each for each in own[1:] if each.lower() not in BETWEEN]
    return ".".join(own[:-1]), own[-1] if own else ""


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() and len(text) < 25 else float(text)


def _values(  # noqa: PLR0913 - the fields of a value list
    host: str,
    interface: str,
    names: Sequence[str],
    values: Sequence[Any],
    types: Sequence[str],
    time: float,
    context: Context,
) -> list[Reading]:
    rows = [context.table.find("collectd", name) for name in names]
    for name, row, value in zip(names, rows, values, strict=True):
        if row is None or value is None:
            context.skip(name)
    if not any(rows) or all(value is None for value in values):
        return []
    kind = kind_of([value for value in values if value is not None], types, context)
    if kind is None:
        return []
    label = "/".join(each for each in (host, interface) if each)
    labels = context.labels(host, interface, {})
    return [
        reading(row, label, time, value, kind=kind, labels=labels)
        for row, value in zip(rows, values, strict=True)
        if row is not None and value is not None
    ]


def kind_of(
    values: Sequence[int | float], types: Sequence[str], context: Context
) -> KindName | None:
    """
    Whether values are counters or rates by the settings, or by whether they have fractions.

    None if there are only zeros; raises Unfit for a mixture.
    """
    wanted = context.options.collectd
    if wanted != "auto":
        return "gauge" if wanted == "rates" else "counter"
    if not set(types) <= COUNTED:
        return "gauge"
    floats = [isinstance(value, float) for value in values]
    if not any(values) and not any(floats):
        context.skip("zeros of an unknown kind")
        return None
    if any(floats):
        if any(value for value, is_float in zip(values, floats, strict=True) if not is_float):
            raise Unfit(Reason.WRONG_TYPE, "it has both rates and counters: set input.collectd")
        return "gauge"
    return "counter"
