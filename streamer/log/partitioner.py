"""
Assigns keys to partitions as Kafka's Java client does.

The feeder groups readings by partition before it sends them, and other producers use the
partitioner of their client. A flow stays in one partition only if all of them agree, so this is
the default partitioner of the Java client: murmur2.
"""

from __future__ import annotations

SEED = 0x9747B28C
MIX = 0x5BD1E995
WORD = 0xFFFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition number of *key*, from 0 to *partitions* - 1."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(text: bytes) -> int:
    """Compute MurmurHash2, 32 bits, as in `org.apache.kafka.common.utils.Utils.murmur2`."""
    aligned = len(text) & ~3
    mixed = SEED ^ len(text)
    for start in range(0, aligned, 4):
        four = int.from_bytes(text[start : start + 4], "little") * MIX & WORD
        four = (four ^ four >> 24) * MIX & WORD
        mixed = mixed * MIX & WORD ^ four
    if aligned < len(text):
        mixed = (mixed ^ int.from_bytes(text[aligned:], "little")) * MIX & WORD
    mixed = (mixed ^ mixed >> 13) * MIX & WORD
    return mixed ^ mixed >> 15
