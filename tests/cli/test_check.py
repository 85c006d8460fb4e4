"""`streamer check`: how many of the known flows each rule matches."""

from __future__ import annotations

import socket

import numpy as np
from click.testing import CliRunner

from streamer.__main__ import cli
from streamer.config.schema import load, open_client
from streamer.core.columns import Columns
from streamer.core.state.page_format import encode
from streamer.core.types import Message
from streamer.log import TopicConfig

RULES = (
    "alerts: {enabled: true, rules: [{name: edge, kind: spike, flows: 'edge*'},"
    " {name: nobody, kind: spike, pattern: 'x+'}]}\n"
)
COLUMNS: Columns = [("step", "<i8")]


def check(path):
    done = CliRunner().invoke(cli, ["check", str(path)])
    assert done.exit_code == 0, done.output
    return done


def test_check_counts_the_flows_that_rules_match(tmp_path):
    """Of the flows in the state topic, whatever their rows hold; on standard error."""
    path = tmp_path / "streamer.yaml"
    path.write_text(f"log: sqlite:///{tmp_path / 'log.db'}\n{RULES}")
    config = load(path)
    client = open_client(config)
    client.create(config.state_topic, TopicConfig(2, compact=True))
    pages = [["edge1", "edge2"], ["core1"]]
    for number, flows in enumerate(pages):
        page = encode(flows, np.zeros(len(flows), COLUMNS), 0)
        client.send([Message(config.state_topic, number, b"t/0/page/%d" % number, page)])
    client.send([Message(config.state_topic, 0, b"t/0/page/9", b"junk")])
    client.send([Message(config.state_topic, 0, b"t/0/offset", b"7")])
    client.close()
    done = check(path)
    assert "rule edge: matches 2 of 3 known flows" in done.stderr
    assert "rule nobody: matches 0 of 3 known flows" in done.stderr
    assert "rule" not in done.stdout.replace("rules", "").replace("rule_", "")
    assert load(path) == config


def test_a_log_that_is_away_is_not_an_error(tmp_path):
    """It is reported soon; without alerts the log is not read."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    path = tmp_path / "streamer.yaml"
    path.write_text(f"log: kafka://127.0.0.1:{port}\n{RULES}")
    assert "flows are not known" in check(path).stderr
    path.write_text(f"log: kafka://127.0.0.1:{port}\n")
    assert check(path).stderr == ""
    path.write_text(f"log: sqlite:///{tmp_path / 'none.db'}\n{RULES}")
    assert "flows are not known" in check(path).stderr
    assert not (tmp_path / "none.db").exists()


def test_the_files_of_receivers_are_opened(tmp_path):
    """As `run` opens them later."""
    path = tmp_path / "streamer.yaml"
    for name in ("authorization_file", "ca_file", "cert_file"):
        receiver = f"{{url: 'http://a.example/hook', {name}: {tmp_path / 'none'}}}"
        path.write_text(f"alerts: {{enabled: true}}\nnotify: {{webhooks: [{receiver}]}}\n")
        done = CliRunner().invoke(cli, ["check", str(path)])
        assert done.exit_code == 78
        assert f"notify.webhooks.0.{name}: cannot read" in done.output


def test_receivers_without_alerts_are_noticed(tmp_path):
    """Nothing would be sent to them. An address must be one of HTTP."""
    path = tmp_path / "streamer.yaml"
    path.write_text("notify: {webhooks: [{url: 'http://a.example/hook'}]}\n")
    assert "alerts.enabled is false" in check(path).stderr
    path.write_text("notify: {webhooks: [{url: 'a.example:80'}]}\n")
    done = CliRunner().invoke(cli, ["check", str(path)])
    assert "notify.webhooks.0.url: must be an address http://… or https://…" in done.output
