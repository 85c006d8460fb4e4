"""Influx line protocol, as far as metrics need it: tags of text, fields that are numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping

PLAIN = str.maketrans({",": r"\,", " ": r"\ ", "=": r"\=", "\n": r"\ ", "\r": r"\ ", "\\": "/"})
COMMA, SPACE, EQUAL = (re.compile(rf"(?<!\\){sign}") for sign in ", =")
ESCAPED = re.compile(r"\\([, =])")
PARTS = 3  # measurement with tags, fields, time


def line(
    measurement: str, tags: Mapping[str, str], fields: Mapping[str, float], time_ns: int
) -> str:
    """One line without its end. Tags without a value are left out; a backslash becomes a slash."""
    named = "".join(
        f",{name.translate(PLAIN)}={value.translate(PLAIN)}"
        for name, value in sorted(tags.items())
        if value
    )
    encoded = ",".join(f"{name.translate(PLAIN)}={value!r}" for name, value in fields.items())
    return f"{measurement.translate(PLAIN)}{named} {encoded} {time_ns}"


def parse(text: str) -> tuple[str, dict[str, str], dict[str, float], int]:
    """The inverse of `line`; raises ValueError where *text* is no such line."""
    parts = SPACE.split(text.strip())
    if len(parts) != PARTS:
        raise ValueError("not a measurement with tags, fields and a time")
    measurement, *tags = COMMA.split(parts[0])
    return (
        bare(measurement),
        dict(pair(each) for each in tags),
        {name: float(value.rstrip("iu")) for name, value in map(pair, COMMA.split(parts[1]))},
        int(parts[2]),
    )


def pair(text: str) -> tuple[str, str]:
    """A name and what it is; raises ValueError."""
    found = EQUAL.split(text, maxsplit=1)
    if len(found) != 2:
        raise ValueError(f"no name=value: {text}")
    return bare(found[0]), bare(found[1])


def bare(text: str) -> str:
    """*text* without its escapes."""
    return ESCAPED.sub(r"\1", text)
