"""What a row of the flow table is made of: each stage declares its columns beside its code."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.void]  # (B,), a structured array: one row a flow
Columns = list[tuple[str, str] | tuple[str, str, tuple[int, ...]]]
Slots = NDArray[np.intp]  # (B,): indices of rows in the flow table
Bounds = Mapping[str, tuple[float, float]]  # smallest and largest value; the other columns: finite
