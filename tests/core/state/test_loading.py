"""Saved rows under other settings, damaged rows, and inputs that were recreated."""

import functools
import json
import math
import time
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from streamer.config.types import Duration
from streamer.core.engine import Engine, EngineConfig
from streamer.core.features import seasonal
from streamer.core.features.grid import GridConfig
from streamer.core.network.model import Forecaster, ModelConfig, Network
from streamer.core.predict.forecast import DERIVED
from streamer.core.state import checkpoint, page_format
from streamer.core.state.loading import Finding
from streamer.core.types import Partition, Record
from streamer.core.wire.forecasts import ForecastsConfig

P = Partition("traffic.counters", 0)
FLOWS = 5
BEGIN = 1_700_000_000 // 3600 * 3600
READINGS = 30
PAGE = f"{P.topic}/0/page/0".encode()


@functools.cache
def network(hidden=16):
    torch.manual_seed(3)
    return Forecaster(Network(ModelConfig(hidden=hidden)))


def engine(step=60, horizons=12, quantiles=(0.05, 0.25, 0.5, 0.75, 0.95), hidden=16):
    config = EngineConfig(
        flows_max=640,
        grid=GridConfig(step=Duration(step)),
        forecasts=ForecastsConfig(horizons=horizons, quantiles=quantiles),
    )
    return Engine(network(hidden), config, page_rows=8)


def lane(count=READINGS, spacing=60, first=0, begin=BEGIN, flows=FLOWS):
    """*count* records of *flows* flows, the counters a thousand a second."""
    return [
        Record(
            P,
            first + i,
            None,
            json.dumps(
                [
                    {"flow": f"f{n}", "time": begin + i * spacing, "value": i * spacing * 1000}
                    for n in range(flows)
                ]
            ).encode(),
            -1,
        )
        for i in range(count)
    ]


def saved(made, records, table=None):
    """The state topic after *records*, all in one turn and saved whole; and the forecasts."""
    table = {} if table is None else table
    epoch = made.step(records, share=1.0)
    for entry in epoch.entries:
        table.pop(entry.key, None)
        if entry.value is not None:
            table[entry.key] = entry.value
    return table, sum(len(wave.flow) for wave in epoch.forecasts), epoch


def started(made, table, committed, input_=()):
    """*made* with the rows of *table*, and what was found."""
    start, restored = made.restore(P, table, committed, 1)
    while made.rollout.rebuild_pending(1000):
        pass
    made.replay([record for record in input_ if start <= record.offset < committed])
    return restored


@functools.cache
def saved_once(readings, flows):
    """The state topic of an engine that has read a lane, and its rows by flow."""
    made = engine()
    started(made, {}, 0)
    table = saved(made, lane(readings, flows=flows))[0]
    return table, {f"f{n}": row(made, f"f{n}").copy() for n in range(flows)}


def saved_table(readings=READINGS, flows=FLOWS):
    """The state topic of an engine that has read a lane."""
    return dict(saved_once(readings, flows)[0])


def row(made, flow="f0"):
    return made.table.rows[made.table.find(P, [flow])[0]]


@pytest.mark.parametrize("step", [1, 5, 300, 3600, 86400])
def test_another_step_continues_at_once_and_is_reported(step):
    """Neither millions of steps in one turn, nor none; and the way back is as short."""
    table = saved_table()
    made = engine(step=step)
    restored = started(made, table, READINGS)
    assert dict(restored.findings) == {
        Finding("rebuilt", f"step was 60 s, is {step} s"): FLOWS,
    }
    assert row(made)["mean"] > 900
    count = 20 if step >= 60 else 4
    begin, spacing = BEGIN + READINGS * 60, max(step, 60)
    table, forecasts, epoch = saved(made, lane(count, spacing, READINGS, begin=begin), table)
    per_reading = spacing // step
    assert FLOWS * (count - 2) * per_reading <= forecasts <= FLOWS * (count * per_reading + 1)
    rates = np.concatenate([wave.rate for wave in epoch.forecasts])
    assert np.nanmax(np.abs(rates[-FLOWS:] / 1000 - 1)) < 0.01
    back = engine()
    restored = started(back, table, READINGS + count)
    assert sum(restored.findings.values()) == FLOWS
    later = begin + count * spacing
    assert saved(back, lane(5, 60, READINGS + count, begin=later))[1] >= FLOWS * 4


def test_a_profile_keeps_its_shape_on_another_grid():
    """Of the day in slots of five minutes, read in slots of an hour and back."""
    then, now = seasonal.cycles(300)[0], seasonal.cycles(3600)[0]
    hours = np.arange(then.slots) // 12
    ring = (1 + hours / 10).astype(np.float16)[None]
    hourly = seasonal.regridded(ring, then, now)
    assert np.abs(hourly[0] - (1 + np.arange(24) / 10)).max() < 2e-3
    assert np.abs(seasonal.regridded(hourly, now, then) - ring).max() < 2e-3
    ring[:, 12:] = 0
    assert (seasonal.regridded(ring, then, now)[0] != 0).tolist() == [True] + [False] * 23


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"horizons": 4}, "horizons were 12, are 4"),
        ({"quantiles": (0.1, 0.5, 0.9)}, "quantiles were 0.05, 0.25, 0.5, 0.75, 0.95, are"),
    ],
)
def test_other_horizons_or_quantiles_keep_state_and_profiles(other, why):
    """All that does not depend on them is kept to the bit, there and back again."""
    table, before = saved_once(READINGS, FLOWS)
    now = engine(**other)
    restored = started(now, table, READINGS)
    ((finding, rows),) = restored.findings.items()
    assert finding.effect == "kept"
    assert finding.why.startswith(why)
    assert rows == FLOWS
    for name in (
        "state",
        "state_before",
        "daily",
        "recent",
        "errors",
        "log_width_factor",
        "open",
        "mean",
    ):
        assert row(now)[name].tobytes() == before["f0"][name].tobytes(), name
    begin = BEGIN + READINGS * 60
    table, forecasts, _ = saved(now, lane(3, 60, READINGS, begin), dict(table))
    assert forecasts == 3 * FLOWS
    back = engine()
    assert sum(started(back, table, READINGS + 3).findings.values()) == FLOWS


def test_another_network_rebuilds_its_states():
    """From the recent steps; the profiles stay."""
    table = saved_table()
    now = engine(hidden=24)
    restored = started(now, table, READINGS)
    (finding,) = restored.findings
    assert finding.effect == "rebuilt"
    assert "network" in finding.why
    assert row(now)["state"].any()
    assert row(now)["daily"].any()


def test_two_members_with_different_steps_exchange_a_partition():
    """As in a rolling upgrade: pages of both are stored together."""
    table, committed = saved_table(), READINGS
    for turn in range(6):
        made = engine(step=(300, 60)[turn % 2])
        start, _ = made.restore(P, table, committed, 1)
        assert start <= committed
        begin = BEGIN + committed * 60
        table, forecasts, _ = saved(made, lane(10, 60, committed, begin), table)
        committed += 10
        assert forecasts >= FLOWS
    assert set(made.table._holdings[P].slots) == {f"f{n}" for n in range(FLOWS)}


def damaged(table, name, value, flow=2, key=PAGE):
    """*table* with one value of a row of a page changed, and a checksum that fits."""
    dtype = engine().table.rows.dtype
    page = page_format.decode(table[key], dtype)
    rows = page.rows.copy()
    rows[name][flow] = value
    again = page_format.encode(page.flows, rows, page.generation, page.digest, page.meaning)
    return {**table, key: again}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", DERIVED)
def test_a_state_that_is_not_finite_is_rebuilt(name, value):
    """Nothing else of the row is lost, and forecasts are numbers at once."""
    made = engine()
    restored = started(made, damaged(saved_table(), name, value), READINGS)
    assert dict(restored.findings) == {Finding("rebuilt", f"{name} out of range"): 1}
    assert restored.progress.floor == READINGS
    epoch = saved(made, lane(3, 60, READINGS, BEGIN + READINGS * 60))[2]
    assert all(np.isfinite(wave.bands).all() for wave in epoch.forecasts)


CONTRADICTIONS = [
    ("open", 0),
    ("open", -(2**62)),
    ("open", 2**62),
    ("time", np.nan),
    ("time", -1.0),
    ("time", 1e300),
    ("kind", 77),
    ("mean", np.nan),
    ("peak", -1),
    ("level", np.inf),
    ("daily", np.nan),
    ("predictor", 999),
    ("best_baseline", 999),
    ("errors", -1),
    ("log_width_factor", 32767),
    ("amount", np.inf),
    ("offset", -5),
    ("pending_quantiles", -1),
    ("track", 0),
    ("track", 2**32 - 1),
    ("sealed", (0, 2**28)),
    ("sealed", (2, 1)),
]


@pytest.mark.parametrize(("name", "value"), CONTRADICTIONS)
def test_a_contradictory_row_is_dropped(name, value):
    """It alone is counted and missing, and the input is read again from the beginning."""
    made = engine()
    restored = started(made, damaged(saved_table(), name, value), READINGS)
    assert set(made.table._holdings[P].slots) == {"f0", "f1", "f3", "f4"}
    assert [finding.effect for finding in restored.findings] == ["dropped"]
    assert sum(restored.findings.values()) == 1
    assert restored.progress.floor == 0


@pytest.fixture(scope="module")
def read_again():
    """An engine with one flow for each contradiction, all read again, and three minutes more."""
    flows = len(CONTRADICTIONS)
    table = saved_table(flows=flows)
    for flow, (name, value) in enumerate(CONTRADICTIONS):
        page = f"{P.topic}/0/page/{flow // 8}".encode()
        table = damaged(table, name, value, flow % 8, page)
    made = engine()
    restored = started(made, table, READINGS, lane(flows=flows))
    rows = {f"f{n}": row(made, f"f{n}").copy() for n in range(flows)}
    after = lane(3, 60, READINGS, BEGIN + READINGS * 60, flows)
    table, forecasts, epoch = saved(made, after)
    return restored, rows, table, forecasts, epoch


@pytest.mark.parametrize(("name", "value"), CONTRADICTIONS)
def test_a_contradictory_row_is_read_again_from_the_input(read_again, name, value):
    """Its flow comes back as if nothing had been saved."""
    flow = f"f{CONTRADICTIONS.index((name, value))}"
    _, rows, _, _, epoch = read_again
    sound = saved_once(READINGS, len(CONTRADICTIONS))[1]
    assert rows[flow].tobytes() == sound[flow].tobytes()
    bands = [wave.bands[np.array(wave.flow) == flow] for wave in epoch.forecasts]
    assert sum(map(len, bands)) == 3
    assert all(np.isfinite(band).all() for band in bands)


def test_contradictory_rows_that_were_read_again_are_saved_without_a_trace(read_again):
    """Each was counted once; all flows are there, and the next start finds nothing."""
    restored, rows, table, forecasts, _ = read_again
    assert sum(restored.findings.values()) == len(CONTRADICTIONS)
    assert rows.keys() == saved_once(READINGS, len(CONTRADICTIONS))[1].keys()
    assert forecasts == 3 * len(CONTRADICTIONS)
    assert not started(engine(), table, READINGS + 3).findings


@hypothesis_settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 200), st.booleans())
def test_flipped_bits_are_never_restored(seed, flips, fitting):
    """A page whose checksum does not fit is read again; one whose does is checked row by row."""
    chance, readings = np.random.default_rng(seed), 12
    table = saved_table(readings)
    page = bytearray(table[PAGE])
    for place in chance.integers(0, 8 * len(page), flips):
        page[place // 8] ^= 1 << (place % 8)
    if fitting:
        page[8:12] = page_format.checksum(page[12:]).to_bytes(4, "big")
    made = engine()
    restored = started(made, {**table, PAGE: bytes(page)}, readings, lane(readings))
    if not fitting and bytes(page) != table[PAGE]:
        assert restored.unreadable
        assert set(made.table._holdings[P].slots) == {f"f{n}" for n in range(FLOWS)}
    epoch = saved(made, lane(3, 60, readings, BEGIN + readings * 60))[2]
    assert all(np.isfinite(wave.bands).all() for wave in epoch.forecasts)


steps = st.sampled_from([1, 60, 77, 300, 7200])
settings_of = st.fixed_dictionaries(
    {
        "step": steps,
        "horizons": st.integers(1, 13),
        "quantiles": st.sampled_from([(0.5,), (0.1, 0.5, 0.9), (0.05, 0.25, 0.5, 0.75, 0.95)]),
    }
)


@hypothesis_settings(max_examples=15, deadline=None)
@given(settings_of, settings_of)
def test_any_settings_restore_what_any_others_saved(then, now):
    """Every flow, with sound rows; and what is saved again is restored without findings."""
    made, spacing = engine(**then), min(60, 2 * then["step"])
    started(made, {}, 0)
    table, _, _ = saved(made, lane(30, spacing))
    again = engine(**now)
    restored = started(again, table, 30)
    assert not restored.unreadable
    assert bool(restored.findings) == (then != now)
    assert set(again.table._holdings[P].slots) == {f"f{n}" for n in range(FLOWS)}
    table, _, epoch = saved(again, lane(1, 60, 30, BEGIN + 30 * spacing), table)
    assert all(np.isfinite(wave.bands).all() for wave in epoch.forecasts)
    third = engine(**now)
    assert not started(third, table, 31).findings
    assert row(third).tobytes() == row(again).tobytes()


@pytest.mark.parametrize(
    "key", [b"page/999999999999", b"page/x", b"gone/-1", b"floor", b"page/007"]
)
def test_an_unknown_key_is_skipped_and_deleted(key):
    """It costs one replay at most: the next full round deletes it."""
    table = {**saved_table(), f"{P.topic}/0/".encode() + key: b"junk"}
    made = engine()
    restored = started(made, table, READINGS, lane())
    assert restored.unreadable
    assert len(made.table) == FLOWS
    table, *_ = saved(made, lane(2, 60, READINGS, BEGIN + READINGS * 60), table)
    restored = started(engine(), table, READINGS + 2)
    assert not restored.unreadable
    assert restored.progress.floor == READINGS + 2


def test_an_unreadable_page_is_still_replayed_after_a_crash():
    """The replay offset is reset at once: a half-written round must not count as complete."""
    made = engine()
    restored = started(made, {**saved_table(), PAGE: b"junk"}, READINGS)
    assert (restored.progress.floor, restored.progress.floor_saved) == (0, False)
    entries = made.step(lane(1, 60, READINGS), share=0.01).entries
    assert next(entry.value for entry in entries if entry.key.endswith(b"floor")) == b'{"offset":0}'


def test_a_page_whose_check_raises_costs_no_other_page(monkeypatch):
    """Its rows are dropped with the exception's name, and read again from the input."""
    made = engine()
    started(made, {}, 0)
    made.step(lane(3))
    rows = made.table.gather(np.array(made.table.find(P, ["f0"] * 8), np.intp))
    names, loader, found = [f"f{n}" for n in range(8)], made.loader, Counter()
    values = []
    for mark in (1.0, 77.0, 2.0):
        rows["mean"] = mark
        values.append(page_format.encode(names, rows, 0, "", loader.meaning))
    held = {n: loader.load(each, rows.dtype, found) for n, each in enumerate(values)}
    faults = type(loader)._faults

    def fragile(self, rows, *args):
        if (rows["mean"] == 77.0).any():
            raise OverflowError("planted")
        return faults(self, rows, *args)

    monkeypatch.setattr(type(loader), "_faults", fragile)
    assert loader.checked(held, 10, found).keys() == {0, 2}
    assert found[Finding("dropped", "OverflowError in a check")] == 8


def test_an_input_that_was_recreated_is_not_skipped():
    """Rows of the old one need offsets that the new one has not reached."""
    table = saved_table()
    table[f"{P.topic}/0/gone/40".encode()] = b'["f1"]'
    made = engine()
    restored = started(made, table, 3)
    assert Finding("kept", "the input was recreated or the group was reset") in restored.findings
    assert len(made.table) == FLOWS
    assert row(made)["offset"] == 3
    assert restored.progress.floor == 3


def test_evicted_flows_are_listed_in_entries_of_bounded_size():
    """However many they are, and however long their names."""
    flows = [f"{n:05}" + "ü" * 250 for n in range(4000)]
    progress = checkpoint.CheckpointProgress(floor=0, floor_saved=True)
    entries = checkpoint.record_evictions(
        progress, P, flows[:3000], 7
    ) + checkpoint.record_evictions(progress, P, flows[3000:], 7)
    assert max(len(entry.value) for entry in entries) <= checkpoint.EVICTIONS_BYTES_MAX
    assert len({entry.key for entry in entries}) == len(entries) > 4
    made = engine()
    restored = started(made, {entry.key: entry.value for entry in entries}, 9)
    assert restored.needed == dict.fromkeys(flows, 7)
    table, *_ = saved(made, lane(2, 60, 9), {entry.key: entry.value for entry in entries})
    assert not [key for key in table if b"/gone/" in key]


def test_checking_a_hundred_thousand_rows_takes_less_than_a_second_or_so():
    """It delays every start."""
    made = engine(hidden=64)
    started(made, {}, 0)
    made.step(lane(3))
    rows = made.table.gather(np.array(made.table.find(P, ["f0"] * 64), np.intp))
    names = [f"f{n}" for n in range(64)]
    loader = made.loader
    value = page_format.encode(names, rows, 0, "", loader.meaning)
    found = Counter()
    began = time.process_time()
    held = {page: loader.load(value, made.table.rows.dtype, found) for page in range(320)}
    assert loader.checked(held, 10, found).keys() == held.keys()
    took_s = time.process_time() - began
    assert not found
    assert math.isfinite(took_s)
    assert took_s * 100_000 / (320 * 64) < 4, took_s
