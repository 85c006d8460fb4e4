"""
What is wrong with a tree of settings, in words that an operator can act on.

msgspec finds it ("Expected `int` >= 1 - at `$.turn.records_max`"); here it gets the
key's path, what the value must be, and what it is.
"""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from streamer.config.sources import Keys, Tree
from streamer.config.types import Settings

WORDS = (  # msgspec's, and our own
    (r"^Expected (`.*`), got `.*`$", r"must be \1"),
    (r"^Expected ", "must be "),
    (r"`(.*?)`", r"\1"),
    (r"\bint\b", "an integer"),
    (r"\bfloat\b", "a number"),
    (
        r"\bstr matching regex .*https\?://.*$",
        "an address http://… or https://… without a password",
    ),
    (r"\bstr matching regex .*$", "letters, digits, dots, dashes or underscores, 249 at most"),
    (r"\bstr\b", "text"),
    (r"\bbool\b", "true or false"),
    (r"\bobject\b", "a section of keys"),
    (r"\barray\b", "a list"),
    (r" \| null", " or null"),
    (r" of length >= (\d+)$", r" no shorter than \1"),
    (r" of length <= (\d+)$", r" no longer than \1"),
    (r" >= ([\d.]+)$", r" of at least \1"),
    (r" <= ([\d.]+)$", r" of at most \1"),
    (r" > 0(\.0)?$", " above zero"),
)


def describe_error(
    error: msgspec.ValidationError, tree: Tree, kind: type[Settings]
) -> tuple[Keys, str]:
    """The path of the key at fault when *tree* was made a *kind*, and what is wrong with it."""
    what, _, where = str(error).partition(" - at `$")
    keys: Keys = tuple(re.findall(r"[^.`\[\]]+", where))
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", what)
    if unknown:
        return (*keys, unknown[1]), _unknown(unknown[1], _kind(kind, keys))
    named = re.fullmatch(r"([a-z_]+): (.*)", what, re.DOTALL)  # a section's own check names its key
    if named and isinstance(value_at(tree, keys), dict):
        return (*keys, named[1]), named[2]
    if what.startswith("Invalid enum value"):
        what = f"must be one of {', '.join(map(str, get_args(_kind(kind, keys))))}"
    for pattern, words in WORDS:
        what = re.sub(pattern, words, what)
    value = value_at(tree, keys)
    if what.startswith("must ") and not isinstance(value, (dict, list)):
        what = f"{what}, is {shown(value)}"
    return keys, what


def sections(kind: type[Settings]) -> dict[str, type[Settings]]:
    """The fields of *kind* that are settings themselves."""
    return {
        field.name: field.type
        for field in msgspec.structs.fields(kind)
        if isinstance(field.type, type) and issubclass(field.type, Settings)
    }


def value_at(tree: Tree, keys: Keys) -> object:
    """What *tree* has at *keys*; None if it has nothing."""
    place: Any = tree
    for key in keys:
        if isinstance(place, list):
            place = place[int(key)]
        elif isinstance(place, dict):
            place = place.get(key)
        else:
            return None
    return place


def shown(value: object) -> str:
    """A value as it would be written in the file."""
    return msgspec.json.encode(value, enc_hook=str).decode()


def _unknown(name: str, kind: Any) -> str:  # noqa: ANN401 - a type, or a form of typing
    near = difflib.get_close_matches(name, kind.__struct_fields__, n=1)
    return "is no key" + (f"; is {near[0]} meant?" if near else "")


def _kind(kind: Any, keys: Keys) -> Any:  # noqa: ANN401 - likewise
    """What the value at *keys* is declared to be."""
    for key in keys:
        kind = _bare(kind)
        if get_origin(kind) is tuple:
            kind = get_args(kind)[0]
        else:
            kind = next(field.type for field in msgspec.structs.fields(kind) if field.name == key)
    options = [option for option in get_args(kind) if get_origin(option) is Literal]
    return options[0] if options else _bare(kind)


def _bare(kind: Any) -> Any:  # noqa: ANN401 - likewise
    """A type without its annotations."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind
