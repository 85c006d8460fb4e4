"""What the models topic may contain, and which of it is accepted."""

import numpy as np
import pytest
import torch

from streamer.config.sources import ConfigError
from streamer.core.network.config import ModelConfig
from streamer.core.network.model import Forecaster, Network, baseline_mixture, pack
from streamer.core.registry.models import ModelRegistry, WeightsFlaw
from streamer.core.registry.validation import weights_validator
from streamer.core.types import Partition, Record
from streamer.core.wire.generations import INCUMBENT, Incumbent, encode, weights_key
from streamer.weights import open_model

SHAPE = ModelConfig(hidden=8)


def network(seed=0, shape=SHAPE):
    torch.manual_seed(seed)
    return Network(shape)


def weights(seed=0, shape=SHAPE):
    return pack(network(seed, shape), {})


def broken(value):
    """Sound but for the weights of one layer."""
    made = network()
    with torch.no_grad():
        made.output.weight[:] = value
    return pack(made, {})


def named(generation, previous=0, reason="promoted"):
    return encode(Incumbent(generation, previous, 0.0, reason))


def records(*pairs):
    return [
        Record(Partition("models", 0), n, key, value, -1) for n, (key, value) in enumerate(pairs)
    ]


def generations():
    return ModelRegistry(Forecaster(network(99)), weights_validator(SHAPE))


def test_the_last_incumbent_of_the_table_serves():
    """With the weights that lie under its number."""
    made = generations()
    table = {weights_key(3): weights(3), weights_key(4): weights(4), INCUMBENT: named(4, 3)}
    update = made.load(table)
    assert (update.promoted.generation, update.refusals) == (4, [])
    assert made.model.digest == Forecaster(network(4)).digest
    assert made.fetch(3).generation == 3
    assert made.fetch(2) is None


def test_records_promote_and_roll_back():
    """In their order; earlier weights are kept as long as they are in use."""
    made = generations()
    update = made.apply(records((weights_key(1), weights(1)), (INCUMBENT, named(1))))
    assert update.promoted.generation == made.incumbent == 1
    made.apply(records((weights_key(2), weights(2)), (INCUMBENT, named(2, 1))))
    made.retire({1})
    made.apply(records((INCUMBENT, named(1, 2, "rolled_back"))))
    assert made.incumbent == 1
    made.retire(set())
    assert set(made.digests) == {0, 1}
    assert made.apply(records((INCUMBENT, named(0, 1, "rolled_back")))).promoted.generation == 0


SOUND = weights(1)
JUNK = {
    "nothing": (b"", WeightsFlaw.UNREADABLE),
    "noise": (np.random.default_rng(0).bytes(5000), WeightsFlaw.UNREADABLE),
    "cut off": (SOUND[:-7], WeightsFlaw.UNREADABLE),
    "a header alone": (SOUND[:300], WeightsFlaw.UNREADABLE),
    "a length without end": (b"\xff" * 8 + SOUND[8:], WeightsFlaw.UNREADABLE),
    "nested without end": (b"\x00\x00\x01" + b"\x00" * 5 + b"[" * 65536, WeightsFlaw.UNREADABLE),
    "absurdly large": (SOUND + bytes(1 << 20), WeightsFlaw.TOO_LARGE),
    "log_width_factor": (weights(1, ModelConfig(hidden=9)), WeightsFlaw.TOO_LARGE),
    "narrower": (weights(1, ModelConfig(hidden=7)), WeightsFlaw.ARCHITECTURE),
    "without gates": (weights(1, ModelConfig(hidden=8, cell="rnn")), WeightsFlaw.ARCHITECTURE),
    "no number": (broken(float("nan")), WeightsFlaw.NOT_FINITE),
    "endless": (broken(float("inf")), WeightsFlaw.NOT_FINITE),
    "beyond all bounds": (broken(3e38), WeightsFlaw.NOT_FINITE),
}


@pytest.mark.parametrize("name", JUNK)
def test_junk_is_rejected_with_its_reason_and_the_incumbent_stays(name):
    """Whether it arrives as a record or is found in the table, and never with an exception."""
    packed, flaw = JUNK[name]
    if name == "log_width_factor":
        flaw = WeightsFlaw.ARCHITECTURE if len(packed) < len(SOUND) + (1 << 16) else flaw
    made = generations()
    made.apply(records((weights_key(1), SOUND), (INCUMBENT, named(1))))
    update = made.apply(records((weights_key(2), packed), (INCUMBENT, named(2, 1))))
    assert [(each.generation, each.flaw) for each in update.refusals] == [(2, flaw)]
    assert update.weights_missing
    table = {weights_key(1): SOUND, weights_key(2): packed, INCUMBENT: named(2, 1)}
    assert [each.flaw for each in made.load(table).refusals] == [flaw]
    assert made.incumbent == 1

    late = generations()  # who comes now goes on with the one before
    late.load(table)
    assert late.incumbent == 1


@pytest.mark.parametrize("value", [b"", b"{", b'{"generation": "x"}', b"\xff", b"[" * 10_000])
def test_an_unreadable_incumbent_record_changes_nothing(value):
    """A forecaster that starts then leaves the pages as they are."""
    made = generations()
    made.apply(records((weights_key(1), SOUND), (INCUMBENT, named(1))))
    assert [r.flaw for r in made.apply(records((INCUMBENT, value))).refusals] == [
        WeightsFlaw.NO_INCUMBENT
    ]
    assert (made.incumbent, made.decided) == (1, True)
    late = generations()
    late.load({weights_key(1): SOUND, INCUMBENT: value})
    assert not late.decided


def test_an_incumbent_without_weights_is_refused():
    """They are looked for in the table first."""
    made = generations()
    assert made.apply(records((INCUMBENT, named(7)))).weights_missing
    update = made.load({INCUMBENT: named(7)})
    assert [(r.generation, r.flaw) for r in update.refusals] == [(7, WeightsFlaw.NO_WEIGHTS)]
    assert made.incumbent == 0


def test_weights_that_serve_are_not_replaced_under_their_number():
    """A generation is what it was promoted as."""
    made = generations()
    made.apply(records((weights_key(1), SOUND), (INCUMBENT, named(1))))
    update = made.apply(records((weights_key(1), SOUND), (weights_key(1), weights(5))))
    assert [r.flaw for r in update.refusals] == [WeightsFlaw.CHANGED]


def test_weights_that_are_not_promoted_take_no_memory():
    """A faulty trainer does not fill the memory of forecasters."""
    made = generations()
    for number in range(1, 30):
        made.apply(records((weights_key(number), SOUND), (b"?", b"x")))
    assert len(made._ready) == 4


def test_the_baselines_serve_without_trained_weights():
    """Mixed by their errors, marked as such, with a state that stays empty."""
    serving = baseline_mixture(ModelConfig(hidden=24, layers=2))
    assert serving.served_by == "baselines"
    state = np.zeros((3, 2, 2, 24), np.float16)
    after, before = serving.prime(np.ones((4, 3, 54), np.float32), np.ones((4, 3), bool))
    assert after.shape == before.shape == state.shape
    assert not after.any()


def test_an_untrained_network_is_refused_unless_a_trainer_runs():
    """Then the baselines serve meanwhile; a file that is given must fit all the same."""
    asked = ModelConfig(hidden=24)
    with pytest.raises(ConfigError, match=r"model\.hidden: is 24"):
        open_model(asked)
    serving = open_model(asked, trained_later=True)
    assert (serving.served_by, serving.config) == ("baselines", asked)
    assert open_model(ModelConfig(), trained_later=True).served_by == "lstm"
    with pytest.raises(ConfigError, match=r"model\.weights"):
        open_model(ModelConfig(weights="/nowhere"), trained_later=True)


def test_weights_that_raise_in_their_validation_are_refused():
    """Whatever the exception; the incumbent stays, and the other records are applied."""

    def fragile(generation, packed):
        if generation == 2:
            raise RuntimeError("planted")
        return weights_validator(SHAPE)(generation, packed)

    made = ModelRegistry(Forecaster(network(99)), fragile)
    made.apply(records((weights_key(1), SOUND), (INCUMBENT, named(1))))
    update = made.apply(records((weights_key(2), weights(2)), (INCUMBENT, named(2, 1))))
    assert [(r.flaw, r.detail) for r in update.refusals] == [
        (WeightsFlaw.FAILED, "RuntimeError: planted")
    ]
    table = {weights_key(1): SOUND, weights_key(2): weights(2), INCUMBENT: named(2, 1)}
    made.load(table)
    assert made.incumbent == 1
    late = ModelRegistry(Forecaster(network(99)), fragile)
    late.load(table)
    assert late.incumbent == 1
