"""Whatever is set: it is refused with its path, or the daemon makes turns with it."""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from streamer.config.errors import sections
from streamer.config.schema import Config, load
from streamer.config.sources import ConfigError
from streamer.config.types import Duration
from streamer.core.network.config import ModelConfig, weights_bytes
from streamer.core.network.model import Network, pack
from streamer.core.types import Partition, Record
from streamer.daemon import factories
from streamer.log import PollResult
from tests.daemon.test_forecaster import Diary, Script

P = Partition("counters", 0)
BEGIN = 1_700_000_000 // 86400 * 86400
ERROR = re.compile(r"[a-z_]+(\.[a-z_0-9]+)*: ")
INTEGERS = [-1, 0, 1, 2, 3, 64, 255, 5000, 10**6, 2**31, 2**63, 10**30, None, 1.5, "7", True]
NUMBERS = [-1, 0, 1e-308, 0.01, 0.5, 0.9, 0.99, 1, 2, 1e12, 1e308, math.inf, math.nan, "1", None]
DURATIONS = ["0s", "1ms", "1s", "7s", "90s", "5m", "1h", "1d", "2d", "9w", "900w", 1e300, -1, "x"]
TEXTS = ["", "a", "traffic.counters", "x" * 300, "ü", "a b", "\0", "..", "(", "127.0.0.1:0", None]
LISTS: dict[str, list[Any]] = {
    "topics": [[], ["a"], ["a", "b"], [""], ["."], "a"],
    "groups": [[], ["bytes"], ["bytes", "packets"], ["x"]],
    "fields": [[], [{"source": "telegraf", "field": "x", "direction": "in"}], [{}], [1]],
    "quantiles": [
        *([], [0.5], [0.05, 0.5, 0.95], [0.5, 0.1], [0.01, 0.99], [0.2, 0.3], [math.nan]),
        *(
            [0.50001, 0.50002],
            [round(0.01 * n, 2) for n in range(1, 100)],
            [0.001 * n for n in range(200)],
        ),
    ],
    "peaks": [[], [1], [4, 12], [288], [0], [12, 4], list(range(1, 289))],
    "rules": [
        [],
        [{"name": "a", "kind": "spike"}],
        [{"name": "a", "kind": "spike"}, {"name": "a", "kind": "anomaly"}],
        [{"name": "low", "kind": "threshold", "below": 5.0, "within": "1d"}],
        [{"name": "c", "kind": "coverage", "labels": {"x": "y" * 300}}],
        [{"name": f"r{n}", "kind": "capacity"} for n in range(40)],
    ],
    "mapping": [
        None,
        {"flow": [], "values": {"in": "x"}},
        {"flow": ["a.b"], "values": {"in": "x"}, "time": "t"},
        {"flow": ["a"], "values": {}},
    ],
}
ONLY: dict[str, list[Any]] = {  # what takes long, or this machine's memory
    "flows_max": [0, 1, 2, 64, 5000, 10**9, 10**30],
    "trainer.flows_max": [1, 2, 512, 10**6, 10**9],
    "model.hidden": [0, 1, 8, 64, 1025],
    "model.layers": [0, 1, 2, 9],
    "model.weights": [None, "", "/nowhere", __file__],
}


def leaves(kind=Config, path=()):
    """Each key that can be set, with values to try."""
    below = sections(kind)
    for field in msgspec.structs.fields(kind):
        here = (*path, field.name)
        if field.name in below:
            yield from leaves(below[field.name], here)
        else:
            yield ".".join(here), ONLY.get(".".join(here)) or values(field.name, field.type)


def values(name: str, kind: Any) -> list[Any]:
    """Values of a type, inside its range and outside of it, and some of other types."""
    if name in LISTS:
        return LISTS[name]
    options = [each for each in (kind, *get_args(kind)) if get_origin(each) is Literal]
    if options:
        return [*get_args(options[0]), "nonsense", None]
    names = {getattr(each, "__name__", "") for each in flat(kind)}
    for known, tried in (
        ("Duration", DURATIONS),
        ("bool", [True, False, None, 3]),
        ("float", NUMBERS),
        ("int", INTEGERS),
    ):
        if known in names:
            return tried
    return TEXTS


def flat(kind: Any) -> list[Any]:
    """A type and all that it is made of."""
    inner = get_args(kind)[:1] if get_origin(kind) is Annotated else get_args(kind)
    return [kind, *(each for part in inner for each in flat(part))]


def written(key: str, value: Any) -> str:
    """As it is given on the command line."""
    text = json.dumps(value).replace("Infinity", ".inf").replace("NaN", ".nan")
    return f"{key}={text}"


EVERY = dict(leaves())
ONE = st.sampled_from([(key, value) for key, tried in EVERY.items() for value in tried])


class Checked(Script):
    """A log that takes each turn, and looks at what is published."""

    most = 0

    def publish(self, messages, offsets):
        for message in messages:
            assert len(message.value or b"") + len(message.key or b"") < self.most


def readings(config: Config, first: int) -> list[Record]:
    """Three records of two flows, a step apart, and one that is junk."""
    lane = []
    for n in range(first, first + 3):
        at = BEGIN + n * float(config.step)
        both = [{"flow": flow, "time": at, "value": 1000 * n} for flow in ("a", "b")]
        lane.append(Record(P, 2 * n, None, json.dumps(both).encode(), -1))
        lane.append(Record(P, 2 * n + 1, None, b"junk", -1))
    return lane


def runs(config: Config) -> None:
    """Make turns, with an engine as `streamer run` builds it; no exception is met."""
    answers = [
        PollResult(frozenset(), {P: 0}, [], 1),
        PollResult(frozenset(), {}, readings(config, 0), 1),
        PollResult(frozenset(), {}, readings(config, 3), 1),
    ]
    diary, failures = Diary(), []
    diary.failed = failures.append
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factories, "open_log", lambda _: Checked(answers))
        patch.setattr(Checked, "most", config.kafka.message_bytes_max)
        made = factories.wire_forecaster(config, diary, clock=lambda: 0.0, pause=lambda _: None)
        made.run(lambda: not answers)
    assert not failures
    assert diary.turns == 3


@pytest.mark.slow
@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ONE, min_size=1, max_size=6))
def test_any_settings_are_refused_with_a_path_or_run(chosen):
    """In any combination of values."""
    refusal = ""
    try:
        config = load(None, [written(key, value) for key, value in chosen])
        runs(config)
    except ConfigError as error:
        refusal = str(error)
    assert not refusal or ERROR.match(refusal)


@pytest.mark.parametrize("key", EVERY)
def test_each_value_alone_is_refused_with_its_path(key):
    """The message begins with the key, or with the one that it contradicts."""
    refusals = []
    for value in EVERY[key]:
        try:
            load(None, [written(key, value)])
        except ConfigError as error:
            refusals.append(str(error))
    assert all(map(ERROR.match, refusals))


@pytest.mark.parametrize(
    "shape",
    [
        ModelConfig(),
        ModelConfig(hidden=300),
        ModelConfig(hidden=16, layers=3),
        ModelConfig(cell="rnn", hidden=100, layers=2),
        ModelConfig(cell="none"),
    ],
)
def test_the_size_of_weights_is_known_before_they_are_made(shape):
    """Never too small, and a few kilobytes too large at most."""
    size = len(pack(Network(shape), {"seed": "1", "data": "x" * 100}))
    assert size <= weights_bytes(shape) <= size + 5000


def test_weights_larger_than_a_message_are_refused():
    """If a trainer would publish them to a broker; a file accepts them."""
    with pytest.raises(ConfigError, match=r"model\.hidden: makes weights of .* bytes") as error:
        load(None, ["model.hidden=512"])
    assert "max.message.bytes of streamer.models" in str(error.value)
    load(None, ["model.hidden=512", "kafka.message_bytes_max=9000000"])
    load(None, ["model.hidden=512", "trainer.enabled=false"])
    load(None, ["model.hidden=512", "log=sqlite:///x.db"])


def test_a_history_larger_than_the_memory_is_refused():
    """Before the trainer fails because of it, again and again."""
    with pytest.raises(ConfigError, match=r"trainer\.window: takes .* bytes"):
        load(None, ["step=1s", "scores.every=1h", "trainer.flows_max=100000"])


def test_a_duration_has_an_end():
    """Timers and integers of libraries have one."""
    assert Duration.parse("3650d") == 3650 * 86400
    with pytest.raises(ValueError, match="must be at most"):
        Duration.parse("3651d")
