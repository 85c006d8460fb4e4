"""Doubles live through what their flows live through, until their days are moved."""

import numpy as np
import pytest

from streamer.core.features.baselines import NAMES
from streamer.core.network.config import ModelConfig
from streamer.training import augmentation
from streamer.training.augmentation import DOUBLED, PhaseShiftAugmenter
from streamer.training.history import History
from streamer.training.window import build_window
from streamer.weights import open_model
from tests.training import scene
from tests.training.scene import engine_of, feed_rates

HALF = scene.DAY // 2
HORIZONS = (1, 6, 12)


def waves(days, flows=16):
    """Flows that do the same each day, each at its own hours; (steps, flows) rates."""
    rng = np.random.default_rng(0)
    hours = np.arange(days * scene.DAY)[:, None] * 24 / scene.DAY + rng.uniform(0, 24, flows)
    return 1e6 * np.exp(np.sin(2 * np.pi * hours / 24) + 0.1 * rng.normal(size=hours.shape))


@pytest.fixture
def lived():
    """Plays days out, half a day at a time: the true windows and those of the doubles."""

    def play(days, from_day=0):
        model = open_model(ModelConfig())
        engine, history, rates = engine_of(model), History(64, 10_000, scene.STEP_S), waves(days)
        doubles, own, before = PhaseShiftAugmenter(), [], None
        for first in range(0, len(rates), HALF):
            feed_rates(engine, history, rates[first : first + HALF], scene.FIRST + first, first)
            after = history.snapshot(engine.rows_of)
            if before is not None and first >= from_day * scene.DAY:
                given = {"network": model.network, "horizons": HORIZONS}
                rng = np.random.default_rng(first)
                own.append(build_window(history, before, after, **given, rng=rng).window)
                doubles.keep(history, before, after, **given, rng=rng, oldest=0.0)
            before = after
        return own, doubles

    return play


def features(windows, lanes):
    """What the network reads of these lanes, all steps."""
    found = []
    for each in windows:
        at = np.flatnonzero(np.isin(each.lanes, lanes))
        found += [place.chunk.features[:, at] for place in each.places]
    return np.concatenate(found)


def test_a_double_that_was_never_turned_is_its_flow(lived, monkeypatch):
    """Window after window it reads the same, to the bit, from the same states."""
    monkeypatch.setattr(augmentation, "TURNS", 0.0)
    own, doubles = lived(5)
    lanes = doubles.windows[0].lanes
    assert len(lanes) == 16 // DOUBLED
    assert features(own, lanes).tobytes() == features(doubles.windows, lanes).tobytes()
    for original, doubled in zip(own, doubles.windows, strict=True):
        at = np.isin(original.lanes, lanes)
        pairs = zip(original.places, doubled.places, strict=True)
        assert all((a.states[at] == b.states).all() for a, b in pairs)


def test_doubles_that_do_not_all_fit_stay_the_same_few(lived, monkeypatch):
    """Where windows take a part of the flows, doubles are a part of that, and live on in it."""
    for module in ("window", "augmentation"):
        monkeypatch.setattr(f"streamer.training.{module}.FLOW_STEPS_MAX", 8 * HALF)
    own, doubles = lived(4)
    assert {len(each.lanes) for each in own} == {8}
    lanes = [each.lanes.tolist() for each in doubles.windows]
    assert len(lanes[0]) == 8 // DOUBLED
    assert lanes == [lanes[0]] * len(own)


def test_a_double_relearns_its_shifted_day(lived, monkeypatch):
    """Its daily profile is wrong by far at first, and as good as any other days later."""
    turn, turns = (
        augmentation.seasonal.roll_profiles,
        iter([8]),
    )  # hours at first, and none ever after
    monkeypatch.setattr(
        augmentation.seasonal,
        "roll_profiles",
        lambda rows, hours, step_s: turn(rows, np.full_like(hours, next(turns, 0)), step_s),
    )
    own, doubles = lived(10, from_day=6)
    lanes = doubles.windows[0].lanes
    daily = NAMES.index("daily")

    def off(windows):
        """How far the day's profile has been off, at the end of each window."""
        return [
            float(
                np.exp(each.places[-1].chunk.errors[-1][daily, np.isin(each.lanes, lanes)]).mean()
            )
            for each in windows
        ]

    true, double = off(own), off(doubles.windows)
    assert double[0] > 3 * true[0]
    assert double[-1] < 1.5 * true[-1]
