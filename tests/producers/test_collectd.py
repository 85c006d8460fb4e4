"""collectd's write_kafka into a real Kafka, in its three formats."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
import uuid

import pytest
from click.testing import CliRunner

from streamer.__main__ import cli
from streamer.log import TopicConfig
from streamer.log.kafka.client import KafkaClient
from streamer.log.kafka.settings import KafkaSettings
from tests import debian
from tests.producers.traffic import Counter, Datagrams

READINGS = 7  # of each topic, one a second
PATIENCE_S = 60.0
RATE = 4_000_000
TOPICS = {  # the settings of each topic, and how it must be read
    "counters": ("Format JSON\nStoreRates false", "collectd_json", "counter"),
    "rates": ("Format JSON\nStoreRates true", "collectd_json", "gauge"),
    "graphite": ("Format Graphite\nStoreRates false", "graphite", "counter"),
    "command": ("Format Command\nStoreRates false", "collectd_command", "counter"),
}
CONFIG = """
Hostname "edge1"
FQDNLookup false
Interval 1
BaseDir "{home}"
PIDFile "{home}/pid"
PluginDir "{plugins}"
TypesDB "{types}"
LoadPlugin interface
LoadPlugin write_kafka
<Plugin interface>
  Interface "lo"
  IgnoreSelected false
</Plugin>
<Plugin write_kafka>
  Property "metadata.broker.list" "{bootstrap}"
{topics}
</Plugin>
"""


@pytest.fixture
def names(bootstrap):
    """Topics of one partition, by what is written to them."""
    suffix, client = uuid.uuid4().hex[:8], KafkaClient(bootstrap, KafkaSettings())
    found = {name: f"{name}-{suffix}" for name in TOPICS}
    for topic in found.values():
        client.create(topic, TopicConfig(1, compact=False))
    yield found, client
    client.close()


def inspected(topic, bootstrap, *options):
    """The flows of a topic, and the summary."""
    call = ["inspect", "--json", topic, "--set", f"log=kafka://{bootstrap}", *options]
    result = CliRunner().invoke(cli, call)
    assert result.exit_code == 0, result.output
    *flows, summary = map(json.loads, result.output.splitlines())
    return {flow["flow"]: flow for flow in flows}, summary


def test_what_collectd_writes_has_its_true_rate(names, bootstrap, tmp_path):
    """The kernel counts the same bytes of loopback; nothing is refused in any of the formats."""
    topics, client = names
    packages = debian.tree("collectd-core", "librdkafka1", "libyajl2")
    blocks = (
        f'<Topic "{topics[name]}">\nKey "edge1"\n{settings}\n</Topic>'
        for name, (settings, _, _) in TOPICS.items()
    )
    config = tmp_path / "collectd.conf"
    config.write_text(
        CONFIG.format(
            home=tmp_path,
            plugins=packages.path("usr/lib/collectd"),
            types=packages.path("usr/share/collectd/types.db"),
            bootstrap=bootstrap,
            topics="\n".join(blocks),
        )
    )
    call = [packages.path("usr/sbin/collectd"), "-f", "-C", config]
    with Datagrams(RATE) as datagrams, Counter("lo") as kernel, contextlib.ExitStack() as stack:
        datagrams.start()
        out = stack.enter_context((tmp_path / "collectd.log").open("wb"))
        process = subprocess.Popen(call, env=packages.environment, stdout=out, stderr=out)
        stack.callback(process.wait)
        stack.callback(process.kill)
        wait_for_records(client, topics, process)
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)
        time.sleep(1.1)  # a time in whole seconds may lie a little ahead
    for name, (_, form, kind) in TOPICS.items():
        flows, summary = inspected(topics[name], bootstrap)
        assert set(flows) == {"edge1/lo/in", "edge1/lo/out"}
        assert summary["rejects"] == {}
        assert summary["skipped"].keys() <= {*SKIPPED}
        for flow in flows.values():
            assert (flow["format"], flow["kind"]) == (form, kind)
            assert flow["readings"] >= READINGS - 2
            first = flow["first"] - (1.0 if kind == "gauge" else 0.0)  # rates of the second before
            true = kernel.rate(first, flow["last"])
            assert true > 0.9 * RATE
            assert flow["rate"] == pytest.approx(true, rel=0.15 if form == "graphite" else 0.05)


SKIPPED = (  # packets, errors and drops, and the first rate, which has no value
    *(f"if_{what}.{way}" for what in ("packets", "errors", "dropped") for way in ("rx", "tx")),
    *("if_octets.rx", "if_octets.tx", "if_packets", "if_errors", "if_dropped", "nan"),
)


def wait_for_records(client, topics, process):
    """Until each topic has records of READINGS seconds."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        assert process.poll() is None, "collectd ended"
        ends = client.ends(list(topics.values()))
        if len(ends) == len(topics) and min(ends.values()) >= READINGS * 4:
            return
        time.sleep(0.25)
    pytest.fail(f"collectd wrote {client.ends(list(topics.values()))}")
