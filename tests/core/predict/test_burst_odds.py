"""Log odds of a burst that a flow has learned."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.predict import burst_odds
from streamer.core.state.table import row_type
from streamer.core.types import PEAK_QUANTILES

SPAN = 12
SCALE, MEDIAN, BURST = 4.0, 1.0, 4.0  # compressed rates of scale 4 are log1p of the rate
USUAL, AT = np.expm1(1.0), np.expm1(MEDIAN + 0.7 * (BURST - MEDIAN))


def flows(number):
    return np.zeros(number, row_type(burst_odds.COLUMNS))


def one(rows, value):
    return np.full(len(rows), value, np.float32)


def begin(rows, step, *, half=True, burst=BURST):
    """A forecast after *step*: with a chance of about a half of a burst, or with hardly any."""
    levels = np.array(PEAK_QUANTILES)
    high = np.expm1(BURST) if half else USUAL
    quantiles = np.where(levels < 0.5, USUAL, high).astype(np.float32)
    quantiles = np.repeat(quantiles[:, None], len(rows), axis=1)
    steps = np.full(len(rows), step)
    by = one(rows, SCALE)
    burst_odds.begin(rows, quantiles, one(rows, MEDIAN), one(rows, burst), by, steps, SPAN)


def settle(rows, step, rates):
    burst_odds.settle(rows, np.array(rates, np.float64), np.full(len(rows), step), SPAN)


def live(rows, days, came):
    """A forecast each span; in the span *came* (days, flows) the burst comes or does not."""
    for day, of_day in enumerate(came[:days]):
        begin(rows, day * SPAN)
        for step in range(1, SPAN + 1):
            rates = np.where(of_day & (step == 5), 2 * AT, USUAL)
            settle(rows, day * SPAN + step, rates)


def test_the_odds_follow_what_comes():
    """Up for a flow whose bursts always come, down where they never do, to and fro else."""
    rng, rows = np.random.default_rng(1), flows(3)
    came = np.stack((np.full(60, True), np.full(60, False), rng.random(60) < 0.55), axis=1)
    live(rows, 60, came)
    always, never, half = rows["burst_odds"]
    assert always > 2
    assert never < -2
    assert abs(half) < 1


def test_nothing_is_compared_before_the_span_is_over():
    """The forecast of one span is compared at its end, with all of its steps."""
    rows = flows(2)
    begin(rows, SPAN)
    for step in range(SPAN + 1, 2 * SPAN):
        settle(rows, step, [2 * AT if step == SPAN + 1 else USUAL, USUAL])
        assert not rows["burst_odds"].any()
    settle(rows, 2 * SPAN, [USUAL, USUAL])
    assert rows["burst_odds"][0] > 0 > rows["burst_odds"][1]
    assert not rows["burst_rate"].any()


def test_a_forecast_without_a_burst_is_not_compared():
    """Nor is one that begins in the middle of a span."""
    rows = flows(1)
    begin(rows, SPAN, burst=MEDIAN + 0.1)
    assert not rows["burst_rate"].any()
    begin(rows, SPAN + 1)
    assert not rows["burst_rate"].any()


@pytest.mark.parametrize("came", [True, False])
def test_a_span_that_is_mostly_missing_is_left_out(came):
    """Whether the burst came or not; a few missing steps change nothing."""
    mostly, hardly, whole = flows(1), flows(1), flows(1)
    for rows, missing in ((mostly, 7), (hardly, 6), (whole, 0)):
        begin(rows, 0)
        for step in range(1, SPAN + 1):
            rate = 2 * AT if came and step == SPAN else USUAL
            settle(rows, step, [np.nan if step <= missing else rate])
    assert mostly["burst_odds"][0] == 0
    assert hardly["burst_odds"][0] == whole["burst_odds"][0] != 0


def test_what_was_forecast_well_moves_little():
    """A burst that has hardly a chance and does not come."""
    rows, unsure = flows(1), flows(1)
    begin(rows, 0, half=False)
    begin(unsure, 0)
    for step in range(1, SPAN + 1):
        settle(rows, step, [USUAL])
        settle(unsure, step, [USUAL])
    assert 0 > rows["burst_odds"][0] > 0.1 * unsure["burst_odds"][0]


def test_what_was_learned_fades_and_has_a_bound():
    """A comparison that tells nothing new takes 2 % of it; a hundred that do lead to the bound."""
    rows = flows(2)
    rows["burst_odds"] = 5, -5
    begin(rows, 0, half=False)
    rows["burst_chance"] = 0
    for step in range(1, SPAN + 1):
        settle(rows, step, [USUAL, USUAL])
    assert rows["burst_odds"] == pytest.approx([4.9, -4.9])
    rows["burst_odds"] = 5.9, -5.9
    for day in range(1, 40):
        begin(rows, day * SPAN)
        rows["burst_chance"] = 0, 1
        for step in range(1, SPAN + 1):
            settle(rows, day * SPAN + step, [2 * AT, USUAL])
    assert rows["burst_odds"] == pytest.approx([6, -6])


@pytest.mark.parametrize(("then", "now"), [(12, 4), (4, 12), (12, 1)])
def test_a_forecast_of_another_span_is_compared_at_its_end_or_dropped(then, now):
    """`forecasts.peaks` may change between two starts; no forecast is compared too early."""
    rows = flows(1)
    quantiles = np.full((len(PEAK_QUANTILES), 1), USUAL, np.float32)
    parts = one(rows, MEDIAN), one(rows, BURST), one(rows, SCALE)
    burst_odds.begin(rows, quantiles, *parts, np.full(1, 12), then)
    for step in range(13, 12 + then + 1):
        assert not rows["burst_odds"].any()
        burst_odds.settle(rows, np.full(1, USUAL), np.full(1, step), now)
    assert not rows["burst_rate"].any()
    assert (rows["burst_odds"][0] < 0) == (now > then)


def test_a_clock_that_is_set_back_drops_the_forecast():
    """It was made for a future that the flow has not come to."""
    rows = flows(1)
    begin(rows, 100 * SPAN)
    settle(rows, 50 * SPAN, [2 * AT])
    assert not rows["burst_rate"].any()
    assert not rows["burst_odds"].any()


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), max_size=8))
def test_rows_do_not_depend_on_each_other(came):
    """To the bit."""
    together, alone = flows(3), flows(1)
    outcomes = np.array(came, bool).reshape(-1, 3)
    live(together, len(came), outcomes)
    live(alone, len(came), outcomes[:, 1:2])
    np.testing.assert_array_equal(together[1:2], alone)


def test_a_restart_keeps_what_was_learned():
    rows = flows(2)
    live(rows, 3, np.ones((3, 2), bool))
    begin(rows, 36)
    burst_odds.restart(rows, np.array([True, False]))
    assert rows["burst_rate"][0] == 0
    assert rows["burst_rate"][1] == pytest.approx(AT, rel=1e-5)
    assert rows["burst_odds"][0] == rows["burst_odds"][1] > 0
