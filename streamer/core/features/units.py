"""
Units of values, and the conversion of a row whose readings change their unit.

If the factor between both units is known, everything that a row stores in units is multiplied
by it. Values in compressed space do not depend on units. A flow whose readings change to
a unit of another kind starts again.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

import numpy as np

from streamer.core.columns import Rows
from streamer.core.types import Kind, Readings

PREFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12} | {
    f"{letter}i": 1024.0 ** (power + 1) for power, letter in enumerate(("K", "M", "G", "T"))
}
BITS = {"bit": 1, "bits": 1, "b": 1, "B": 8, "byte": 8, "bytes": 8, "octet": 8, "octets": 8}
FORM = re.compile(r"(?P<prefix>[kKMGT]i?|)(?P<base>bits?|bytes?|octets?|[bB])(?P<per>/s|ps|)")
IN_UNITS = (
    "amount",
    "mean",
    "peak",
    "loss_sums",
    "cum_excess_loss",
    "capacity",
    "capacity_told",
    "high",
    "alert_high",
)
LARGEST = 1e30


@cache
def size(unit: bytes) -> tuple[float, bool] | None:
    """The number of bits in a unit, and whether it is a rate; None if it is of another kind."""
    found = FORM.fullmatch(unit.decode("ascii", errors="replace"))
    if found is None:
        return None
    return PREFIXES[found["prefix"]] * BITS[found["base"]], bool(found["per"])


@cache
def factor(before: bytes, after: bytes) -> float | None:
    """The factor that converts numbers from unit *before* to *after*; None if it is unknown."""
    old, new = size(before), size(after)
    if old is None or new is None or old[1] is not new[1]:
        return None
    return old[0] / new[0]


def convert(rows: Rows, wave: Readings, counts: Counter[str]) -> None:
    """Convert the rows whose readings change their unit, if the factor is known."""
    changed = np.flatnonzero((rows["kind"] == wave.kind) & (rows["unit"] != wave.unit))
    for i in changed.tolist():  # one by one, because it is rare
        by = factor(bytes(rows["unit"][i]), bytes(wave.unit[i]))
        counts["unit_changed"] += 1
        if by is not None:
            _multiply(rows[i : i + 1], by)
            rows["unit"][i] = wave.unit[i]


def _multiply(row: Rows, by: float) -> None:
    names = row.dtype.names or ()
    for name in IN_UNITS:
        if name in names:
            row[name] = np.clip(row[name].astype(np.float64) * by, -LARGEST, LARGEST)
    if "log_offset" in names:  # levels are logarithms minus the datum, so they do not change
        row["log_offset"] += np.float32(np.log(by))
    counter = bool(row["kind"][0] == Kind.COUNTER)
    for name in ("count", "held_count"):
        if counter:
            row[name] = int(int(row[name][0]) * by) % 2**64
        else:
            row[name] = (row[name].view(np.float64) * by).view(np.uint64)
