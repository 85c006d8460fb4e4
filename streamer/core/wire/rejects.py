"""Encoding of rejects: the original record, with the reason and its origin in headers."""

from __future__ import annotations

from streamer.core.types import Message, Reject

VALUE_BYTES_MAX = 500_000  # a larger value is truncated


def message(reject: Reject, topic: str) -> Message:
    """The message for a reject: its bytes, truncated if there are too many, and its origin."""
    record = reject.record
    value = reject.element if reject.element is not None else record.value or b""
    headers = [
        ("reason", str(reject.reason).encode()),
        ("topic", record.partition.topic.encode()),
        ("partition", str(record.partition.number).encode()),
        ("offset", str(record.offset).encode()),
    ]
    if reject.detail:
        headers.append(("detail", reject.detail.encode(errors="replace")))
    if len(value) > VALUE_BYTES_MAX:
        headers.append(("bytes", str(len(value)).encode()))
        value = value[:VALUE_BYTES_MAX]
    key = record.key if record.key is None else record.key[:VALUE_BYTES_MAX]
    return Message(topic, record.partition.number, key, value, tuple(headers))
