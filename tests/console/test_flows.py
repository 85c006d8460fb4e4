"""The table of flows: exact where it should be, and bounded whatever comes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.config.schema import Config
from streamer.console.codes import decoded, encoded
from streamer.console.decoding import Decoder, waves
from streamer.console.flows import FlowTable, Shape, distribution, unusual
from streamer.console.history import History
from streamer.core.alerts import peak
from streamer.core.wire.forecasts import ForecastsConfig
from tests.console.scene import AT, STEP_S, forecast_messages, rates_at, records

SHAPE = Shape(STEP_S, (0.05, 0.25, 0.5, 0.75, 0.95), 12, (4, 12))
CONFIG = Config()


def table(flows_max: int = 1000, history: int = 1 << 20, keep_s: float = 86400.0) -> FlowTable:
    return FlowTable(SHAPE, flows_max, history, keep_s)


def read(into: FlowTable, flows: list[str], steps: range) -> Decoder:
    decoder = Decoder(ForecastsConfig(), STEP_S)
    into.add(decoder.columns(records(forecast_messages(flows, steps, CONFIG))))
    return decoder


@given(st.lists(st.floats(0, 1e38), max_size=50))
def test_a_rate_survives_its_code(rates):
    """To a tenth of a per cent; below a millionth of a unit it is zero."""
    back = decoded(encoded(rates))
    for rate, found in zip(rates, back, strict=True):
        assert found == (pytest.approx(rate, rel=1e-3) if rate >= 1e-6 else 0)


def test_a_missing_rate_is_no_zero():
    assert np.isnan(decoded(encoded([np.nan, 0.0, -3.0]))).tolist() == [True, False, False]
    assert decoded(encoded([0.0, -3.0])).tolist() == [0, 0]


@given(st.lists(st.integers(0, 5), max_size=40))
def test_no_wave_has_a_flow_twice(flows):
    """All places are in one wave, and a flow's places are in order."""
    found = waves(flows)
    assert sorted(np.concatenate([*found, []]).tolist()) == list(range(len(flows)))
    last: dict[int, int] = {}
    for wave in found:
        chosen = [flows[place] for place in wave]
        assert len(set(chosen)) == len(chosen)
        for place in wave.tolist():
            assert last.get(flows[place], -1) < place
            last[flows[place]] = place


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40)), max_size=60))
def test_a_ring_holds_what_a_list_would(moves):
    """Steps that were left out are missing, and forecasts come back when they are due."""
    history, ahead = History(1 << 20, 48, 3, 16), 3
    history.reserve(4)
    newest = dict.fromkeys(range(4), 0)
    rates: dict[tuple[int, int], int] = {}
    predicted: dict[tuple[int, int], int] = {}
    for slot, gap in moves:
        step = newest[slot] + gap
        newest[slot] = step
        code = 2 + (7 * step + slot) % 1000
        scored = history.add(
            np.array([slot]),
            np.array([step]),
            np.array([code], np.uint16),
            np.array([[code, code + 1, code + 2]], np.uint16),
        )
        assert scored.forecast[0, 1] == predicted.get((slot, step), -1) + 1
        assert scored.last[0] == rates.get((slot, step - ahead), 0)
        rates[slot, step], predicted[slot, step + ahead] = code, code
    for slot in range(4):
        if history.newest[slot] < 0:
            continue
        steps, codes, bands = history.whole(slot)
        for step, rate, band in zip(steps.tolist(), codes.tolist(), bands, strict=True):
            assert rate == rates.get((slot, step), 0)
            assert band[1] == predicted.get((slot, step), -1) + 1
        assert history.rates(np.array([slot]), 5)[0].tolist() == codes[-ahead - 5 : -ahead].tolist()


def test_rings_become_shorter_when_flows_are_many():
    """They never take more than was granted, and keep their newest steps."""
    into = table(flows_max=100_000, history=1 << 20)
    long = into.history.length
    read(into, ["first"], range(40))
    many = [f"flow{n}" for n in range(2000)]
    read(into, many, range(2))
    assert into.history.length < long
    assert into.history.nbytes <= (1 << 20) + 8 * SHAPE.ahead * len(into.history.newest)
    recent = decoded(into.history.rates(np.array([into.slots["first"]]), 20))[0]
    assert recent == pytest.approx([rates_at(1, step)[0] for step in range(20, 40)], rel=1e-3)


def test_the_newest_forecast_of_a_flow_is_kept():
    """With its rate, its bands, and how it compares with what was predicted."""
    into = table()
    read(into, ["a", "b"], range(30))
    slot = into.slots["b"]
    assert into.columns["made_at"][slot] == AT + 29 * STEP_S
    assert into.columns["rate"][slot] == pytest.approx(rates_at(2, 29)[1], rel=1e-5)
    assert decoded(into.bands[slot])[2, 0] == pytest.approx(rates_at(2, 30)[1], rel=1e-3)
    assert into.columns["scored"][slot] == 30 - SHAPE.ahead
    assert into.columns["held"][slot] == 1
    assert into.columns["error"][slot] < 0.01 * into.columns["error_last"][slot]
    assert abs(into.columns["unusual"][slot]) < 0.01
    assert into.forecasts == 60


def test_a_repeated_forecast_changes_nothing():
    into, again = table(), table()
    for steps in (range(20), range(10, 20)):
        read(into, ["a"], steps)
    read(again, ["a"], range(20))
    assert into.repeated == 10
    same(into, again, 1)


def test_the_result_does_not_depend_on_batches():
    """One forecast at a time, or all at once."""
    one, all_ = table(), table()
    flows = ["a", "b", "c"]
    for step in range(25):
        read(one, flows, range(step, step + 1))
    read(all_, flows, range(25))
    same(one, all_, 3)


def test_flows_beyond_the_limit_push_out_the_longest_silent():
    into = table(flows_max=64)
    read(into, [f"old{n}" for n in range(60)], range(3))
    read(into, [f"new{n}" for n in range(30)], range(5, 8))
    assert len(into) <= 64
    assert {f"new{n}" for n in range(30)} <= into.slots.keys()
    assert into.evicted >= 26
    assert len(into.names) <= 64
    assert sorted(into.slots.values()) == into.used().tolist()


def test_more_flows_in_a_batch_than_there_is_room():
    into = table(flows_max=16)
    read(into, [f"flow{n}" for n in range(50)], range(2))
    assert len(into) == 16
    assert into.forecasts == 100


def test_flows_that_fell_silent_are_forgotten():
    into = table()
    decoder = Decoder(ForecastsConfig(), STEP_S)
    into.add(decoder.columns(records(forecast_messages(["a"], range(2), CONFIG), 1_000)))
    into.add(decoder.columns(records(forecast_messages(["b"], range(2), CONFIG), 9_000)))
    into.forget_silent(5_000)
    assert list(into.slots) == ["b"]
    read(into, ["c"], range(1))
    assert into.slots["c"] == 0


def same(one: FlowTable, other: FlowTable, flows: int) -> None:
    """All but the times of the records."""
    for name in one.columns.keys() - {"time_ms"}:
        found, wanted = one.columns[name][:flows], other.columns[name][:flows]
        np.testing.assert_array_equal(found, wanted, err_msg=name)


JUNK = (
    b"",
    None,
    b"nonsense",
    b"[]",
    b"{}",
    b'{"flow": 3}',
    b"\xff\x00",
    b"[" * 100_000,
    b'{"flow":"a","made_at":1e400}',
)


@pytest.mark.parametrize("value", JUNK, ids=lambda value: str(value)[:20])
def test_junk_is_counted_and_skipped(value):
    """And the forecasts beside it are taken."""
    into, decoder = table(), Decoder(ForecastsConfig(), STEP_S)
    good = records(forecast_messages(["a"], range(1), CONFIG))
    into.add(decoder.columns([good[0]._replace(value=value), *good]))
    assert len(into) == 1
    assert sum(decoder.junk.values()) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ((b'"step_s":60', b'"step_s":300'), "other_step"),
        ((b'"made_at":17', b'"made_at":-17'), "out_of_range"),
        ((b'"made_at":17', b'"made_at":99999999917'), "out_of_range"),
        ((b'"flow":"a"', b'"flow":""'), "out_of_range"),
        ((b'"q50":[', b'"q50":[1,'), "other_horizons"),
        ((b'"q50":[', b'"q51":['), "not_a_forecast"),
        ((b'"q50":[', b'"q50":[null,'), "not_a_forecast"),
        ((b'"rate":', b'"rate":1e300,"rate_was":'), "out_of_range"),
    ],
)
def test_a_forecast_of_other_settings_is_counted(changes, reason):
    decoder = Decoder(ForecastsConfig(), STEP_S)
    [good] = records(forecast_messages(["a"], range(1), CONFIG))
    value = good.value.replace(*changes, 1)
    assert value != good.value
    assert len(decoder.columns([good._replace(value=value)])) == 0
    assert decoder.junk == {reason: 1}


def test_a_batch_of_lines_is_as_many_forecasts():
    """One line among them may be junk."""
    decoder = Decoder(ForecastsConfig(), STEP_S)
    good = records(forecast_messages(["a", "b", "c"], range(1), CONFIG))
    lines = b"\n".join([good[0].value, b"junk", good[1].value, good[2].value])
    assert decoder.columns([good[0]._replace(value=lines)]).flow == ["a", "b", "c"]
    assert decoder.junk == {"not_a_forecast": 1}


def test_the_chance_of_a_spike_is_read_off_the_newest_forecast():
    """The chance that the peak passes twice the recent high; without a high there is none."""
    into = table()
    read(into, ["a", "b"], range(30))
    high = into.columns["high"][:2].astype(np.float64)
    levels, quantiles = distribution(SHAPE, decoded(into.bands[:2]), decoded(into.peaks[:2]))
    expected = peak.chance(levels, quantiles, 2 * high)
    assert into.columns["chance"][:2] == pytest.approx(expected, abs=0.01)
    assert len(set(expected)) == 2
    into.columns["high"][0] = 0
    again = forecast_messages(["a", "b"], range(30, 31), CONFIG)
    into.columns["high"][0] = 0
    made = Decoder(ForecastsConfig(), STEP_S).columns(records(again))
    made.rate[0] = 0
    into.add(made)
    assert np.isnan(into.columns["chance"][0])


def test_a_forecast_of_one_quantile_has_chances():
    """No peaks and one quantile is the least that settings allow."""
    shape = Shape(STEP_S, (0.5,), 12, ())
    found = distribution(shape, np.full((2, 1, 12), 5.0), np.zeros((2, 0, 4)))
    assert peak.chance(*found, np.array([4.0, 50.0])) == pytest.approx([0.6, 0.0], abs=0.2)


def test_the_edge_of_the_band_is_one():
    band = np.array([[50.0, 100.0, 200.0]] * 4)
    found = unusual(np.array([100.0, 200.0, 50.0, 400.0]), band)
    assert found == pytest.approx([0, 1, -1, 3])
