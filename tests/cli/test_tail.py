"""`streamer tail` shows whatever lies on a topic, and no record ends it or reaches the terminal."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from rich.text import Text

from streamer.__main__ import cli
from streamer.config.schema import load, open_client
from streamer.core.types import Message
from streamer.log import TopicConfig
from streamer.ops.metrics_topic import Point, encoded
from streamer.text.escape import json_plain, json_visible, markup, visible

FORECAST = {
    "flow": "a",
    "made_at": 60,
    "unit": "B",
    "step_s": 60,
    "rate": 1.0,
    "q50": [1.0],
    "served_by": "network",
    "generation": 0,
}
ODD = [
    b'{"flow": "a", "time": "x", "value": 1}',
    b'{"flow": "a", "time": 1e300, "value": 1}',
    b'{"flow": "a", "time": NaN, "value": 1}',
    b'{"flow": "a", "time": 1e999, "value": 1}',
    b'{"flow": "a", "time": true, "value": 1}',
    b'{"flow": {"b": [1]}, "time": 1, "value": 1}',
    b'{"flow": "a", "time": ' + b"9" * 5000 + b"}",
    b'{"made_at": 1}',
    b'{"": 1, "made_at": 1}',
    b"[" * 100_000,
    b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    b'{"flow": "\\ud800", "time": 1, "value": 1}',
    b"\xff\x00\x1b[31m",
    b"\x1b]0;title\x07",
    b"[1, 2]",
    b"null",
    b'"text"',
    b"",
    b"\n\n",
    b'{"flow": "a", "time": 1, "value": 1}\r\n5',
    *(
        json.dumps({**FORECAST, name: value}).encode()
        for name in FORECAST
        for value in (None, [], {}, "x", -1e300, 1 << 3000, True, [None], ["x"], [[]])
    ),
]
HOSTILE = "a\x1b[2J\x07\r\n\0\u202e\u200b\x9b\ud800[/x]\\[bold]\u3164"


@pytest.fixture
def topic(tmp_path):
    """A topic on a log of its own: the arguments that name both, and a way to fill it."""
    url = f"sqlite:///{tmp_path / 'log.db'}"

    def fill(values, **kinds):
        client = open_client(load(None, [f"log={url}"]))
        client.create("odd", TopicConfig(2, compact=False))
        client.send([Message("odd", 0, kinds.get("key"), value, **kinds) for value in values])
        client.close()
        return ["tail", "odd", "--log", url, "--from-start", "--until-end"]

    return fill


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_no_record_ends_it(topic, form):
    """Each is shown, and what comes after it too."""
    last = b'{"flow": "last", "time": 0, "value": 7}'
    done = CliRunner().invoke(cli, [*topic([*ODD, last]), *form], catch_exceptions=False)
    assert done.exit_code == 0
    shown = done.output.splitlines()
    assert len(shown) >= len(ODD)
    assert "last" in shown[-1]
    if form:
        assert all(isinstance(json.loads(line, parse_constant=pytest.fail), dict) for line in shown)
    else:
        assert all(line.isprintable() for line in shown)


def test_a_name_writes_nothing_but_itself(topic):
    """No escape sequence, no line of its own, no mark that turns text around."""
    value = json.dumps({"flow": HOSTILE, "time": 0, "value": 1, "unit": "\x1b"}).encode()
    lines = CliRunner().invoke(cli, topic([value])).output.splitlines()
    assert len(lines) == 1
    assert lines[0].isprintable()
    assert r"a\x1b[2J\x07\r\n\x00\u202e\u200b\x9b\ud800[/x]" in lines[0]


def test_an_alert_is_a_sentence(topic):
    """What became of it, and its own text; one that lacks a part is shown as it is."""
    alert = {"flow": "a/in", "rule": "spike", "severity": "warning", "state": "firing"}
    alert |= {"verdict": "open", "updated_at": 0, "text": "a/in is expected above 2.5 MB/s"}
    values = [json.dumps(each).encode() for each in (alert, {**alert, "severity": 5})]
    line, odd = CliRunner().invoke(cli, topic(values)).output.splitlines()
    assert line.endswith("warning firing (open)  spike: a/in is expected above 2.5 MB/s")
    assert '"severity": 5' in odd


def test_it_shows_the_flows_that_are_asked_for(topic):
    """By a glob over their names."""
    values = [
        json.dumps({"flow": flow, "time": 0, "value": 1}).encode() for flow in ("e/1", "f/1", "e/2")
    ]
    shown = CliRunner().invoke(cli, [*topic(values), "--flow", "e/*"]).output
    assert [line.split()[2] for line in shown.splitlines()] == ["e/1", "e/2"]


def test_it_begins_at_a_time(topic):
    """A duration counts back from now, a time without a zone is UTC."""
    arguments = topic([b'{"flow": "old", "time": 0, "value": 1}'], time_ms=1_700_000_000_000)
    topic([b'{"flow": "new", "time": 0, "value": 1}'])
    arguments.remove("--from-start")

    def shown(since):
        done = CliRunner().invoke(cli, [*arguments, "--since", since])
        return [line.split()[2] for line in done.output.splitlines()]

    assert shown("1h") == ["new"]
    assert shown("2023-11-14T22:13:20") == ["old", "new"]
    assert shown("2023-11-15T00:13:20.001+02:00") == ["new"]
    assert CliRunner().invoke(cli, [*arguments, "--since", "yesterday"]).exit_code == 2


@pytest.mark.parametrize("form", ["influx", "telegraf_json"])
def test_a_report_of_metrics_is_a_line(topic, form):
    """With the figures that one looks at first; as JSON with all of them."""
    tags = {"group": "g", "instance": HOSTILE.replace("\ud800", ""), "role": "forecaster"}
    fields = {"flows": 1200.0, "readings_total": 1234567.0, "coverage_ratio": 0.9012}
    rejects = {**tags, "reason": "unit"}, {"messages_invalid_total": 3.0}
    value = encoded([Point(tags, fields), Point(*rejects)], form, 1_700_000_000)
    arguments = topic([value])
    (line,) = CliRunner().invoke(cli, arguments).output.splitlines()
    assert line.isprintable()
    assert line.startswith("2023-11-14 22:13:20")
    assert line.endswith("flows 1200   readings 1.23 M   coverage 90.1%   rejects 3")
    first, second = CliRunner().invoke(cli, [*arguments, "--json"]).output.splitlines()
    assert json.loads(first).items() >= {"group": "g", "time": 1_700_000_000, **fields}.items()
    assert json.loads(second)["reason"] == "unit"


@pytest.mark.parametrize(
    "value",
    [
        b"streamer,a",
        b"streamer,a=b f=1",
        b"streamer,a=b f=nan 9999999999999999999999999",
        b"streamer f=1e999 1",
        b'{"metrics": 1}',
        b'{"metrics": [{"name": "streamer", "tags": [], "fields": {}, "timestamp": 1}]}',
        b'{"metrics": [{"name": "streamer", "tags": {}, "fields": {}, "timestamp": 1e300}]}',
        b'{"metrics": []}',
    ],
)
def test_what_is_no_report_is_shown_as_it_is(topic, value):
    for form in ([], ["--json"]):
        done = CliRunner().invoke(cli, [*topic([value]), *form], catch_exceptions=False)
        assert done.output.strip()


def test_escaped_text_survives_markup_and_json():
    """rich shows what was escaped; JSON has what was there."""
    for name in (HOSTILE, "Gi1/0/1[in]", "edge[/x]", "a\\", "\\[b]", "\\\\[b]\\", "[", "é漢"):
        assert Text.from_markup(f"[bold]{markup(name)}[/]!").plain == f"{visible(name)}!"
        assert json.loads(json_visible([name])) == json.loads(json_plain([name])) == [name]
        assert json_visible([name]).isprintable()
        json_plain([name]).encode()
