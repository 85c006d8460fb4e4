"""
What accepts any bytes at all, and what must hold then.

Each target takes bytes and raises nothing: what the world sent is readings or
rejects, a page or Unreadable, weights or ValueError. `SEEDS` are sound inputs from which
a fuzzer sets out, and those that once broke something.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import numpy as np
import orjson
import torch

from streamer.config.types import Duration
from streamer.core import wire
from streamer.core.engine import Engine, EngineConfig
from streamer.core.features import grid
from streamer.core.features.grid import GridConfig
from streamer.core.network.config import ModelConfig
from streamer.core.network.model import Network, pack, unpack
from streamer.core.state import restoring
from streamer.core.state.page_format import Unreadable, decode, encode
from streamer.core.state.table import FlowTable, row_type
from streamer.core.types import Partition, Record
from streamer.core.wire import InputConfig, rejects
from streamer.core.wire.forecasts import Encoder, ForecastsConfig
from tests.fuzz import turns as whole
from tests.simulation.fingerprint import Fingerprint

P = Partition("t", 0)
LAYOUT = [*grid.COLUMNS, ("state", "f2", (2, 2)), ("scale", "f8")]
ENGINE = EngineConfig(
    flows_max=64,
    grid=GridConfig(step=Duration(60), gap_max=5),
    forecasts=ForecastsConfig(horizons=2),
)


def readings(given: bytes) -> None:
    """A record is readings, rejects, or other things; in every format."""
    for form in ("auto", *wire.FORMATS):
        for kind in ("counter", "gauge"):
            config = InputConfig(format=form, kind=kind)
            decoded = wire.decode([Record(P, 0, None, given, 1_700_000_000_000)], config)
            readings = decoded.readings
            assert len(readings) or decoded.rejects or decoded.counts["skipped"]
            assert all(0 < len(flow.encode()) <= config.flow_bytes_max for flow in readings.flow)
            assert np.isfinite(readings.time).all()
            assert np.isfinite(readings.value).all()
            assert (readings.value >= 0).all()
            for reject in decoded.rejects:
                assert rejects.message(reject, "rejects").value is not None


def turns(given: bytes) -> None:
    """Whatever the records are, turns process them, and publish JSON without NaN."""
    engine = Engine(Fingerprint(), ENGINE, page_rows=8)
    encoder = Encoder(ENGINE.forecasts, 60)
    engine.restore(P, {}, 0, 1)
    lane = [Record(P, i, None, value, -1) for i, value in enumerate(given.split(b"\x1e"))]
    table: dict[bytes, bytes] = {}
    for first in range(0, len(lane), 2):
        epoch = engine.step(lane[first : first + 2], share=0.5)
        for message in encoder.messages(epoch.forecasts):
            for line in (message.value or b"").split(b"\n"):
                bands = [value for name, value in orjson.loads(line).items() if name[0] == "q"]
                assert np.isfinite(np.array(bands, float)).all()
        for entry in epoch.entries:
            table.pop(entry.key, None)
            if entry.value is not None:
                table[entry.key] = entry.value
    again = Engine(Fingerprint(), ENGINE, page_rows=8)
    start, restored = again.restore(P, table, len(lane), 1)
    again.replay(lane[start:])
    assert not restored.unreadable
    assert rows_of(again) == rows_of(engine)


def page(given: bytes) -> None:
    """Rows and whose they are, or Unreadable."""
    try:
        flows, rows, *_ = decode(given, row_type(LAYOUT))
    except Unreadable:
        return
    assert len(set(flows)) == len(rows)
    assert rows.dtype == row_type(LAYOUT)


def state(given: bytes) -> None:
    """A partition's table, whatever lies in it, is restored as far as it can be read."""
    kinds = (b"page/0", b"page/1", b"floor", b"gone/7", b"gone/x", b"\xff", b"page/")
    parts = given.split(b"\x1e")
    table = {b"t/0/" + kinds[i % len(kinds)]: part for i, part in enumerate(parts)}
    arena = FlowTable(LAYOUT, 64, page_rows=8)
    arena.add_partition(P, 64)
    restored = restoring.restore(arena, P, table, 10, lambda *_: True)
    assert restored.progress.floor >= 0


def weights(given: bytes) -> None:
    """A network, or ValueError."""
    try:
        network, made = unpack(given)
    except ValueError:
        return
    assert isinstance(network, Network)
    assert isinstance(made, dict)


def rows_of(engine: Engine) -> dict[str, bytes]:
    """Every row, to the bit."""
    slots = engine.table._holdings[P].slots
    return {flow: engine.table.rows[slot].tobytes() for flow, slot in slots.items()}


def sound_page() -> bytes:
    return encode(["a", "b"], np.zeros(2, row_type(LAYOUT)), 3)


def sound_weights(version: str | None = None) -> bytes:
    """Small ones; *version* stands in their header instead of what should."""
    torch.manual_seed(0)
    packed = pack(Network(ModelConfig(cell="rnn", hidden=1)), {"seed": "0"})
    if version is None:
        return packed
    length = int.from_bytes(packed[:8], "little")
    header = json.loads(packed[8 : 8 + length])
    header["__metadata__"]["streamer"] = version
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + packed[8 + length :]


READINGS = [
    b'{"flow":"a","time":1700000000.5,"value":18446744073709551615,"kind":"counter","unit":"B"}',
    b'[{"flow":"a","time":1,"value":2},{"flow":"b","time":"x"},{"flow":"","time":1,"value":1}]',
    b'{"flow":"a","time":1,"value":"12"}\n{"flow":"a","time":61,"value":-1}\nnot json\n',
    b'{"flow":"a","time":1,"value":1e308,"kind":"gauge","capacity":1e9,"bits":32}',
    b'{"flow":"\\ud800","time":1,"value":1}',
    b'net,host=a,interface=b bytes_recv=5i,note="x\\"y" 1700000000000000000\nedge.if x',
    b"edge1.interface-wan0.if_octets.rx 352272 1700000000\r\n",
    b'PUTVAL "edge1/interface-eth0/if_octets" interval=5 1700000000.5:1:2\n',
    (
        b'[{"name":"p","timestamp":1700000000000000000,"tags":{"interface_name":"e","source":"r:1"},'
        b'"values":{"/interfaces/interface/state/counters/in-octets":"5"}},{"deletes":["/a"]}]'
    ),
    (
        b'{"sampler_address":"192.0.2.1","bytes":5,"sampling_rate":10,"in_if":1,"out_if":2,'
        b'"time_received_ns":1700000000000000000}'
    ),
    b'{"event_type":"purge","bytes":5,"packets":1,"stamp_updated":"2023-01-01 00:00:00"}',
    (
        b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"system.network.io","sum":{'
        b'"dataPoints":[{"timeUnixNano":"1700000000000000000","asInt":"5","attributes":[{"key":'
        b'"direction","value":{"stringValue":"receive"}}]}],"aggregationTemporality":2}}]}]}]}'
    ),
    b"\x0a\x08\x12\x06\x12\x04\x0a\x02ab",
    b"\x0d\x08\x01\x48\x05\xf0\x06\x80\x80\xa0\xf6\x01\x18\x02",
    b'{"flow":"a","time":1,"value":' + b"9" * 400 + b"}",
    b'{"flow":"a","time":' + b"9" * 400 + b',"value":1}',
    (
        b'{"fields":{"ifHCInOctets":12,"ifHighSpeed":1000},"tags":{"agent_host":"h","ifName":"e0"},'
        b'"timestamp":1700000000}'
    ),
    (
        b'{"metrics":[{"fields":{"bytes_recv":1,"bytes_sent":"2"},"tags":{"host":"h","interface":"i"},'
        b'"timestamp":"2024-01-01T00:00:00Z"},{"fields":{},"tags":{},"timestamp":1}]}'
    ),
    b'{"fields":{"ifHCInOctets":1,"ifHighSpeed":' + b"9" * 400 + b'},"tags":{"host":"h",'
    b'"ifName":"e"},"timestamp":1}',
    b'{"fields":{"ifHCInOctets":1},"tags":{"host":"h","ifName":"e"},"timestamp":'
    + b"9" * 400
    + b"}",
    b'{"fields":{"ifHCInOctets":1},"tags":{"host":"h","ifName":"e"},"timestamp":"0001-01-01"}',
    b"\0framed",
    b"",
    b"[]",
    b"[[[",
    b"\xff\xfe",
]
TURNS = [
    b"\x1e".join(
        b'{"flow":"%s","time":%d,"value":%d}' % (flow, 100 + 35 * i, 1000 * i % 7000)
        for i in range(8)
        for flow in (b"a", b"b")
    ),
    b"\x1e".join(
        b'[{"flow":"a","time":%d,"value":5,"kind":"gauge"},{"flow":"a","time":%d,"value":1e300,'
        b'"kind":"delta"}]' % (t, t + 100_000_000)
        for t in (0, 60, 253_402_300_000)
    ),
    (
        b'{"flow":"a","time":0,"value":0}\x1e{"flow":"a","time":1e-300,"value":18446744073709551615}'
        b'\x1e{"flow":"a","time":70,"value":3}'
    ),
    *READINGS,
]
PAGES = [sound_page(), sound_page()[:-1], b"page\0\0\0\x01\x80", b"page", b""]
STATES = [
    b"\x1e".join([sound_page(), b"", b'{"offset":3}', b'["a"]']),
    b"\x1e".join([b"", b"junk", b"junk", b"junk", b"junk", b"junk"]),
    b"\x1e".join([sound_page(), sound_page(), b'{"offset":-1}', b'["a","a"]']),
    b'\x1e\x1e{"offset":99999999999999999999}\x1e[1]',
]
WEIGHTS = [
    sound_weights(),
    sound_weights()[:-4],
    *map(
        sound_weights,
        (
            "",
            "1",
            "[]",
            "{}",
            '{"network": 1, "made": {}}',
            '{"network": {"hidden": 0}, "made": {}}',
            '{"network": {"hidden": 1e99}, "made": {}}',
            '{"network": {"cell": "rnn", "hidden": 1}, "made": 5}',
            '{"network": {"cell": "rnn", "hidden": 1}, "made": ["ab", "cd"]}',
            '{"network": {"cell": "rnn", "hidden": 1}}',
            "[" * 100_000,
        ),
    ),
    b"",
    b"\xff" * 8,
]

TARGETS: Mapping[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "readings": (readings, READINGS),
    "turns": (turns, TURNS),
    "page": (page, PAGES),
    "state": (state, STATES),
    "weights": (weights, WEIGHTS),
    "engine": (whole.engine, whole.prefixed([*TURNS, *whole.UNITS])),
    "damage": (whole.damage, whole.DAMAGES),
}
