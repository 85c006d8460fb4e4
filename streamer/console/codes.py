"""
Rates as 16-bit codes: a history of many flows fits in memory, to 0.08 % of each rate.

    0          missing
    1          zero, or below SMALLEST
    2 … 65535  logarithmic, from SMALLEST to above 1e38, the bound of a rate
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Codes = NDArray[np.uint16]
Doubles = NDArray[np.float64]

MISSING, ZERO, FIRST = 0, 1, 2
SMALLEST = 1e-6
PER_E = 640.0  # codes in a factor of e


def encoded(rates: ArrayLike) -> Codes:
    """The codes of *rates*; NaN is missing, and a negative rate is zero."""
    values = np.asarray(rates, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        place = np.rint(np.log(values / SMALLEST) * PER_E) + FIRST
    clipped = np.clip(np.nan_to_num(place, nan=0.0, posinf=65535.0, neginf=0.0), 0, 65535)
    codes = np.where(values < SMALLEST, float(ZERO), np.maximum(clipped, FIRST))
    return np.where(np.isnan(values), float(MISSING), codes).astype(np.uint16)


def decoded(codes: Codes) -> Doubles:
    """The inverse of `encoded`; NaN where a rate is missing."""
    return VALUES[codes]


def _values() -> Doubles:
    every = np.arange(1 << 16, dtype=np.float64)
    values = SMALLEST * np.exp((every - FIRST) / PER_E)
    values[ZERO], values[MISSING] = 0.0, np.nan
    return values


VALUES = _values()
