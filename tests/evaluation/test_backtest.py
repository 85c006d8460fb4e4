"""The engine over a file: grids of rates and forecasts."""

import json
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from streamer.__main__ import cli
from streamer.core.features.baselines import NAMES
from streamer.plots import NEEDED
from tests.training import scene

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


UNLEARNED = "--step", "1h", "--kind", "gauge", "--no-finetune"  # learning takes most of the time


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
        file, *UNLEARNED, "--from", 0.3, "--set", "gap_max=5", "--dump", dump,
    )  # fmt: skip
    assert outcome.exit_code == 0, outcome.output
    held = opened(dump)
    within = (held["made_at"] - START_S) // STEP_S
    has_forecast = np.isfinite(held["forecasts"]).all((2, 3))
    assert not has_forecast[(within > 61) & (within < 80), 1].any()
    assert has_forecast[:-1, 0].all()


def test_every_file_is_scored_by_itself_and_all_together(tmp_path):
    """In the order given; the figures of one file are the same in company."""
    (tmp_path / "b").mkdir()
    files = [written(tmp_path)[0], written(tmp_path / "b", flows=2)[0]]
    files[1] = files[1].rename(tmp_path / "another.csv")
    report = tmp_path / "report.json"
    options = *UNLEARNED, "--horizons", 3, "--from", 0.5, "--json", report
    assert backtest(files[0], *options).exit_code == 0
    alone = json.loads(report.read_text())
    outcome = backtest(*files, *options)
    assert outcome.exit_code == 0, outcome.output
    figures = json.loads(report.read_text())
    assert figures["files"][0] == alone
    assert [each["file"] for each in figures["files"]] == ["readings.csv", "another.csv"]
    assert figures["flows"] == 5
    assert {"every", "horizons", "quantile_loss", "coverage"} <= figures.keys() & alone.keys()
    assert outcome.output.index("readings.csv") < outcome.output.index("another.csv")
    assert "together" in outcome.output


def test_every_baseline_stands_beside_the_forecasts(tmp_path):
    """By horizon and by kind of flow, in the tables and in the figures."""
    file, _ = written(tmp_path)
    report = tmp_path / "report.json"
    outcome = backtest(file, *UNLEARNED, "--from", 0.5, "--json", report)
    figures = json.loads(report.read_text())
    of_kinds = [each["every"] for each in figures["classes"].values()]
    for each in (figures["every"], *figures["horizons"], *of_kinds):
        assert list(each["baselines"]) == list(NAMES)
        assert all(error > 0 for error in each["baselines"].values())
        assert each["untrained"] > 0
        assert 0 < each["coverage"] < 1
    assert figures["best_baseline"] in NAMES
    assert figures["cold"]["flows"] == 3
    assert sum(each["flows"] for each in figures["classes"].values()) == figures["flows"]
    for name in ("streamer", *NAMES[1:], "all mixed", "last value", "smoothed", "band held, %"):
        assert outcome.output.count(f"\n{name} ") == 2


def test_some_flows_are_drawn(tmp_path):
    """Typical ones and the worst, or those that are named."""
    file, _ = written(tmp_path)
    picture = tmp_path / "bands.png"
    options = *UNLEARNED, "--from", 0.5, "--plot", picture
    assert backtest(file, *options).exit_code == 0
    with Image.open(picture) as drawn:
        high = drawn.size[1]
    assert backtest(file, *options, "--flow", "port1").exit_code == 0
    with Image.open(picture) as drawn:
        assert drawn.size[1] < high
        assert np.asarray(drawn.convert("RGB")).std() > 5
    outcome = backtest(file, *options, "--flow", "nobody")
    assert (outcome.exit_code, "none of the flows named" in outcome.output) == (1, True)


def test_without_matplotlib_an_error_names_the_requirement(tmp_path, monkeypatch):
    """At once, not after the forecasts; without a plot matplotlib is not needed."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    file, _ = written(tmp_path)
    outcome = backtest(file, "--step", "1h", "--kind", "gauge", "--plot", tmp_path / "a.png")
    assert outcome.exit_code == 1
    assert outcome.output == (
        "Error: a picture needs matplotlib, which is not installed:"
        " pip install 'matplotlib>=3.8,<4'\n"
    )
    assert backtest(file, *UNLEARNED).exit_code == 0


def test_the_extra_is_the_one_that_is_asked_for():
    """The requirement in the error message is the one of the package's extra."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["plot"] == [NEEDED]


def hours(line):
    return (int(line.split(",")[0]) - START_S) // STEP_S if line[0].isdigit() else -1


def test_a_backtest_learns_from_what_is_past(tmp_path):
    """Spoilt weights are replaced underway, and not where learning is left out."""
    file = tmp_path / "traffic.csv"
    lines = ["timestamp,flow,value"]
    for step in scene.readings(scene.rates(3)):
        lines += [f"{each['time']:.0f},{each['flow']},{each['value']}" for each in step]
    file.write_text("\n".join(lines) + "\n")
    report = tmp_path / "report.json"
    weights = scene.spoilt(tmp_path / "spoilt.safetensors")
    options = (
        file, "--step", "10m", "--kind", "gauge", "--json", report,
        "--set", f"model.weights={weights}", "--set", "finetune.steps_max=20",
        "--set", "finetune.learning_rate=0.002",
    )  # fmt: skip
    losses = []
    for learning in ("--no-finetune", "--finetune"):
        outcome = backtest(*options, learning)
        assert outcome.exit_code == 0, outcome.output
        promoted = re.search(r"(\d+) of \d+ challengers promoted", outcome.output)
        assert (promoted is not None) == (learning == "--finetune")
        losses.append(json.loads(report.read_text())["quantile_loss"])
    assert promoted is not None
    assert int(promoted[1]) >= 1
    assert losses[1] != losses[0]  # and what was promoted served from then on


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("timestamp,flow,value\n", 65, "holds no readings"),
        (f"timestamp,flow,value\n{START_S},a,1\n", 1, "nothing to score"),
    ],
)
def test_a_file_that_cannot_be_scored_fails_with_a_message(tmp_path, text, code, message):
    """A file without readings, or with too few, ends with an error line."""
    file = tmp_path / "short.csv"
    file.write_text(text)
    outcome = backtest(file, "--kind", "gauge")
    assert outcome.exit_code == code
    assert message in outcome.output
