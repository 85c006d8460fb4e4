"""The pinball loss in numpy; `loss.py` has it in torch."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Real = TypeVar("Real", np.float32, np.float64)


def pinball_loss(short: NDArray[Real], levels: NDArray[Real] | float) -> NDArray[Real]:
    """
    The pinball (quantile) loss, element by element; *levels* broadcasts against *short*.

    *short* is the actual value minus the quantile of that level. The mean loss is least when each
    quantile is exceeded as often as its level demands (Koenker and Bassett, "Regression
    quantiles", Econometrica 46, 1978). NaN where *short* is NaN.
    """
    loss: NDArray[Real] = np.maximum(levels * short, (levels - 1) * short)
    return loss
