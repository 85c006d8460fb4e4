"""A configuration is understood, or refused with the path of the key that is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamer.config import sources
from streamer.config.errors import sections
from streamer.config.schema import Config, effective, load
from streamer.config.sources import ConfigError
from streamer.config.types import Settings
from streamer.log import PermanentError
from streamer.ops.secrets import secret

SHIPPED = Path(__file__).parents[2] / "config" / "streamer.yaml"


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "streamer.yaml"
        path.write_text(text)
        return path

    return write


def keys_of(kind: type[Settings]) -> dict:
    """Every key that can be set, sections as dicts."""
    below = sections(kind)
    return {
        name: keys_of(below[name]) if name in below else None for name in kind.__struct_fields__
    }


def keys_in(tree: dict) -> dict:
    """Every key that a file names, in the same form."""
    return {
        name: keys_in(value) if value and isinstance(value, dict) else None
        for name, value in tree.items()
    }


def test_the_shipped_file_has_the_defaults():
    """Its values are those that hold without any file."""
    assert effective(load(SHIPPED)) == effective(Config())


def test_the_shipped_file_names_every_key_in_order():
    """All settings can be learned without the source."""
    shipped, known = keys_in(sources.read(SHIPPED)), keys_of(Config)
    assert shipped == known
    assert list(shipped) == list(known)
    assert all(list(shipped[name] or ()) == list(known[name] or ()) for name in known)


def test_every_key_of_the_shipped_file_has_a_comment():
    """A key's line explains it, unless the name of a list is enough."""
    lines = SHIPPED.read_text().splitlines()
    bare = [line for line in lines if ":" in line and "#" not in line and not line.endswith(":")]
    assert [line.split(":")[0].strip() for line in bare] == ["quantiles"]


def test_later_layers_override_earlier_ones(file):
    """File, then environment, then --set; each touches only the keys that it names."""
    path = file("step: 5m\ninput: {kind: delta, unit: B}\nforecasts: {batch: 7}\n")
    environ = {"STREAMER__INPUT__KIND": "gauge", "STREAMER__FORECASTS__BATCH": "8", "HOME": "/"}
    config = load(path, ["forecasts.batch=9", "input.topics=[a, b]"], environ)
    assert config.step == 300
    assert (config.input.kind, config.input.unit) == ("gauge", "B")
    assert config.forecasts.batch == 9
    assert config.input.topics == ("a", "b")


def test_a_section_without_keys_counts_as_missing(file):
    """All of its keys are commented out, which YAML calls null."""
    assert load(file("input:\n#  kind: delta\nmodel:\n")) == Config()


def test_an_empty_file_is_fine(file):
    """The defaults work."""
    assert load(file("# nothing yet\n")) == load() == Config()


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("turn.records_max=0", "turn.records_max: must be an integer of at least 1, is 0"),
        ("turn.records_max=many", 'turn.records_max: must be an integer, is "many"'),
        ("input.rate_max=-1", "input.rate_max: must be a number above zero, is -1"),
        ("input.kind=guess", 'input.kind: must be one of counter, delta, gauge, is "guess"'),
        ("input.topics=abc", 'input.topics: must be a list, is "abc"'),
        ("input.topics=[a, 3]", "input.topics.1: must be text, is 3"),
        ("input.unit=bananaboatloads", "input.unit: must be text no longer than 12"),
        ("forecasts.bacth=3", "forecasts.bacth: is no key; is batch meant?"),
        ("stpe=60s", "stpe: is no key; is step meant?"),
        ("step=0s", "step: must be whole seconds, at least one, is 0s"),
        ("step=soon", "step: is no duration such as 500ms, 60s, 5m or 1h: 'soon'"),
        ("step.x=3", "step: is no duration"),
        ("lateness=-1", "lateness: is no duration"),
        ("lateness=1h", "lateness: must be at most 3 steps"),
        ("group=a b", "group: must be letters, digits, dots, dashes or underscores"),
        ("model=lstm", 'model: must be a section of keys, is "lstm"'),
        ("forecasts.quantiles=[0.5, 0.1]", "forecasts.quantiles: must grow"),
        ("log=http://x", "log: must begin with kafka:// or sqlite://, is http://x"),
        ("forecasts.topic=traffic.counters", "forecasts.topic: must be a topic of its own"),
        ("scores.topic=traffic.forecasts", "scores.topic: must be a topic of its own"),
        ("scores.every=30s", "scores.every: must be 1 to 65,535 steps of 1m, is 30s"),
        ("scores.every=10w", "scores.every: must be 1 to 65,535 steps of 1m, is 10w"),
        ("objective.coverage_min=0.95", "objective.coverage_max: must be above"),
        ("objective.periods=0", "objective.periods: must be an integer"),
        ("rejects.topic=traffic.forecasts", "rejects.topic: must be a topic of its own"),
        ("generation.topic=traffic.counters", "generation.topic: must be a topic of its own"),
        (
            "generation.rollout_time_share=0",
            "generation.rollout_time_share: must be a number of at least 0.01",
        ),
        ("input.topics=[]", "input.topics: must name a topic"),
        ("input.topics=[a b]", "input.topics: must be letters"),
        ("input.pattern=traffic", "forecasts.topic: must not be input"),
        ("input.pattern='('", "input.pattern: must be a regular expression"),
        ("log=kafka://", "log: must be kafka://host:port"),
        ("log=kafka://a:0", "log: must be kafka://host:port"),
        ("log=kafka://a,,b", "log: must be kafka://host:port"),
        ("log=sqlite:///", "log: must name a file"),
        ("log=sqlite://host/x", "log: must name a file"),
        ("flows_max=1000000000000", "flows_max: must be an integer of at most 50000000"),
        ("step=1:30", "step: is no duration such as"),
        ("flows_max=" + "9" * 5000, "flows_max: holds no value"),
        ("input.unit=" + "[" * 5000, "input.unit: is nested too deeply"),
        ("a..b=2", "a..b: is no path of a key"),
        ("step=[", "step: line 1"),
        ("step", "step: must be path=value"),
    ],
)
def test_a_wrong_key_is_refused_by_its_path(override, complaint):
    """The message begins with the path, and has what it must be and what it is."""
    with pytest.raises(ConfigError) as refusal:
        load(None, [override])
    assert str(refusal.value).startswith(complaint)


def test_an_error_names_the_layer_at_fault(file):
    """An operator looks for a wrong value where it was set."""
    path = file("threads: 0\n")
    with pytest.raises(ConfigError, match=r"threads: .* is 0 \(.*/streamer.yaml\)"):
        load(path)
    with pytest.raises(ConfigError, match=r"threads: .* is -1 \(STREAMER__THREADS\)"):
        load(path, (), {"STREAMER__THREADS": "-1"})
    with pytest.raises(ConfigError, match=r"threads: .* is -2 \(--set\)"):
        load(path, ["threads=-2"], {"STREAMER__THREADS": "-1"})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("step: 1m\nstep: 2m\n", "line 2, column 1: step is set twice"),
        ("input: {kind: delta\n", "line 2, column 1: expected ',' or '}'"),
        ("- step\n", "must be keys and values, is list"),
        ("1: x\n", "line 1, column 1: a key must be text, is 1"),
        ("step: !!python/object:os.system 1m\n", "could not determine a constructor"),
    ],
)
def test_an_invalid_file_is_refused_by_the_place_of_its_error(file, text, complaint):
    """Never the last of two equal keys in silence, and never a foreign object."""
    with pytest.raises(ConfigError) as refusal:
        load(file(text))
    assert complaint in str(refusal.value)


def test_a_missing_file_is_refused(tmp_path):
    """By its name."""
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: No such file or directory"):
        load(tmp_path / "nowhere.yaml")


def test_the_effective_configuration_loads_back(file):
    """What `check` prints is itself a file with the same settings."""
    config = load(None, ["input.rate_max=1.25e9", "lateness=90s", "input.pattern=^counters"])
    assert load(file(effective(config))) == config


def test_names_are_made_from_the_group():
    """Our own topics follow the group unless they are set."""
    config = load(None, ["group=edge", "state.topic=kept"])
    assert (config.rejects_topic, config.state_topic) == ("edge.rejects", "kept")
    assert config.models_topic == "edge.models"


def test_an_instance_has_a_name_that_kafka_accepts(monkeypatch):
    """A host's name may contain characters that a member's name may not."""
    monkeypatch.setattr("socket.gethostname", lambda: "büro pc")
    assert Config().instance_name == "b-ro-pc"
    assert load(None, ["instance=pod-3"]).instance_name == "pod-3"


def test_a_secret_in_an_address_is_not_repeated():
    """It would appear in the log and on screens."""
    with pytest.raises(ConfigError, match="log: must not hold a user or a password") as refusal:
        load(None, ["log=kafka://user:s3cret@host"])
    assert "s3cret" not in str(refusal.value)


def test_a_path_that_is_not_a_file_is_refused(tmp_path):
    """A folder, a pipe without a writer, and a file without an end."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ConfigError):
            load(path)
        with pytest.raises(PermanentError):
            secret("key", str(path), "NOWHERE")
