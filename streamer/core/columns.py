"""The types of the flow table's rows; each stage declares its columns next to its code."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.void]  # (B,), a structured array: one row per flow
Columns = list[tuple[str, str] | tuple[str, str, tuple[int, ...]]]
Slots = NDArray[np.intp]  # (B,) indices of rows in the flow table
Bounds = Mapping[str, tuple[float, float]]  # least and largest value; other columns: any finite
