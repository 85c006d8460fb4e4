"""What rrdtool, Cacti, Prometheus and others export, Parquet, and tables that need a word more."""

import json
import random

import pytest
from click.testing import CliRunner

from streamer.__main__ import cli
from streamer.core.wire.parsed import Reading
from streamer.feed.columns import NotReadable
from streamer.feed.files import FileReadings
from streamer.feed.sorting import in_order

BEGIN = 1_780_012_800


def read(text, **more):
    """The readings of a file, and what was left out."""
    source = FileReadings([text.encode().split(b"\n")], **more)
    return [reading for batch in source for reading in batch], source


def triples(found):
    return [(reading.flow, reading.time, reading.value) for reading in found]


FETCH = f"""                        traffic_in         traffic_out

{BEGIN}: 1.2500000000e+07 2.5000000000e+06
{BEGIN + 300}: -nan nan
{BEGIN + 600}: 1.3500000000e+07 2.6000000000e+06
"""
XML = f"""<?xml version="1.0" encoding="ISO-8859-1"?>

<xport>
  <meta>
    <start>{BEGIN}</start>
    <end>{BEGIN + 600}</end>
    <step>300</step>
    <rows>3</rows>
    <columns>2</columns>
    <legend>
      <entry>in</entry>
      <entry>out</entry>
    </legend>
  </meta>
  <data>
    <row>TIME0<v>1.2500000000e+07</v><v>2.5e+06</v></row>
    <row>TIME1<v>NaN</v><v>NaN</v></row>
    <row>TIME2<v>1.35e+07</v><v>2.6e+06</v></row>
  </data>
</xport>
"""
JSON = f"""{{ "about": "RRDtool xport JSON output",
  "meta": {{
    "start": {BEGIN},
    "end": {BEGIN + 600},
    "step": 300,
    "legend": [
      "in",
      "out"
          ]
     }},
  "data": [
    [ 1.25e+07, 2.5e+06 ],
    [ null, null ],
    [ 1.35e+07, 2.6e+06 ]
  ]
}}
"""
OLD_JSON = JSON.replace('"about"', "about").replace('"meta"', "meta").replace('"data"', "data")
TIMES = [f"<t>{BEGIN + 300 * n}</t>" for n in range(3)]
WITH_TIMES = XML.replace("TIME0", TIMES[0]).replace("TIME1", TIMES[1]).replace("TIME2", TIMES[2])
WITHOUT = XML.replace("TIME0", "").replace("TIME1", "").replace("TIME2", "")


@pytest.mark.parametrize("text", [WITH_TIMES, WITHOUT, JSON, OLD_JSON], ids="txjo")
def test_an_export_of_rrdtool_is_rates(text):
    """In each of its forms; the file's name comes before the legend."""
    found, source = read(text, prefix="edge1-wan0")
    assert triples(found) == [
        ("edge1-wan0/in", BEGIN, 1.25e7),
        ("edge1-wan0/out", BEGIN, 2.5e6),
        ("edge1-wan0/in", BEGIN + 600, 1.35e7),
        ("edge1-wan0/out", BEGIN + 600, 2.6e6),
    ]
    assert {(reading.kind, reading.unit) for reading in found} == {("gauge", "B/s")}
    assert (source.bad.count, source.bad.missing, source.form) == (0, 2, "rrdtool")


def test_what_rrdtool_fetches_is_rates_unless_set_otherwise():
    found, source = read(FETCH)
    assert triples(found)[0] == ("traffic_in", BEGIN, 1.25e7)
    assert len(found) == 4
    assert source.bad.missing == 2
    assert read(FETCH, kind="delta")[0][0].unit == "B"
    _, source = read(FETCH + f"{BEGIN + 900}: 5\n")
    assert "expected" in source.bad.first[0]


def test_an_export_that_lacks_its_head_is_refused():
    with pytest.raises(NotReadable, match="expected"):
        read(XML.replace("<entry>in</entry>", "").replace("<entry>out</entry>", ""))


def test_an_export_of_cacti_has_the_title_before_its_names():
    text = (
        '"Title:","edge1 - Traffic - wan0"\n"Vertical Label:","bits per second"\n'
        '"Start Date:","2026-05-29 00:00:00"\n"Step:","300"\n\n'
        '"Date","Inbound","Outbound"\n'
        '"2026-05-29 00:00:00","8.5","6"\n"2026-05-29 00:05:00","NaN","7"\n'
    )
    found, source = read(text)
    assert triples(found) == [
        ("edge1 - Traffic - wan0/Inbound", BEGIN, 8.5),
        ("edge1 - Traffic - wan0/Outbound", BEGIN, 6),
        ("edge1 - Traffic - wan0/Outbound", BEGIN + 300, 7),
    ]
    assert {(reading.kind, reading.unit) for reading in found} == {("gauge", "b/s")}
    assert source.form == "cacti"


def test_an_export_of_librenms_through_influx():
    """Its measurement's columns, and times in nanoseconds."""
    text = (
        "name,time,hostname,ifName,INOCTETS,OUTOCTETS\n"
        f"ports,{BEGIN * 10**9},edge1,wan0,5,6\nports,{(BEGIN + 300) * 10**9},edge1,wan0,7,8\n"
    )
    found, _ = read(text)
    assert triples(found)[::2] == [("edge1/wan0/in", BEGIN, 5), ("edge1/wan0/in", BEGIN + 300, 7)]


SERIES = {"__name__": "ifHCInOctets", "instance": "r1", "ifName": "e0"}


def test_an_answer_of_prometheus_is_read_on_one_line_or_many():
    """And series of VictoriaMetrics; what is in no table is named."""
    other = {"metric": {"__name__": "up", "instance": "r1"}, "values": [[BEGIN, "1"]]}
    result = [{"metric": SERIES, "values": [[BEGIN, "5"], [BEGIN + 60, "9"]]}, other]
    answer = {"status": "success", "data": {"resultType": "matrix", "result": result}}
    expected = [("r1/e0/in", BEGIN, "5"), ("r1/e0/in", BEGIN + 60, "9")]
    for text in (json.dumps(answer), json.dumps(answer, indent=2)):
        found, source = read(text)
        assert triples(found) == expected
        assert source.bad.skipped == {"up": 1}
        assert "up 1" in "".join(source.faults())
    line = {"metric": SERIES, "values": [5, 9], "timestamps": [BEGIN * 1000, (BEGIN + 60) * 1000]}
    assert triples(read(json.dumps(line))[0]) == [
        ("r1/e0/in", BEGIN, 5),
        ("r1/e0/in", BEGIN + 60, 9),
    ]


def test_readings_in_a_document_of_several_lines():
    readings = [{"flow": "a", "time": BEGIN + n, "value": n} for n in range(3)]
    assert len(read(json.dumps(readings, indent=1))[0]) == 3


@pytest.mark.parametrize(
    "line",
    [
        f"net,host=a,interface=b bytes_recv=5i {BEGIN * 10**9}",
        f"a.interface-b.if_octets.rx 5 {BEGIN}",
        f"PUTVAL a/interface-b/if_octets interval=5 {BEGIN}:5",
    ],
)
def test_messages_in_text_are_read_from_a_file(line):
    assert triples(read(line)[0]) == [("a/b/in", BEGIN, 5)] or read(line)[0][0].value == "5"


def test_numbers_may_have_a_decimal_comma_behind_semicolons():
    text = f"Datum;Flow;Value;time\nx;a;1.234,5;{BEGIN}\nx;a;2,25;{BEGIN + 60}\n"
    assert [reading.value for reading in read(text)[0]] == [1234.5, 2.25]


def test_columns_may_be_named():
    """Those that are not are guessed; one that is not there is refused with those that are."""
    text = f"when,box,nic,rx,tx,value\n{BEGIN},r1,e0,5,6,7\n"
    found, _ = read(text, columns={"time": "When", "flow": "box+nic", "in": "rx", "value": "tx"})
    assert triples(found) == [("r1/e0", BEGIN, 6)]
    with pytest.raises(NotReadable, match="there is no column who, the columns are when, box"):
        read(text, columns={"time": "who"})


def test_a_fault_names_line_and_column():
    text = f"time,flow,value\n{BEGIN},a,5\n{BEGIN + 60},a,five\nnoon,a,6\n{BEGIN + 90},,6\n"
    _, source = read(text)
    assert source.bad.first == [
        f"line 3: column 3 (value): five is no number: {BEGIN + 60},a,five",
        "line 4: column 1 (time): noon is no time, expected a number or ISO 8601: noon,a,6",
        f"line 5: column 2 (flow) holds no flow name: {BEGIN + 90},,6",
    ]
    _, source = read(f'{{"flow":"a","time":{BEGIN},"value":5}}\n{{"flow":"a","time":"x"}}\n{{"a"\n')
    assert [fault.split(": ", 1)[1].rpartition(": ")[0] for fault in source.bad.first] == [
        "time: must be a number, is text",
        "is no JSON: it ends too early",
    ]


def test_any_number_of_readings_is_sorted_in_pieces():
    """Equal times keep their order."""
    chance = random.Random(1)
    readings = [Reading("f", float(chance.randrange(300)), n) for n in range(5000)]
    batches = [readings[at : at + 70] for at in range(0, 5000, 70)]
    found = [reading for batch in in_order(batches, run_max=400) for reading in batch]
    assert found == sorted(readings, key=lambda reading: reading.time)
    assert [r for batch in in_order(batches) for r in batch] == found


def run(*arguments):
    return CliRunner().invoke(cli, [str(each) for each in arguments])


def test_a_file_of_which_much_is_left_out_ends_with_65(tmp_path):
    """Half of its times are of another unit; a few are no reason to fail."""
    rows = [f"{BEGIN + 60 * n},a,{n}" for n in range(600)]
    strays = [f"{(BEGIN + 60 * n) * 1000},a,{n}" for n in range(600, 1200)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["time,flow,value", *rows, *strays]))
    ended = run("feed", path, "--log", f"sqlite:///{tmp_path}/log.db")
    assert ended.exit_code == 65
    assert "600 lines are no readings" in ended.output
    ended = run("backtest", path, "--step", "60s")
    assert ended.exit_code == 65
    assert "too much of it cannot be read" in ended.output
    path.write_text("\n".join(["time,flow,value", *rows, *strays[:20]]))
    assert run("feed", path, "--log", f"sqlite:///{tmp_path}/log.db").exit_code == 0


def test_a_backtest_of_constant_flows_reports_its_error(tmp_path):
    path, figures = tmp_path / "a.csv", tmp_path / "a.json"
    rows = [f"{BEGIN + 600 * n},a,5" for n in range(6 * 24 * 3)]
    path.write_text("\n".join(["time,flow,value", *rows]))
    options = "--step", "10m", "--kind", "gauge", "--no-finetune", "--json", figures
    ended = run("backtest", path, *options)
    assert ended.exit_code == 0, ended.output
    assert "1 flow with the same rates each day" in ended.output
    [found] = json.loads(figures.read_text())["files"]
    assert found["constant"]["flows"] == 1
    assert found["constant"]["error"] < 0.05


def test_inspect_shows_tables_and_exports(tmp_path):
    """As it shows messages."""
    path = tmp_path / "edge1.txt"
    path.write_text(FETCH)
    ended = run("inspect", path, "--json")
    flows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [(each["flow"], each["format"], each["rate"]) for each in flows[:-1]] == [
        ("edge1/traffic_in", "rrdtool", 1.3e7),
        ("edge1/traffic_out", "rrdtool", 2.55e6),
    ]
    path.write_text(f"when,flow,value\n{BEGIN},a,5\n{BEGIN + 60},a,65\n")
    ended = run("inspect", path, "--json", "--columns", "time=when")
    assert json.loads(ended.stdout.splitlines()[0])["rate"] == 1
    ended = run("inspect", path)
    assert ended.exit_code == 65
    assert "line 1 names no column of times (when, flow, value)" in ended.output
    assert run("inspect", path, "--columns", "when=time").exit_code == 2


def test_parquet_is_read_as_a_table(tmp_path):
    """Timestamps of its own type, integers to the last bit, nulls."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq  # noqa: PLC0415 - an extra

    path = tmp_path / "a.parquet"
    times = pa.array([BEGIN * 1000, (BEGIN + 60) * 1000, (BEGIN + 120) * 1000], pa.timestamp("ms"))
    table = {"time": times, "host": ["r", "r", "r"], "port": ["e0"] * 3}
    table |= {"in": pa.array([2**63, None, 2**64 - 1], pa.uint64()), "out": [1.5, 2.5, 3.5]}
    pq.write_table(pa.table(table), path)
    from streamer.feed.parquet import ParquetReadings  # noqa: PLC0415 - likewise

    source = ParquetReadings(path)
    assert triples(reading for batch in source for reading in batch) == [
        ("r/e0/in", BEGIN, 2**63),
        ("r/e0/out", BEGIN, 1.5),
        ("r/e0/out", BEGIN + 60, 2.5),
        ("r/e0/in", BEGIN + 120, 2**64 - 1),
        ("r/e0/out", BEGIN + 120, 3.5),
    ]
    assert source.bad.missing == 1
    ended = run("inspect", path, "--json")
    assert json.loads(ended.stdout.splitlines()[0])["format"] == "parquet"
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and nothing else")
    assert run("feed", tmp_path / "b.parquet", "--log", f"sqlite:///{tmp_path}/l").exit_code == 65
