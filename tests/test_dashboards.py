"""Dashboard and alert rules name metrics that there are, and are what their readers take."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from streamer.ops.metrics import ROLES, Metrics, names
from tests.debian import program

DEPLOY = Path(__file__).parents[1] / "deploy"
BOARD = DEPLOY / "grafana" / "streamer.json"
RULES = DEPLOY / "prometheus" / "rules.yaml"
OF_THE_CLIENT = {"process_resident_memory_bytes", "process_cpu_seconds_total", "up"}
SUFFIXES = {"histogram": ("_bucket", "_count", "_sum")}
NAME = re.compile(r"\b(?:streamer|process)_[a-z_]+\b|\bup\b")

KNOWN = OF_THE_CLIENT | {
    name + suffix for name, kind in names().items() for suffix in SUFFIXES.get(kind, ("",))
}


def board() -> dict:
    return json.loads(BOARD.read_text())


def rules() -> list[dict]:
    return [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]


def expressions() -> list[str]:
    """All queries, of the dashboard and of the rules."""
    panels = [target["expr"] for panel in board()["panels"] for target in panel.get("targets", ())]
    variables = [each["query"]["query"] for each in board()["templating"]["list"][1:]]
    return [*panels, *variables, *(rule["expr"] for rule in rules())]


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_that_is_asked_for_exists(expression):
    """As a name of its own: what stands in quotes is a label's value."""
    asked = set(NAME.findall(re.sub(r'"[^"]*"', "", expression)))
    assert asked
    assert asked <= KNOWN


def test_rules_in_words_name_metrics_that_exist():
    """A description must not refer to a metric that does not exist."""
    descriptions = " ".join(text for rule in rules() for text in rule["annotations"].values())
    assert {each for each in NAME.findall(descriptions) if each.startswith("streamer_")} <= {
        *names(),
        *KNOWN,
    }


def test_the_dashboard_can_be_provisioned():
    """A fixed uid and no id, a data source by variable, panels that do not overlap."""
    dashboard = board()
    assert dashboard["uid"] == dashboard["title"] == "streamer"
    assert "id" not in dashboard
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert taken.isdisjoint(cells), panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["targets"]
    provider = yaml.safe_load((DEPLOY / "grafana" / "provisioning.yaml").read_text())
    assert provider["apiVersion"] == 1


def test_every_rule_says_what_to_do():
    for rule in rules():
        assert rule["alert"].startswith("Streamer")
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"].keys() == {"summary", "description"}


@pytest.mark.slow
@pytest.mark.parametrize("command", [("check", RULES.name), ("test", "rules_test.yaml")])
def test_prometheus_takes_the_rules(command):
    """And they fire, and stay quiet, where they should."""
    done = subprocess.run(
        [program("promtool", "prometheus"), command[0], "rules", command[1]],
        cwd=RULES.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("role", ROLES)
def test_prometheus_takes_the_metrics(role):
    """Names, units and help texts are as it wants them."""
    counts, levels = ROLES[role]
    values = {f"{name}.some" if each.labels else name: 1 for name, each in counts.items()}
    text = Metrics(role, "0.1.0", values, dict.fromkeys(levels, 1.0)).text()
    done = subprocess.run(
        [program("promtool", "prometheus"), "check", "metrics"],
        input=text,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
