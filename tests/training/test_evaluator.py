"""Lines of challengers: what they showed counts together, and a price is not paid."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from streamer.core.network.config import ModelConfig
from streamer.core.network.model import Network
from streamer.core.registry.promotion import ContestConfig, Reason, Scores
from streamer.training.evaluator import (
    SERIES_MAX,
    ChallengerSeries,
    Evaluator,
    PairedScores,
    average_weights,
)
from streamer.training.finetune import TrainingResult

FLOWS, EVALUATION_INTERVALS = 40, 4
NAMES = [f"flow{n}" for n in range(FLOWS)]
CLASSES = ["quiet" if n < FLOWS // 4 else "busy" for n in range(FLOWS)]
SHAPE = ModelConfig(hidden=8)


def network(seed):
    torch.manual_seed(seed)
    return Network(SHAPE)


INCUMBENT, CHALLENGER = network(0), network(1)


def shown(gain, seed=0, *, noise=0.0, quiet=0.0, inside=0.9):
    """A challenger that is better by *gain*, each flow give or take *noise*, *quiet* ones less."""
    rng = np.random.default_rng(seed)
    before = np.exp(rng.normal(0, 1, (EVALUATION_INTERVALS, FLOWS)))
    luck = rng.normal(0, noise, FLOWS)
    factor = np.exp(luck - luck.mean() - gain)
    factor[: FLOWS // 4] *= np.exp(quiet)
    judged = np.full(FLOWS, 1000)
    within = (inside * judged).astype(int)
    sets = ((before * factor, within), (before, (0.9 * judged).astype(int)))
    return PairedScores(
        *(Scores(losses, np.full(FLOWS, 500.0), held, judged) for losses, held in sets)
    )


def line(script, confidence=0.9):
    """A series with the results in *script*, and the networks compared with the incumbent."""
    asked, results = [], iter(script)

    class Scripted(Evaluator):
        def compare(self, network, other, before, windows):
            assert other is INCUMBENT
            asked.append(network)
            return next(results)

    rules = ContestConfig(confidence=confidence)
    return ChallengerSeries(Scripted(SimpleNamespace(flows=NAMES), rules, lambda: None)), asked


def hold(held, made=CHALLENGER, judged=EVALUATION_INTERVALS):
    later = [SimpleNamespace(lanes=np.arange(FLOWS), classes=CLASSES)]
    result = TrainingResult(made, 20, 1.0, 0.9)
    chance = np.random.default_rng(3)
    return held.hold(result, INCUMBENT, None, later, judged, lambda: chance)


def test_what_a_line_showed_counts_together():
    """Each of them is better by what may be chance; together they are not."""
    held, _ = line([shown(0.006, seed, noise=0.02) for seed in range(SERIES_MAX)], confidence=0.99)
    for number in range(1, SERIES_MAX + 1):
        _, verdict, contests = hold(held)
        assert contests == number
        assert held.newest is CHALLENGER
        if verdict.promoted:
            break
        assert verdict.reason is Reason.UNCERTAIN
    assert verdict.promoted
    assert contests > 1


def test_a_line_rests_on_its_newest_contests():
    """What was shown long ago was shown of other weights."""
    held, _ = line([shown(0.001, seed, noise=0.05) for seed in range(SERIES_MAX + 3)])
    held_contests = [hold(held)[1:] for _ in range(SERIES_MAX + 3)]
    assert {verdict.reason for verdict, _ in held_contests} == {Reason.UNCERTAIN}
    assert [contests for _, contests in held_contests] == [
        *range(1, SERIES_MAX + 1),
        *[SERIES_MAX] * 3,
    ]


def test_a_challenger_that_is_no_better_ends_the_series():
    """And the next series starts empty: earlier results do not count for it."""
    held, _ = line([shown(0.005, noise=0.1), shown(-0.5), shown(0.005, noise=0.1)])
    assert hold(held)[2] == 1
    assert held.newest is CHALLENGER
    assert hold(held)[1].reason is Reason.WORSE
    assert held.newest is None
    assert hold(held)[2] == 1


def test_what_a_line_was_does_not_win_for_what_it_is():
    """However much the first one gained, the newest serves; so it has to be better itself."""
    held, _ = line([shown(0.2), shown(-0.01)])
    assert hold(held, judged=1)[1].reason is Reason.UNCERTAIN
    assert hold(held)[1].reason is Reason.UNCERTAIN


def test_one_stretch_alone_decides_nothing():
    """All flows may be alike in one stretch of time by the same chance; in two no more."""
    held, _ = line([shown(0.1), shown(0.1, seed=1)])
    assert hold(held, judged=1)[1].reason is Reason.UNCERTAIN
    _, verdict, contests = hold(held, judged=1)
    assert verdict.promoted
    assert contests == 2


@pytest.mark.parametrize("price", [{"quiet": 0.2}, {"inside": 0.8}])
def test_a_blend_half_way_may_win(price):
    """Half of the way, if no class gets worse by it; else the incumbent stays."""
    dear = shown(0.1, **price)
    held, asked = line([dear, shown(0.05)])
    made, verdict, contests = hold(held)
    assert verdict.promoted
    assert contests == 1
    assert made.network is asked[1]
    for each, one, two in zip(
        *(n.parameters() for n in (asked[1], INCUMBENT, CHALLENGER)), strict=True
    ):
        torch.testing.assert_close(each, (one + two) / 2)
    held, _ = line([dear, dear])
    made, verdict, _ = hold(held)
    assert verdict.reason in {Reason.CLASS_WORSE, Reason.MISCALIBRATED}
    assert made.network is CHALLENGER


def test_half_of_the_way_leaves_both_ends_alone():
    """A copy is made: what serves goes on as it is."""
    before = [each.clone() for each in INCUMBENT.parameters()]
    average_weights(INCUMBENT, CHALLENGER)
    for each, one in zip(INCUMBENT.parameters(), before, strict=True):
        torch.testing.assert_close(each, one, rtol=0, atol=0)
