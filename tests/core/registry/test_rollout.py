"""Pages go over to new weights: whole, in their order, and without losing anything."""

import json

import numpy as np
import pytest
import torch

from streamer.config.types import Duration
from streamer.core.engine import Engine, EngineConfig
from streamer.core.features.grid import GridConfig
from streamer.core.network.config import ModelConfig
from streamer.core.network.model import Forecaster, Network, baseline_mixture
from streamer.core.registry import rebuild
from streamer.core.registry.models import WeightsFailed, WeightsFlaw
from streamer.core.registry.rollout_trial import RolloutComparison
from streamer.core.state.page_format import decode
from streamer.core.types import Partition, Record
from streamer.core.wire.forecasts import ForecastsConfig
from streamer.core.wire.generations import INCUMBENT, Incumbent, encode, weights_key

P = Partition("traffic.counters", 0)
FLOWS = 150  # three pages


def model(generation, seed=None, shape=None):
    torch.manual_seed(generation if seed is None else seed)
    return Forecaster(Network(shape or ModelConfig(hidden=8)), generation)


def engine(serving, table=None, committed=0, admit=None, horizons=12):
    config = EngineConfig(
        grid=GridConfig(step=Duration(60)), forecasts=ForecastsConfig(horizons=horizons)
    )
    made = Engine(serving, config, admit=admit)
    if admit is not None:
        made.load_models({weights_key(2): b"2", INCUMBENT: encode(Incumbent(2, 1, 0, "promoted"))})
    made.restore(P, table or {}, committed, 1)
    return made


def minute(number, flows=FLOWS):
    """One record with a reading of every flow."""
    chance = np.random.default_rng(number)
    readings = [
        {"flow": f"f{i}", "time": 60 * number, "value": float(rate), "kind": "gauge"}
        for i, rate in enumerate(1000 * np.exp(chance.normal(0, 0.5, flows)))
    ]
    return Record(P, number, None, json.dumps(readings).encode(), -1)


def live(made, first, last, share=0.0, flows=FLOWS):
    return [made.step([minute(number, flows)], share) for number in range(first, last)]


def rows_of(made):
    held = made.table._holdings[P].slots
    return {flow: made.table.rows[slot] for flow, slot in held.items()}


def entries(epochs):
    table = {}
    for epoch in epochs:
        for entry in epoch.entries:
            table.pop(entry.key, None)
            if entry.value is not None:
                table[entry.key] = entry.value
    return table


def test_the_rebuilt_state_of_a_young_flow_is_close_to_the_original():
    """While a row's window holds all its steps, only what it has learned since differs."""
    made = engine(model(1))
    always = engine(model(2))
    live(made, 0, 20)
    live(always, 0, 20)
    raw = np.stack([row["state"] for row in rows_of(made).values()]).astype(float)
    made.install(model(2))
    rebuilt, original = (
        np.stack([r["state"] for r in rows_of(e).values()]) for e in (made, always)
    )
    apart = np.abs(rebuilt.astype(float) - original.astype(float)).mean()
    assert apart < 0.35 * np.abs(raw - original.astype(float)).mean()


def test_a_rebuilt_state_does_not_depend_on_other_rows():
    """To the bit, alone or among a hundred and fifty, whatever the other rows contain."""
    made = engine(model(1))
    live(made, 0, 30)
    slots = np.arange(FLOWS)
    every = made.table.gather(slots)
    every["recent"][3], every["inputs"][3] = np.nan, np.nan
    alone = made.table.gather(slots[7:8])
    for rows in (every, alone):
        rebuild.rebuild_states(rows, rows["open"] - 1, 60, model(2))
    assert every["state"][7].tobytes() == alone["state"][0].tobytes()
    assert every["state_before"][7].tobytes() == alone["state_before"][0].tobytes()


def test_only_what_belongs_to_the_weights_changes():
    """All else that is known of a flow stays, to the bit."""
    made = engine(model(1))
    live(made, 0, 10)
    before = {flow: row.copy() for flow, row in rows_of(made).items()}
    made.install(model(2))
    for flow, row in rows_of(made).items():
        for name in set(row.dtype.names) - {"state", "state_before"}:
            assert row[name].tobytes() == before[flow][name].tobytes(), name


def test_pages_migrate_one_by_one_and_name_their_generation():
    """Forecasts have their page's generation, and a page migrates as a whole."""
    made = engine(model(1))
    live(made, 0, 3)
    made.generations.install(model(2))
    made.table.generation = 2
    for turn in range(4):
        (epoch,) = live(made, 3 + turn, 4 + turn)
        signed = {f: wave.generation for wave in epoch.forecasts for f in wave.flow}
        assert len(signed) == FLOWS
        for flow, slot in made.table._holdings[P].slots.items():
            assert signed[flow] == (2 if slot // 64 < turn else 1)
        made.rollout.advance(1)


def test_a_migrated_page_is_saved_with_its_turn():
    """So no crash returns it to weights that its forecasts no longer name; a restart continues."""
    made = engine(model(1))
    table = entries(live(made, 0, 5, share=1.0))
    made.generations.install(model(2))
    made.table.generation = 2
    made.rollout.advance(1)
    table |= entries(live(made, 5, 6))
    pages = {k: decode(v, made.table.rows.dtype) for k, v in table.items() if b"/page/" in k}
    assert sorted(page.generation for page in pages.values()) == [1, 1, 2]

    back = engine(model(1), table, 6, admit=lambda generation, _: model(generation))
    start = back.state.partitions[P].progress.floor
    assert back.rollout.pending_rebuild == 0
    back.replay([minute(number) for number in range(start, 6)])
    before, after = rows_of(made), rows_of(back)
    assert {f: row.tobytes() for f, row in after.items()} == {
        f: row.tobytes() for f, row in before.items()
    }
    assert back.rollout.stale_pages() == 2


def test_pages_of_missing_weights_are_rebuilt():
    """By the incumbent, from their recent steps; so are those of equal number and other weights."""
    made = engine(model(1))
    table = entries(live(made, 0, 9, share=1.0))
    for other in (model(0), model(1, seed=77)):
        back = engine(other, table, 9)
        assert back.rollout.pending_rebuild == FLOWS
        while back.rollout.rebuild_pending(100):
            pass
        adopted = engine(model(1))
        live(adopted, 0, 9)
        adopted.install(other)
        if other.generation != 1:
            expected = rows_of(adopted)
            for flow, row in rows_of(back).items():
                assert row["state"].tobytes() == expected[flow]["state"].tobytes()
        back.replay([minute(8)])
        live(back, 9, 10)


def test_another_architecture_begins_from_the_recent_steps():
    """And with other horizons: open forecasts are dropped, and nothing else is lost."""
    made = engine(model(1))
    table = entries(live(made, 0, 9, share=1.0))
    shape = ModelConfig(hidden=24, layers=2)
    back = engine(model(0, shape=shape), table, 9, horizons=7)
    while back.rollout.rebuild_pending(1000):
        pass
    for flow, row in rows_of(back).items():
        assert row["state"].shape == (2, 2, 24)
        assert row["state"].any()
        assert row["last_forecast"].shape[0] == 7
        assert not row["last_forecast"].any()
        assert row["age"] == rows_of(made)[flow]["age"]
    (epoch,) = live(back, 9, 10)
    assert all(np.isfinite(wave.bands).all() for wave in epoch.forecasts)


def test_the_baselines_serve_until_there_are_trained_weights():
    """Marked as such; then pages migrate to the first trained generation."""
    shape = ModelConfig(hidden=8)
    made = engine(baseline_mixture(shape))
    (*_, epoch) = live(made, 0, 4)
    assert {by for wave in epoch.forecasts for by in wave.served_by} == {"baselines"}
    made.install(model(1))
    (epoch,) = live(made, 4, 5)
    assert {by for wave in epoch.forecasts for by in wave.served_by} == {"lstm"}
    assert all(row["state"].any() for row in rows_of(made).values())


@pytest.mark.slow
def test_the_effect_of_a_rollout_on_the_error_is_reported_once():
    """Before, raw and rebuilt, of a sample; then unused models are dropped."""
    made = engine(model(1))
    live(made, 0, 70)
    made.install(model(2))
    reports = [each for epoch in live(made, 70, 130) for each in epoch.taken_up]
    (outcome,) = reports
    assert (outcome.generation, outcome.previous) == (2, 1)
    assert (outcome.pages, outcome.rows, outcome.sampled) == (3, FLOWS, 128)
    assert outcome.judged > 128 * 45
    for error in (outcome.error_before, outcome.error_raw, outcome.error_reprimed):
        assert 0.05 < error < 5
    assert len({outcome.error_before, outcome.error_raw, outcome.error_reprimed}) == 3
    assert set(made.generations.digests) == {1, 2}  # the settings' and the incumbent's


def test_a_member_without_pages_keeps_only_the_incumbent():
    """An idle member receives every promotion; only the last one's weights are kept."""
    made = engine(model(1), admit=lambda generation, _: model(generation))
    made.release({P})
    for number in range(3, 9):
        made.apply_models(
            [
                Record(P, number, weights_key(number), b"weights", -1),
                Record(P, number, INCUMBENT, encode(Incumbent(number, 2, 0, "promoted")), -1),
            ]
        )
        made.step([], 0.01)
        assert set(made.generations.digests) == {1, number}


def fragile(monkeypatch, fails):
    """Let the rebuild raise for the rows that *fails* names."""
    rebuilt = rebuild.rebuild_states

    def rebuild_states(rows, last, step_s, serving):
        if fails(rows, serving).any():
            raise FloatingPointError("planted")
        rebuilt(rows, last, step_s, serving)

    monkeypatch.setattr(rebuild, "rebuild_states", rebuild_states)


@pytest.mark.slow
def test_a_row_whose_state_cannot_be_rebuilt_is_reset(monkeypatch):
    """It alone; it is counted and named."""
    made, sound = engine(model(1)), engine(model(1))
    flows = 66  # two pages: each row is tried by itself
    for each in (made, sound):
        live(each, 0, 10, flows=flows)
    made.table.rows["mean"][7] = 12345.0
    fragile(monkeypatch, lambda rows, _: rows["mean"] == 12345.0)
    for each in (made, sound):
        each.install(model(2))
    (epoch,), _ = live(made, 10, 11, flows=flows), live(sound, 10, 11, flows=flows)
    assert epoch.counts["flows_reset"] == 1
    assert [(n.kind, n.flow) for n in epoch.notices] == [("state_failed", made.table.names[7])]
    failing, intact = rows_of(made), rows_of(sound)
    differs = {flow for flow in failing if failing[flow].tobytes() != intact[flow].tobytes()}
    assert differs == {made.table.names[7]}
    assert "flows_reset" not in +live(made, 11, 12, flows=flows)[0].counts


def test_weights_that_fail_with_any_row_are_found_out(monkeypatch):
    """No flow is reset for them: the generation is reported, and barred by its number."""
    made = engine(model(1))
    live(made, 0, 10)
    fragile(monkeypatch, lambda rows, serving: np.array([serving.generation == 2]))
    with pytest.raises(WeightsFailed, match="generation 2: FloatingPointError: planted"):
        made.install(model(2))
    back = Engine(model(1), EngineConfig(), admit=lambda generation, _: model(generation))
    back.generations.barred = {2: "planted"}
    update = back.load_models(
        {weights_key(2): b"2", INCUMBENT: encode(Incumbent(2, 1, 0, "promoted"))}
    )
    assert [(r.generation, r.flaw) for r in update.refusals][:1] == [(2, WeightsFlaw.FAILED)]
    assert back.generations.incumbent == 1


def test_a_measurement_that_raises_stops_no_rollout(monkeypatch):
    """Its report is missing, and that is counted."""
    made = engine(model(1))
    live(made, 0, 80)
    monkeypatch.setattr(RolloutComparison, "observe", lambda *_: 1 / 0)
    made.install(model(2))
    epochs = live(made, 80, 90)
    assert sum(epoch.counts["rollouts_unmeasured"] for epoch in epochs) == 1
    assert not any(epoch.taken_up for epoch in epochs)
    assert {wave.generation for wave in epochs[-1].forecasts} == {2}
