"""
Messages in a file: captured records, one JSON object a line, or the messages themselves.

A captured record is `{"topic", "key" or "key_b64", "value_b64" or "value", "headers",
"timestamp_ms"}`. Otherwise each line is a message, and a file that is one JSON document or
binary is one message.
"""

from __future__ import annotations

import base64
import codecs
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from streamer.core.types import Partition, Record
from streamer.core.wire import collectd, influx
from streamer.core.wire.words import plainly

FILE = Partition("file", 0)
DECODER = msgspec.json.Decoder()


class NotARecord(ValueError):
    """A line is not a captured record; the message names it and the reason."""


def captured(path: Path) -> Iterator[Record]:
    """The records of a file of captured records; raises NotARecord."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield _record(DECODER.decode(line), number - 1)
            except (msgspec.DecodeError, ValueError, TypeError, KeyError, AttributeError) as error:
                what = plainly(error)
                raise NotARecord(f"line {number} is not a captured record: {what}") from error


def plain(path: Path) -> Iterator[Record]:
    """Each line of a file as a message; a binary file or one JSON document is one."""
    content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    for number, value in enumerate([content] if _is_one(content) else content.split(b"\n")):
        if value.strip():
            yield Record(FILE, number, None, value, -1)


def has_messages(head: bytes) -> bool:
    """Whether a file that begins so holds messages, and no table or anything else of people."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return False
    head = head.removeprefix(codecs.BOM_UTF8)
    if _is_one(head):
        return True
    first = next((line for line in head.splitlines() if line.strip()), b"").strip()
    return not first or first[:1] in {b"{", b"["} or is_text(first)


def is_text(line: bytes) -> bool:
    """Whether a line is of one of the text formats: influx, Graphite or collectd's commands."""
    return collectd.is_command(line) or collectd.is_graphite(line) or influx.recognise(line)


def is_opened(line: bytes) -> bool:
    """Whether a line begins a JSON document and does not end it."""
    with contextlib.suppress(msgspec.DecodeError):
        DECODER.decode(line)
        return False
    return line[:1] in {b"{", b"["} and line[-1:] in {b"{", b"[", b",", b":"}


def _is_one(content: bytes) -> bool:
    """Whether a file is one message: not text, or JSON whose first line is none by itself."""
    if b"\0" in content:
        return True
    try:
        content.decode()
    except UnicodeDecodeError:
        return True
    first = content.lstrip().partition(b"\n")[0]
    if first[:1] not in {b"{", b"["}:
        return False
    with contextlib.suppress(msgspec.DecodeError):
        DECODER.decode(first)
        return False
    with contextlib.suppress(msgspec.DecodeError):
        DECODER.decode(content)
        return True
    return False


def _record(captured: dict[str, Any], number: int) -> Record:
    key = _bytes(captured, "key")
    headers = tuple(
        (str(name), str(header).encode()) for name, header in captured.get("headers") or ()
    )
    partition = Partition(str(captured.get("topic") or "file"), int(captured.get("partition") or 0))
    value = _bytes(captured, "value")
    stamp = captured.get("timestamp_ms")
    time_ms = int(stamp) if stamp is not None else -1
    return Record(partition, int(captured.get("offset", number)), key, value, time_ms, headers)


def _bytes(captured: dict[str, Any], name: str) -> bytes | None:
    packed = captured.get(f"{name}_b64")
    if packed is not None:
        return base64.b64decode(packed)
    bare = captured.get(name)
    return None if bare is None else str(bare).encode()
