"""Challenger against incumbent: a decision that answers with its reason."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.registry import promotion
from streamer.core.registry.drift import Drift, update_page_hinkley
from streamer.core.registry.promotion import ContestConfig, Reason, Scores, decide

FLOWS, STRETCHES = 40, 8
NAMES = [f"flow{n}" for n in range(FLOWS)]


def scores(losses, inside=0.9):
    judged = np.full(losses.shape[1], 1000)
    return Scores(losses, np.full(losses.shape[1], 500.0), (inside * judged).astype(int), judged)


def losses(seed=0, flows=FLOWS):
    """Of an incumbent: flows of all sizes, stretches that differ for all of them."""
    rng = np.random.default_rng(seed)
    size, hard = np.exp(rng.normal(0, 4, flows)), np.exp(rng.normal(0, 0.5, (STRETCHES, 1)))
    return size * hard * np.exp(rng.normal(0, 0.2, (STRETCHES, flows)))


def held(challenger, incumbent, classes=None, config=ContestConfig(), seed=1):  # noqa: B008 - frozen
    return decide(
        challenger,
        incumbent,
        flows=NAMES[: incumbent.losses.shape[1]],
        classes=classes or ["level"] * incumbent.losses.shape[1],
        config=config,
        rng=np.random.default_rng(seed),
    )


def test_a_clear_gain_is_promoted():
    """Three per cent less loss on nearly every flow is no chance."""
    before = losses()
    noise = np.exp(np.random.default_rng(5).normal(0, 0.02, before.shape))
    verdict = held(scores(0.97 * before * noise), scores(before))
    assert verdict.reason is Reason.BETTER
    assert verdict.promoted
    assert 0 < verdict.gain.low < verdict.gain.mean < verdict.gain.high
    assert verdict.gain.mean == pytest.approx(0.03, abs=0.01)


def test_a_gain_that_may_be_chance_is_not():
    """Half of the flows gain what the other half loses, and a little more."""
    before = losses()
    turn = np.where(np.arange(FLOWS) % 2, 0.8, 1 / 0.8) * 0.999
    verdict = held(scores(before * turn), scores(before))
    assert verdict.reason is Reason.UNCERTAIN
    assert verdict.gain.low < 0 < verdict.gain.high


def test_a_small_gain_shows_in_several_contests_together():
    """One day is too little evidence, six days are enough; joined, they are one long contest."""
    before = [losses(seed) for seed in range(6)]
    noise = [np.random.default_rng(n).normal(0, 0.05, (STRETCHES, 1)) for n in range(6)]
    each = [(scores(0.98 * b * np.exp(n)), scores(b)) for b, n in zip(before, noise, strict=True)]
    alone = [held(*one).reason for one in each]
    assert alone.count(Reason.UNCERTAIN) >= 3
    challenger, incumbent = (promotion.concat(every) for every in zip(*each, strict=True))
    verdict = held(challenger, incumbent)
    assert verdict.reason is Reason.BETTER
    assert challenger.losses.shape == (6 * STRETCHES, FLOWS)
    assert (challenger.judged == 6000).all()
    assert verdict.coverage_challenger == pytest.approx(0.9)


def test_one_good_hour_is_not_enough():
    """All flows gain, but in one stretch of eight only: it is one event and not forty."""
    before = np.ones((STRETCHES, FLOWS))
    after = before.copy()
    after[1:] *= 1.02
    after[0] *= 0.8
    assert held(scores(after), scores(before)).reason is Reason.UNCERTAIN


def test_what_loses_for_sure_is_called_so():
    """A challenger that is worse everywhere is not merely unsure."""
    verdict = held(scores(1.05 * losses()), scores(losses()))
    assert verdict.reason is Reason.WORSE
    assert verdict.gain.high < 0


def test_no_class_pays_for_the_rest():
    """Better in all, but at the cost of the bursty flows: refused, and they are named."""
    before = losses()
    classes = ["bursts" if n < 6 else "level" for n in range(FLOWS)]
    turn = np.where(np.arange(FLOWS) < 6, 1.05, 0.9)
    verdict = held(scores(before * turn), scores(before), classes)
    assert verdict.reason is Reason.CLASS_WORSE
    assert verdict.class_worst == "bursts"
    assert verdict.class_gain == pytest.approx(-0.05)
    assert set(verdict.flows_worst) <= set(NAMES[:6])


def test_a_class_of_a_few_flows_does_not_prevent_a_promotion():
    """The result of three flows is mostly chance."""
    before = losses()
    classes = ["bursts" if n < 3 else "level" for n in range(FLOWS)]
    turn = np.where(np.arange(FLOWS) < 3, 1.05, 0.9)
    assert held(scores(before * turn), scores(before), classes).reason is Reason.BETTER


@pytest.mark.parametrize(
    ("coverage", "coverage_before", "reason"),
    [
        (0.9, 0.9, Reason.BETTER),
        (0.885, 0.9, Reason.BETTER),  # within what is allowed
        (0.86, 0.9, Reason.MISCALIBRATED),
        (0.95, 0.9, Reason.MISCALIBRATED),
        (0.86, 0.85, Reason.BETTER),  # off, but nearer than what serves
    ],
)
def test_bands_must_have_their_nominal_coverage(coverage, coverage_before, reason):
    """Less loss does not compensate for bands that are too narrow."""
    before = losses()
    assert held(scores(0.9 * before, coverage), scores(before, coverage_before)).reason is reason


def test_a_loss_that_is_not_finite_never_wins():
    """One flow whose loss is not finite is enough."""
    before = losses()
    after = 0.9 * before
    after[2, 7] = np.nan
    verdict = held(scores(after), scores(before))
    assert verdict.reason is Reason.NOT_FINITE
    assert verdict.flows_worst == ("flow7",)


def test_few_flows_cannot_judge():
    """Two flows are not enough."""
    before = losses(flows=2)
    assert held(scores(0.5 * before), scores(before)).reason is Reason.TOO_FEW


def test_flows_that_were_not_judged_count_nothing():
    """A flow without a step in the windows is left out, whatever values its columns contain."""
    before, after = losses(), 0.9 * losses()
    some = scores(before)
    some.judged[:10] = 0
    before[:, :10] = 0
    after[:, :10] = 0
    verdict = held(scores(after), some)
    assert verdict.flows == FLOWS - 10
    assert verdict.reason is Reason.BETTER


@given(st.integers(0, 2**16), st.floats(-6, 6))
@settings(max_examples=40)
def test_no_flow_counts_more_for_its_size(seed, power):
    """Readings in another unit, each flow in its own, change no verdict."""
    before = losses(seed)
    after = before * np.exp(np.random.default_rng(seed).normal(-0.02, 0.1, before.shape))
    units = np.exp(power * np.random.default_rng(seed + 1).normal(size=FLOWS))
    plain = held(scores(after), scores(before))
    other = held(scores(after * units), scores(before * units))
    assert plain.reason is other.reason
    assert plain.gain.mean == pytest.approx(other.gain.mean, abs=1e-9)


@given(st.integers(0, 2**16))
@settings(max_examples=30)
def test_both_ways_of_asking_agree(seed):
    """A gain of the one is a loss of the other, and equal models are never distinguished."""
    before = losses(seed)
    after = before * np.exp(np.random.default_rng(seed).normal(0, 0.1, before.shape))
    there = promotion.bootstrap_gain(after, before, 0.95, np.random.default_rng(0))
    back = promotion.bootstrap_gain(before, after, 0.95, np.random.default_rng(0))
    assert np.log1p(-there.mean) == pytest.approx(-np.log1p(-back.mean), abs=1e-9)
    assert there.low <= there.mean <= there.high or there.high - there.low < 0.02
    assert held(scores(before), scores(before)).reason is Reason.UNCERTAIN


def drifted_at(values):
    """The place of the first value after which the test calls; None where it never does."""
    drift = Drift()
    for place, value in enumerate(values):
        drift = update_page_hinkley(drift, float(value))
        if drift.drifted:
            return place
    return None


def test_losses_that_stay_as_they_are_raise_no_alarm():
    """Noise, and a rhythm of the day, are no drift in a month of hours."""
    hours = np.arange(24 * 30)
    noise = np.random.default_rng(3).normal(0, 0.15, len(hours))
    assert drifted_at(1 + noise + 0.1 * np.sin(hours / 24 * 2 * np.pi)) is None


def test_losses_that_rise_for_good_are_seen_within_half_a_day():
    """Half as much again is noticed soon, and not before it is so."""
    noise = np.random.default_rng(4).normal(0, 0.15, 400)
    place = drifted_at(np.where(np.arange(400) < 200, 1.0, 1.6) + noise)
    assert place is not None
    assert 200 < place < 212


def test_one_bad_hour_is_no_drift():
    """A surprise that passes is none."""
    values = np.ones(200)
    values[100] = 3.0
    assert drifted_at(values) is None
