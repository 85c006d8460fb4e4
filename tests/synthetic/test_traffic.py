"""Generated traffic: seeded, endless, and as rough as the real one."""

import itertools

import numpy as np
import pytest

from streamer.synthetic import Counters, Traffic
from streamer.synthetic.daily import DailyJobs
from streamer.synthetic.random_source import Chance, Clock
from streamer.synthetic.typical import Rhythm

DAY_S = 86400


def rates_of(days, flows=60, step_s=600, seed=0, chunks=1):
    traffic = Traffic(np.random.default_rng(seed), flows, step_s, first=2_000_000)
    steps = days * DAY_S // step_s // chunks
    return np.concatenate([traffic.chunk(steps) for _ in range(chunks)])


def test_a_seed_is_a_world():
    """The same seed gives the same traffic, another one other traffic."""
    np.testing.assert_array_equal(rates_of(3), rates_of(3))
    assert not np.array_equal(rates_of(3), rates_of(3, seed=1), equal_nan=True)


@pytest.mark.slow
@pytest.mark.parametrize("step_s", [10, 60, 3600])
def test_rates_are_rates_at_any_step(step_s):
    """None is negative or infinite; some are missing, most are not."""
    rates = rates_of(2 if step_s < 3600 else 30, flows=20, step_s=step_s)
    known = rates[~np.isnan(rates)]
    assert (known >= 0).all()
    assert np.isfinite(known).all()
    assert 0 < np.isnan(rates).mean() < 0.2


def test_the_day_shows():
    """For many flows the hour of the day explains much of the variance; for some, nothing."""
    level = np.log1p(rates_of(14))
    by_hour = np.nanmean(level.reshape(14, 144, -1), axis=0)
    explained = np.nanvar(by_hour, axis=0) / (np.nanvar(level, axis=0) + 1e-9)
    assert np.quantile(explained, 0.8) > 0.5
    assert np.quantile(explained, 0.1) < 0.3


def test_a_few_plans_move():
    """Some flows begin their day at another hour from some day on; most never do."""
    flows, days = 400, 60
    rhythm = Rhythm(Chance(np.random.default_rng(0), flows))
    hours = rhythm.chunk(Clock(np.arange(days * 24)[:, None] * 3600, 3600)).reshape(days, 24, flows)
    first, last = (each.mean(0) - each.mean((0, 1)) for each in (hours[:14], hours[-14:]))
    alike = (first * last).sum(0) / np.sqrt((first**2).sum(0) * (last**2).sum(0))
    assert 0.03 < (alike < 0.7).mean() < 0.15
    assert np.median(alike) > 0.98


def test_chunks_go_on_where_the_last_one_ended():
    """A rhythm of many chunks is as regular as that of one: no seam at midnight."""
    at_once, pieces = rates_of(8, chunks=1), rates_of(8, chunks=8)
    seams = np.abs(np.diff(np.log1p(pieces), axis=0))
    at_seam = np.nanmedian(seams[143::144])
    assert at_seam < 2 * np.nanmedian(seams)
    assert pieces.shape == at_once.shape


def test_flows_differ_by_decades():
    """Some flows are thousands of times as large as others."""
    means = np.nanmean(rates_of(3), axis=0)
    assert means.max() / means.min() > 1e3


def counted(counters, steps):
    """Readings by flow of the first *steps* steps."""
    found = {name: [] for name in counters.names}
    for poll in itertools.islice(counters, steps):
        assert (np.diff(poll.time) >= 0).all()
        for at, flow, value in zip(poll.time, poll.flow, poll.value, strict=True):
            found[counters.names[flow]].append((at, int(value)))
    return found


def test_counters_grow_and_wrap_within_their_bits():
    """Growth between readings, taken modulo 2 ** bits, is what a link could carry."""
    counters = Counters(np.random.default_rng(0), 40, 60, 1_700_000_000, resets=0)
    assert set(counters.bits.tolist()) == {32, 64}
    for readings, bits in zip(counted(counters, 2000).values(), counters.bits, strict=True):
        (times, values), modulus = zip(*readings, strict=True), 2 ** int(bits)
        assert max(values) < modulus
        growth = [(b - a) % modulus for a, b in itertools.pairwise(values)]
        taken = np.diff(times)
        assert (np.array(growth, float) / taken < 1.1e10).all()


def test_counters_are_reset_and_sent_twice_if_configured():
    """With resets and duplicates both happen, and without them neither does."""
    rough = Counters(np.random.default_rng(0), 30, 60, 1_700_000_000, resets=50, duplicates=0.05)
    clean = Counters(np.random.default_rng(0), 30, 60, 1_700_000_000, resets=0)

    def twice(found):
        return sum(a == b for each in found.values() for a, b in itertools.pairwise(each))

    def fallen(found, counters):
        long = [counters.names[flow] for flow in np.flatnonzero(counters.bits == 64)]
        steps = [pair for name in long for pair in itertools.pairwise(found[name])]
        return sum(b[1] < a[1] for a, b in steps)

    found_rough, found_clean = counted(rough, 300), counted(clean, 300)
    assert twice(found_rough) > 100
    assert twice(found_clean) == 0
    assert fallen(found_rough, rough) > 100
    assert fallen(found_clean, clean) == 0


def test_daily_jobs_are_bursts_at_the_same_time_each_day():
    """Of their share of the flows; the other flows, and all without jobs, are as ever."""
    step_s, days, flows = 900, 6, 60
    rates = np.ones((days * 96, flows))
    jobs = DailyJobs(np.random.default_rng(0), flows, 0.5, step_s)
    first = 1_700_006_400 // step_s
    found = np.concatenate(
        [jobs.add(each, first + 96 * day) for day, each in enumerate(np.split(rates, days))]
    ).reshape(days, 96, flows)
    busy = found.max(axis=(0, 1)) > 10
    assert 0.3 < busy.mean() < 0.7
    assert (found[..., ~busy] == 1).all()
    slots = found[..., busy].argmax(axis=1)  # (days, flows)
    went = found[..., busy].max(axis=1) > 10
    assert went.mean() > 0.9
    usual = slots.max(axis=0)
    assert (slots == usual)[went].all()
    assert ((found[..., busy] > 2).sum(axis=1) <= 1).all()  # each within one step
    plain, same = (Counters(np.random.default_rng(0), 9, 900, 0, daily_jobs=0) for _ in range(2))
    assert counted(plain, 100) == counted(same, 100)


@pytest.mark.slow
def test_names_are_their_own():
    """No two interfaces are called the same."""
    names = Counters(np.random.default_rng(0), 500, 60, 0).names
    assert len(set(names)) == 500
