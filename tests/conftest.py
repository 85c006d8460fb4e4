"""What all tests may ask for: above all a real Kafka, started once and only if a test needs it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import hypothesis
import pytest
import torch

from tests.broker.broker import Broker, answers
from tests.broker.installation import NoBroker

torch.set_num_threads(1)  # waves are small, and other load on the machine makes threads wait

hypothesis.settings.register_profile("patient", deadline=None)  # no claim depends on the time
hypothesis.settings.load_profile("patient")

VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-broker",
        action="store_true",
        help="skip every test that needs a real Kafka; what they hold is then not held",
    )
    parser.addoption("--seed", type=int, help="replay the simulated world of this seed")
    parser.addoption("--seeds", type=int, default=60, help="how many simulated worlds to run")


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """An unseen skip would look like a pass."""
    skipped = len(
        [
            report
            for report in terminalreporter.getreports("skipped")
            if "broker" in str(report.longrepr)
        ]
    )
    if config.getoption("--no-broker") and skipped:
        terminalreporter.section("NO BROKER", sep="!", red=True, bold=True)
        terminalreporter.line(f"{skipped} tests against a real Kafka were skipped (--no-broker).")


@pytest.fixture(scope="session")
def bootstrap(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where Kafka is reached: yours if KAFKA_BOOTSTRAP_SERVERS is set, else one of our own."""
    if request.config.getoption("--no-broker"):
        pytest.skip("--no-broker: there is no real Kafka to hold this to")
    given = os.environ.get(VARIABLE)
    if given:
        if not answers(given):
            pytest.exit(f"{VARIABLE} is {given}, and no Kafka answers there", returncode=1)
        yield given
        return
    broker = own_broker()
    yield broker.bootstrap
    broker.discard()


@pytest.fixture(scope="module")
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A Kafka that a module's tests may kill and start again; each leaves it running."""
    if request.config.getoption("--no-broker"):
        pytest.skip("--no-broker: there is no real Kafka to hold this to")
    broker = own_broker()
    yield broker
    broker.discard()


@pytest.fixture(autouse=True)
def _kafka_speaks_as_before() -> Iterator[None]:
    """What a test's clients make of the log of Kafka's own is no other test's concern."""
    client = logging.getLogger("kafka")
    level, propagate = client.level, client.propagate
    yield
    client.setLevel(level)
    client.propagate = propagate


def own_broker() -> Broker:
    """End the session with one plain line where there is none to be had: no broker, no green."""
    try:
        broker = Broker()
        broker.start()
    except NoBroker as error:
        pytest.exit(f"no broker: {error} (--no-broker does without)", returncode=1)
    return broker


SLOW = (  # folders and files whose tests start processes, learn, or search for long
    "tests/cli/test_bench.py",
    "tests/cli/test_commands.py",
    "tests/console/test_beside.py",
    "tests/console/test_pages.py",
    "tests/core/features/test_baselines.py",
    "tests/core/features/test_odd_readings.py",
    "tests/core/features/test_robust.py",
    "tests/core/state/test_loading.py",
    "tests/daemon/test_trainer.py",
    "tests/evaluation/test_alarms.py",
    "tests/evaluation/test_backtest.py",
    "tests/experiments/",
    "tests/faults/",
    "tests/feed/",
    "tests/producers/",
    "tests/fuzz/",
    "tests/log/kafka/",
    "tests/log/sqlite/",
    "tests/notify/test_delivery.py",
    "tests/plots/",
    "tests/simulation/test_isolation.py",
    "tests/test_same_forecasts.py",
    "tests/training/",
)


# tests of daemons that must answer in time: one with a broker at a time, and one without
PROCESSES = (
    "tests/console/test_beside.py",
    "tests/console/test_pages.py",
    "tests/daemon/test_trainer.py",
    "tests/faults/",
    "tests/log/kafka/",
    "tests/log/test_contract.py",
    "tests/notify/test_delivery.py",
    "tests/notify/test_sender.py",
    "tests/producers/",
)


MANY_PROCESSES = ("tests/faults/", "tests/notify/", "tests/producers/")  # one after the other


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers, the tests of a module go to one; so do those of a simulated world."""
    for item in items:
        name, seed = item.nodeid.split("::")[0], None
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            seed = item.callspec.params.get("seed")
        if name.startswith(SLOW):
            item.add_marker(pytest.mark.slow)
        group = name
        if name.startswith(PROCESSES):
            asked = getattr(item, "fixturenames", ())
            asks = {"broker", "bootstrap"} & set(asked) and not name.startswith(MANY_PROCESSES)
            group = "broker" if asks else "processes"
        item.add_marker(pytest.mark.xdist_group(group if seed is None else f"{group}-{seed}"))
