"""The demo's scores follow from the forecasts topic alone."""

from __future__ import annotations

import math

import msgspec
import pytest

from streamer.core.types import Partition, Record
from streamer.demo.live_scores import Tally

STEP_S = 900
AHEAD = 4
P = Partition("traffic.forecasts", 0)


def forecast_line(flow, step, rate, medians, width=10.0):
    """A forecast made at the end of *step*."""
    bands = {
        name: [median + width * far for median in medians]
        for name, far in (("q05", -2), ("q25", -1), ("q50", 0), ("q75", 1), ("q95", 2))
    }
    fields = {"flow": flow, "made_at": (step + 1) * STEP_S, "step_s": STEP_S, "rate": rate}
    return msgspec.json.encode(fields | {"unit": "B/s", "served_by": "lstm"} | bands)


def read(*lines):
    tally = Tally((1, AHEAD))
    tally.read([Record(P, n, None, line, -1) for n, line in enumerate(lines)])
    return tally


def rhythm(step):
    return 1000.0 + 400 * math.sin(step)


def test_a_clairvoyant_has_no_error_at_any_horizon():
    """So each rate is held against the forecast that was about it, and no other."""
    lines = [
        forecast_line(
            "a", step, rhythm(step), [rhythm(step + k) + 1e-6 for k in range(1, AHEAD + 1)]
        )
        for step in range(50)
    ]
    tally = read(*lines)
    assert tally.error(1, "streamer") < 1e-6
    assert tally.error(AHEAD, "streamer") < 1e-6
    assert tally.coverage(1) == tally.coverage(AHEAD) == 1.0


def test_the_last_value_has_the_error_of_the_last_value():
    """Forecasts equal to it have a relative error of one."""
    lines = [forecast_line("a", n, rhythm(n), [rhythm(n)] * AHEAD) for n in range(50)]
    tally = read(*lines)
    assert tally.error(1, "streamer") == pytest.approx(1.0)
    assert tally.error(AHEAD, "streamer") == pytest.approx(1.0)


def test_a_small_flow_counts_as_much_as_a_large_one():
    """The mean over flows is geometric: half and twice make one."""
    lines = []
    for step in range(40):
        rate = 100.0 * (step % 2)  # the last value is always 100 off
        lines.append(
            forecast_line("small", step, rate / 1000, [(100 - rate) / 1000 + 0.05] * AHEAD)
        )
        lines.append(forecast_line("large", step, rate * 1000, [(100 - rate) * 1000 + 2e5] * AHEAD))
    assert read(*lines).error(1, "streamer") == pytest.approx(math.sqrt(0.5 * 2.0))


def test_a_missing_step_is_not_scored():
    """A missing rate scores no forecast; the next one does again."""
    rates = [10.0, 11.0, None, None, 14.0, 15.0]
    tally = read(*(forecast_line("a", n, rate, [12.0] * AHEAD) for n, rate in enumerate(rates)))
    assert tally.traces["a"].scores[1].steps == 3


def test_a_batch_is_as_good_as_single_records():
    """Many lines in a record, or one in each."""
    lines = [forecast_line("a", n, rhythm(n), [1000.0] * AHEAD) for n in range(10)]
    single, batched = read(*lines), read(b"\n".join(lines))
    assert single.forecasts == batched.forecasts == 10
    assert single.error(1, "streamer") == batched.error(1, "streamer")


def test_only_what_is_far_outside_its_band_is_a_surprise():
    """The band is 40 wide; a step beyond it is usual, a leap is not."""
    rates = [1000.0, 1021.0, 1000.0, 1500.0]
    tally = read(*(forecast_line("a", n, rate, [1000.0] * AHEAD) for n, rate in enumerate(rates)))
    assert [surprise.rate for surprise in tally.surprises] == [1500.0]
    assert list(tally.traces["a"].surprises) == [False, True, False, True]
