"""What is promised about faults, with real processes; the long form is `make chaos ROUNDS=…`."""

from functools import partial

from tests.faults import chaos as long_form

chaos = partial(long_form.chaos, partitions=4, flows=24)


def shown(outcome):
    assert outcome.holds, outcome.table()
    print(outcome.table())


def test_a_group_on_kafka_loses_and_doubles_nothing(broker, tmp_path):
    """Killed, asleep beyond the session, replaced, stopped; and the broker's power is cut."""
    faults = ["kill", "kill_broker", "sleep", "stop", "replace_a_sleeper", "join_or_leave"]
    shown(chaos(tmp_path, broker, seed=7, faults=faults))


def test_generations_that_come_and_go_lose_and_double_nothing(tmp_path):
    """Each is promoted while forecasters are killed in the middle of taking up the last one."""
    faults = ["kill", "kill", "kill_all", "stop", "kill"]
    outcome = chaos(tmp_path, None, seed=9, faults=faults, learning="installed")
    shown(outcome)
    assert outcome.generations == len(faults)


def test_a_group_on_a_file_loses_and_doubles_nothing(tmp_path):
    """All at once, asleep beyond the session, replaced; and so is the feeder."""
    faults = ["kill_all", "sleep", "kill_feeder", "kill", "replace_a_sleeper", "stop"]
    shown(chaos(tmp_path, None, seed=8, faults=faults))


def test_trainers_that_are_killed_lose_and_double_nothing(tmp_path):
    """Real ones, one active and one idle; the long form is `--learning trained`."""
    faults = ["kill_trainer", "kill", "kill_trainer"]
    shown(chaos(tmp_path, None, seed=10, faults=faults, learning="trained"))
