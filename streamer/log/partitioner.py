"""
Which partition a key belongs to: what Kafka's own clients would say.

The feeder batches readings by partition before the log sees them, and other
producers leave the choice to their client. A flow stays in one lane only if all
of them reckon alike, so this is the default of the Java client: murmur2.
"""

from __future__ import annotations

SEED = 0x9747B28C
MIX = 0x5BD1E995
WORD = 0xFFFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The number of the partition, of *partitions*, that *key* belongs to."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(text: bytes) -> int:
    """MurmurHash2, 32 bits, as in `org.apache.kafka.common.utils.Utils.murmur2`."""
    whole = len(text) & ~3
    mixed = SEED ^ len(text)
    for start in range(0, whole, 4):
        four = int.from_bytes(text[start : start + 4], "little") * MIX & WORD
        four = (four ^ four >> 24) * MIX & WORD
        mixed = mixed * MIX & WORD ^ four
    if whole < len(text):
        mixed = (mixed ^ int.from_bytes(text[whole:], "little")) * MIX & WORD
    mixed = (mixed ^ mixed >> 13) * MIX & WORD
    return mixed ^ mixed >> 15
