"""The engine over a file: grids of what came and what was foretold."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from streamer.__main__ import cli

STEP_S = 3600
START_S = 1_699_999_200  # on a step


def written(tmp_path, days=4, flows=3):
    rng = np.random.default_rng(0)
    rates = 100 * np.exp(rng.normal(size=(days * 24, flows)))
    lines = ["timestamp,flow,value"]
    for step, each in enumerate(rates):
        lines += [f"{START_S + step * STEP_S},port{f},{rate}" for f, rate in enumerate(each)]
    file = tmp_path / "readings.csv"
    file.write_text("\n".join(lines) + "\n")
    return file, rates


def backtest(*arguments):
    return CliRunner().invoke(cli, ["backtest", *map(str, arguments)])


def opened(dump):
    with np.load(dump) as held:
        return dict(held)


def test_every_closed_step_is_dumped(tmp_path):
    """The dump holds a forecast for each step and flow from the share on, but for the open one."""
    file, rates = written(tmp_path)
    dump, report = tmp_path / "dump.npz", tmp_path / "report.json"
    outcome = backtest(
        file, "--step", "1h", "--kind", "gauge", "--horizons", 3, "--from", 0.5,
        "--dump", dump, "--json", report,
    )  # fmt: skip
    assert outcome.exit_code == 0, outcome.output
    held = opened(dump)
    steps = len(rates) // 2
    assert held["flows"].tolist() == ["port0", "port1", "port2"]
    assert held["made_at"].tolist() == [START_S + (steps + k + 1) * STEP_S for k in range(steps)]
    assert held["forecasts"].shape == (steps, 3, 3, len(held["quantiles"]))
    assert np.isfinite(held["forecasts"][:-1]).all()
    assert np.isnan(held["forecasts"][-1]).all()
    figures = json.loads(report.read_text())
    assert figures["flows"] == 3
    assert len(figures["horizons"]) == 3
    assert "the 90 % band held" in outcome.output


def test_a_gap_has_no_forecast(tmp_path):
    """A flow that is away for longer than a gap may be has NaN there, and its neighbours not."""
    file, _ = written(tmp_path)
    lines = file.read_text().splitlines()
    away = [line for line in lines if "port1" not in line or not 60 <= hours(line) < 80]
    file.write_text("\n".join(away) + "\n")
    dump = tmp_path / "dump.npz"
    outcome = backtest(
        file, "--step", "1h", "--kind", "gauge", "--from", 0.3,
        "--set", "gap_max=5", "--dump", dump,
    )  # fmt: skip
    assert outcome.exit_code == 0, outcome.output
    held = opened(dump)
    within = (held["made_at"] - START_S) // STEP_S
    told = np.isfinite(held["forecasts"]).all((2, 3))
    assert not told[(within > 61) & (within < 80), 1].any()
    assert told[:-1, 0].all()


def hours(line):
    return (int(line.split(",")[0]) - START_S) // STEP_S if line[0].isdigit() else -1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("timestamp,flow,value\n", "holds no readings"),
        (f"timestamp,flow,value\n{START_S},a,1\n", "nothing to score"),
    ],
)
def test_what_cannot_be_scored_is_said_plainly(tmp_path, text, said):
    """A file without readings, or with too few, ends with a line that says so."""
    file = tmp_path / "short.csv"
    file.write_text(text)
    outcome = backtest(file, "--kind", "gauge")
    assert outcome.exit_code == 1
    assert said in outcome.output
