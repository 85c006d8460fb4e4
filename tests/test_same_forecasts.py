"""The forecasts of backtest are those of the daemon, number by number."""

import csv
import gzip
import json
import subprocess
import sys
import time
from itertools import islice, takewhile
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from streamer.__main__ import cli
from streamer.cli.backtest import QUANTILES
from streamer.config.schema import load, open_client
from streamer.core.wire.forecasts import quantile_name
from streamer.core.wire.number_format import cells, listed
from streamer.feed.generated import generated
from streamer.synthetic import Counters

STREAMER = (sys.executable, "-m", "streamer")
REAL = Path(__file__).parents[2] / "shared/data/abilene_od_5min.csv.gz"
CHOSEN = ("ATLAng>LOSAng", "CHINng>CHINng", "NYCMng>STTLng", "WASHng>WASHng", "ATLAM5>SNVAng")
STEPS, FLOWS = 2 * 288, 5
DEADLINE_S = 240.0


def habits(file):
    """Counters with all their habits: wraps, resets, holes, readings sent twice."""
    rng = np.random.default_rng(8)
    counters = Counters(rng, FLOWS, 300, 1_700_000_100, resets=2.0, duplicates=0.05)
    readings = [each for batch in islice(generated(counters), STEPS) for each in batch]
    file.write_bytes(b"\n".join(map(msgspec.json.encode, readings)) + b"\n")
    return "counter"


def backbone(file):
    """Some flows of a real backbone."""
    if not REAL.exists():
        pytest.skip(f"not held to real traffic: {REAL} is not there")
    with gzip.open(REAL, "rt") as packed, file.open("w", newline="") as lines:
        table = csv.reader(packed)
        csv.writer(lines).writerows(islice(table, 1))
        chosen = [row for row in islice(table, 86 * STEPS) if row[1] in CHOSEN]
        csv.writer(lines).writerows(chosen)
    return "gauge"


def call(*arguments):
    done = CliRunner().invoke(cli, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output


def dumped(file, config, folder):
    """What backtest foretells, by flow and time: (horizons, quantiles) each."""
    call("backtest", file, "-c", config, "--from", 0.55, "--dump", folder / "dump.npz")
    with np.load(folder / "dump.npz") as held:
        flows, made_at = held["flows"].tolist(), held["made_at"].tolist()
        bands = held["forecasts"]
    return {
        (flow, at): as_published(bands[nth, place])
        for nth, at in enumerate(made_at)
        for place, flow in enumerate(flows)
        if not np.isnan(bands[nth, place]).all()
    }


def as_published(bands):
    """What a record contains of a forecast, (horizons, quantiles): its digits, and no more."""
    rows = listed(cells(bands.T[None]))[0].tolist()
    return np.array([json.loads(b"[" + row.replace(b"\0", b"") + b"]") for row in rows]).T


def published(config):
    """What lies on the forecasts topic, likewise."""
    client = open_client(load(config))
    batches = takewhile(bool, client.follow(["traffic.forecasts"], from_start=True, wait_s=0.01))
    found = [json.loads(record.value) for batch in batches for record in batch]
    client.close()
    names = [quantile_name(quantile) for quantile in QUANTILES]
    return {
        (each["flow"], each["made_at"]): np.array([each[name] for name in names]).T
        for each in found
    }


@pytest.mark.parametrize("source", [habits, backbone])
def test_the_daemon_publishes_the_forecasts_of_backtest(source, tmp_path):
    """Every number of every forecast is equal, however readings were cut into records and turns."""
    file, config = tmp_path / "readings", tmp_path / "streamer.yaml"
    kind = source(file)
    quantiles = ", ".join(map(str, QUANTILES))
    config.write_text(
        f"log: sqlite:///{tmp_path / 'log.db'}\nstep: 5m\ninput: {{kind: {kind}}}\n"
        f"forecasts: {{quantiles: [{quantiles}]}}\nturn: {{records_max: 37}}\n"
    )
    predicted = dumped(file, config, tmp_path)
    latest = max(at for _, at in predicted)
    call("topics", "-c", config, "--create", "--partitions", 2)
    call("feed", file, "-c", config, "--batch", 3)
    with subprocess.Popen([*STREAMER, "run", "-c", config]) as daemon:
        ends = time.monotonic() + DEADLINE_S
        try:
            while {key for key in predicted if key[1] == latest} - published(config).keys():
                assert time.monotonic() < ends, "its forecasts never came"
                time.sleep(0.2)
        finally:
            daemon.terminate()
    records = published(config)
    started = min(at for _, at in predicted)
    assert len(predicted) > FLOWS * STEPS // 3
    assert {key for key in records if key[1] >= started} == predicted.keys()
    for key, bands in predicted.items():
        np.testing.assert_array_equal(records[key], bands, err_msg=str(key))
