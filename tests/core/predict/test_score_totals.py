"""Published scores: which flows are counted in which class, and none twice."""

import json
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.features import baselines
from streamer.core.network.config import ModelConfig
from streamer.core.predict import forecast
from streamer.core.predict.forecast import ForecastSpec
from streamer.core.predict.score_totals import ScoreTotals, ending
from streamer.core.state.table import row_type
from streamer.core.wire import scores

STEP_S, PERIOD_S = 60, 600
END = 1_700_000_400  # of a period


def settled(number, seed=0):
    """Rows with ten forecasts settled at each anchor."""
    rng = np.random.default_rng(seed)
    rows = np.zeros(number, row_type(forecast.columns(ModelConfig(hidden=4), ForecastSpec(STEP_S))))
    rows["n_scored"], rows["n_covered"] = 10, rng.integers(0, 11, (number, 3))
    rows["mean"] = rows["peak"] = 10 ** rng.uniform(-3, 14, number)
    rows["loss_sums"] = 10 * rows["mean"][:, None, None] * rng.uniform(size=(number, 3, 3))
    rows["errors"] = rng.uniform(0.1, 1, rows["errors"].shape)
    rows["network_error"] = rng.uniform(0.1, 1, rows["network_error"].shape)
    rows["predictor"] = rng.integers(0, 11, number)
    rows["rank_shares"] = np.cumsum(rng.uniform(0, 1, rows["rank_shares"].shape), axis=1)
    rows["silent_share"] = rng.uniform(size=number)
    return rows


def last_steps(number):
    return np.full(number, END // STEP_S - 1)


def scores_of(*waves):
    tally = ScoreTotals(STEP_S, PERIOD_S)
    for rows in waves:
        tally.take(rows, last_steps(len(rows)), "lstm", 3)
    return {(score.of, score.horizon): score for score in tally.scores()}


@given(st.integers(10, 10**9), st.sampled_from([1, 10, 60, 300]), st.sampled_from([300, 900, 1000]))
def test_a_period_ends_with_one_step(step, step_s, period_s):
    """The one in which its last second lies, or that goes beyond it."""
    steps = np.arange(step, step + 2000)
    ends = steps[ending(steps, step_s, period_s)]
    assert (np.diff(ends) <= -(-period_s // step_s)).all()
    periods = (ends + 1) * step_s // period_s
    assert (np.diff(periods) == 1).all()
    assert ((ends * step_s) // period_s < periods).all()


def test_a_row_in_the_middle_of_a_period_keeps_its_sums():
    """Only the sums of a period that ends are published, and then they are cleared."""
    rows = settled(5)
    before, tally = rows.copy(), ScoreTotals(STEP_S, PERIOD_S)
    tally.take(rows, last_steps(5) - 1, "lstm", 3)
    assert tally.scores() == []
    np.testing.assert_array_equal(rows, before)
    tally.take(rows, last_steps(5), "lstm", 3)
    assert {score.ends_at for score in tally.scores()} == {END}
    for name in ("n_scored", "n_covered", "loss_sums"):
        assert not rows[name].any()
    np.testing.assert_array_equal(rows["errors"], before["errors"])


def test_every_flow_is_once_in_all_and_once_in_each_kind_of_class():
    """So the parts of any way to sort flows add up to all of them."""
    every = scores_of(settled(400))
    for horizon in (1, 4, 12):
        pooled = every["all", horizon]
        assert (pooled.flows, pooled.forecasts) == (400, 4000)
        for way in ("served_by", "level", "rhythm", "bursts"):
            parts = [s for (name, h), s in every.items() if name.startswith(way) and h == horizon]
            assert sum(part.flows for part in parts) == 400
            assert sum(part.covered for part in parts) == pooled.covered
            assert sum(part.error for part in parts) == pytest.approx(pooled.error)
    assert len({name for name, _ in every}) <= 1 + 11 + 13 + 2 + 3


@given(st.integers(0, 100), st.integers(1, 5))
def test_scores_of_several_waves_add_up(seed, pieces):
    """However the rows were split."""
    rows = settled(30, seed)
    every, parts = scores_of(rows.copy()), scores_of(*np.array_split(rows.copy(), pieces))
    assert every.keys() == parts.keys()
    for key, score in every.items():
        assert parts[key].covered == score.covered
        assert parts[key].quantile_loss == pytest.approx(score.quantile_loss)


def test_flows_are_classified_by_their_rows():
    """By predictor, decade of the mean, rhythm and bursts."""
    rows = settled(3)
    rows["predictor"] = 0, 1, 5
    rows["mean"] = 0.5, 3e4, 1e20
    rows["errors"] = 1.0
    rows["errors"][1, 2, baselines.NAMES.index("weekly")] = 0.5
    rows["rank_shares"] = 0.0
    rows["rank_shares"][2, -1] = 2.0
    rows["silent_share"] = 0.9, 0.1, 0.1
    names = [{name for name, _ in scores_of(rows[n : n + 1].copy())} - {"all"} for n in range(3)]
    assert names == [
        {"served_by/lstm", "level/1e0", "rhythm/none", "bursts/silence"},
        {"served_by/last", "level/1e4", "rhythm/regular", "bursts/few"},
        {"served_by/daily", "level/1e12", "rhythm/none", "bursts/many"},
    ]


def test_what_serves_is_compared_with_every_baseline():
    """A baseline that serves has no skill against itself."""
    rows = settled(2)
    rows["predictor"] = 1 + baselines.NAMES.index("ewma_14")
    score = scores_of(rows)["all", 4]
    line = json.loads(scores.encoded(score, STEP_S))
    assert line["skill_ewma_14"] == pytest.approx(0, abs=1e-9)
    assert {f"skill_{name}" for name in baselines.NAMES} <= line.keys()
    assert score.missed == pytest.approx(10 * rows["errors"][:, 1, 2].sum())


def test_a_score_is_as_its_schema_has_it():
    """Flat, keyed by class and horizon, with ratios that its own sums give."""
    schema = json.loads((files("streamer") / "schemas" / "score.schema.json").read_text())
    known = set(schema["properties"]) | {
        f"{a}_{b}" for a in ("missed", "skill") for b in baselines.NAMES
    }
    for message in scores.messages(list(scores_of(settled(50)).values()), "traffic.scores", STEP_S):
        line = json.loads(message.value)
        jsonschema.validate(line, schema)
        assert line.keys() == known
        assert message.key.decode() == f"{line['class']}/{line['horizon']}"
        assert line["coverage"] == line["covered"] / line["forecasts"]
        assert not any(isinstance(value, (list, dict)) for value in line.values())
