"""Challengers are trained on past data and judged on later data; some are rolled back."""

import json

import pytest
import torch

from streamer.config.types import Duration
from streamer.core.engine import Engine, EngineConfig
from streamer.core.features.grid import GridConfig
from streamer.core.network.config import ModelConfig
from streamer.core.network.model import unpack
from streamer.core.registry.models import WeightsRejected
from streamer.core.registry.promotion import ContestConfig
from streamer.core.registry.validation import weights_validator
from streamer.core.types import Record
from streamer.core.wire import InputConfig
from streamer.core.wire.contests import Contest, Rollback
from streamer.training.evaluator import SERIES_MAX
from streamer.training.inline import InlineTrainer, begin
from streamer.training.settings import FinetuneConfig, TrainerConfig
from streamer.weights import open_model
from tests.training import scene
from tests.training.scene import PARTITION


class School:
    """An engine that learns, on spoilt weights."""

    def __init__(self, tmp_path, config=None, rules=ContestConfig(), **finetune):  # noqa: B008 - frozen
        torch.set_num_threads(1)
        spoilt = scene.spoilt(tmp_path / "spoilt.safetensors")
        config = config or ModelConfig(weights=str(spoilt))
        grid = GridConfig(step=Duration(scene.STEP_S))
        engine = EngineConfig(flows_max=64, input=InputConfig(kind="gauge"), grid=grid)
        model = open_model(config, trained_later=True)
        self.engine = Engine(model, engine, admit=weights_validator(config))
        self.engine.restore(PARTITION, {}, 0, 1)
        given = {"every": Duration(86400), "steps_max": 20, "learning_rate": 2e-3} | finetune
        self.learner = begin(model, self.engine, TrainerConfig(), FinetuneConfig(**given), rules)
        self.outcomes = []
        self.served = []
        self.study = InlineTrainer(self.engine, self.learner, self.outcomes.append)
        self.offset = 0

    def attend(self, rates, first=scene.FIRST, batch=4, contests=1000):
        """Take in *rates*, a few steps a record, until there are so many *contests*."""
        steps = list(scene.readings(rates, first))
        for at in range(0, len(steps), batch):
            readings = [reading for step in steps[at : at + batch] for reading in step]
            record = Record(PARTITION, self.offset, None, json.dumps(readings).encode(), -1)
            self.offset += 1
            made = self.engine.step([record]).forecasts
            self.served += [each.generation for each in made]
            self.study(made)
            if len(self.outcomes) >= contests:
                break
        return self


@pytest.fixture(scope="module")
def three_days(tmp_path_factory):
    """An engine that has learned for three days; no test changes it."""
    return School(tmp_path_factory.mktemp("school")).attend(scene.rates(3))


def test_a_challenger_wins_and_serves(tmp_path):
    """Spoilt weights are repaired within days, and each contest names the data it used."""
    school = School(tmp_path).attend(scene.rates(4))
    contests = [each.result for each in school.outcomes]
    assert [each.generation for each in contests] == list(range(1, len(contests) + 1))
    won = [each for each in contests if each.verdict == "promoted"]
    assert won
    assert won[0].reason == "better"
    assert won[0].gain > 0.05
    assert school.served[0] == 0
    assert school.served[-1] == won[-1].generation
    for each in contests:
        assert each.trained_from < each.trained_until <= each.judged_from + scene.STEP_S
        assert each.judged_from < each.judged_until
    packed = next(each.weights for each in school.outcomes if each.weights)
    _, made = unpack(packed)
    assert made["generation"] == str(won[0].generation)
    assert made["parent"] == won[0].parent


def test_challengers_that_are_not_sure_enough_count_together(tmp_path):
    """A contest counts the contests that were pooled: one more each time, until one wins."""
    rules = ContestConfig(confidence=0.999)
    school = School(tmp_path, rules=rules, every=Duration(43200), steps_max=3)
    contests = [each.result for each in school.attend(scene.rates(6, seed=11)).outcomes]
    contests = [each for each in contests if isinstance(each, Contest)]
    number = 0
    for before, each in zip([None, *contests], contests, strict=False):
        goes_on = before is not None and before.verdict == "refused" and before.gain > 0
        number = min(number + 1, SERIES_MAX) if goes_on and not each.drifted else 1
        assert each.contests in {number, 1}
    assert any(each.contests > 1 for each in contests)


def test_a_network_of_another_shape_is_trained_before_it_serves(tmp_path):
    """The baselines serve until a challenger beats them; from then on it is the network."""
    rules = ContestConfig(confidence=0.6)  # what is held here is not how sure a contest must be
    school = School(tmp_path, ModelConfig(hidden=8), rules, steps_max=60).attend(scene.rates(6))
    assert school.served[0] == 0
    contests = [each.result for each in school.outcomes]
    assert contests
    won = [each for each in contests if each.verdict == "promoted"]
    assert won
    assert school.served[-1] == won[-1].generation
    packed = next(each.weights for each in school.outcomes if each.weights)
    assert unpack(packed)[0].config.hidden == 8


def test_the_same_records_give_the_same_weights(tmp_path, three_days):
    """Chance comes from event time: the weights are equal to the bit."""
    schools = three_days, School(tmp_path).attend(scene.rates(3))
    first, again = ([each.result.digest for each in school.outcomes] for school in schools)
    assert first == again
    assert first


def test_nothing_of_the_future_is_used(tmp_path, three_days):
    """What comes later changes nothing of a contest that was held."""
    changed = scene.rates(3)
    changed[2 * scene.DAY + 20 :] *= 50
    schools = three_days, School(tmp_path).attend(changed)
    first = [school.outcomes[0].result for school in schools]
    assert first[0].judged_until <= (scene.FIRST + 2 * scene.DAY + 1) * scene.STEP_S
    assert first[0].digest == first[1].digest
    assert first[0].gain == first[1].gain


def test_a_generation_that_fails_is_taken_back(tmp_path):
    """A generation that is worse than its predecessor is rolled back; its data is excluded."""
    school = School(tmp_path).attend(scene.rates(4)[: 3 * scene.DAY + 1])
    learner = school.learner
    assert learner.serving.generation > 0
    good = learner.serving
    bad, _ = unpack(good.packed)
    with torch.no_grad():
        bad.output.bias[10:] += 1.5
    contest = school.outcomes[-1].result
    from dataclasses import replace  # noqa: PLC0415 - what only this case needs

    from streamer.training.learner import Probation  # noqa: PLC0415 - likewise

    learner.serving = replace(good, generation=99, network=bad.eval())
    learner._probation = Probation(good, contest.judged_until)
    school.attend(scene.rates(4)[3 * scene.DAY + 1 :], scene.FIRST + 3 * scene.DAY + 1)
    backs = [each for each in school.outcomes if isinstance(each.result, Rollback)]
    assert len(backs) == 1
    assert backs[0].result.generation == 99
    assert backs[0].result.restored == good.generation
    assert backs[0].result.gain_high < 0
    assert backs[0].serving.generation == good.generation
    span = backs[0].result.trained_from, backs[0].result.trained_until
    assert span in learner.past.bad
    later = [each.result for each in school.outcomes if isinstance(each.result, Contest)]
    for each in later[later.index(contest) + 1 :]:
        assert each.trained_from >= span[1] - scene.STEP_S


@pytest.mark.parametrize(
    "junk",
    [b"", b"\0" * 40, "cut", "nan", "other"],
    ids=["empty", "zeros", "cut off", "not a number", "another network"],
)
def test_junk_on_the_models_topic_is_not_used(tmp_path, junk):
    """Whatever lies under a generation's key, the incumbent stays, and a reason is recorded."""
    from streamer.core.network.model import Network, pack  # noqa: PLC0415 - what only this case needs
    from streamer.core.wire import generations  # noqa: PLC0415 - likewise
    from streamer.training.records import UnusableRecord, read_models_topic  # noqa: PLC0415 - likewise

    network = Network(ModelConfig())
    packed = pack(network, {})
    if junk == "cut":
        junk = packed[: len(packed) // 2]
    elif junk == "nan":
        with torch.no_grad():
            network.output.bias[3] = float("nan")
        junk = pack(network, {})
    elif junk == "other":
        junk = pack(Network(ModelConfig(hidden=8)), {})
    named = generations.Incumbent(generation=3, previous=0, since=1.0, reason="promoted")
    table = {b"weights/3": junk, b"incumbent": generations.encode(named), b"nonsense": b"x"}
    config = ModelConfig()
    held = read_models_topic(table, open_model(config), weights_validator(config))
    assert held.serving.generation == 0
    assert any("weights/3" in why for why in held.skipped)
    assert any("nonsense" in why for why in held.skipped)
    with pytest.raises(UnusableRecord):
        held.take(3)
    with pytest.raises(WeightsRejected):
        weights_validator(config)(3, junk)
    assert held.past.generation == 3


def test_one_stretch_alone_decides_nothing(tmp_path):
    """After a drift contests follow each other, and a winner has won at least two of them."""
    school = School(tmp_path)
    school.learner._contests_left = 8
    contests = [each.result for each in school.attend(scene.rates(2), contests=3).outcomes]
    hurried = [each for each in contests if each.drifted]
    first, second = hurried[:2]
    assert first.gain_low > 0
    assert (first.contests, first.reason) == (1, "uncertain")
    assert (second.contests, second.reason) == (2, "better")
