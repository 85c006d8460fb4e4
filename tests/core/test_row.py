"""How many bytes are known of a flow, and for what."""

import numpy as np
import pytest

from streamer.core.features import baselines, burst_memory, grid, scale, seasonal
from streamer.core.network.config import ModelConfig
from streamer.core.predict import burst_odds, conformal, ensemble, forecast, outcomes, selection
from streamer.core.predict.forecast import ForecastSpec
from streamer.core.state import table

ROW_BYTES_MAX = 2_568 + 358  # all in, with what peaks need
BYTES = {  # of a row at steps of 60 s, by what they are for
    "the flow's clock, and what its grid keeps": (table.COLUMNS + grid.COLUMNS, 144),
    "its scale": (scale.COLUMNS, 26),
    "profiles of day, week and hour": (seasonal.columns(60), 1148),
    "the highs of a week": (burst_memory.columns(60), 340),
    "how readily its bursts return": (burst_odds.COLUMNS, 18),
    "baselines, what they foretell and their errors": (baselines.COLUMNS, 280),
    "widths that were learned": (conformal.COLUMNS, 30),
    "what a flow's median is blended of": (ensemble.COLUMNS, 32),
    "who serves": (selection.COLUMNS, 22),
    "forecasts that await their step, and scores": (outcomes.COLUMNS, 132),
}


@pytest.mark.parametrize(("columns", "most"), BYTES.values(), ids=BYTES)
def test_each_part_of_a_row_keeps_to_its_share(columns, most):
    """A new column must fit beside the others."""
    assert np.dtype(columns).itemsize <= most


@pytest.mark.parametrize("step_s", [10, 60, 300, 600, 3600])
def test_a_row_is_small(step_s):
    """A flow's row fits its share, at every step's length."""
    spec = ForecastSpec(step_s, peaks=(4, 12))
    row = table.row_type(grid.COLUMNS + forecast.columns(ModelConfig(), spec))
    assert row.itemsize <= ROW_BYTES_MAX
