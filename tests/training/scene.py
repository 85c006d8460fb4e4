"""Generated traffic on a SQLite log, and weights that are easily improved upon."""

import json
from itertools import takewhile

import numpy as np
import torch

from streamer.cli._topics import survey
from streamer.config.schema import load, open_client
from streamer.config.types import Duration
from streamer.core.engine import Engine, EngineConfig
from streamer.core.features.baselines import BASELINES
from streamer.core.features.grid import GridConfig
from streamer.core.network.model import MEDIAN, pack, unpack
from streamer.core.types import Message, Partition, Record
from streamer.core.wire import InputConfig
from streamer.synthetic import Traffic
from streamer.weights import shipped

STEP_S = 600
DAY = 86400 // STEP_S
FIRST = 2_800_080  # a step at midnight
FLOWS = 12
PARTITION = Partition("counters", 0)


def rates(days, flows=FLOWS, seed=7):
    """(steps, flows) rates."""
    return Traffic(np.random.default_rng(seed), flows, STEP_S, FIRST).chunk(days * DAY)


def readings(each, first=FIRST):
    """Rates as gauge readings, a list a step."""
    for step, row in enumerate(each, first):
        yield [
            {"flow": f"port{n:02}", "time": step * STEP_S + 1.0, "value": float(value)}
            for n, value in enumerate(row)
            if not np.isnan(value)
        ]


def engine_of(model, input_hook=None):
    """An empty engine of one partition."""
    grid = GridConfig(step=Duration(STEP_S), gap_max=10)
    config = EngineConfig(flows_max=64, input=InputConfig(kind="gauge"), grid=grid)
    engine = Engine(model, config, input_hook=input_hook)
    engine.restore(PARTITION, {}, 0, 1)
    return engine


def feed_rates(engine, history, each, first, offset):
    """Step the engine through rates, and add its forecasts to *history*."""
    for n, batch in enumerate(readings(each, first)):
        record = Record(PARTITION, offset + n, None, json.dumps(batch).encode(), -1)
        for made in engine.step([record]).forecasts:
            history.add(made)


def spoilt(path):
    """A file of weights that overestimate everything, so that a challenger wins easily."""
    network, _ = unpack(shipped("lstm"))
    with torch.no_grad():
        network.output.bias[BASELINES + MEDIAN] += 3
    path.write_bytes(pack(network, {"from": "the shipped ones, spoilt"}))
    return path


def settings(tmp_path, **more):
    """A file of settings, as a rule for a SQLite log in *tmp_path*, with the topics made."""
    file = tmp_path / "streamer.yaml"
    document = {
        "log": f"sqlite:///{tmp_path}/log.db",
        "step": f"{STEP_S}s",
        "input": {"topics": ["counters"], "kind": "gauge"},
        "sqlite": {"session_timeout": "2s"},
        "model": {"weights": str(spoilt(tmp_path / "spoilt.safetensors"))},
        "trainer": {"nice": 0},  # machines that test are busy
        "finetune": {
            "every": "1d",
            "steps_max": 20,
            "learning_rate": 2e-3,
        },  # fast, that days are enough
        **more,
    }
    file.write_text(json.dumps(document))
    config = load(file)
    client = open_client(config)
    for finding in survey(config, client.topics(), 2):
        client.create(finding.topic, finding.wanted)
    client.close()
    return file, config


def feed(config, each, first=FIRST):
    """Put rates on the log."""
    client = open_client(config)
    client.send(
        [
            Message(config.input.topics[0], None, r["flow"].encode(), json.dumps(r).encode())
            for step in readings(each, first)
            for r in step
        ]
    )
    client.flush()
    client.close()


def publish_models(config, table):
    """Put records on the models topic, by their keys."""
    client = open_client(config)
    client.send([Message(config.models_topic, 0, key, value) for key, value in table.items()])
    client.flush()
    client.close()


def models(config):
    """The records of the models topic."""
    client = open_client(config)
    table = client.read_table(config.models_topic, 0)
    client.close()
    return table


def incumbents(config):
    """Every record of the incumbent that a follower still reads, in order."""
    client = open_client(config)
    batches = client.follow([config.models_topic], from_start=True, wait_s=0.01)
    records = [record for batch in takewhile(bool, batches) for record in batch]
    client.close()
    return [json.loads(r.value) for r in records if r.key == b"incumbent"]
