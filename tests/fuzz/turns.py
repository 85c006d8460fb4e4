"""
Fuzz targets over whole turns: drawn settings with any records, and saved pages with flipped bits.

The first bytes of an input to `engine` choose the settings, the rest are records. An input to
`damage` is a list of bits of a saved page; they are flipped before the checksum is computed, so
that the rows reach the validation, and for an odd first byte after it.
"""

from __future__ import annotations

import functools
import itertools
import json
from random import Random
from typing import TypeVar

import numpy as np
import orjson
import torch

from streamer.config.types import Duration
from streamer.core.budget import Budget
from streamer.core.engine import Engine, EngineConfig
from streamer.core.features.grid import GridConfig
from streamer.core.network.config import ModelConfig
from streamer.core.network.model import Forecaster, Network
from streamer.core.state.page_format import FRONT, checksum
from streamer.core.types import Partition, Record, TurnResult
from streamer.core.wire import FORMATS, InputConfig, rejects, scores
from streamer.core.wire.forecasts import Encoder, ForecastsConfig
from streamer.core.wire.scores import ScoresConfig
from tests.simulation.fingerprint import Fingerprint

T = TypeVar("T")
P = Partition("t", 0)
CHOICES = 10  # bytes of an input that choose settings
STEPS = (1, 7, 60, 300, 3600)
LATE_STEPS = (0, 1, 2)
HORIZONS = (1, 2, 12, 30)
QUANTILES = ((0.5,), (0.05, 0.25, 0.5, 0.75, 0.95), (0.01, 0.99), (0.1, 0.2, 0.3))
KINDS = ("counter", "delta", "gauge")
FLOWS_MAX = (1, 2, 64)
GAPS_MAX = (1, 5, 60)
BUDGETS = (None, Budget(passes_max=3, rows_max=10), Budget())
TURN_RECORDS = (1, 2, 7)
STAMPS_MS = (-1, 0, 1_700_000_000_000)
MESSAGE_BYTES_MAX = 1_048_576

FLOWS = 16
BEGIN = 1_700_000_000 // 3600 * 3600
BEFORE, AFTER = 40, 100  # readings of each flow before its page is damaged, and after
DAMAGED = EngineConfig(flows_max=640, grid=GridConfig(step=Duration(60)))


def engine(given: bytes) -> None:
    """Turns of any records under any settings raise nothing, and what they publish is sound."""
    chosen, text = given[:CHOICES].ljust(CHOICES, b"\0"), given[CHOICES:]
    step_s = pick(STEPS, chosen[0])
    config = EngineConfig(
        flows_max=pick(FLOWS_MAX, chosen[5]),
        input=InputConfig(
            format=pick(("auto", *FORMATS), chosen[4]),  # type: ignore[arg-type]
            kind=pick(KINDS, chosen[3]),  # type: ignore[arg-type]
        ),
        grid=GridConfig(
            step=Duration(step_s),
            lateness=Duration(step_s * pick(LATE_STEPS, chosen[1])),
            gap_max=pick(GAPS_MAX, chosen[6]),
        ),
        forecasts=ForecastsConfig(
            horizons=pick(HORIZONS, chosen[2]),
            quantiles=pick(QUANTILES, chosen[2] // len(HORIZONS)),
            batch=1 + chosen[7] % 3,
        ),
        scores=ScoresConfig(every=Duration(2 * step_s)),
    )
    budget = pick(BUDGETS, chosen[7] // 3)
    made = Engine(Fingerprint(), config, page_rows=8, budget=budget)
    made.restore(P, {}, 0, 1)
    stamp = pick(STAMPS_MS, chosen[9])
    lane = [Record(P, i, None, value, stamp) for i, value in enumerate(text.split(b"\x1e"))]
    table: dict[bytes, bytes] = {}
    at_once = pick(TURN_RECORDS, chosen[8])
    done = 0
    for first in range(0, len(lane), at_once):
        epoch = made.step(lane[first : first + at_once], share=0.5)
        done = epoch.offsets.get(P, done)
        published(epoch, config, table)
        while made.waiting:
            epoch = made.step((), share=0.5)
            assert epoch.offsets[P] > done, "a turn that takes nothing never ends"
            done = epoch.offsets[P]
            published(epoch, config, table)
    assert done == len(lane)
    again = Engine(Fingerprint(), config, page_rows=8, budget=budget)
    start, restored = again.restore(P, table, len(lane), 1)
    again.replay(lane[start:])
    assert not restored.unreadable
    assert not restored.findings
    assert rows_of(again) == rows_of(made)


def damage(given: bytes) -> None:
    """A page with flipped bits is restored, and after a hundred steps all is as it should be."""
    page = bytearray(sound_page())
    late = bool(given[:1]) and given[0] % 2 == 1
    for first in range(1, len(given) - 3, 4):
        bit = int.from_bytes(given[first : first + 4], "big") % (8 * (len(page) - FRONT))
        page[FRONT + bit // 8] ^= 1 << bit % 8
    if not late:
        page[8:FRONT] = checksum(bytes(page[FRONT:])).to_bytes(4, "big")
    made = Engine(network(), DAMAGED, page_rows=FLOWS)
    lane = records(BEFORE, 0)
    start, _ = made.restore(P, {b"t/0/page/0": bytes(page)}, BEFORE, 1)
    while made.rollout.rebuild_pending(FLOWS):
        pass
    made.replay(lane[start:])
    last: dict[str, dict[str, object]] = {}
    encoder = Encoder(DAMAGED.forecasts, 60)
    for record in records(AFTER, BEFORE):
        for message in encoder.messages(made.step([record]).forecasts):
            for line in (message.value or b"").split(b"\n"):
                forecast = orjson.loads(line)
                last[forecast["flow"]] = forecast
    for flow in names():
        forecast = last[flow]
        assert forecast["made_at"] == BEGIN + (BEFORE + AFTER - 1) * 60, flow
        assert forecast["rate"] is not None, flow
        bands = [value for name, value in forecast.items() if name[0] == "q"]
        assert np.isfinite(np.array(bands, float)).all(), flow


def published(epoch: TurnResult, config: EngineConfig, table: dict[bytes, bytes]) -> None:
    """Encode all of *epoch* as the forecaster does, and take its entries into *table*."""
    step_s = int(config.grid.step)
    for message in Encoder(config.forecasts, step_s).messages(epoch.forecasts):
        for line in (message.value or b"").split(b"\n"):
            bands = [value for name, value in orjson.loads(line).items() if name[0] == "q"]
            assert np.isfinite(np.array(bands, float)).all()
    for message in scores.messages(epoch.scores, "scores", step_s):
        orjson.loads(message.value or b"")
    for reject in epoch.rejects:
        assert rejects.message(reject, "rejects").value is not None
    for entry in epoch.entries:
        table.pop(entry.key, None)
        if entry.value is not None:
            assert len(entry.key) + len(entry.value) < MESSAGE_BYTES_MAX
            table[entry.key] = entry.value


def pick(among: tuple[T, ...], byte: int) -> T:
    return among[byte % len(among)]


def rows_of(made: Engine) -> dict[str, bytes]:
    """Every row, to the bit."""
    slots = made.table._holdings[P].slots
    return {flow: made.table.rows[slot].tobytes() for flow, slot in slots.items()}


def names() -> list[str]:
    return [f"edge{n}" for n in range(FLOWS)]


def records(number: int, first: int) -> list[Record]:
    """*number* minutes of all flows, from minute *first* on; counters of different pace."""
    return [
        Record(P, i, None, json.dumps([reading(flow, i) for flow in range(FLOWS)]).encode(), -1)
        for i in range(first, first + number)
    ]


def reading(flow: int, minute: int) -> dict[str, object]:
    value = minute * 60_000 * (flow + 1)
    return {"flow": f"edge{flow}", "time": BEGIN + minute * 60, "value": value}


@functools.cache
def network() -> Forecaster:
    torch.manual_seed(3)
    return Forecaster(Network(ModelConfig(hidden=4)))


@functools.cache
def sound_page() -> bytes:
    made = Engine(network(), DAMAGED, page_rows=FLOWS)
    made.restore(P, {}, 0, 1)
    entries = made.step(records(BEFORE, 0), share=1.0).entries
    return next(e.value for e in entries if e.key == b"t/0/page/0" and e.value is not None)


def prefixed(seeds: list[bytes]) -> list[bytes]:
    """*seeds* under drawn settings, two of each, and under the first of all choices."""
    chance = Random(1)
    drawn = [chance.randbytes(CHOICES) + seed for seed, _ in itertools.product(seeds, range(2))]
    return [*(bytes(CHOICES) + seed for seed in seeds), *drawn]


UNITS = [
    '{"flow":"bad","time":1,"value":1,"unit":"aéééééé"}\x1e'.encode()
    + '{"flow":"bad","time":2,"value":5,"unit":"aéééééé"}\x1e'.encode()
    + b'{"flow":"bad","time":4000,"value":9,"unit":"\\ud800"}\x1e'
    + b'{"flow":"bad","time":90000,"value":9,"capacity":1e39}',
    b'[{"flow":"a","time":0,"value":1},'
    + b",".join(b'{"flow":"a","time":%d,"value":%d}' % (3600 * i, i) for i in range(30))
    + b']\x1e{"flow":"b","time":1,"value":1}\x1e{"flow":"b","time":99,"value":2}',
]
DAMAGES = [b"\0", b"\1\0\0\1\0", *(b"\0" + Random(i).randbytes(4 * 4**i) for i in range(5))]
