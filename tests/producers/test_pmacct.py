"""pmacct's Kafka plugin: pmacctd on loopback, and nfacctd behind a NetFlow probe (softflowd)."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import uuid

import pytest

from streamer.core import wire
from streamer.core.types import Kind
from streamer.core.wire import InputConfig
from streamer.feed.inspection import Inspection
from streamer.log import TopicConfig
from streamer.log.kafka.client import KafkaClient
from streamer.log.kafka.settings import KafkaSettings
from tests import debian
from tests.producers.traffic import Datagrams

RATE = 2_000_000
CAPTURED_MIN = 0.5  # of the bytes: packets are lost, and exports before a template; none may double
TRAFFIC_S = 12.0
REFRESH_S = 2
PATIENCE_S = 60.0
PLUGIN = """
daemonize: false
plugins: kafka[one]
kafka_broker_host[one]: 127.0.0.1
kafka_broker_port[one]: {broker}
kafka_topic[one]: {topic}
kafka_output[one]: json
kafka_refresh_time[one]: {refresh}
aggregate[one]: {aggregate}
"""


@pytest.fixture
def topic(bootstrap):
    client, name = KafkaClient(bootstrap, KafkaSettings()), f"pmacct-{uuid.uuid4().hex[:8]}"
    client.create(name, TopicConfig(1, compact=False))
    yield name, client
    client.close()


@pytest.fixture
def programs():
    """The packages; a capture needs rights that only root has as a rule."""
    if os.geteuid() != 0:
        pytest.skip("only root may capture packets of loopback")
    return debian.tree("pmacct", "softflowd")


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(("127.0.0.1", 0))
        return own.getsockname()[1]


@contextlib.contextmanager
def running(programs, out, *call):
    """A program that writes its log to *out*; it is asked to end, and ended if it does not."""
    with out.open("wb") as log:
        process = subprocess.Popen(call, env=programs.environment, stdout=log, stderr=log)
        try:
            yield process
            assert process.poll() is None, out.read_text()
        finally:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            process.kill()
            process.wait()


def records(client, topic):
    """All records that are in the topic now."""
    ends = {partition: end for partition, end in client.ends([topic]).items() if end}
    found = []
    for batch in client.follow([topic], from_start=True) if ends else ():
        found += batch
        if len(found) >= sum(ends.values()):
            break
    return found


def test_pmacctd_gives_each_byte_of_loopback_once(topic, programs, bootstrap, tmp_path):
    """Its purges have no time of their own; the records' gives the true rate."""
    name, client = topic
    broker = bootstrap.rpartition(":")[2]
    aggregate = "src_host, dst_host, src_port, dst_port, proto"
    config = tmp_path / "pmacctd.conf"
    with Datagrams(RATE) as datagrams:
        settings = PLUGIN.format(broker=broker, topic=name, refresh=REFRESH_S, aggregate=aggregate)
        own = f"pcap_interface: lo\npcap_filter: udp dst port {datagrams.port}\n"
        config.write_text(own + settings)
        call = programs.path("usr/sbin/pmacctd"), "-f", config
        with running(programs, tmp_path / "pmacctd.log", *call):
            time.sleep(2)  # it opens the interface
            datagrams.start()
            time.sleep(TRAFFIC_S)
            datagrams.stop()
            time.sleep(REFRESH_S + 2)
    found = Inspection(InputConfig(flow_key="port"))
    every = records(client, name)
    share = total(every) / datagrams.amount
    assert CAPTURED_MIN < share <= 1
    found.take(every)
    [flow] = found.sorted()
    assert flow.flow.startswith("udp/")
    assert (flow.format, flow.kind, flow.unit) == ("pmacct_json", Kind.DELTA, "B")
    assert 0.8 * share * RATE < flow.rate < 1.2 * RATE
    assert not found.rejects
    whole = Inspection(InputConfig(flow_key="exporter", device="edge1"))
    whole.take(every)
    assert [each.flow for each in whole.sorted()] == ["edge1"]


def total(every):
    """The bytes of all readings of *every* record."""
    readings = wire.decode(every, InputConfig(flow_key="addresses")).readings
    assert set(readings.flow) == {"127.0.0.1>127.0.0.1"}
    return int(readings.value.sum())


@pytest.mark.parametrize("version", ["5", "9"])
def test_nfacctd_gives_each_byte_of_a_probe_once(topic, programs, bootstrap, tmp_path, version):
    """NetFlow of softflowd: IP bytes; an unknown sampling rate counts as one, and is counted."""
    name, client = topic
    broker, port = bootstrap.rpartition(":")[2], free_port()
    aggregate = "peer_src_ip, src_host, dst_host, src_port, dst_port, proto, in_iface, out_iface"
    config = tmp_path / "nfacctd.conf"
    settings = PLUGIN.format(broker=broker, topic=name, refresh=REFRESH_S, aggregate=aggregate)
    config.write_text(f"nfacctd_ip: 127.0.0.1\nnfacctd_port: {port}\n{settings}")
    collector = programs.path("usr/sbin/nfacctd"), "-f", config
    with Datagrams(RATE) as datagrams:
        probe = [programs.path("usr/sbin/softflowd"), "-d", "-i", "lo", "-v", version]
        probe += ["-n", f"127.0.0.1:{port}", "-p", tmp_path / "pid", "-c", tmp_path / "control"]
        probe += ["-t", f"maxlife={REFRESH_S}", "-t", "expint=1"]
        probe += [f"udp dst port {datagrams.port}"]
        with (
            running(programs, tmp_path / "nfacctd.log", *collector),
            running(programs, tmp_path / "softflowd.log", *probe) as softflowd,
        ):
            time.sleep(2)
            datagrams.start()
            time.sleep(TRAFFIC_S)
            datagrams.stop()
            control = [programs.path("usr/sbin/softflowctl"), "-c", tmp_path / "control"]
            subprocess.run([*control, "expire-all"], env=programs.environment, check=True)
            assert softflowd.poll() is None
            time.sleep(REFRESH_S + 3)
    every = records(client, name)
    share = total(every) / datagrams.amount
    assert CAPTURED_MIN < share <= 1
    found = Inspection(InputConfig())
    found.take(every)
    assert [each.flow for each in found.sorted()] == ["127.0.0.1"]
    [flow] = found.sorted()
    assert 0.75 * share * RATE < flow.rate < 1.25 * RATE
    assert found.skipped["sampling_rate (unknown)"] == found.readings
    assert not found.rejects
