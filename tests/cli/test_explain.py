"""The output of `streamer explain` on the weights of a flow's last step."""

import json
import re

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from streamer.__main__ import cli
from streamer.config.schema import load, open_client
from streamer.console.payloads import FlowState
from streamer.core.engine import Engine
from streamer.core.network.config import ModelConfig
from streamer.core.network.model import Forecaster, Network, baseline_mixture, pack
from streamer.core.types import Message, Partition, Record
from streamer.log import TopicConfig
from streamer.weights import open_model

FLOW = "edge1/in"
P = Partition("traffic.counters", 0)
STEPS = 20


@pytest.fixture
def file(tmp_path):
    """Settings of a SQLite log that has the topics of state and of models."""
    path = tmp_path / "streamer.yaml"
    path.write_text(f"log: sqlite:///{tmp_path / 'log.db'}\ngroup: test\ninput: {{kind: gauge}}\n")
    client = open_client(load(path))
    for topic in ("test.state", "test.models"):
        client.create(topic, TopicConfig(1, compact=True))
    client.close()
    return path


def trained(generation, seed=7, shape=None):
    """Weights of some generation, far from those that the settings name."""
    torch.manual_seed(seed)
    return Forecaster(Network(shape or ModelConfig()), generation)


def live(file, model, steps=STEPS):
    """Have *model* forecast the flow for a while and save its page; the row."""
    config = load(file)
    engine = Engine(model, config.engine)
    engine.restore(P, {}, 0, 1)
    rates = 1000 + 300 * np.sin(np.arange(steps))
    readings = [{"flow": FLOW, "time": 60 * n, "value": rate} for n, rate in enumerate(rates)]
    records = [Record(P, n, None, json.dumps(each).encode(), -1) for n, each in enumerate(readings)]
    entries = engine.step(records, share=1.0).entries
    publish(file, [Message("test.state", 0, each.key, each.value) for each in entries])
    return engine.rows_of(P, [FLOW])[1]


def publish(file, messages):
    client = open_client(load(file))
    client.send(messages)
    client.close()


def explain(file, *options):
    done = CliRunner().invoke(cli, ["explain", FLOW, "-c", str(file), *options])
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def gates_of(model, row):
    """The means as they are shown, of a row's last step."""
    (gates,) = model.gates(row["inputs"], row["state_before"], row["state"])
    return [f"{name} {float(getattr(gates, name).mean()):+.2f}" for name in "fiogCh"]


def test_the_gates_are_of_the_generation_that_took_the_step(file):
    """Its weights are fetched from the models topic; those of the settings differ."""
    model = trained(3)
    row = live(file, model)
    publish(file, [Message("test.models", 0, b"weights/3", pack(model.network, {}))])
    output = explain(file)
    assert "The gates below are of generation 3, as the flow's page is." in output
    assert all(each in output for each in gates_of(model, row))
    assert not all(each in output for each in gates_of(open_model(ModelConfig()), row))


def test_the_gates_of_generation_0_are_those_of_the_settings(file):
    """No models topic is needed for them."""
    model = open_model(ModelConfig())
    row = live(file, model)
    output = explain(file)
    assert "The gates below are of generation 0" in output
    assert all(each in output for each in gates_of(model, row))


OTHERS = pack(trained(3, seed=8).network, {})
SMALL = ModelConfig(hidden=8)


@pytest.mark.parametrize(
    ("model", "kept", "why"),
    [
        (trained(3), None, "test.models has them no more"),
        (trained(3), OTHERS, "test.models has others under this number"),
        (trained(3), b"junk", "those on test.models do not fit the settings"),
        (trained(0), None, "the settings name others under this number"),
        (trained(3, shape=SMALL), pack(trained(3, shape=SMALL).network, {}), "hidden 8"),
    ],
    ids=["gone", "replaced", "junk", "shipped with another package", "another network"],
)
def test_missing_weights_are_named(file, model, kept, why):
    """And no gates are shown without their weights."""
    live(file, model)
    if kept is not None:
        publish(file, [Message("test.models", 0, b"weights/3", kept)])
    output = explain(file)
    reason = f"They are of generation {model.generation}, and its weights are not to be had: "
    assert f"The gates cannot be shown. {reason}" in output
    assert why in output.partition(reason)[2]
    assert "last step of the LSTM" not in output
    assert "naive forecasts and their running errors" in output  # everything else is shown as usual


def test_an_untrained_network_has_no_gates(file):
    """The daemon runs with the naive forecasts in its place, so there is a flow to explain."""
    file.write_text(file.read_text() + "model: {hidden: 8}\n")
    live(file, baseline_mixture(SMALL))
    assert "no network is trained yet, and the naive forecasts serve in its place" in explain(file)


def test_as_json_it_has_the_gates_over_the_last_steps(file):
    """The last step is the row's own; those before are much like those that it had."""
    model = open_model(ModelConfig())
    earlier = live(file, model, STEPS - 1)
    row = live(file, model)
    shown = json.loads(explain(file, "--json", "--partition", "0"))
    msgspec.convert(shown, FlowState)
    (layer,) = shown["layers"]
    assert shown["no_gates"] == ""
    assert {len(layer[name]) for name in "fioC"} == {shown["steps"]}
    np.testing.assert_allclose(layer["C"][-1], row["state"][0, 0, 1], atol=1e-3)
    assert np.corrcoef(layer["C"][-2], earlier["state"][0, 0, 1])[0, 1] > 0.8
    for name in "fio":
        assert 0 <= np.min(layer[name]) <= np.max(layer[name]) <= 1
    assert len(shown["rates"]) == shown["steps"]
    assert shown["burst_odds"] == 1  # nothing was learned yet


def test_as_json_it_has_the_reason_for_missing_gates(file):
    """Weights that the models topic does not have."""
    live(file, trained(3))
    shown = json.loads(explain(file, "--json"))
    assert shown["layers"] == []
    assert "has them no more" in shown["no_gates"]


def test_another_partition_does_not_have_the_flow(file):
    live(file, open_model(ModelConfig()))
    done = CliRunner().invoke(cli, ["explain", FLOW, "-c", str(file), "--partition", "1"])
    assert done.exit_code == 1


def test_a_flow_that_is_unknown_has_neighbours(file):
    """By its name; or any of the flows, if none is like it."""
    live(file, open_model(ModelConfig()))
    for name, words in ((FLOW + "x", f"do you mean {FLOW}?"), ("0000", f"such as {FLOW}")):
        done = CliRunner().invoke(cli, ["explain", name, "-c", str(file)])
        assert done.exit_code == 1
        assert words in done.output


def test_rules_show_how_close_they_are(file):
    """Those that match the flow; the others are named. Without alerts there is no such chapter."""
    assert "alert rules" not in explained_with(file, "")
    output = explained_with(
        file,
        "alerts: {enabled: true, rules: [{name: high, kind: threshold, above: 5000},"
        " {name: odd, kind: anomaly}, {name: other, kind: spike, flows: 'core*'}]}\n",
    )
    assert re.search(r"high clear chance \d+% of 50% that the peak passes 5.00 kB/s", output)
    assert re.search(r"odd clear \d of the last 8 steps outside of their bands, 6 needed", output)
    assert "not for this flow: other" in output


def explained_with(file, more):
    file.write_text(file.read_text() + more)
    live(file, open_model(load(file).model))
    return explain(file)
