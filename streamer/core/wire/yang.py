"""Leaves of YANG data in JSON: paths, keys and values, and which interface they belong to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

# No value has a bracket: each place is looked at a few times, whatever a path holds.
NODE = re.compile(r"([^/\[\]]+)((?:\[[^\[\]=]+=[^\[\]]*\])*)")
KEY = re.compile(r"\[([^\[\]=]+)=([^\[\]]*)\]")
NAMES = ("interface_name", "interface-name", "name", "port-id", "ifName", "interface")
UNLIKE = frozenset(  # paths through these count parts of an interface's traffic, or others'
    ("ipv4", "ipv6", "qos", "queue", "queues", "mpls", "acl", "network-instance", "lacp", "lldp")
)
DEPTH_MAX = 64


class Leaf(NamedTuple):
    """A value in the tree."""

    interface: str | None
    name: str  # the last element of its path, without a prefix
    value: Any
    elements: tuple[str, ...]  # its path, without prefixes

    @property
    def is_of_interface(self) -> bool:
        """Whether it belongs to an interface as a whole."""
        return UNLIKE.isdisjoint(self.elements)


def path_of(text: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """A path's elements without prefixes, and its keys as `element_key`."""
    elements: list[str] = []
    keys: dict[str, str] = {}
    if "[" not in text:
        return tuple(bare(each) for each in text.split("/") if each), keys
    for name, found in NODE.findall(text):
        elements.append(bare(name))
        for key, value in KEY.findall(found):
            keys[f"{elements[-1]}_{bare(key)}"] = value
    return tuple(elements), keys


def bare(name: str) -> str:
    """A name without the prefix of its module."""
    return name.rpartition(":")[2]


def interface_of(keys: Mapping[str, Any], elements: tuple[str, ...] = ()) -> str | None:
    """The interface that keys `element_key` name; a subinterface has a dot and its index."""
    found = None
    for wanted in ("interface_name", *NAMES):
        found = keys.get(wanted)
        if isinstance(found, str) and found:
            break
    else:
        found = next(
            (
                value
                for key, value in keys.items()
                if isinstance(value, str)
                and key.rpartition("_")[2] in {"name", "interface-name", "port-id"}
                and not key.startswith("subscription")
            ),
            None,
        )
    if not found:
        return None
    index = keys.get("subinterface_index")
    if index is not None and (not elements or "subinterface" in elements):
        text = str(index)
        return text if text.startswith(found) else f"{found}.{text}"
    return str(found)


def leaves(value: Any, elements: tuple[str, ...], keys: Mapping[str, Any]) -> Iterator[Leaf]:  # noqa: ANN401 - JSON
    """All leaves below *value*, which stands at *elements* under the list *keys*."""
    stack: list[tuple[Any, tuple[str, ...], Mapping[str, Any]]] = [(value, elements, keys)]
    while stack:
        here, path, named = stack.pop()
        if isinstance(here, dict) and len(path) < DEPTH_MAX:
            if path:
                last, known = path[-1], (name for name in (*NAMES, "index") if name in here)
                own = {f"{last}_{name}": here[name] for name in known}
                named = {**named, **own} if own else named
            stack += [(here[key], (*path, *path_of(key)[0]), named) for key in reversed(here)]
        elif isinstance(here, list):
            stack += [(each, path, named) for each in reversed(here) if isinstance(each, dict)]
        elif path:
            yield Leaf(interface_of(named, path), path[-1], here, path)
