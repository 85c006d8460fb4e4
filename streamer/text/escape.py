"""
Text of the world, made safe for a person's eyes.

Flow names, units, record values and error texts may hold control characters that a terminal obeys,
marks that turn text around or have no width, newlines that fake a line, and lone surrogates that
cannot be written. `visible` replaces each of them by its escape, as Python writes it in a string;
`markup` makes the result safe inside rich's markup as well.
"""

from __future__ import annotations

import json
import re
from typing import Any

INVISIBLE = re.compile(  # printable by Unicode's categories, and yet without any ink
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
SURROGATE = re.compile("[\ud800-\udfff]")
TAG = re.compile(r"(\\*)(\[)")  # rich takes an odd number of backslashes before [ as an escape


def visible(text: object) -> str:
    """*text* in one line, each character that could not be seen as its escape."""
    plain = str(text)
    if plain.isprintable() and INVISIBLE.search(plain) is None:
        return plain
    return "".join(
        each if each.isprintable() and INVISIBLE.match(each) is None else escaped(each)
        for each in plain
    )


def markup(text: object) -> str:
    """The same, to stand within rich's markup: no bracket of it opens a tag."""
    safe = TAG.sub(r"\1\1\\\2", visible(text))
    trailing = len(safe) - len(safe.rstrip("\\"))
    return safe + "\\" * trailing  # else the last one would escape the tag that follows


def json_visible(value: Any) -> str:  # noqa: ANN401 - whatever JSON can hold
    """
    *value* as one line of JSON that means the same, unseen characters as JSON's own escapes.

    Raises ValueError where JSON has no such number.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if text.isprintable() and INVISIBLE.search(text) is None:
        return text
    return "".join(
        each
        if each.isprintable() and INVISIBLE.match(each) is None
        else json.dumps(each, ensure_ascii=True)[1:-1]
        for each in text
    )


def json_plain(value: Any) -> str:  # noqa: ANN401 - likewise
    """
    *value* as one line of JSON for a program: only what UTF-8 cannot write is escaped.

    Raises ValueError where JSON has no such number.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def escaped(character: str) -> str:
    """One character as Python would write it in a string."""
    return character.encode("unicode_escape").decode("ascii")
