"""What all tests may ask for: above all a real Kafka, started once and only if a test needs it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import hypothesis
import pytest
import structlog
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
    parser.addoption(
        "--world",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a field of Shape or Faults that all simulated worlds have, instead of a drawn one",
    )


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
def own_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """One of our own; the session ends with one plain line where there is none to be had."""
    if request.config.getoption("--no-broker"):
        pytest.skip("--no-broker: there is no real Kafka to hold this to")
    try:
        broker = Broker()
        broker.start()
    except NoBroker as error:
        pytest.exit(f"no broker: {error} (--no-broker does without)", returncode=1)
    yield broker
    broker.discard()


@pytest.fixture(scope="session")
def bootstrap(request: pytest.FixtureRequest) -> str:
    """Where Kafka is reached: yours if KAFKA_BOOTSTRAP_SERVERS is set, else one of our own."""
    given = os.environ.get(VARIABLE)
    if not given or request.config.getoption("--no-broker"):
        return str(request.getfixturevalue("own_broker").bootstrap)
    if not answers(given):
        pytest.exit(f"{VARIABLE} is {given}, and no Kafka answers there", returncode=1)
    return given


@pytest.fixture
def broker(own_broker: Broker) -> Iterator[Broker]:
    """A Kafka of our own that a test may kill and start again; the next one finds it running."""
    yield own_broker
    if not answers(own_broker.bootstrap):
        own_broker.restart()


@pytest.fixture(autouse=True, scope="session")
def _loggers_are_not_cached() -> Iterator[None]:
    """A command that is run here configures them, and later tests capture what they log."""
    configure = structlog.configure
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            structlog,
            "configure",
            lambda **given: configure(**given | {"cache_logger_on_first_use": False}),
        )
        yield


@pytest.fixture(autouse=True)
def _kafka_speaks_as_before() -> Iterator[None]:
    """What a test's clients make of the log of Kafka's own is no other test's concern."""
    client = logging.getLogger("kafka")
    level, propagate = client.level, client.propagate
    yield
    client.setLevel(level)
    client.propagate = propagate


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


# Tests of daemons that must answer in time: on two processors not more than two at a time. Each
# group is one worker's, with one broker and one server of processes; they begin first, and last
# about equally long.
PROCESSES = {
    "faults": ("tests/faults/",),
    "services": (
        "tests/console/test_beside.py",
        "tests/console/test_pages.py",
        "tests/daemon/test_trainer.py",
        "tests/log/kafka/",
        "tests/log/test_contract.py",
        "tests/notify/test_delivery.py",
        "tests/notify/test_sender.py",
        "tests/producers/",
    ),
}


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers, the tests of a module go to one; so do those of a simulated world."""
    first = set()
    for item in items:
        group, seed = item.nodeid.split("::")[0], None
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            seed = item.callspec.params.get("seed")
        if group.startswith(SLOW):
            item.add_marker(pytest.mark.slow)
        for name, of in PROCESSES.items():
            if group.startswith(of):
                group = name
                first.add(item)
        item.add_marker(pytest.mark.xdist_group(group if seed is None else f"{group}-{seed}"))
    items.sort(key=lambda item: item not in first)
