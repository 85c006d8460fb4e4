"""Names of the world reach no terminal as they are, whichever command shows them."""

from __future__ import annotations

import json
import logging

import pytest
from click.testing import CliRunner

from streamer.__main__ import cli
from streamer.cli import explain, generations
from streamer.config.schema import load, open_client
from streamer.core.types import Message
from streamer.core.wire.generations import INCUMBENT
from streamer.log import TopicConfig
from streamer.ops import logs

HOSTILE = "a\x1b[2J\r\n\u202e\x9b[/x]Gi1/0/1[in]"
SHOWN = r"a\x1b[2J\r\n\u202e\x9b[/x]Gi1/0/1[in]"


@pytest.fixture
def log(tmp_path):
    """`--set` of a log that has the topics, empty."""
    url = f"sqlite:///{tmp_path / 'log.db'}"
    client = open_client(load(None, [f"log={url}"]))
    client.create("streamer.state", TopicConfig(1, compact=True))
    client.create("streamer.models", TopicConfig(1, compact=True))
    client.close()
    return ["--set", f"log={url}"]


def test_explain_names_the_flow_that_is_not_there(log):
    """Escaped, and complete."""
    done = CliRunner().invoke(cli, ["explain", HOSTILE, *log])
    assert done.exit_code == 1
    assert done.stderr == f"Error: streamer.state has no flow {SHOWN}; it has 0 flows\n"


@pytest.mark.parametrize("flow", ["edge[/x]", "Gi1/0/1[in]", HOSTILE])
def test_explain_shows_brackets_as_they_are(log, flow, monkeypatch):
    """A name is no markup."""
    found = explain.Found(None, "t[/]", "0", "p[b]", 0, "", intact=True)
    monkeypatch.setattr(explain, "find", lambda *_: found)
    monkeypatch.setattr("streamer.core.state.summary.summarize", lambda *_: None)
    done = CliRunner().invoke(cli, ["explain", flow, *log], catch_exceptions=False)
    shown = "".join(done.output.splitlines())
    assert flow.replace(HOSTILE, SHOWN) in shown
    assert "t[/]/0, page p[b]" in shown


def test_generations_shows_what_is_unreadable(log, capsys):
    """Its words are text, and no markup."""
    each = {"generation": 1, "kind": "contest", "serves": False, "unreadable": "\x1b[/x]"}
    generations.show([each], generations.SHIPPED)
    shown = capsys.readouterr().out
    assert r"\x1b[/x]" in shown
    client = open_client(load(None, log[1:]))
    client.send([Message("streamer.models", 0, INCUMBENT, json.dumps({"x": HOSTILE}).encode())])
    client.close()
    assert CliRunner().invoke(cli, ["generations", *log]).exit_code == 0


def test_errors_of_the_command_line_are_escaped():
    """A usage error repeats what was typed, and a setting's what was set."""
    for arguments in ([HOSTILE], ["check", "x", "--set", HOSTILE], ["tail", "x", "--log", HOSTILE]):
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code in {2, 78}
        assert not {"\x1b", "\r", "\u202e", "\x9b"} & set(done.output)


def test_a_pretty_log_line_is_one_line(capsys):
    """At a terminal; an exception keeps its lines."""
    before = logging.getLogger().handlers[:]
    try:
        logs.begin("pretty")
        logging.getLogger("x").warning("%s", HOSTILE)
        output = capsys.readouterr().err
    finally:
        logging.getLogger().handlers = before
    assert SHOWN in output
    assert output.count("\n") == 1
