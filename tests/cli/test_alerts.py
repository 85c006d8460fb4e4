"""`streamer alerts`: what fires, and the ledger."""

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from streamer.__main__ import cli
from streamer.config.schema import load, open_client
from streamer.core.types import Alert, Message, Partition, RuleScore
from streamer.core.wire.alerts import messages, score_messages
from streamer.log import TopicConfig

AT = 1_700_000_000 // 3600 * 3600
ALERT = Alert(
    partition=Partition("traffic.counters", 0),
    flow="edge1/in",
    rule="spike",
    kind="spike",
    severity="warning",
    state="firing",
    reason="chance",
    verdict="open",
    since=AT,
    updated_at=AT,
    lead_s=None,
    step_s=300,
    within_s=3600,
    chance=0.62,
    threshold=2.5e6,
    unit="B/s",
    rate=9.1e5,
    usual=8.7e5,
    peaks={"peak_q50": 2.7e6},
    expected_at=AT + 600,
    capacity=None,
    generation=3,
    served_by="lstm",
    labels={},
)


def alert(**fields):
    return Alert(**({name: getattr(ALERT, name) for name in Alert.__slots__} | fields))


def call(*arguments):
    return CliRunner().invoke(cli, ["alerts", *map(str, arguments)])


@pytest.fixture
def config(tmp_path):
    """A log with some alerts, one of which is over, and the scores of two instances."""
    path = tmp_path / "streamer.yaml"
    path.write_text(f"log: sqlite:///{tmp_path / 'log.db'}\nalerts: {{enabled: true}}\n")
    client = open_client(load(path))
    client.create("traffic.alerts", TopicConfig(2, compact=True))
    client.create("traffic.scores", TopicConfig(2, compact=False))
    alerts = [
        alert(),
        alert(flow="edge2/in", severity="critical", partition=Partition("traffic.counters", 1)),
        alert(flow="edge3/in"),
        alert(flow="edge3/in", state="resolved", verdict="true", lead_s=600),
    ]
    client.send(list(messages(alerts, "traffic.alerts")))
    client.send([Message("traffic.alerts", 0, b"junk", b"no JSON")])
    day = 86400
    scores = [
        RuleScore(ends_at=AT, period_s=3600, rule="spike", raised=3, true=2, late=1, lead_s=900),
        RuleScore(ends_at=AT, period_s=3600, rule="spike", raised=1, false=1, missed=2),
        RuleScore(ends_at=AT - 9 * day, period_s=3600, rule="spike", raised=50, false=50),
        RuleScore(ends_at=AT, period_s=3600, rule="low", raised=4),
    ]
    client.send(list(score_messages(scores, "traffic.scores", 300)))
    client.send([Message("traffic.scores", 0, b"all/1", b'{"class": "all", "horizon": 1}')])
    client.close()
    return path


def test_the_alerts_that_fire_are_listed(config):
    """The most severe first; those that are over are not among them."""
    done = call("-c", config)
    assert done.exit_code == 0
    assert "is expected above 2.5 MB/s" in " ".join(done.output.split())
    assert "edge3" not in done.output
    assert done.output.index("edge2/in") < done.output.index("edge1/in")


def test_alerts_as_json(config):
    """Whole records, of some flows or rules."""
    listed = [json.loads(line) for line in call("-c", config, "--json").output.splitlines()]
    assert [each["flow"] for each in listed] == ["edge2/in", "edge1/in"]
    assert "edge2" not in call("-c", config, "--json", "--flow", "edge1/*").output
    assert call("-c", config, "--json", "--rule", "low").output == ""


def test_the_ledger_adds_up(config):
    """Over instances and periods; a share of nothing is left out."""
    found = call("-c", config, "--ledger", "--since", "7d", "--json").output.splitlines()
    low, spike = map(json.loads, found)
    assert (spike["raised"], spike["precision"], spike["recall"]) == (4, 0.5, 0.5)
    assert spike["lead_mean_s"] == 450
    assert (low["raised"], low["precision"], low["recall"]) == (4, None, None)
    (whole,) = call("-c", config, "--ledger", "--rule", "spike", "--json").output.splitlines()
    assert json.loads(whole)["raised"] == 54
    assert "0.50" in call("-c", config, "--ledger", "--since", "7d").output


def test_options_that_do_not_go_together(config):
    """They are usage errors."""
    assert call("-c", config, "--since", "7d").exit_code == 2
    assert call("-c", config, "--ledger", "--flow", "a").exit_code == 2


def test_a_topic_that_is_missing(tmp_path):
    """Its exit code is that of a missing topic; `streamer topics` makes it if there are alerts."""
    url = f"log=sqlite:///{tmp_path / 'log.db'}"
    more = ("--set", url, "--set", "alerts.enabled=true")
    made = CliRunner().invoke(cli, ["topics", "--create", "--set", url])
    assert made.exit_code == 0
    assert "traffic.alerts" not in made.output
    assert call("--set", url).exit_code == 72
    made = CliRunner().invoke(cli, ["topics", "--create", *more])
    assert made.exit_code == 0, made.output
    assert "traffic.alerts" in made.output
    assert "no alert is firing" in call(*more).output


def test_an_operator_marks_an_alert(config):
    """The mark is a record beside the alert's; the newest counts, the alert fires on."""
    firing = json.loads(call("-c", config, "--json", "--flow", "edge1/*").output)
    for verdict in ("useless", "useful"):
        assert call("-c", config, "--feedback", firing["id"], verdict).exit_code == 0
    (spike,) = call("-c", config, "--ledger", "--rule", "spike", "--json").output.splitlines()
    totals = json.loads(spike)
    assert (totals["useful"], totals["useless"]) == (1, 0)
    assert json.loads(call("-c", config, "--json", "--flow", "edge1/*").output) == firing
    client = open_client(load(config))
    table = client.read_table("traffic.alerts", 0)
    value = table[f"{firing['id']}|+feedback".encode()]
    client.close()
    schemas = Path(__file__).parents[2] / "streamer" / "schemas"
    schema = json.loads((schemas / "alert_feedback.schema.json").read_text())
    jsonschema.validate(json.loads(value), schema)


def test_an_alert_that_another_one_followed_is_marked(config):
    """The topic keeps the newest record of a flow and rule; receivers have the earlier ids."""
    firing = json.loads(call("-c", config, "--json", "--flow", "edge1/*").output)
    earlier = firing["since"] - 600
    later = call("-c", config, "--feedback", f"edge1/in/spike@{firing['since'] + 1}", "useless")
    assert "no such alert" in later.output
    done = call("-c", config, "--feedback", f"edge1/in/spike@{earlier}", "useless")
    assert done.exit_code == 0, done.output
    (spike,) = call("-c", config, "--ledger", "--rule", "spike", "--json").output.splitlines()
    assert json.loads(spike)["useless"] == 1


def test_why_there_is_nothing_to_show(config):
    """A rule that does not exist is no rule without alerts."""
    for arguments, words in (
        (("--rule", "nope"), "there is no rule nope"),
        (("--ledger", "--rule", "nope"), "there is no rule nope"),
        (("--ledger", "--rule", "anomaly"), "no alert of rule anomaly was raised yet"),
        (("--flow", "core*"), "no alert of flows core* is firing"),
    ):
        assert words in call("-c", config, *arguments).stderr


def test_a_line_for_each_alert_is_whole_for_another_program(config):
    """It is not folded where no terminal is."""
    lines = call("-c", config).stdout.splitlines()
    assert sum("is expected above 2.5 MB/s" in line for line in lines) == 2


def test_a_mark_of_nothing(config):
    """An id that is not on the topic is an error, and so is any other word."""
    done = call("-c", config, "--feedback", "edge9/in/spike@1", "useful")
    assert done.exit_code == 1
    assert "no such alert" in done.output
    assert call("-c", config, "--feedback", "a", "good").exit_code == 2
    assert call("-c", config, "--feedback", "a", "useful", "--ledger").exit_code == 2
