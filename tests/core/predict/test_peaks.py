"""Forecasts of the highest rate in a span."""

import numpy as np
import pytest

from streamer.core.network.config import QUANTILES, ModelConfig
from streamer.core.network.peak_head import PeakHead, pack, unpack
from streamer.core.predict import forecast, peaks
from streamer.core.predict.forecast import ForecastSpec
from streamer.core.state.table import row_type
from streamer.core.types import PEAK_QUANTILES
from streamer.weights import open_model, open_peak_head

STEP_S, FLOWS, DAY = 600, 7, 144
SPEC = ForecastSpec(STEP_S, peaks=(1, 4, 12))
FIRST = 20_000 * DAY


@pytest.fixture(scope="module")
def model():
    return open_model(ModelConfig())


@pytest.fixture(scope="module")
def head():
    return open_peak_head()


def backups(days, seed=1):
    """Flows that burst at three each morning, and one that is silent."""
    rng = np.random.default_rng(seed)
    rates = rng.lognormal(0, 0.3, (days * DAY, FLOWS)) * 1e4
    rates[np.arange(len(rates)) % DAY // 3 == 6] *= 30
    rates[:, -1] = 0
    return rates


def play(model, heads, rates, spec=SPEC):
    """The peaks of each of the *heads*, (steps, FLOWS, spans, levels) each, and the bands."""
    rows = np.zeros(rates.shape[1], row_type(forecast.columns(model.config, spec)))
    found = []
    for at, now in enumerate(rates):
        steps = np.full(len(rows), FIRST + at)
        inputs = forecast.prepare(rows, now, steps, spec)
        outputs, rows["state"] = model.step(inputs, rows["state"])
        bands = forecast.postprocess(rows, outputs, inputs, steps, spec)
        found.append(
            (
                *(peaks.predict(rows, outputs, inputs, bands, steps, spec, each) for each in heads),
                bands,
            )
        )
    return tuple(np.array(column) for column in zip(*found, strict=True))


@pytest.fixture(scope="module")
def played(model, head):
    """Five days of backups: the peaks with the head, those without, and the bands."""
    return play(model, (head, None), backups(5))


@pytest.mark.slow
@pytest.mark.parametrize("with_head", [True, False])
def test_peaks_ascend_and_hold_their_steps(played, with_head):
    """With the level, with the span, and they are no lower than a step's median."""
    of_head, of_none, bands = played
    found = of_head if with_head else of_none
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (np.diff(found, axis=3) >= 0).all()
    assert (np.diff(found, axis=2) >= 0).all()
    for place, span in enumerate(SPEC.peaks):
        least = bands[:, :, :span, 2].max(axis=2)
        assert (found[:, :, place, PEAK_QUANTILES.index(0.5)] >= least).all()


def test_a_recurring_burst_is_forecast(played):
    """An hour before it; and not at another time of day."""
    before, after = 2 * 6 + 3, 8 * 6  # three and eight o'clock, less half an hour and more
    last = played[0][4 * DAY :]
    high = last[:, :-1, -1, PEAK_QUANTILES.index(0.75)]
    assert np.median(high[before]) > 4 * np.median(high[after])


@pytest.mark.slow
def test_rows_do_not_depend_on_each_other(model, head, played):
    """A flow alone has the peaks that it has among others, to the bit."""
    alone, _ = play(model, (head,), backups(2)[:, 2:3])
    np.testing.assert_array_equal(played[0][: 2 * DAY, 2:3], alone)


def test_ordinary_forecasts_stay_as_they_are(model, head, played):
    """Whether peaks are forecast or not, to the bit."""
    none, others = play(model, (head,), backups(1), ForecastSpec(STEP_S))
    assert none.shape[2] == 0
    np.testing.assert_array_equal(played[2][:DAY], others)


def test_learned_odds_move_the_quantiles_towards_a_burst(head):
    """Up with them, for a row whose memory shows a burst; and not for one that shows none."""
    rng = np.random.default_rng(2)
    highest = np.sort(rng.uniform(1.5, 1.7, (len(QUANTILES), 1, 2)), axis=0).astype(np.float32)
    of_flow = np.zeros((peaks.OF_FLOW, 2), np.float32)
    of_span = np.zeros((peaks.OF_SPAN, 1, 2), np.float32)
    of_span[: peaks.HIGHS, 0, 0], of_span[: peaks.HIGHS, 0, 1] = 4, -1
    found = [
        head.predict(of_flow, of_span, highest, np.full(2, odds, np.float32)).quantiles[:, 0]
        for odds in (-3, 0, 3)
    ]
    upper = PEAK_QUANTILES.index(0.9)
    low, middle, high = (each[upper, 0] for each in found)
    assert low < middle < high
    assert high > low + 0.3
    np.testing.assert_array_equal(found[0][:, 1], found[2][:, 1])


@pytest.mark.slow
def test_a_flow_learns_whether_its_bursts_return(model, head):
    """Two flows with the same week; then the bursts of one go on, and those of the other stop."""
    week, rates = 8, backups(12)[:, :2]
    rates[:, 1] = rates[:, 0]
    after = rates[week * DAY :, 1]
    after[np.arange(len(after)) % DAY // 3 == 6] /= 30
    rows = np.zeros(2, row_type(forecast.columns(model.config, SPEC)))
    for at, now in enumerate(rates):
        steps = np.full(2, FIRST + at)
        inputs = forecast.prepare(rows, now, steps, SPEC)
        outputs, rows["state"] = model.step(inputs, rows["state"])
        bands = forecast.postprocess(rows, outputs, inputs, steps, SPEC)
        peaks.predict(rows, outputs, inputs, bands, steps, SPEC, head)
        if at == week * DAY - 1:
            assert rows["burst_odds"][0] == rows["burst_odds"][1]
    assert rows["burst_odds"][0] > rows["burst_odds"][1] + 0.2


def test_a_gap_drops_the_pending_forecast_of_a_burst(model):
    """Its steps are not those of the flow any more; what was learned stays."""
    rows = np.zeros(2, row_type(forecast.columns(model.config, SPEC)))
    rows["burst_rate"], rows["burst_odds"] = 5, 1
    forecast.restart(rows, np.array([True, False]))
    assert rows["burst_rate"].tolist() == [0, 5]
    assert rows["burst_odds"].tolist() == [1, 1]


def test_a_head_is_packed_and_unpacked():
    """With every number; other bytes are refused."""
    head = PeakHead(5, 6)
    again = unpack(pack(head, {"made_by": "test"}))
    for name, each in head.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], each)
    with pytest.raises(ValueError, match="no weights of a head"):
        unpack(b"nothing")


def test_a_span_lies_within_the_horizons():
    """Steps beyond them are not forecast."""
    with pytest.raises(ValueError, match="at most 3"):
        ForecastSpec(STEP_S, horizons=3, peaks=(4,))
