"""Files as people have them: read as they are meant, or refused with what was expected."""

import codecs
import random

import pytest
from click.testing import CliRunner

from streamer.__main__ import cli
from streamer.feed.columns import NotReadable
from streamer.feed.files import FileReadings

BEGIN = 1_780_012_800


def read(text, **more):
    """The readings of a file, and what was left out."""
    source = FileReadings([text.encode().split(b"\n")], **more)
    return [reading for batch in source for reading in batch], source


def lines(steps=30, *, scale=1, header="timestamp,flow,value", sep=","):
    """Two flows, a reading of each every five minutes."""
    rows = [
        sep.join((str((BEGIN + 300 * n) * scale), flow, str(1000 + n)))
        for n in range(steps)
        for flow in ("r1/in", "r1/out")
    ]
    return [header, *rows]


@pytest.mark.parametrize("scale", [1, 10**3, 10**6, 10**9])
def test_the_unit_of_times_is_that_of_the_column(scale):
    """Seconds, milliseconds, microseconds and nanoseconds."""
    found, _ = read("\n".join(lines(scale=scale)))
    assert [reading.time for reading in found[::2]] == [BEGIN + 300 * n for n in range(30)]


def test_iso_8601_is_a_time():
    """With an offset, with Z, or in UTC."""
    for text in ("2026-05-29T02:00:00+02:00", "2026-05-29T00:00:00Z", "2026-05-29 00:00:00"):
        (reading,), _ = read(f"time,flow,value\n{text},a,5")
        assert reading.time == BEGIN


@pytest.mark.parametrize(
    ("stray", "words"),
    [
        (str(BEGIN * 1000), "milliseconds"),
        ("0", "years from the others"),
        (str(BEGIN + 40 * 365 * 86_400), "years from the others"),
    ],
)
def test_one_stray_time_is_left_out_and_named(stray, words):
    """By its line."""
    rows = lines()
    rows[20] = f"{stray},r1/in,7"
    found, source = read("\n".join(rows))
    assert len(found) == 59
    (fault,) = source.bad.first
    assert fault.startswith("line 21:")
    assert words in fault


def test_files_that_run_backwards_or_are_shuffled_are_refused_or_sorted():
    """With --sort they are read in the order of their times."""
    rows = lines()
    for body, words in (
        (rows[:0:-1], "newest readings come first"),
        (random.Random(0).sample(rows[1:], len(rows) - 1), "sort"),
    ):
        text = "\n".join([rows[0], *body])
        with pytest.raises(NotReadable, match=words):
            read(text)
        found, _ = read(text, sort=True)
        assert [reading.time for reading in found] == sorted(reading.time for reading in found)


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(sep):
    """Whatever the spreadsheet made of it."""
    header = sep.join(("Timestamp", " Flow", "Value "))
    found, _ = read("\n".join(lines(header=header, sep=sep)))
    assert len(found) == 60


@pytest.mark.parametrize("header", ["timestamp,flow,value,", "time,device,port,in,out,"])
def test_lines_may_end_with_the_delimiter(header):
    """The first line opens no JSON document by its comma."""
    row = "1780012800,r,e,5,6," if "port" in header else "1780012800,r,5,"
    found, source = read(f"{header}\n{row}")
    assert [reading.value for reading in found] == ([5, 6] if "port" in header else [5])
    assert source.form == "csv"


def test_a_comma_in_another_column_is_no_decimal_comma():
    """The columns of values decide, and all of their numbers must have that form."""
    head, row = "timestamp;flow;value;vlans", "1780012800;a;1234.56;10,20"
    (reading,), _ = read(f"{head}\n{row}", kind="gauge")
    assert reading.value == 1234.56
    (reading,), _ = read(f"{head}\n{row.replace('1234.56', '1.234,56')}", kind="gauge")
    assert reading.value == 1234.56
    found, source = read(f"{head}\n{row.replace('1234.56', '5,5')}\n{row}", kind="gauge")
    assert [reading.value for reading in found] == [1234.56]
    assert source.bad.count == 1


@pytest.mark.parametrize("text", ["time,eth0,eth0\n1780012800,0,5", "time,in,in\n1780012800,0,5"])
def test_two_columns_of_one_name_are_refused(text):
    """They would be one flow."""
    with pytest.raises(NotReadable, match="names two columns"):
        read(text)


def test_a_table_of_pandas_has_an_index_without_a_name():
    """It numbers the rows, or holds their times."""
    for text in (",timestamp,a\n0,1780012800,5", ",a\n2026-05-29 00:00:00,5"):
        (reading,), _ = read(text)
        assert (reading.flow, reading.time, reading.value) == ("a", BEGIN, 5)


def test_a_column_of_values_without_a_title_is_refused():
    """Its values would be lost."""
    with pytest.raises(NotReadable, match=r"what the columns hold \(column 3\)"):
        read("time,a,\n1780012800,5,7")


def test_columns_of_bits_per_second_are_rates():
    """Unless the kind and unit are given."""
    (reading,), _ = read("timestamp,flow,bps\n1780012800,a,8000")
    assert (reading.kind, reading.unit) == ("gauge", "b/s")
    (reading,), _ = read("timestamp,flow,bps\n1780012800,a,8000", kind="counter", unit="b")
    assert (reading.kind, reading.unit) == ("counter", "b")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("message", [True, False])
def test_files_with_a_byte_order_mark_are_inspected(tmp_path, encoding, message):
    """As the programs of Windows write them."""
    telegraf = '{"fields":{"ifHCInOctets":5},"name":"i","timestamp":1780012800,'
    telegraf += '"tags":{"agent_host":"a","ifName":"e"}}'
    file = tmp_path / "file"
    text = telegraf if message else "timestamp,flow,value\n1780012800,a/e/in,5"
    file.write_bytes(text.encode(encoding))
    done = CliRunner().invoke(cli, ["inspect", str(file)])
    assert done.exit_code == 0
    assert "a/e/in" in done.output


def test_a_table_without_readings_ends_with_65(tmp_path):
    """As other files do."""
    file = tmp_path / "file.csv"
    file.write_text("time;flow;value\n01.01.2026 00:00;a;5\n")
    assert CliRunner().invoke(cli, ["inspect", str(file)]).exit_code == 65


def test_columns_in_any_order_with_kind_unit_capacity_and_bits():
    """Names with spaces and capitals are names too."""
    text = "Value, bits,unit, kind,capacity,NAME,time\n5,32,B,Counter,1e9,x,7"
    with pytest.raises(NotReadable):
        read(text)
    (reading,), _ = read(text.replace("NAME", "Flow"))
    assert (reading.flow, reading.value, reading.bits) == ("x", 5, 32)
    assert (reading.kind, reading.unit, reading.capacity) == ("counter", "B", 1e9)


def test_a_column_for_each_flow():
    """Empty cells and null are no values."""
    text = "Date,Traffic In,Traffic Out\n1780012800,5,6\n1780013100,,null\n1780013400,7,8"
    found, source = read(text)
    assert [(r.flow, r.value) for r in found] == [
        ("Traffic In", 5),
        ("Traffic Out", 6),
        ("Traffic In", 7),
        ("Traffic Out", 8),
    ]
    assert source.bad.missing == 2
    assert not source.bad.count


def test_a_device_and_an_interface_name_a_flow():
    """And the columns of octets its directions."""
    text = "time,device,interface,in_octets,out_octets\n1780012800,r1,100,5,6"
    found, _ = read(text)
    assert [(r.flow, r.value) for r in found] == [("r1/100/in", 5), ("r1/100/out", 6)]


@pytest.mark.parametrize(
    "text",
    [
        "1780012800,1.5,2.5\n" + "\n".join(f"{BEGIN + 300 * n},{n}.25,{n}.5" for n in range(1, 30)),
        "time,device,interface,speed\n1780012800,r1,100,fast",
        "a,b,c\n1,2,3",
        "what is this",
        "# HELP node_network_receive_bytes_total",
    ],
)
def test_a_file_of_another_kind_is_refused_with_what_was_expected(text):
    """And not read with a wrong meaning."""
    with pytest.raises(NotReadable, match="expected"):
        read(text)


@pytest.mark.parametrize("digits", ["1_000", "٣٤", "0x10", "1e999", "five"])
def test_only_ascii_numbers_are_numbers(digits):
    """What Python would take is no matter."""
    found, source = read(f"timestamp,flow,value\n1780012800,a,5\n1780013100,a,{digits}")
    assert [reading.value for reading in found] == [5]
    assert source.bad.count == 1


def test_telegrafs_lines_are_read_as_the_daemon_reads_them():
    """From a file as from a topic."""
    line = (
        '{"fields":{"bytes_recv":5,"bytes_sent":6},"name":"net",'
        '"tags":{"host":"h","interface":"eth0"},"timestamp":1780012800}'
    )
    found, _ = read(line)
    assert [(r.flow, r.value) for r in found] == [("h/eth0/in", 5), ("h/eth0/out", 6)]


def test_what_a_person_sees_of_feed_and_backtest(tmp_path, monkeypatch):
    """Exit code 65 and one line; UTF-16 is read; no traceback."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "desc.csv").write_text("\n".join([lines()[0], *lines()[:0:-1]]))
    (tmp_path / "wide16.csv").write_bytes(
        codecs.BOM_UTF16_LE + "Date,In,Out\n1780012800,5,6\n1780013100,7,8\n".encode("utf-16-le")
    )
    (tmp_path / "other.csv").write_text("a,b,c\nd,e,f\n")
    for command in (["feed", "desc.csv", "--log", "sqlite:///t.db"], ["backtest", "desc.csv"]):
        done = CliRunner().invoke(cli, command)
        assert done.exit_code == 65
        assert "--sort" in done.stderr
        assert "Traceback" not in done.stderr
    done = CliRunner().invoke(cli, ["feed", "wide16.csv", "--log", "sqlite:///t.db"])
    assert (done.exit_code, done.stdout.startswith("traffic.counters: 4 readings")) == (0, True)
    done = CliRunner().invoke(cli, ["feed", "other.csv", "--log", "sqlite:///t.db"])
    assert done.exit_code == 65
    assert "expected the columns" in done.stderr
