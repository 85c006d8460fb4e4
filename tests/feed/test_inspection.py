"""The output of `streamer inspect` for real and small messages, and its suggested settings."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from streamer.__main__ import cli
from streamer.config.schema import load
from streamer.feed.files import FileReadings

SHARED = Path(__file__).parents[3] / "shared" / "formats"
CAPTURED = sorted((SHARED / "captured").glob("*.jsonl"))
EDGES = SHARED / "samples" / "edge_cases.jsonl"
AT = 1_767_225_600


def inspect(*arguments, code=0):
    """The flows by name, and the summary."""
    result = CliRunner().invoke(cli, ["inspect", "--json", *map(str, arguments)])
    assert result.exit_code == code, result.output
    *flows, summary = map(json.loads, result.output.splitlines())
    assert len({flow["flow"] for flow in flows}) == len(flows)
    return {flow["flow"]: flow for flow in flows}, summary


def written(tmp_path, *messages):
    path = tmp_path / "messages.jsonl"
    path.write_text("".join(f"{m if isinstance(m, str) else json.dumps(m)}\n" for m in messages))
    return path


@pytest.mark.skipif(not CAPTURED, reason="the captured messages are not here")
@pytest.mark.parametrize("path", CAPTURED, ids=lambda path: path.stem)
def test_captured_messages_have_their_true_rates(path):
    """By the names that are expected; flow records by addresses and by interface."""
    expected = json.loads(path.with_suffix("").with_suffix(".expect.json").read_text())
    by = ["--set", "input.flow_key=addresses"] if expected["kind"] == "delta" else []
    found, summary = inspect(path, "--records", *by)
    assert summary["records"] == expected["messages"]
    assert summary["rejects"] == {}
    for name, true in expected["flows"].items():
        flow = found[name]
        assert flow["rate"] == pytest.approx(true["rate_Bps"], rel=true["tolerance"])
        assert flow["readings"] == true["samples"]
        assert (flow["kind"], flow["unit"]) == (expected["kind"], expected["unit"])
        assert flow["format"] == expected["format"]
    if "by_interface" in expected:
        found, _ = inspect(path, "--records")
        assert list(found) == list(expected["by_interface"])
        for name, true in expected["by_interface"].items():
            assert found[name]["rate"] == pytest.approx(true["rate_Bps"], rel=true["tolerance"])


TRAPS = {
    "counter32 wrap": ("192.0.2.1/Et1/in", 12_500_000),
    "reboot": ("192.0.2.1/Et1/in", None),
    "same sample": ("192.0.2.1/Et1/in", 12_500_000),
    "older sample": ("192.0.2.1/Et1/in", None),
    "beyond 2^53": ("192.0.2.1/Et1/in", 12.5),
    "unit 10ms": ("192.0.2.1/Et1/in", 12_500_000),
    "timestamp as text": ("192.0.2.1/Et1/in", 12_500_000),
    "32-bit and 64-bit": ("192.0.2.1/Et1/in", 12_500_000),
    "sentinel": ("192.0.2.1/3/in", None),
}


@pytest.mark.skipif(not EDGES.exists(), reason="the samples of formats are not here")
@pytest.mark.parametrize("why", TRAPS)
def test_a_trap_yields_what_it_should(why, tmp_path):
    lines = map(json.loads, EDGES.read_text().splitlines())
    [case] = [each for each in lines if each["why"].startswith(why)]
    found, summary = inspect(written(tmp_path, *case["messages"]))
    name, rate = TRAPS[why]
    assert found[name]["rate"] == rate
    assert summary["rejects"] == {}
    assert {flow.rpartition("/")[0] for flow in found} == {name.rpartition("/")[0]}


def test_kinds_have_their_mean_rates(tmp_path):
    """A counter's growth, the deltas after the first, the mean of a gauge."""
    readings = [
        {"flow": kind, "time": AT + t, "value": value, "kind": kind}
        for kind, values in (("counter", (5, 105, 7, 27)), ("delta", (9, 9, 9, 9)))
        for t, value in zip((0, 10, 20, 30), values, strict=True)
    ]
    readings += [{"flow": "gauge", "time": AT + t, "value": t, "kind": "gauge"} for t in (0, 10)]
    found, summary = inspect(
        written(tmp_path, *readings, "no json", {"flow": "x", "time": 1}), code=0
    )
    assert {name: flow["rate"] for name, flow in found.items()} == {
        "counter": 120 / 20,
        "delta": 27 / 30,
        "gauge": 5.0,
    }
    assert (found["counter"]["first"], found["counter"]["last"]) == (AT, AT + 30)
    assert summary["rejects"] == {"not_json": 1, "wrong_type": 1}


def test_a_person_sees_flows_and_what_was_left_out(tmp_path):
    metric = {"fields": {"ifHCInOctets": 5, "odd\x1b": 1}, "name": "i", "timestamp": AT}
    metric["tags"] = {"agent_host": "r1", "ifName": "e0"}
    path = written(tmp_path, metric, "{")
    output = CliRunner().invoke(cli, ["inspect", str(path)]).output
    assert "r1/e0/in" in output
    assert "telegraf_json" in output
    assert "\x1b" not in output
    assert "not_json" in output


def test_a_file_without_readings_ends_with_65(tmp_path):
    _, summary = inspect(written(tmp_path, {"a": 1}), code=65)
    assert summary["records"] == 1


def test_a_document_and_a_binary_file_are_one_message(tmp_path):
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"flow": "a", "time": AT, "value": 5}, indent=1))
    assert inspect(path)[1]["records"] == 1
    path.write_bytes(b"\x0a\x00\xff\n\x00")
    assert inspect(path, code=65)[1]["records"] == 1


def test_a_line_that_is_no_captured_record_is_named(tmp_path):
    result = CliRunner().invoke(cli, ["inspect", str(written(tmp_path, "[1]")), "--records"])
    assert result.exit_code == 1
    assert "line 1" in result.output


def test_so_many_messages_at_most(tmp_path):
    readings = [{"flow": "a", "time": AT + t, "value": 5} for t in range(9)]
    assert inspect(written(tmp_path, *readings), "-n", 4)[1]["records"] == 4


def test_a_suggestion_can_be_used_as_it_is(tmp_path):
    """For a known format, and a mapping for JSON of none; the readings are there then."""
    metric = {"fields": {"bytes_recv": 5}, "tags": {"host": "a", "interface": "b"}, "timestamp": AT}
    unknown = {"meta": {"hostname": "r1"}, "port": "p7", "at": 1, "ts": AT, "rx_octets": 5, "tx": 6}
    for message, flows in ((metric, {"a/b/in"}), (unknown, {"r1/p7/in", "r1/p7/out"})):
        path = written(tmp_path, message)
        output = CliRunner().invoke(cli, ["inspect", str(path), "--suggest"]).output
        settings = tmp_path / "streamer.yaml"
        settings.write_text(output.replace("REPLACE-BY-YOUR-TOPIC", "t"))
        load(settings)
        assert set(inspect(path, "-c", settings)[0]) == flows
    assert "guess" in output
    assert yaml.safe_load(output)["input"]["format"] == "mapped"


def test_files_are_read_in_every_json_format():
    """As `feed` and `backtest` read them; an export of VictoriaMetrics has many readings a line."""
    metric = {"__name__": "node_network_receive_bytes_total", "instance": "a:1", "device": "eth0"}
    series = {"metric": metric, "values": [5, 9], "timestamps": [AT * 1000, AT * 1000 + 60_000]}
    event = {"name": "p", "timestamp": (AT + 90) * 10**9, "tags": {"interface_name": "e0"}}
    event |= {"values": {"/interface/statistics/in-octets": "7"}}
    lines = [json.dumps(each).encode() for each in (series, [event])]
    [batch] = FileReadings([lines])
    assert [(each.flow, each.time, each.value) for each in batch] == [
        ("a:1/eth0/in", AT, 5),
        ("a:1/eth0/in", AT + 60, 9),
        ("e0/in", AT + 90, "7"),
    ]


def test_the_table_of_fields_is_shown():
    output = CliRunner().invoke(cli, ["inspect", "--mappings"]).output
    assert "ifHCInOctets" in output
    assert "input.groups: packets" in output
    lines = CliRunner().invoke(cli, ["inspect", "--mappings", "--json"]).output.splitlines()
    assert json.loads(lines[0])["source"] == "telegraf"
