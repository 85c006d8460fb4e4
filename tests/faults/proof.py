"""
Compares what was published with what the input calls for.

The input is read back from the log that was disturbed, whatever of it came twice
or not at all, and taken through an engine without faults: its
forecasts and its rows are what the group should have published and saved.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import orjson
import torch
from numpy.typing import NDArray

from streamer.config.schema import Config
from streamer.core.engine import Engine
from streamer.core.predict import burst_odds
from streamer.core.state.page_format import decode
from streamer.core.types import Message, Partition, Record
from streamer.core.wire.forecasts import Encoder
from streamer.weights import open_model, open_peak_head
from tests.faults.witnesses import Witness

NEAR = 1e-4  # of a flow's mean rate
DELIVERY = 2000  # records that the undisturbed engine is given at once

Key = tuple[str, int]  # flow, made_at
Rows = dict[tuple[Partition, str], bytes]
SHIPPED = frozenset({0})
LEARNED = {  # columns that the weights decide
    *("state", "state_before", "last_forecast", "pending_quantiles", "pending_floor", "predictor"),
    *(
        "network_error",
        "switch_count",
        "best_baseline",
        "cum_excess_loss",
        "log_width_factor",
        "moved",
        "network_median",
        "regrets",
        "squares",
    ),
    *("n_scored", "n_covered", "loss_sums"),
    *(column[0] for column in burst_odds.COLUMNS),
}


class Forecast(NamedTuple):
    """One forecast, its numbers kept small: there may be a million of them."""

    rate: float | None
    bands: NDArray[np.float32]  # all quantiles and peaks, one after another
    rest: tuple[object, ...]  # all other fields, without the id


@dataclass
class Forecasts:
    """A topic of forecasts."""

    by_key: dict[Key, Forecast] = field(default_factory=dict)
    doubled: list[Key] = field(default_factory=list)

    @classmethod
    def of(cls, values: Iterable[bytes]) -> Forecasts:
        found = cls()
        common: dict[tuple[object, ...], tuple[object, ...]] = {}
        for value in values:
            for line in value.split(b"\n"):
                fields = orjson.loads(line)
                key = sys.intern(fields.pop("flow")), fields.pop("made_at")
                assert fields.pop("id") == f"{key[0]}@{key[1]}.{fields['generation']}"
                rate = fields.pop("rate")
                names = [name for name in fields if name.startswith(("q", "peak_"))]
                bands = np.concatenate([fields.pop(name) for name in names]).astype(np.float32)
                rest = (*names, *fields.items())
                if key in found.by_key:
                    found.doubled.append(key)
                found.by_key[key] = Forecast(rate, bands, common.setdefault(rest, rest))
        return found


@dataclass(frozen=True)
class Proof:
    """What came of holding the one against the other; the lists are empty where all is well."""

    readings: int  # records of the input
    forecasts: int
    lost: list[Key]
    doubled: list[Key]
    invented: list[Key]  # published, though nothing called for them
    wrong: list[Key]
    worst: float  # difference of a band, in units of its flow's mean rate
    pages: int
    rows: int
    unreadable: list[str]
    rows_wrong: list[tuple[Partition, str]]  # after pages and the input behind them

    @property
    def holds(self) -> bool:
        bad = (
            self.lost,
            self.doubled,
            self.invented,
            self.wrong,
            self.unreadable,
            self.rows_wrong,
        )
        return self.forecasts > 0 and self.pages > 0 and not any(bad)

    def table(self) -> list[tuple[str, str]]:
        return [
            ("records of input", f"{self.readings:,}"),
            ("forecasts verified", f"{self.forecasts:,}"),
            ("lost", f"{len(self.lost):,}"),
            ("doubled", f"{len(self.doubled):,}"),
            ("uncalled for", f"{len(self.invented):,}"),
            ("wrong", f"{len(self.wrong):,}"),
            ("worst difference", f"{self.worst:.1g} of the flow's rate"),
            ("pages read back", f"{self.pages:,}, {len(self.unreadable):,} unreadable"),
            ("rows restored", f"{self.rows:,}, {len(self.rows_wrong):,} wrong"),
        ]


def prove(witness: Witness, config: Config, served: frozenset[int] = SHIPPED) -> Proof:
    """
    Read all topics of a group that has come to rest, and judge them.

    Where more than the shipped weights *served*, when each page went over to them is a matter of
    time: of what weights decide it is then only asked that they were promoted.
    """
    torch.set_num_threads(1)
    (topic,) = config.input.topics
    lanes: dict[Partition, list[Record]] = {
        Partition(topic, number): [] for number in witness.offsets(topic)
    }
    for record in witness.read(topic):
        lanes[record.partition].append(record)
    less = LEARNED if served > SHIPPED else set()
    wanted, rows = undisturbed(config, lanes, less)
    published = Forecasts.of(record.value for record in witness.read(config.forecasts.topic))
    found, should = published.by_key, wanted.by_key
    wrong, worst = differences(found, should)
    if less:
        wrong, worst = misjudged(found, should, served), 0.0
    tables: dict[int, dict[bytes, bytes]] = defaultdict(dict)
    for record in witness.read(config.state_topic):
        if record.value is None:
            tables[record.partition.number].pop(record.key, None)
        else:
            tables[record.partition.number][record.key] = record.value
    saved = Saved(config, lanes, tables, witness.offsets(topic), less)
    unserved = sorted(saved.generations - served)
    return Proof(
        readings=sum(map(len, lanes.values())),
        forecasts=len(found),
        lost=sorted(should.keys() - found.keys()),
        doubled=published.doubled,
        invented=sorted(found.keys() - should.keys()),
        wrong=wrong,
        worst=worst,
        pages=saved.pages,
        rows=len(saved.rows),
        unreadable=saved.unreadable + [f"generation {n} never served" for n in unserved],
        rows_wrong=[key for key in {**rows, **saved.rows} if rows.get(key) != saved.rows.get(key)],
    )


def undisturbed(
    config: Config, lanes: dict[Partition, list[Record]], less: set[str]
) -> tuple[Forecasts, Rows]:
    """The forecasts that the records call for, and the rows that they leave behind."""
    engine = new_engine(config)
    encoder = Encoder(config.forecasts, int(config.step))
    messages: list[Message] = []
    for partition, lane in lanes.items():
        engine.restore(partition, {}, 0, len(lanes))
        for first in range(0, len(lane), DELIVERY):
            epoch = engine.step(lane[first : first + DELIVERY])
            messages += encoder.messages(epoch.forecasts)
    expected = Forecasts.of(message.value for message in messages if message.value)
    assert not expected.doubled
    return expected, rows_of(engine, less)


def differences(found: dict[Key, Forecast], should: dict[Key, Forecast]) -> tuple[list[Key], float]:
    """Forecasts that are not as they should be, and the largest difference of any."""
    sums: dict[str, list[float]] = defaultdict(list)
    for (flow, _), each in should.items():
        sums[flow].append(each.rate or 0.0)
    scale = {flow: max(sum(rates) / len(rates), 1e-9) for flow, rates in sums.items()}
    wrong, worst = [], 0.0
    for key in found.keys() & should.keys():
        one, other = found[key], should[key]
        apart = float(np.abs(one.bands - other.bands).max()) / scale[key[0]]
        worst = max(worst, apart)
        if (one.rate, one.rest) != (other.rate, other.rest) or not apart <= NEAR:
            wrong.append(key)
    return sorted(wrong), worst


def misjudged(
    found: dict[Key, Forecast], should: dict[Key, Forecast], served: frozenset[int]
) -> list[Key]:
    """Forecasts of another rate than they should be of, or of weights that were never promoted."""
    signed = {("generation", number) for number in served}
    return sorted(
        key
        for key in found.keys() & should.keys()
        if found[key].rate != should[key].rate or not signed & set(found[key].rest)
    )


class Saved:
    """The rows that the next forecaster would begin with: the pages, and the input after them."""

    def __init__(
        self,
        config: Config,
        lanes: dict[Partition, list[Record]],
        tables: dict[int, dict[bytes, bytes]],
        offsets: dict[int, int],
        less: set[str],
    ) -> None:
        engine = new_engine(config)
        self.pages = 0
        self.unreadable: list[str] = []
        self.generations: set[int] = set()
        for partition, lane in lanes.items():
            table, committed = tables[partition.number], offsets[partition.number]
            in_pages: set[str] = set()
            for key, value in table.items():
                if b"/page/" in key:
                    page = decode(value, engine.table.rows.dtype)
                    in_pages.update(page.flows)
                    self.generations.add(page.generation)
                    self.pages += 1
            before = len(engine.table)
            floor, restored = engine.restore(partition, table, committed, len(lanes))
            while engine.rollout.rebuild_pending(1000):
                pass
            evicted = in_pages & restored.needed.keys()
            assert in_pages - evicted <= {flow for _, flow in rows_of(engine)}
            assert len(engine.table) - before <= len(in_pages)
            self.unreadable += restored.unreadable
            assert lane[0].offset <= floor <= committed == lane[-1].offset + 1
            engine.replay(lane[floor - lane[0].offset :])
        self.rows = rows_of(engine, less)


def new_engine(config: Config) -> Engine:
    return Engine(open_model(config.model), config.engine, peak_head=open_peak_head())


def rows_of(engine: Engine, less: Collection[str] = ()) -> Rows:
    """Every row of an engine, to the bit; of columns that are not in *less*."""
    rows = engine.table.rows
    names = [name for name in rows.dtype.names or () if name not in less]
    return {
        (partition, flow): b"".join(rows[name][slot].tobytes() for name in names)
        for partition, holding in engine.table._holdings.items()
        for flow, slot in holding.slots.items()
    }
