"""What is wrong with a message, in plain words: the parser's own are for programmers."""

from __future__ import annotations

import re

DETAIL_MAX = 200  # characters that are kept
WORDS = {
    "object": "an object",
    "array": "a list",
    "str": "text",
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
    "null": "nothing",
}
OF_PYTHON = re.compile(
    r"object|unpack|argument|subscript|iterable|indices|operand|supported|hashable"
)
PLACE = re.compile(r" - at `\$?\.?([^`]*)`$")
EXPECTED = re.compile(r"Expected `([^`]*)`, got `([^`]*)`")
MISSING = re.compile(r"Object missing required field `([^`]*)`")
MALFORMED = re.compile(r"JSON is malformed: (.*?)(?: \(byte (\d+)\))?$")


def plainly(error: Exception) -> str:
    """An error of msgspec's or of Python's in plain words; the text of any other error."""
    if isinstance(error, KeyError) and error.args:
        return f"has no {error.args[0]}"[:DETAIL_MAX]
    text = str(error)
    if isinstance(error, AttributeError | IndexError | RecursionError) or (
        isinstance(error, TypeError) and OF_PYTHON.search(text)
    ):
        return "its structure is not that of the format"
    place = PLACE.search(text)
    text = PLACE.sub("", text)
    where = f"{place[1]}: " if place and place[1] else ""
    if found := MISSING.fullmatch(text):
        words = f"{where}has no {found[1]}"
    elif found := EXPECTED.fullmatch(text):
        kinds = dict.fromkeys(WORDS.get(each, each) for each in found[1].split(" | "))
        words = f"{where}must be {' or '.join(kinds)}, is {WORDS.get(found[2], found[2])}"
    elif found := MALFORMED.fullmatch(text):
        byte = f" at byte {found[2]}" if found[2] else ""
        words = f"is no JSON: {found[1]}{byte}"
    elif text == "Input data was truncated":
        words = "is no JSON: it ends too early"
    elif text.startswith("Invalid enum value "):
        words = f"{where}{text.removeprefix('Invalid enum value ')} is none of its values"
    elif "out of range" in text:
        words = f"{where}the number is out of range"
    else:
        words = where + text
    return words[:DETAIL_MAX]
