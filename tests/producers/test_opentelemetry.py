"""The metrics of an OpenTelemetry SDK, as its exporter sends them over HTTP."""

from __future__ import annotations

import gzip
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from streamer.core.types import Kind, Partition, Record
from streamer.core.wire import InputConfig
from streamer.feed.inspection import Inspection

RATES = {"receive": 12_500_000, "transmit": 2_500_000}  # bytes per second
BOOT = 2**40  # bytes before the process began
EXPORTS = 6
EVERY_S = 0.25
PACKETS = 1000  # per second


@pytest.fixture
def receiver():
    """A receiver of OTLP over HTTP: its address, and the bodies that it got."""
    bodies: list[bytes] = []

    class Take(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            packed = self.headers.get("Content-Encoding") == "gzip"
            bodies.append(gzip.decompress(body) if packed else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Take)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/metrics", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def export(address: str, temporality: AggregationTemporality) -> None:
    """Counters that grow at the true rates, exported some times by the SDK."""
    began = time.time()

    def octets(_options):
        grown = time.time() - began
        for way, rate in RATES.items():
            yield Observation(BOOT + int(rate * grown), {"device": "eth0", "direction": way})

    def packets(_options):
        yield Observation(int(PACKETS * (time.time() - began)), {"device": "eth0"})

    exporter = OTLPMetricExporter(
        endpoint=address,
        compression=Compression.Gzip,
        preferred_temporality={ObservableCounter: temporality},
    )
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    resource = Resource.create({"host.name": "web-1", "service.name": "agent"})
    provider = MeterProvider([reader], resource, shutdown_on_exit=False)
    meter = provider.get_meter("network")
    meter.create_observable_counter("system.network.io", [octets], unit="By")
    meter.create_observable_counter("system.network.packets", [packets])
    for _ in range(EXPORTS):
        assert provider.force_flush()
        time.sleep(EVERY_S)
    reader.shutdown = lambda *_, **__: None  # it would export once more
    provider.shutdown()


@pytest.mark.parametrize(
    ("temporality", "kind"),
    [
        (AggregationTemporality.CUMULATIVE, Kind.COUNTER),
        (AggregationTemporality.DELTA, Kind.DELTA),
    ],
)
def test_an_sdks_counters_have_their_true_rates(receiver, temporality, kind):
    """Cumulative or as deltas; packets are skipped by name, and nothing is refused."""
    address, bodies = receiver
    export(address, temporality)
    assert len(bodies) == EXPORTS
    found = Inspection(InputConfig())
    now = time.time_ns() // 10**6
    found.take(Record(Partition("otlp", 0), i, None, body, now) for i, body in enumerate(bodies))
    flows = {each.flow: each for each in found.sorted()}
    assert set(flows) == {"web-1/eth0/in", "web-1/eth0/out"}
    for flow, way in (("web-1/eth0/in", "receive"), ("web-1/eth0/out", "transmit")):
        each = flows[flow]
        assert (each.format, each.kind, each.unit) == ("otlp_proto", kind, "B")
        assert each.rate == pytest.approx(RATES[way], rel=0.02)
        assert each.readings in {EXPORTS, EXPORTS - 1}  # the first delta is that since boot
    assert found.skipped["system.network.packets"]
    assert not found.rejects
