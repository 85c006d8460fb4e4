"""Rules, and what is refused about them."""

import pytest

from streamer.config.schema import load
from streamer.config.sources import ConfigError
from streamer.core.alerts.rules import DEFAULT_RULES, RuleConfig, contradictions


def refused(tmp_path, rules):
    path = tmp_path / "streamer.yaml"
    path.write_text(f"alerts:\n  enabled: true\n  rules: [{rules}]\n")
    with pytest.raises(ConfigError) as error:
        load(path)
    return str(error.value)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (
            "{name: a, kind: spike, factor: 0}",
            "alerts.rules.0.factor: must be a number of at least",
        ),
        ("{name: a, kind: spike, chance: 0.2}", "alerts.rules.0.chance_clear: must be at most"),
        ("{name: a, kind: threshold}", "alerts.rules.0.above: a rule of kind threshold must have"),
        ("{name: a, kind: spike, pattern: '('}", "alerts.rules.0.pattern: must be a regular"),
        ("{name: a, kind: anomaly, outside: 9}", "alerts.rules.0.outside: must be at most window"),
        ("{name: a, kind: spike, within: 2h}", "alerts.rules.0.within: must be 1m to 12m"),
        ("{name: a, kind: spike}, {name: a, kind: anomaly}", "alerts.rules.1.name: must be unique"),
        ("{name: a, kind: spike, facto: 2}", "alerts.rules.0.facto: is no key; is factor meant?"),
        ("{name: a, kind: flood}", "alerts.rules.0.kind: must be one of capacity, threshold"),
        ("{kind: spike}", "alerts.rules.0"),
        ("{name: 'A b', kind: spike}", "alerts.rules.0.name"),
        ("{name: a, kind: spike, labels: {a-b: c}}", "alerts.rules.0.labels"),
    ],
)
def test_a_wrong_rule_is_refused_by_its_path(tmp_path, rule, why):
    """Before anything else is done."""
    assert refused(tmp_path, rule).startswith(why)


def test_rules_that_are_not_in_force_are_not_held_against_the_forecasts(tmp_path):
    """One horizon is too short for a rule, but alerts are off."""
    path = tmp_path / "streamer.yaml"
    path.write_text("alerts: {rules: [{name: a, kind: spike, within: 2h}]}\n")
    assert load(path).alerts.in_force == ()


def test_the_default_rules_need_no_configuration():
    """They fit the default settings, whatever the step."""
    assert [rule.name for rule in DEFAULT_RULES] == ["spike", "capacity", "anomaly"]
    assert not list(contradictions(DEFAULT_RULES, 60, 12, (0.05, 0.5, 0.95)))
    assert list(contradictions(DEFAULT_RULES, 60, 12, (0.5,)))


def test_a_rule_chooses_flows_by_glob_and_expression():
    """Both must match, the expression the whole name."""
    rule = RuleConfig(name="a", kind="spike", flows="edge*/in", pattern=r"edge\d+/.*")
    assert rule.matches("edge1/in")
    assert not rule.matches("edgex/in")
    assert not rule.matches("edge1/out")


def test_a_version_tells_settings_apart():
    """It is never zero, which marks a row that no rule has decided."""
    one = RuleConfig(name="a", kind="spike")
    assert one.version == RuleConfig(name="a", kind="spike").version != 0
    assert one.version != RuleConfig(name="a", kind="spike", factor=3).version


def test_capacities_are_a_table_of_globs(tmp_path):
    """It is given to rules of capacity that have none; a capacity is above 0."""
    path = tmp_path / "streamer.yaml"
    path.write_text("alerts: {enabled: true, capacities: {'edge*/uplink': 10e9, '*': 1.0e+9}}\n")
    rules = {rule.name: rule for rule in load(path).alerts.in_force}
    assert rules["capacity"].capacities == {"edge*/uplink": 1e10, "*": 1e9}
    assert not rules["spike"].capacities
    path.write_text("alerts: {enabled: true, capacities: {'*': 0}}\n")
    with pytest.raises(ConfigError, match=r"alerts\.capacities"):
        load(path)
