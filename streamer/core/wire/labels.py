"""
Labels of a flow: host, interface, alias and site, as the tags of a message name them.

They are read only with `forecasts.labels`, and travel with the reading: the forecast of a step has
the labels of the reading that closed it. So nothing of them is saved, and a replay gives the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamer.core.types import Labels

CHARACTERS_MAX = 128  # a longer value is cut
ALIASES = ("ifAlias", "alias", "interface_alias", "description")
SITES = ("site", "location", "sysLocation", "datacenter")


def labels_of(host: object, interface: object, tags: Mapping[str, Any]) -> dict[str, str]:
    """The labels of a message, as a reading has them; those without a value are left out."""
    tags = tags if isinstance(tags, Mapping) else {}
    found = {
        "host": _text(host),
        "interface": _text(interface),
        "alias": _first(tags, ALIASES),
        "site": _first(tags, SITES),
    }
    return {name: value for name, value in found.items() if value}


def read(given: object) -> Labels | None:
    """The labels of a reading; None if it has none. What is not text is left out."""
    if not isinstance(given, Mapping):
        return None
    found = Labels(*(_text(given.get(name)) for name in Labels._fields))
    return found if any(found) else None


def _first(tags: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((text for text in map(_text, map(tags.get, names)) if text), "")


def _text(value: object) -> str:
    """A value as a label: text, or an integer as text, without characters that no text has."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**64:
        value = str(value)
    if not isinstance(value, str):
        return ""
    text = value[:CHARACTERS_MAX].encode(errors="replace").decode().strip()
    quoted = len(text) > 1 and text[0] == text[-1] == '"'  # as some devices send names
    return text[1:-1] if quoted else text
