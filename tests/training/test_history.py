"""The history of sampled flows: batches equal the engine's inputs, to the bit."""

import numpy as np
import pytest

from streamer.core.network.config import ModelConfig
from streamer.training.history import History
from streamer.training.sample import Sample, rank
from streamer.training.window import build_window, split_evenly
from streamer.weights import open_model
from tests.training import scene
from tests.training.scene import engine_of, feed_rates


@pytest.fixture(scope="module")
def model():
    return open_model(ModelConfig())


class InputRecorder:
    """The inputs of the engine's network, by flow and step."""

    def __init__(self):
        self.features = {}

    def __call__(self, flows, steps, rates, inputs):
        for n, (flow, step) in enumerate(zip(flows, steps.tolist(), strict=True)):
            self.features[flow, step] = inputs.features[n].copy()


def test_chunks_equal_the_engines_inputs(model):
    """Stepped again from a snapshot, the network reads what it read, and the states are its own."""
    rates = scene.rates(3)
    rates[200:204, 1] = np.nan  # a hole that is stepped through
    recorder = InputRecorder()
    engine = engine_of(model, recorder)
    history = History(16, 1000, scene.STEP_S)
    feed_rates(engine, history, rates[:150], scene.FIRST, 0)
    before = history.snapshot(engine.rows_of)
    feed_rates(engine, history, rates[150:290], scene.FIRST + 150, 150)
    after = history.snapshot(engine.rows_of)
    made = build_window(
        history, before, after,
        network=model.network, horizons=(1, 6, 12), rng=np.random.default_rng(0),
    ).window  # fmt: skip
    assert len(made.lanes) >= 0.8 * scene.FLOWS
    compared = 0
    for place in made.places:
        for nth, features in enumerate(place.chunk.features):
            for n, lane in enumerate(made.lanes.tolist()):
                flow, step = history.flows[lane], int(place.steps[n]) + nth
                assert features[n].tobytes() == recorder.features[flow, step].tobytes()
                compared += 1
    assert compared > 1000
    second = made.places[1]
    assert second.states.any()
    came = made.came(second, history)
    made_at = second.steps + second.chunk.forecast_steps[0] + 6
    lane = made.lanes[0]
    at = int(made_at[0]) - scene.FIRST
    flow = int(history.flows[lane].removeprefix("port"))
    assert came[0, 0, 1] == np.float32(rates[at, flow])


def test_a_restarted_flow_is_not_in_the_window(model):
    """After a hole that hides too much its steps cannot be retraced, and its neighbours' can."""
    rates = np.full((120, 3), 5.0) + np.arange(120)[:, None]
    rates[60:90, 1] = np.nan  # longer than gap_max
    engine, history = engine_of(model), History(16, 1000, scene.STEP_S)
    feed_rates(engine, history, rates[:40], scene.FIRST, 0)
    before = history.snapshot(engine.rows_of)
    feed_rates(engine, history, rates[40:], scene.FIRST + 40, 40)
    first, _ = history.complete(before, history.snapshot(engine.rows_of))
    flows = {history.flows[lane] for lane in before.lanes[first].tolist()}
    assert flows == {"port00", "port02"}


def test_a_sample_is_the_same_in_any_order():
    """The flows of least rank, in any order of arrival; those in it at last were never evicted."""
    names = [f"edge{n}/xe-0/0/{n % 7}/in" for n in range(400)]
    kept = []
    for seed in range(3):
        sample, asked = Sample(50), np.random.default_rng(seed).permutation(names)
        ever_out = set()
        for name in [*asked, *asked]:
            admitted, evicted = sample.admit(str(name))
            ever_out |= {evicted} if evicted else set()
            ever_out |= set() if admitted else {str(name)}
        kept.append({name for name in names if name in sample})
        assert not kept[-1] & ever_out
    assert kept[0] == kept[1] == kept[2] == set(sorted(names, key=rank)[:50])


def test_a_lane_that_changes_hands_forgets(model):
    """Rates of a flow that gave way are not those of the one in its place."""
    history = History(1, 50, scene.STEP_S)
    engine = engine_of(model)
    small, large = sorted(("port00", "port01"), key=rank)
    number = {name: int(name[-1]) for name in (small, large)}
    rates = np.full((30, 2), np.nan)
    rates[:20, number[large]] = 3.0
    rates[10:, number[small]] = 9.0
    feed_rates(engine, history, rates, scene.FIRST, 0)
    assert history.flows == [small]
    steps = scene.FIRST + np.arange(30)[:, None]
    lanes, tenures = np.array([0]), history._tenures[:1]
    found = history.rates(lanes, tenures, steps)[:, 0]
    assert set(found[~np.isnan(found)].tolist()) == {9.0}
    assert np.isnan(history.rates(lanes, tenures - 1, steps)).all()


@pytest.mark.parametrize("length", [1, 36, 64, 65, 288, 1440])
def test_chunks_cover_a_window(length):
    """Each step is in one chunk, and none is longer than errors are traced back."""
    edges = split_evenly(length)
    assert [step for first, end in edges for step in range(first, end)] == list(range(length))
    assert all(0 < end - first <= 64 for first, end in edges)
