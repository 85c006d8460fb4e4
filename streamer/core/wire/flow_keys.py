"""
Which keys of flow records have flows of their own; records of all other keys count together.

Addresses, networks, AS pairs and ports have no bound, and each flow takes a row. Therefore a
partition gives flows of their own to `flow_keys_max` keys, in the order in which they appear.
Readings of further keys become those of one flow `other` of their exporter. A key without a record
for `flow_keys_idle` gives its place to the next new key.

The decision depends only on the earlier readings of the partition and their own times, so batches
of any size give the same flows. What a partition's keys are is saved with its replay offset: a
replay begins with them and decides as before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from math import floor

import msgspec
import numpy as np

from streamer.core.types import Partition, Readings
from streamer.core.wire.settings import InputConfig

TICKS = 16  # an idle time has so many ticks; times of keys are counted in them
TICK_MIN_S = 1.0
DIGEST_BYTES = 8  # a key is stored as a digest: two equal ones admit one key too many


class SavedKeys(msgspec.Struct, frozen=True, array_like=True):
    """A partition's keys as they are saved."""

    offset: int  # the next offset when they were so
    tick_s: float
    digests: bytes  # DIGEST_BYTES each
    ticks: bytes  # little-endian int64 each


ENCODER = msgspec.msgpack.Encoder()
DECODER = msgspec.msgpack.Decoder(SavedKeys)


@dataclass(slots=True)
class Keys:
    """The keys of one partition that have flows of their own."""

    most: int
    tick_s: float
    used: dict[bytes, int] = field(default_factory=dict)  # the tick of each key's newest record
    oldest: int = 0  # a lower bound of these ticks

    def copy(self) -> Keys:
        """A copy that changes by itself."""
        return Keys(self.most, self.tick_s, self.used.copy(), self.oldest)

    def has(self, key: str, time: float) -> bool:
        """Whether *key*, of a record of *time*, has a flow of its own, perhaps from now on."""
        digest, tick = digest_of(key), floor(time / self.tick_s)
        last = self.used.get(digest)
        if last is None:
            if len(self.used) >= self.most:
                self._expire(tick - TICKS)
                if len(self.used) >= self.most:
                    return False
            self.oldest = min(self.oldest, tick) if self.used else tick
        if last is None or last < tick:
            self.used[digest] = tick
        return True

    def _expire(self, before: int) -> None:
        """Remove the keys whose newest record is from *before* that tick."""
        if self.oldest >= before:
            return
        self.used = {digest: tick for digest, tick in self.used.items() if tick >= before}
        self.oldest = min(self.used.values(), default=0)


@dataclass(frozen=True, slots=True)
class Settled:
    """Readings under the names of the flows that they count for, and the keys after them."""

    readings: Readings
    moved: int = 0  # readings that count for `other`
    keys: Mapping[Partition, Keys] = field(default_factory=dict)


class FlowKeys:
    """The keys of flow records, by partition."""

    def __init__(self, config: InputConfig) -> None:
        self._config = config
        self._keys: dict[Partition, Keys] = {}

    def settle(self, readings: Readings) -> Settled:
        """
        *readings*, each under its own key or as one of `other`; changes nothing.

        They must be in the order of their partitions.
        """
        if readings.other is None:
            return Settled(readings)
        flow, moved = list(readings.flow), 0
        keys: dict[Partition, Keys] = {}
        times, partitions = readings.time.tolist(), readings.partition
        for i, other in enumerate(readings.other):
            if not other:
                continue
            partition = partitions[i]
            own = keys.get(partition)
            if own is None:
                own = keys[partition] = self._of(partition).copy()
            if not own.has(flow[i], times[i]):
                flow[i] = other
                moved += 1
        return Settled(replace(readings, flow=flow, other=None), moved, keys)

    def adopt(self, settled: Settled) -> None:
        """The readings were taken: the keys are those after them."""
        self._keys.update(settled.keys)

    def release(self, partitions: Collection[Partition]) -> None:
        """Forget partitions."""
        for partition in partitions:
            self._keys.pop(partition, None)

    def save(self, partition: Partition, offset: int) -> bytes | None:
        """A partition's keys, before *offset* is read; None if it has none."""
        keys = self._keys.get(partition)
        if keys is None or not keys.used:
            return None
        ticks = np.fromiter(keys.used.values(), "<i8", len(keys.used)).tobytes()
        return ENCODER.encode(SavedKeys(offset, keys.tick_s, b"".join(keys.used), ticks))

    def restore(self, partition: Partition, saved: bytes | None, offset: int) -> None:
        """Load what `save` returned, if the replay begins at the same *offset*."""
        self._keys.pop(partition, None)
        keys = self._of(partition)
        try:
            found = DECODER.decode(saved or b"")
            ticks = np.frombuffer(found.ticks, "<i8")
        except (msgspec.DecodeError, ValueError):
            return
        number = len(ticks)
        if found.offset != offset or len(found.digests) != number * DIGEST_BYTES:
            return
        if found.tick_s != keys.tick_s:  # the idle time was changed
            scaled = ticks * found.tick_s / keys.tick_s
            ticks = np.floor(np.clip(np.nan_to_num(scaled), 0, 2**53)).astype(np.int64)
        packed = found.digests
        digests = [packed[i : i + DIGEST_BYTES] for i in range(0, len(packed), DIGEST_BYTES)]
        keys.used = dict(zip(digests, ticks.tolist(), strict=True))
        keys.oldest = min(keys.used.values(), default=0)
        self._keys[partition] = keys

    def _of(self, partition: Partition) -> Keys:
        """The keys of a partition, which are none at first."""
        keys = self._keys.get(partition)
        if keys is None:
            config = self._config
            number = config.source_of(partition.topic)
            own = config.of_source(number) if number >= 0 else config
            tick_s = max(float(own.flow_keys_idle) / TICKS, TICK_MIN_S)
            keys = Keys(own.flow_keys_max, tick_s)
        return keys


def digest_of(key: str) -> bytes:
    """A short digest of a key's name, the same on every machine."""
    return blake2b(key.encode(errors="replace"), digest_size=DIGEST_BYTES).digest()
