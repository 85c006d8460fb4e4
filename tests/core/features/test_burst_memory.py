"""What a flow's highs of the last week show of the time ahead."""

import numpy as np
import pytest

from streamer.core.features import burst_memory, scale
from streamer.core.state.table import row_type

DAY_S = 86400
FIRST_DAY = 20_000
USUAL = np.log(5)  # the usual rate, compressed


def memory(flows, step_s):
    return np.zeros(flows, row_type([*scale.COLUMNS, *burst_memory.columns(step_s)]))


def grow(rows, rates, step_s, first):
    """Take *rates* (steps, flows) from step *first* on; the last step's ground."""
    for at, now in enumerate(rates):
        step = scale.measure(rows, now, np.zeros(len(rows), bool), DAY_S / step_s)
        burst_memory.update(rows, step, np.full(len(rows), first + at), step_s)
    return step.ground


def levels(z, rows):
    """Compressed rates back to rates."""
    return scale.rates(z, scale.scale_of(rows["mean"], rows["peak"])[:, None])


@pytest.mark.parametrize("step_s", [60, 300, 420, 600, 1800, 3600])
def test_each_day_shows_its_highs_at_the_same_time(step_s):
    """At least the highest step in the span, and no more than in the cells that it touches."""
    rng, day = np.random.default_rng(step_s), DAY_S // step_s
    rates = rng.lognormal(0, 1, (9 * day, 3)) * 1e6
    rows, first, spans = memory(3, step_s), FIRST_DAY * DAY_S // step_s, (1, 4, 12)
    ground = grow(rows, rates, step_s, first)
    steps = np.full(3, first + len(rates) - 1)
    highs = burst_memory.highs_ahead(rows, ground, steps, spans, step_s)
    cell, slack, near = -(-burst_memory.cell_s(step_s) // step_s), 1.05, 4e5  # of the scale
    for span, ahead in zip(spans, highs.ahead.transpose(1, 2, 0), strict=True):
        for place, days in enumerate((1, 2, 3, 7)):
            begin = len(rates) - days * DAY_S // step_s
            least = rates[begin : begin + span].max(axis=0)
            most = rates[begin - cell : begin + span + cell].max(axis=0)
            found = levels(ahead[:, place : place + 1], rows)[:, 0]
            assert (found + near > least / slack * (DAY_S % step_s == 0)).all()
            assert (found < most * slack + near).all()
        assert (np.diff(ahead[:, 4:8]) <= 0).all()
        assert (ahead[:, 8] >= ahead[:, 4]).all()
    assert (np.diff(highs.recent[:4], axis=0) >= 0).all()


def test_unknown_highs_are_zero():
    """A flow of an hour remembers that hour only."""
    rows, first = memory(2, 300), FIRST_DAY * 288
    ground = grow(rows, np.full((12, 2), 1e6), 300, first)
    highs = burst_memory.highs_ahead(rows, ground, np.full(2, first + 11), (4, 12), 300)
    assert (highs.ahead[:8] == 0).all()
    around = levels(highs.ahead[8:9, 0].T, rows)  # half an hour before seven days ago: just closed
    assert around == pytest.approx(levels(highs.recent[:1].T, rows), rel=0.1)
    assert (highs.recent[: burst_memory.LEVEL_SUMMARIES] > 0).all()


def test_missing_steps_leave_no_high():
    """A day without readings is unknown a day later, and was not zero."""
    rows, first = memory(1, 600), FIRST_DAY * 144
    rates = np.full((3 * 144, 1), 1e6)
    rates[144 : 2 * 144] = np.nan
    ground = grow(rows, rates, 600, first)
    steps = np.full(1, first + 3 * 144 - 1 - 72)
    ahead = burst_memory.highs_ahead(rows, ground, steps, (6,), 600).ahead[:, 0].T
    assert ahead[0, 0] == 0
    assert ahead[0, 1] == pytest.approx(USUAL, abs=0.1)


def test_highs_keep_their_rates_when_the_scale_moves():
    """The datum follows a flow that shrinks to a millionth; what was high stays as high."""
    rows, first = memory(1, 600), FIRST_DAY * 144
    rates = np.concatenate((np.full((144, 1), 1e9), np.full((6 * 144, 1), 1e3)))
    grow(rows, rates[:144], 600, first)
    before = rows["log_offset"].copy()
    grow(rows, rates[144:], 600, first + 144)
    assert rows["log_offset"][0] < before[0] - scale.DATUM_SPAN + 1
    ring = burst_memory.LEVELS[rows["highs"][0, rows["highs"][0] > 0]]
    assert np.exp(ring.max() + rows["log_offset"][0]) == pytest.approx(1.25e9, rel=0.3)


def test_rows_do_not_depend_on_each_other():
    """Together or alone, the same bytes and the same numbers."""
    rng, first = np.random.default_rng(1), FIRST_DAY * 288
    rates = rng.lognormal(0, 1, (600, 5))
    together, alone = memory(5, 300), memory(1, 300)
    ground = grow(together, rates, 300, first)
    own = grow(alone, rates[:, 2:3], 300, first)
    np.testing.assert_array_equal(together[2:3], alone)
    steps = np.full(5, first + 599)
    many = burst_memory.highs_ahead(together, ground, steps, (4, 12), 300)
    one = burst_memory.highs_ahead(alone, own, steps[:1], (4, 12), 300)
    np.testing.assert_array_equal(many.recent[:, 2:3], one.recent)
    np.testing.assert_array_equal(many.ahead[..., 2:3], one.ahead)
